"""SpecCoT: draft a step several times, then let the large model select."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.drafts import draft_steps, drop_all
from langchain_glimprouter.routing.judging import ask
from langchain_glimprouter.routing.policies.base import check_first_steps
from langchain_glimprouter.routing.policies.drafting import Drafting
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.trace import DraftTrace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Turn

_MOST_DRAFTS = 9  # what one digit can number

QUESTION = (
    "Here are {count} candidates for the next step of the solution above.\n\n{drafts}\n\n"
    "Which candidate is correct and helps most? Answer with its number only, or with 0 if every "
    "candidate is wrong."
)
PREFILL = "The best candidate is number "


@dataclass(frozen=True, slots=True)
class SpecCoT(Drafting):
    """The small model drafts each step N times, the large one picks (SpecCoT, EMNLP 2025 Findings).

    The large model writes the first step, the direction. Behind it the small model samples `drafts`
    drafts in one request, and the large one selects by one token among their numbers and 0, which
    rejects all: it writes the step itself then. N, the wording and the rule of rejection are
    unpublished and chosen here.

    Attributes:
        drafts: How many drafts (N), from 1 to 9.
        temperature: The drafts' temperature: equal drafts would be no choice. `None` takes the
            turn's own.
        question: What the large model is asked; `{drafts}` and `{count}` are filled in.
        prefill: How its answer begins.
        first_n_steps_large: So many steps go to the large model without a draft.
    """

    drafts: int = 3
    temperature: float | None = 0.6
    question: str = QUESTION
    prefill: str = PREFILL
    first_n_steps_large: int = 1

    name: ClassVar[str] = "speccot"

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to select."""
        check_first_steps(self.first_n_steps_large)
        given: object = self.drafts
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _MOST_DRAFTS:
            msg = f"drafts={given!r} leaves nothing to select: give 1 to {_MOST_DRAFTS} (try 3)"
            raise ConfigurationError(msg)
        if self.temperature is not None and not self.temperature >= 0.0:
            msg = f"temperature={self.temperature} cannot work: give 0 or more (try 0.6)"
            raise ConfigurationError(msg)
        if "{drafts}" not in self.question:
            msg = "question: the drafts must appear in it; put {drafts} where they belong"
            raise ConfigurationError(msg)

    def due(self, turn: Turn) -> tuple[Decision | None, int]:
        """Return what is decided already; the large model opens a thought that is not open yet."""
        decision, count = super(SpecCoT, self).due(turn)
        if decision is None and turn.opening is not None:
            return Decision("large", "first_steps"), 1
        return decision, count

    async def draft(self, turn: Turn) -> AsyncGenerator[Event]:
        """Draft one step several times and have one draft selected."""
        sampling = turn.request.options.sampling
        if self.temperature is not None:
            sampling = replace(sampling, temperature=self.temperature)
        drafts = await draft_steps(turn, "small", self.drafts, sampling)
        if not drafts:
            return
        try:
            record = await self._select(turn, [draft for draft in drafts if not draft.blank])
            record.drafts = len(drafts)
            record.tokens = sum(len(draft.tokens) for draft in drafts)
            record.seconds = max(draft.seconds for draft in drafts)
            chosen = None
            if record.accepted:
                number = int(record.value or 0)
                chosen = [draft for draft in drafts if not draft.blank][number - 1]
            drop_all([draft for draft in drafts if draft is not chosen])
            record.rejected = [draft.text for draft in drafts if draft is not chosen]
            if chosen is None:
                turn.pending = Decision("large", record.signal, draft=record)
                return
            for event in chosen.keep(Decision("small", record.signal, draft=record)):
                yield event
        finally:
            drop_all(drafts)

    async def _select(self, turn: Turn, drafts: Sequence[Draft]) -> DraftTrace:
        """Have the large model pick one."""
        if not drafts:
            return DraftTrace(signal="empty", accepted=False)
        began = time.perf_counter()
        shown = "\n\n".join(
            f"Candidate {number}:\n{draft.text.strip()}" for number, draft in enumerate(drafts, 1)
        )
        question = self.question.replace("{count}", str(len(drafts))).replace("{drafts}", shown)
        numbers = [str(number) for number in range(len(drafts) + 1)]
        verdict = await ask(turn, None, question, self.prefill, constraint={"choice": numbers})
        text = turn.pair.vocabularies["large"].decode([verdict.id]).strip() if verdict else ""
        number = int(text) if text in numbers else 0
        return DraftTrace(
            signal="selection",
            value=float(number),
            threshold=1.0,
            accepted=number > 0,
            judge_seconds=time.perf_counter() - began,
        )
