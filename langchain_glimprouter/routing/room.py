"""How far a phase may grow: its budget, and what the context windows leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.context import Contexts
    from langchain_glimprouter.routing.options import AnswerBy, TurnOptions
    from langchain_glimprouter.routing.pair import EnginePair
    from langchain_glimprouter.routing.trace import Phase

_CLOSING_TOKENS = 16
"""Room for a forced `</think>`."""


class Room:
    """Measures a phase against its budget and its writers' context windows.

    Attributes:
        answer_by: Who writes the answer behind a thought.
        writers: Who may write in this phase.
        limit: Most tokens of the phase.
        reason: What sets the limit.
    """

    def __init__(
        self, pair: EnginePair, contexts: Contexts, options: TurnOptions, answer_by: AnswerBy
    ) -> None:
        self.answer_by = answer_by
        self.writers: tuple[Role, ...] = tuple(pair.engines)
        self.limit = 0
        self.reason: Literal["context_window", "max_thinking_tokens", "max_tokens"] = "max_tokens"
        self._windows = pair.windows
        self._contexts = contexts
        self._options = options

    def measure(self, phase: Phase, tokens: int, *, undecided: bool) -> None:
        """Find the phase's limit: its budget, or what the narrower window leaves.

        Args:
            phase: The phase.
            tokens: Tokens that it has so far.
            undecided: Whether it may turn out to be the other phase.
        """
        options = self._options
        thinking = phase == "thinking"
        budget = options.max_thinking_tokens if thinking else options.max_tokens
        if undecided:
            budget = max(options.max_thinking_tokens, options.max_tokens)
        room = tokens + min(self._window(role, phase) for role in self.writers)
        self.limit = min(budget, room)
        self.reason = (
            "context_window"
            if room < budget
            else "max_thinking_tokens"
            if thinking
            else "max_tokens"
        )

    def left(self, role: Role, phase: Phase, tokens: int) -> int:
        """Return how many tokens a model may still write, in a phase that has so many."""
        return min(self.limit - tokens, self._window(role, phase))

    def _window(self, role: Role, phase: Phase) -> int:
        window = self._windows[role]
        reserve = 0
        if phase == "thinking":  # what comes behind the thought must fit as well
            reserve = _CLOSING_TOKENS
            if self.answer_by in (role, "route"):
                reserve += min(self._options.max_tokens, window // 4)
        return window - len(self._contexts.token_ids[role]) - reserve
