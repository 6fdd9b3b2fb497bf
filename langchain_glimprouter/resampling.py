"""How sure a share or a quantile of steps is, when steps of one turn are alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    _Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 1000
_Z = 1.959964  # the normal distribution's, for that confidence


class Interval(NamedTuple):
    """A confidence interval; both ends are part of it."""

    lower: float
    upper: float

    @property
    def half_width(self) -> float:
        """Half the distance of its ends."""
        return (self.upper - self.lower) / 2.0

    def widened(self, other: Interval) -> Interval:
        """Return the narrowest interval that holds both."""
        return Interval(min(self.lower, other.lower), max(self.upper, other.upper))


class TurnBootstrap:
    """Percentile bootstrap over turns (Efron 1979; clusters: Davison and Hinkley 1997, 3.8).

    Whole turns are drawn again, since the steps of one turn are alike: drawing single steps, or the
    order statistics of independent ones, would give intervals that are far too narrow. Over a few
    turns the bootstrap itself is too narrow, and over one it has nothing to draw; so no interval is
    narrower than for independent steps (shares: Wilson 1927; quantiles: order statistics).

    Args:
        turns: The turn that each step belongs to, numbered from 0 without gaps.
        seed: Of the drawing; the same data gives the same intervals.
    """

    def __init__(self, turns: Sequence[int], seed: int = 0) -> None:
        self._turns = np.asarray(turns, dtype=np.int64)
        count = int(self._turns.max()) + 1
        source = np.random.default_rng(seed)
        equal = np.full(count, 1.0 / count)
        # How often each resample holds each turn.
        self._weights = source.multinomial(count, equal, size=_RESAMPLES).astype(np.float64)
        self._sizes = self._weights @ np.bincount(self._turns, minlength=count)

    def share(self, chosen: Sequence[bool]) -> Interval:
        """Return the interval of the share of steps that were chosen.

        Args:
            chosen: For each step, in the order of `turns`.
        """
        per_turn = np.bincount(
            self._turns,
            weights=np.asarray(chosen, dtype=np.float64),
            minlength=self._weights.shape[1],
        )
        drawn = _interval(self._weights @ per_turn / self._sizes)
        return drawn.widened(_wilson(sum(chosen), len(chosen)))

    def quantiles(self, values: Sequence[float], levels: Sequence[float]) -> list[Interval]:
        """Return the intervals of some quantiles of the steps' values.

        Args:
            values: For each step, in the order of `turns`.
            levels: Which quantiles, between 0 and 1.
        """
        order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
        ranked = np.asarray(values, dtype=np.float64)[order]
        turns, wanted = self._turns[order], np.asarray(levels, dtype=np.float64)
        found = np.empty((_RESAMPLES, len(wanted)))
        for index, weights in enumerate(self._weights):
            heaps = np.cumsum(weights[turns])
            places = np.searchsorted(heaps, wanted * heaps[-1])
            found[index] = ranked[np.minimum(places, len(ranked) - 1)]
        return [
            _interval(column).widened(_order_statistics(ranked, level))
            for column, level in zip(found.T, levels, strict=True)
        ]


def _wilson(chosen: int, count: int) -> Interval:
    share, spread = chosen / count, _Z * _Z / count
    middle = (share + spread / 2.0) / (1.0 + spread)
    half = math.sqrt(share * (1.0 - share) * spread + spread * spread / 4.0) / (1.0 + spread)
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


def _order_statistics(ranked: _Floats, level: float) -> Interval:
    count = len(ranked)
    half = _Z * math.sqrt(count * level * (1.0 - level))
    first, last = math.floor(count * level - half), math.ceil(count * level + half)
    return Interval(float(ranked[max(first, 0)]), float(ranked[min(last, count - 1)]))


def _interval(values: _Floats) -> Interval:
    outside = (1.0 - CONFIDENCE) / 2.0
    lower, upper = np.quantile(values, (outside, 1.0 - outside))
    return Interval(float(lower), float(upper))
