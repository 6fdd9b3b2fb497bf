"""What happens in a turn. Every face of the package reads this one stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.thresholds import Decision
    from langchain_glimprouter.routing.trace import Phase, RoutingTrace, StepTrace


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A writer was chosen for the step `index`."""

    index: int
    phase: Phase
    decision: Decision


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """Text that became certain.

    Attributes:
        index: The step it belongs to.
        phase: Whether the step is of the thought or of the answer.
        writer: Who wrote it.
        text: New text; may be shorter or longer than one token's.
    """

    index: int
    phase: Phase
    writer: Role
    text: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step is complete."""

    step: StepTrace


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn is over; always the last event of a turn that did not fail."""

    trace: RoutingTrace


Event = StepStarted | TokenDelta | StepFinished | TurnFinished
