"""Intervals over questions: how sure a study can be of what it found."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langchain_glimprouter.resampling import CONFIDENCE, Interval, TurnBootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

RESAMPLES = 10_000
_Z = 1.959964  # the normal distribution's, for 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its confidence interval (95 %).

    Attributes:
        value: The number.
        lower: Lower end.
        upper: Upper end.
        count: Questions that it rests on.
    """

    value: float
    lower: float
    upper: float
    count: int

    @property
    def half_width(self) -> float:
        """Half the distance of the ends."""
        return (self.upper - self.lower) / 2.0


def share(correct: Sequence[bool]) -> Estimate:
    """Return the share of questions that were answered right.

    The interval is a percentile bootstrap over questions, never narrower than Wilson's, so that
    none of five right does not look certain.
    """
    interval = TurnBootstrap(range(len(correct))).share(correct)
    return Estimate(sum(correct) / len(correct), interval.lower, interval.upper, len(correct))


def paired_difference(one: Sequence[bool], other: Sequence[bool]) -> Estimate:
    """Return by how much one's share of right answers exceeds another's, on the same questions.

    The interval is a percentile bootstrap over questions, which keeps the pairs together, never
    narrower than Agresti and Min's for matched pairs (2005: half a question is added to each of the
    four cells), so that two arms that agree on a few questions do not look surely equal.

    Args:
        one: Whether each question was answered right.
        other: By the other, in the same order.
    """
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    drawn = _percentiles(_weights(len(difference)) @ difference / len(difference))
    interval = drawn.widened(_agresti_min(difference))
    return Estimate(float(difference.mean()), interval.lower, interval.upper, len(difference))


def paired_ratio(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Return what one costs for each unit of another, on the same questions: Σ one ÷ Σ other.

    The interval is a percentile bootstrap over questions.

    Args:
        one: Costs per question; not all zero.
        other: The other's, in the same order; each above zero.
    """
    above, below = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    weights = _weights(len(above))
    interval = _percentiles((weights @ above) / (weights @ below))
    ratio = float(above.sum() / below.sum())
    return Estimate(ratio, interval.lower, interval.upper, len(above))


def quantile(values: Sequence[float], level: float) -> float:
    """Return a quantile, linear between the values; NaN of nothing."""
    return float(np.quantile(np.asarray(values), level)) if values else math.nan


@functools.lru_cache(maxsize=8)
def _weights(count: int) -> npt.NDArray[np.float64]:
    """Return how often each resample holds each question; the same for the same count."""
    source = np.random.default_rng(0)
    equal = np.full(count, 1.0 / count)
    return source.multinomial(count, equal, size=RESAMPLES).astype(np.float64)


def _percentiles(values: npt.NDArray[np.float64]) -> Interval:
    outside = (1.0 - CONFIDENCE) / 2.0
    lower, upper = np.quantile(values, (outside, 1.0 - outside))
    return Interval(float(lower), float(upper))


def _agresti_min(difference: npt.NDArray[np.float64]) -> Interval:
    count = len(difference) + 2.0
    wins, losses = (difference > 0).sum() + 0.5, (difference < 0).sum() + 0.5
    middle = (wins - losses) / count
    half = _Z * math.sqrt(max(wins + losses - (wins - losses) ** 2 / count, 0.0)) / count
    return Interval(max(float(middle - half), -1.0), min(float(middle + half), 1.0))
