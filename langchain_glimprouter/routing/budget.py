"""Limits on what the large model may do, and a threshold that keeps to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.prices import Prices
from langchain_glimprouter.routing.thresholds import Threshold

if TYPE_CHECKING:
    from langchain_glimprouter.routing.entropy import Entropy
    from langchain_glimprouter.routing.trace import TurnUsage

_WHOLE = ("large_tokens", "interventions")


class Spent(NamedTuple):
    """What the large model has done, and what both models have cost.

    Attributes:
        large_tokens: Tokens it wrote, dropped ones included.
        seconds: Wall time of the steps and answers that it wrote.
        interventions: Routed steps it wrote; an answer that nobody routed is none.
        cost: What both models' tokens cost, in the currency of the prices; 0 without prices.
    """

    large_tokens: int = 0
    seconds: float = 0.0
    interventions: int = 0
    cost: float = 0.0

    @classmethod
    def of(cls, usage: TurnUsage, prices: Prices | None = None) -> Spent:
        """Return what a turn has spent, up to its last finished step."""
        large = usage.large
        return cls(
            large.decode + large.probe + large.rejected + large.discarded,
            large.seconds,
            large.steps,
            0.0 if prices is None else prices.cost(usage),
        )

    def plus(self, other: Spent) -> Spent:
        """Return both together."""
        return Spent(
            self.large_tokens + other.large_tokens,
            self.seconds + other.seconds,
            self.interventions + other.interventions,
            self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """What the large model may do; `None` sets no limit.

    Attributes:
        large_tokens: Tokens it may write.
        seconds: Wall time of its steps and answers, in seconds.
        interventions: Routed steps it may write.
        cost: What the tokens of both models may cost before the large one is kept out; the small
            one, which goes on, counts only where it has a price.
        prices: What tokens cost.

    Raises:
        ConfigurationError: If a limit is zero or below, or no number; if a cost has no prices.
    """

    large_tokens: int | None = None
    seconds: float | None = None
    interventions: int | None = None
    cost: float | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        for name in Spent._fields:
            limit = getattr(self, name)
            if limit is None:
                continue
            whole = name in _WHOLE
            kinds = int if whole else (int, float)
            if isinstance(limit, bool) or not isinstance(limit, kinds) or not limit > 0:
                number = "a whole number, 1 or more" if whole else "a number above 0"
                msg = (
                    f"{name}={limit!r} is no budget: give {number}, or None for no limit; "
                    f"model='small' keeps the large model out altogether"
                )
                raise ConfigurationError(msg)
        self._check_prices()

    def _check_prices(self) -> None:
        prices: object = self.prices
        if prices is not None and not isinstance(prices, Prices):
            msg = f"prices={prices!r} are none: give for instance Prices(large_output=0.6)"
            raise ConfigurationError(msg)
        if prices is not None and self.cost is None:
            msg = "prices= limits nothing by itself: give cost= as well"
            raise ConfigurationError(msg)
        if self.cost is not None and prices is None:
            msg = (
                f"cost={self.cost!r} needs prices: give for instance "
                f"prices=Prices(large_output=0.6, large_input=0.15), per million tokens"
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
        return Limit(**rest, prices=self.prices)

    def over(self, inner: Threshold) -> Threshold:
        """Return another threshold, held to what remains; itself where nothing is limited."""
        if all(getattr(self, name) is None for name in Spent._fields):
            return inner
        return Budget(
            inner, self.large_tokens, self.seconds, self.interventions, self.cost, self.prices
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """Another threshold, as long as a turn's budget lasts; then the small model writes.

    It is asked before each step, so a limit is exceeded by one step at most. What no threshold
    decides is counted, but not kept back: `first_n_steps_large`, the answer behind a thought (see
    `answer_by`), and what the small model costs where it has a price.

    Attributes:
        inner: Decides while there is budget.
        large_tokens: Tokens that the large model may write in a turn.
        seconds: Wall time of the large model's steps in a turn, in seconds.
        interventions: Routed steps that the large model may write in a turn.
        cost: What a turn's tokens may cost before the small model takes over.
        prices: What tokens cost; for `cost`.

    Raises:
        ConfigurationError: If a limit is zero or below, if a cost has no prices, or if `inner` is
            no threshold.
    """

    inner: Threshold
    large_tokens: int | None = None
    seconds: float | None = None
    interventions: int | None = None
    cost: float | None = None
    prices: Prices | None = None
    _limit: Limit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if isinstance(self.inner, type) or not isinstance(self.inner, Threshold):
            msg = f"inner={self.inner!r} is no threshold: give for instance Fixed(1.0)"
            raise ConfigurationError(msg)
        limit = Limit(self.large_tokens, self.seconds, self.interventions, self.cost, self.prices)
        object.__setattr__(self, "_limit", limit)

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        """Ask the inner threshold; a spent budget is a threshold of infinity."""
        if self._limit.reached(Spent.of(usage, self.prices)):
            return "small", math.inf
        return self.inner.decide(entropy, usage)
