"""What decides who writes the next step."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.thresholds import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Turn


@runtime_checkable
class Policy(Protocol):
    """Writes steps with one model or the other. Holds no state of a turn: that is the turn's."""

    @property
    def name(self) -> str:
        """Name for traces and tables."""
        ...

    @property
    def roles(self) -> frozenset[Role]:
        """Models that this policy can call."""
        ...

    @property
    def answer_by(self) -> Role | None:
        """Who must write the answer behind a thought; `None` leaves it to the turn's options."""
        ...

    def next_writer(self, turn: Turn) -> Role:
        """Return whose turn to write it is, as far as that is known before a model is asked.

        Where a probe decides, it is the model that is probed.
        """
        ...

    def write(self, turn: Turn) -> AsyncGenerator[Event]:
        """Write until the phase is over or the other model is to take over.

        The router calls again until the phase is over. What must survive a hand-over lies in
        `turn.pending`; a decision that lies there is to be obeyed, whoever put it there.
        """
        ...


BOTH: frozenset[Role] = frozenset(("small", "large"))


async def write_steps(turn: Turn, decision: Decision, count: int = 1) -> AsyncGenerator[Event]:
    """Let one model write `count` steps by one decision.

    A single step's request is ended by the engine itself where the step's last token can be named;
    several steps run on in one request.
    """
    role = decision.writer
    if turn.step is None:
        turn.pending = decision
    goal = turn.count + count
    while True:
        before = turn.progress
        async with aclosing(turn.tokens(role, one_step=count == 1)) as tokens:
            async for token in tokens:
                if turn.step is None:
                    yield turn.start(decision)
                for event in turn.push(token):
                    yield event
                if turn.done or (turn.step is None and turn.count >= goal):
                    return
        if turn.done or turn.progress == before:
            return


def due(turn: Turn, first_n_steps_large: int) -> tuple[Decision | None, int]:
    """Return what is decided about the next step already, and how many steps it is about."""
    if turn.step is not None:  # its engine broke off in the middle
        return turn.step.decision, 1
    if turn.pending is not None:
        return turn.pending, 1
    if (first := first_n_steps_large - turn.count) > 0:
        return Decision("large", "first_steps"), first
    return None, 1


def check_first_steps(first_n_steps_large: int) -> None:
    """Refuse a number of steps that is none.

    Raises:
        ConfigurationError: If it is negative.
    """
    if first_n_steps_large < 0:
        msg = f"first_n_steps_large={first_n_steps_large} cannot work: give 0 or more"
        raise ConfigurationError(msg)


def check_top_logprobs(top_logprobs: int) -> None:
    """Refuse a number of log-probabilities that shows no entropy.

    Raises:
        ConfigurationError: If it is below 2.
    """
    if top_logprobs < 2:
        msg = f"top_logprobs={top_logprobs} shows no entropy: give 2 or more (20 is vLLM's limit)"
        raise ConfigurationError(msg)
