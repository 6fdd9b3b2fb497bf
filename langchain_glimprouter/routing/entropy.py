"""Entropy of a next-token distribution from its likeliest tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Estimator = Literal["renormalized", "lower", "upper"]
"""Which number stands for the entropy: the seen tokens rescaled to one, or one of the bounds."""

_MOST_MASS = 1.1  # rounded log-probabilities may sum to a little more than one


@dataclass(frozen=True, slots=True)
class Entropy:
    """Entropy of one token's distribution, in nats.

    Attributes:
        estimate: The number compared with the threshold.
        lower: Least entropy that the seen log-probabilities allow.
        upper: Greatest entropy that they allow.
        seen_mass: Probability of the seen tokens together.
    """

    estimate: float
    lower: float
    upper: float
    seen_mass: float

    def straddles(self, threshold: float) -> bool:
        """Tell whether the true entropy may lie on either side of `threshold`."""
        return self.lower <= threshold < self.upper


def measure_entropy(
    logprobs: Sequence[float], vocabulary_size: int, estimator: Estimator = "renormalized"
) -> Entropy:
    """Measure H_init from the top-k log-probabilities (GlimpRouter, arXiv 2601.05110, section 3).

    The lower bound lumps the unseen mass into as few tokens as the k-th probability allows; the
    upper bound spreads it evenly over the rest of the vocabulary. The renormalized estimate is the
    one that published thresholds were measured with; with a heavy tail it can lie below `lower`.

    Args:
        logprobs: Raw log-probabilities of the k likeliest tokens, in nats, in any order.
        vocabulary_size: Number of tokens the distribution is over; at least k.
        estimator: Which number becomes `Entropy.estimate`.

    Returns:
        The estimate with its bounds. With the whole vocabulary seen, the bounds meet.

    Raises:
        ValueError: If there are no log-probabilities, one is NaN, or they sum to more than one.
    """
    seen_mass = 0.0
    seen_entropy = 0.0
    least = 1.0
    for given in logprobs:
        logprob = min(given, 0.0)  # rounding; NaN stays NaN in this order
        probability = math.exp(logprob)
        seen_mass += probability
        if probability > 0.0:
            seen_entropy -= probability * logprob
        least = min(least, probability)
    if not 0.0 < seen_mass < _MOST_MASS:  # also catches NaN
        msg = "no usable log-probabilities: the list is empty, holds NaN, or is no distribution"
        raise ValueError(msg)

    unseen_tokens = max(vocabulary_size - len(logprobs), 0)
    unseen_mass = max(1.0 - seen_mass, 0.0) if unseen_tokens else 0.0
    lower = upper = seen_entropy
    if unseen_mass > 0.0:
        upper -= unseen_mass * math.log(unseen_mass / unseen_tokens)
        lower = min(lower + _lumped(unseen_mass, least, unseen_tokens), upper)
    match estimator:
        case "renormalized":
            estimate = max(seen_entropy / seen_mass + math.log(seen_mass), 0.0)
        case "lower":
            estimate = lower
        case "upper":
            estimate = upper
    return Entropy(estimate, lower, upper, min(seen_mass, 1.0))


def _lumped(mass: float, most: float, tokens: int) -> float:
    """Entropy of `mass` in as few tokens as possible, none above `most`."""
    if most <= 0.0:
        return 0.0
    full = min(math.floor(mass / most), tokens)
    rest = max(mass - full * most, 0.0)
    entropy = -full * most * math.log(most)
    if rest > 0.0:
        entropy -= rest * math.log(rest)
    return max(entropy, 0.0)
