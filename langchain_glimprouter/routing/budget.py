"""Limits on what the large model may do, and a threshold that keeps to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.thresholds import Threshold

if TYPE_CHECKING:
    from langchain_glimprouter.routing.entropy import Entropy
    from langchain_glimprouter.routing.trace import TurnUsage


class Spent(NamedTuple):
    """What the large model has done.

    Attributes:
        large_tokens: Tokens it wrote, dropped ones included.
        seconds: Wall time of the steps and answers that it wrote.
        interventions: Routed steps it wrote; an answer that nobody routed is none.
    """

    large_tokens: int = 0
    seconds: float = 0.0
    interventions: int = 0

    @classmethod
    def of(cls, usage: TurnUsage) -> Spent:
        """Return what a turn has spent, up to its last finished step."""
        large = usage.large
        return cls(large.decode + large.probe + large.discarded, large.seconds, large.steps)

    def plus(self, other: Spent) -> Spent:
        """Return both together."""
        return Spent(
            self.large_tokens + other.large_tokens,
            self.seconds + other.seconds,
            self.interventions + other.interventions,
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """What the large model may do; `None` sets no limit.

    Attributes:
        large_tokens: Tokens it may write.
        seconds: Wall time of its steps and answers, in seconds.
        interventions: Routed steps it may write.

    Raises:
        ConfigurationError: If a limit is zero or below, or no number.
    """

    large_tokens: int | None = None
    seconds: float | None = None
    interventions: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        for option in fields(self):
            name, limit = option.name, getattr(self, option.name)
            if limit is None:
                continue
            whole = name != "seconds"
            kinds = int if whole else (int, float)
            if isinstance(limit, bool) or not isinstance(limit, kinds) or not limit > 0:
                number = "a whole number, 1 or more" if whole else "a number above 0"
                msg = (
                    f"{name}={limit!r} is no budget: give {number}, or None for no limit; "
                    f"model='small' keeps the large model out altogether"
                )
                raise ConfigurationError(msg)

    def reached(self, spent: Spent) -> tuple[str, ...]:
        """Return the names of the limits that are spent."""
        return tuple(
            name
            for name, used in spent._asdict().items()
            if (limit := getattr(self, name)) is not None and used >= limit
        )

    def left(self, spent: Spent) -> Limit:
        """Return what remains; only where nothing is `reached`."""
        rest: dict[str, Any] = {
            name: limit - used
            for name, used in spent._asdict().items()
            if (limit := getattr(self, name)) is not None
        }
        return Limit(**rest)

    def narrowed(self, other: Limit) -> Limit:
        """Return the narrower of two, limit by limit."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in Spent._fields)
        return Limit(*(min((n for n in pair if n is not None), default=None) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Budget:
    """Another threshold, as long as a turn's budget lasts; then the small model writes.

    It is asked before each step, so a limit is exceeded by one step at most. What no threshold
    decides is counted, but not kept back: `first_n_steps_large`, and the answer behind a thought
    (see `answer_by`).

    Attributes:
        inner: Decides while there is budget.
        large_tokens: Tokens that the large model may write in a turn.
        seconds: Wall time of the large model's steps in a turn, in seconds.
        interventions: Routed steps that the large model may write in a turn.

    Raises:
        ConfigurationError: If a limit is zero or below, or `inner` is no threshold.
    """

    inner: Threshold
    large_tokens: int | None = None
    seconds: float | None = None
    interventions: int | None = None
    _limit: Limit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if isinstance(self.inner, type) or not isinstance(self.inner, Threshold):
            msg = f"inner={self.inner!r} is no threshold: give for instance Fixed(1.0)"
            raise ConfigurationError(msg)
        limit = Limit(self.large_tokens, self.seconds, self.interventions)
        object.__setattr__(self, "_limit", limit)

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        """Ask the inner threshold; a spent budget is a threshold of infinity."""
        if self._limit.reached(Spent.of(usage)):
            return "small", math.inf
        return self.inner.decide(entropy, usage)
