"""What tokens cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_glimprouter.routing.trace import ModelUsage, TurnUsage

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens, in any one currency.

    Output is every token that a model wrote: kept, or dropped as a probe, a draft, or behind a
    step's end. Input is the context that it computed. What its prefix cache held is apart, since
    a routed turn sends its context with every request.

    Attributes:
        large_output: Price of the large model's output.
        large_input: Price of its input.
        large_cached: Price of its input from the cache.
        small_output: Price of the small model's output.
        small_input: Price of its input.
        small_cached: Price of its input from the cache.

    Raises:
        ConfigurationError: If a price is negative or no number, or all are zero.
    """

    large_output: float
    large_input: float = 0.0
    large_cached: float = 0.0
    small_output: float = 0.0
    small_input: float = 0.0
    small_cached: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        prices = {option.name: getattr(self, option.name) for option in fields(self)}
        for name, price in prices.items():
            number = isinstance(price, int | float) and not isinstance(price, bool)
            if not number or not 0 <= price < math.inf:
                msg = f"{name}={price!r} is no price: give 0 or more for a million tokens"
                raise ConfigurationError(msg)
        if not any(prices.values()):
            msg = "prices are all 0, so that no cost is ever reached: give large_output= a price"
            raise ConfigurationError(msg)

    def cost(self, usage: TurnUsage) -> float:
        """Return what both models' tokens cost."""
        large = _tokens_cost(usage.large, self.large_output, self.large_input, self.large_cached)
        small = _tokens_cost(usage.small, self.small_output, self.small_input, self.small_cached)
        return large + small


def _tokens_cost(usage: ModelUsage, output: float, read: float, cached: float) -> float:
    written = usage.decode + usage.probe + usage.rejected + usage.discarded
    return (written * output + usage.prefill * read + usage.cached * cached) / _MILLION
