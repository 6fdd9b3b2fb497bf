"""Random routing: what every signal has to beat at the same intervention rate."""

from __future__ import annotations

import random
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.policies.base import BOTH, write_steps
from langchain_glimprouter.routing.thresholds import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Turn


@dataclass(frozen=True, slots=True)
class Random:
    """Each step goes to the large model with probability `rate`, unprobed.

    Attributes:
        rate: Expected intervention rate, in [0, 1].
        seed: Makes the draws of a prompt repeatable; two prompts draw differently.
    """

    rate: float
    seed: int = 0

    name: ClassVar[str] = "random"
    roles: ClassVar[frozenset[Role]] = BOTH
    answer_by: ClassVar[Role | None] = None

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        if not 0.0 <= self.rate <= 1.0:
            msg = f"rate={self.rate} is no probability: give a number from 0 to 1"
            raise ConfigurationError(msg)

    def next_writer(self, turn: Turn) -> Role:
        """Return the drawn model."""
        return self._due(turn).writer

    async def write(self, turn: Turn) -> AsyncGenerator[Event]:
        """Write steps by one model up to the first that is drawn for the other."""
        decision = self._due(turn)
        if decision.writer == "large":
            async with aclosing(write_steps(turn, decision)) as events:
                async for event in events:
                    yield event
            return
        async with aclosing(turn.tokens("small")) as tokens:
            async for token in tokens:
                if turn.step is None:
                    yield turn.start(decision)
                for event in turn.push(token):
                    yield event
                if turn.done:
                    return
                if turn.step is None:
                    decision = self._draw(turn)
                    if decision.writer == "large":
                        turn.pending = decision
                        return

    def _due(self, turn: Turn) -> Decision:
        return turn.step.decision if turn.step else turn.pending or self._draw(turn)

    def _draw(self, turn: Turn) -> Decision:
        """Draw by seed, prompt and step, so that a thought resumed elsewhere draws the same."""
        key = f"{self.seed}:{turn.contexts.prompt_key}:{turn.phase}:{turn.count}"
        large = random.Random(key).random() < self.rate
        return Decision("large" if large else "small", "random")
