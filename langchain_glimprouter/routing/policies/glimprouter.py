"""GlimpRouter: probe, then dispatch (arXiv 2601.05110), with the fused probe."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.engines.base import MAX_TOP_LOGPROBS
from langchain_glimprouter.errors import EngineRequestError
from langchain_glimprouter.routing.entropy import Entropy, Estimator, measure_entropy
from langchain_glimprouter.routing.policies.base import (
    BOTH,
    check_first_steps,
    check_top_logprobs,
    due,
    write_steps,
)
from langchain_glimprouter.routing.thresholds import Decision, Fixed, Threshold

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Token, Turn

_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class GlimpRouter:
    """The small model runs on; the first token of each step, which it writes anyway, is the probe.

    Where the entropy of that token's distribution lies above the threshold, the token is dropped
    and the large model writes the step. A routine step costs no extra request and no extra token,
    except in a turn whose steps were mostly handed over: there the probe is a request of one token.
    An engine that runs on computes a token or two that nobody reads before it hears of the
    hand-over, at the very time when the large model's engine begins.

    Attributes:
        threshold: Judges the entropy.
        first_n_steps_large: So many steps go to the large model unprobed.
        top_logprobs: Log-probabilities of the probe (k); at least 2.
        estimator: Which number stands for the entropy.
    """

    threshold: Threshold = field(default_factory=lambda: Fixed(1.0))
    first_n_steps_large: int = 0
    top_logprobs: int = MAX_TOP_LOGPROBS
    estimator: Estimator = "renormalized"

    name: ClassVar[str] = "glimprouter"
    roles: ClassVar[frozenset[Role]] = BOTH
    answer_by: ClassVar[Role | None] = None

    def __post_init__(self) -> None:
        """Refuse what could not probe."""
        check_top_logprobs(self.top_logprobs)
        check_first_steps(self.first_n_steps_large)

    def next_writer(self, turn: Turn) -> Role:
        """Return the large model where it is due, else the small one, which is probed."""
        decision, _ = self.due(turn)
        return "small" if decision is None else decision.writer

    async def write(self, turn: Turn) -> AsyncGenerator[Event]:
        """Write steps by the small model up to a hand-over, or one step by the large."""
        decision, count = self.due(turn)
        if decision is not None and decision.writer == "large":
            async with aclosing(write_steps(turn, decision, count)) as events:
                async for event in events:
                    yield event
            return
        alone = 1 if decision is None and _mostly_handed_over(turn) else None
        tokens = turn.tokens("small", top_logprobs=self.top_logprobs, max_tokens=alone)
        async with aclosing(tokens):
            async for token in tokens:
                if turn.step is None:
                    decision = turn.pending or self.decide(turn, token)
                    if decision.writer == "large":
                        turn.drop_probe("small")
                        turn.pending = decision
                        return
                    yield turn.start(decision)
                for event in turn.push(token):
                    yield event
                if turn.done:
                    return

    def due(self, turn: Turn) -> tuple[Decision | None, int]:
        """Return what is decided about the next step already, and how many steps it is about."""
        return due(turn, self.first_n_steps_large)

    def reconsider(self, turn: Turn) -> None:
        """Judge a pending decision again, if another threshold is in force by now."""
        pending = turn.pending
        if pending is None or pending.reason != "entropy" or pending.entropy is None:
            return
        writer, threshold = self.threshold.decide(pending.entropy, turn.usage)
        if threshold != pending.threshold:
            turn.pending = replace(pending, writer=writer, threshold=threshold)

    def decide(self, turn: Turn, token: Token) -> Decision:
        """Judge a step by its first token.

        Raises:
            EngineRequestError: If the engine sent no usable log-probabilities.
        """
        entropy, candidates = glimpse(turn, token, self.estimator)
        writer, threshold = self.threshold.decide(entropy, turn.usage)
        return Decision(writer, "entropy", entropy, threshold, candidates)


def _mostly_handed_over(turn: Turn) -> bool:
    """Whether probes called the large model for most of the steps so far."""
    usage = turn.usage
    return 2 * usage.small.probe > usage.small.steps + usage.large.steps


def glimpse(
    turn: Turn, token: Token, estimator: Estimator
) -> tuple[Entropy, tuple[tuple[str, float], ...]]:
    """Measure H_init at a step's first token of the small model.

    Returns:
        The entropy, and the likeliest tokens as (text, probability).

    Raises:
        EngineRequestError: If the engine sent no usable log-probabilities.
    """
    top = token.top
    try:
        if top is None:
            msg = "no log-probabilities came with the token"
            raise ValueError(msg)
        size = turn.pair.vocabularies["small"].size
        entropy = measure_entropy(top.logprobs, size, estimator)
    except ValueError as error:
        msg = f"cannot probe a step: {error}"
        raise EngineRequestError(msg, model=turn.pair.model("small"), role="small") from error
    return entropy, turn.likeliest("small", top, _CANDIDATES)
