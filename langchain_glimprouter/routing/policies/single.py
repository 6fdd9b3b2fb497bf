"""One model writes everything."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.routing.thresholds import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Turn


@dataclass(frozen=True, slots=True)
class Always:
    """Thought and answer by one model, in one request each: the baselines of every table.

    Attributes:
        role: The model.
        reason: What its decisions say.
    """

    role: Role
    reason: str = "always"

    @property
    def name(self) -> str:
        """Name for traces and tables."""
        return f"always {self.role}"

    @property
    def roles(self) -> frozenset[Role]:
        """The one model."""
        return frozenset((self.role,))

    @property
    def answer_by(self) -> Role | None:
        """The same model answers."""
        return self.role

    def next_writer(self, turn: Turn) -> Role:
        """Return the one model."""
        del turn
        return self.role

    async def write(self, turn: Turn) -> AsyncGenerator[Event]:
        """Write until the phase is over."""
        decision = Decision(self.role, self.reason)
        async with aclosing(turn.tokens(self.role)) as tokens:
            async for token in tokens:
                if turn.step is None:
                    yield turn.start(decision)
                for event in turn.push(token):
                    yield event
                if turn.done:
                    return
