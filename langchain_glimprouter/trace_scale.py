"""Axes of charts: where a value lies, and which values get a label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_FAR = 10.0  # from here on a ratio is no matter of equal distances


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis.

    Attributes:
        ticks: Values with a label; the first and the last lie at the axis' ends.
        measure: Turns a value into a distance.
    """

    ticks: tuple[float, ...]
    measure: Callable[[float], float]

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; beyond the ends, the end."""
        low, high = self.measure(self.ticks[0]), self.measure(self.ticks[-1])
        inside = min(max(value, self.ticks[0]), self.ticks[-1])
        return (self.measure(inside) - low) / (high - low)


def nice(least: float) -> float:
    """Return the smallest round number that is not below another, which is above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in _NICE if factor * power >= least * (1 - 1e-9))


def linear(low: float, high: float, most: int, *, whole: bool = False) -> Scale:
    """Return an axis of equal distances.

    Args:
        low: A value it must hold, below `high`.
        high: Another.
        most: How many spaces between labels there may be; one more where `low` is not round.
        whole: Whether labels are whole numbers.
    """
    spacing = nice((high - low) / most)
    if whole:
        spacing = float(math.ceil(spacing))
    first, last = math.floor(low / spacing + 1e-9), math.ceil(high / spacing - 1e-9)
    ticks = (round(number * spacing, 12) for number in range(first, last + 1))
    return Scale(tuple(ticks), float)


def logarithmic(low: float, high: float, most: int) -> Scale:
    """Return an axis of equal ratios, or of equal distances where the ends are close together.

    Args:
        low: A value it must hold, above 0 and below `high`.
        high: Another.
        most: How many spaces between labels there may be.
    """
    if high / low < _FAR:
        return linear(low, high, most)
    decades = math.ceil(math.log10(high / low) - 1e-9)
    factors = next(
        (some for some in ((1, 2, 5), (1, 3), (1,)) if len(some) * decades <= most), (1,)
    )
    stride = math.ceil(decades * len(factors) / most)
    ticks = [
        low * 10.0**decade * factor
        for decade in range(0, decades + stride, stride)
        for factor in factors
    ]
    last = next(index for index, tick in enumerate(ticks) if tick >= high * (1 - 1e-9))
    return Scale(tuple(ticks[: last + 1]), math.log)
