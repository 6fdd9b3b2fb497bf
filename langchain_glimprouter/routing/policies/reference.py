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
        """Write one step."""
        decision: Decision | None = None
        before = turn.progress
        if turn.step is not None:  # the stop string came before the step's end
            decision = turn.step.decision
        elif len(turn.steps) < self.first_n_steps_large:
            decision = Decision("large", "first_steps")
        else:
            greedy = dataclasses.replace(turn.request.options.sampling, temperature=0.0)
            probe = turn.tokens(
                "small",
                top_logprobs=self.top_logprobs,
                token_ids=_retokenized(turn, "small"),
                max_tokens=1,
                sampling=greedy,
            )
            async with aclosing(probe) as tokens:
                async for token in tokens:
                    decision = self.decide(turn, token)
                    turn.drop_probe("small")
        if decision is None:  # the one token opened a thought: nothing to judge yet
            if turn.progress != before:
                return
            decision = Decision("small", "first_steps")
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


def _retokenized(turn: Turn, role: Role) -> list[int]:
    return turn.pair.vocabularies[role].encode(turn.contexts.text(role), special=True)
