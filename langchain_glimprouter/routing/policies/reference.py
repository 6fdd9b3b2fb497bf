"""The published protocol, for side-by-side measurement only."""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.routing.policies.base import BOTH
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.thresholds import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Turn


@dataclass(frozen=True, slots=True)
class Reference(GlimpRouter):
    """GlimpRouter as its authors published it: two requests for every step.

    For each step the whole text is tokenized anew; a first request (temperature 0, one token,
    top-20 log-probabilities) is the probe, whose token is dropped; a second one writes the step up
    to a stop string. Kept apart from the published code: a step cut by its limit gets no delimiter,
    and the distribution is keyed by token id. Use it to measure, not to work.
    """

    name: ClassVar[str] = "reference"
    roles: ClassVar[frozenset[Role]] = BOTH

    async def write(self, turn: Turn) -> AsyncGenerator[Event]:
        """Probe, and write one step; up to a hand-over, if the probe says so."""
        before = turn.progress
        decision, _ = self.due(turn)
        if decision is None:
            decision = turn.pending = await self._probe(turn)
            if decision is None:  # the one token opened a thought: nothing to judge yet
                if turn.progress != before:
                    return
                decision = Decision("small", "first_steps")
            elif decision.writer == "large":
                return
        options = turn.request.options
        step = turn.tokens(
            decision.writer,
            token_ids=_retokenized(turn, decision.writer),
            stop=options.steps.delimiters,
            max_tokens=options.max_step_tokens,
        )
        async with aclosing(step) as tokens:
            async for token in tokens:
                if turn.step is None:
                    yield turn.start(decision)
                for event in turn.push(token):
                    yield event
                if turn.done or turn.step is None:
                    return

    async def _probe(self, turn: Turn) -> Decision | None:
        """Ask the small model for one token, to be looked at and dropped."""
        decision: Decision | None = None
        probe = turn.tokens(
            "small",
            top_logprobs=self.top_logprobs,
            token_ids=_retokenized(turn, "small"),
            max_tokens=1,
            sampling=dataclasses.replace(turn.request.options.sampling, temperature=0.0),
        )
        async with aclosing(probe) as tokens:
            async for token in tokens:
                decision = self.decide(turn, token)
                turn.drop_probe("small")
        return decision


def _retokenized(turn: Turn, role: Role) -> list[int]:
    return turn.pair.vocabularies[role].encode(turn.contexts.text(role), special=True)
