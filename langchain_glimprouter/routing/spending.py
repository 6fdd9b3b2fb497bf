"""What a turn costs: tokens by model and by step, and time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from langchain_glimprouter.routing.trace import StepTokens, TurnUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import DraftTrace, Phase, StepTrace


class Spending:
    """Counts every token that an engine makes or reads, once.

    Attributes:
        usage: What was spent so far; complete up to the last finished step.
        since: What was spent since the last finished step.
        kept: Tokens that became part of the turn.
        probes: Tokens that were only looked at.
        held: Tokens of drafts that are neither kept nor dropped yet.
        rejected: Tokens of drafts that were dropped.
    """

    def __init__(self, models: Mapping[Role, str]) -> None:
        self.usage = TurnUsage()
        for role, model in models.items():
            self.usage.of(role).model = model
        self.since = StepTokens()
        self.kept = 0
        self.probes = 0
        self.held = 0
        self.rejected = 0
        self._began = self._mark = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time of the turn."""
        return time.perf_counter() - self._began

    @property
    def lap(self) -> float:
        """Wall time since the last finished step."""
        return time.perf_counter() - self._mark

    def resume(self, seconds: float, lap: float) -> None:
        """Go on with the clocks of a turn that was interrupted."""
        now = time.perf_counter()
        self._began, self._mark = now - seconds, now - lap

    def request(self, role: Role) -> None:
        """Count a request."""
        self.usage.of(role).requests += 1

    def prefill(self, role: Role, tokens: int, cached: int) -> None:
        """Count a request's context."""
        usage, cached = self.usage.of(role), min(cached, tokens)
        usage.cached += cached
        usage.prefill += tokens - cached
        self.since.cached += cached
        self.since.prefill += tokens - cached

    def probe(self, role: Role) -> None:
        """Count a token that was written only to be looked at."""
        self.probes += 1
        self.usage.of(role).probe += 1
        self.since.probe += 1

    @property
    def taken(self) -> int:
        """Tokens that found their place: all that were received but those nobody asked for."""
        return self.kept + self.probes + self.held + self.rejected

    def reject(self, role: Role, tokens: int) -> None:
        """Count tokens of a draft that was dropped."""
        self.held -= tokens
        self.rejected += tokens
        self.usage.of(role).rejected += tokens
        self.since.rejected += tokens

    def discard(self, role: Role, tokens: int) -> None:
        """Count tokens that were dropped."""
        self.usage.of(role).discarded += tokens
        self.since.discarded += tokens

    def opening(self, role: Role, tokens: int) -> None:
        """Count tokens that opened the thought; they belong to no step."""
        self.kept += tokens
        self.usage.of(role).decode += tokens
        self.usage.thinking_tokens += tokens

    def step(
        self, role: Role, phase: Phase, tokens: int, *, routed: bool, draft: DraftTrace | None
    ) -> tuple[StepTokens, float]:
        """Count a finished step; return what it cost, in tokens and seconds."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        spent, self.since = self.since, StepTokens()
        spent.decode = tokens
        usage = self.usage.of(role)
        usage.decode += tokens
        usage.seconds += seconds
        usage.steps += routed
        if draft is not None:  # the other model had its share in it
            other: Role = "small" if role == "large" else "large"
            spent_there = draft.seconds if role == "large" else draft.judge_seconds
            spent_there = min(spent_there, seconds)
            self.usage.of(other).seconds += spent_there
            usage.seconds -= spent_there
        if phase == "thinking":
            self.usage.thinking_tokens += tokens
        else:
            self.usage.answer_tokens += tokens
        return spent, seconds

    def charge(self, step: StepTrace) -> None:
        """Add what came behind the last step's end to that step."""
        spent, self.since = self.since, StepTokens()
        for name in ("probe", "rejected", "discarded", "prefill", "cached"):
            setattr(step.tokens, name, getattr(step.tokens, name) + getattr(spent, name))
