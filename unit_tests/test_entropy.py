"""Entropy from the likeliest tokens: the truth lies within the bounds."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from langchain_glimprouter.routing.entropy import Entropy, Estimator, measure_entropy

DISTRIBUTIONS = st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=60)
HEAVY_TAILS = st.builds(
    lambda head, tail: [*head, *([1e-3] * tail)],
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=5),
    st.integers(0, 400),
)


def normalize(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return sorted((weight / total for weight in weights), reverse=True)


def true_entropy(distribution: Sequence[float]) -> float:
    return -math.fsum(p * math.log(p) for p in distribution if p > 0)


def logs(distribution: Sequence[float]) -> list[float]:
    return [math.log(p) if p > 0 else -math.inf for p in distribution]


@given(DISTRIBUTIONS | HEAVY_TAILS, st.integers(1, 25))
@example([1.0] * 50, 20)
@example([1.0, *([1e-9] * 50)], 20)
def test_truth_lies_within_the_bounds(weights: list[float], k: int) -> None:
    distribution = normalize(weights)
    entropy = measure_entropy(logs(distribution[:k]), len(distribution))
    truth = true_entropy(distribution)
    assert entropy.lower - 1e-7 <= truth <= entropy.upper + 1e-7
    assert 0 <= entropy.lower <= entropy.upper <= math.log(len(distribution)) + 1e-7


@given(DISTRIBUTIONS | HEAVY_TAILS, st.integers(1, 25))
def test_bounds_are_reached(weights: list[float], k: int) -> None:
    """Some distribution with these k likeliest tokens has exactly each bound's entropy."""
    distribution = normalize(weights)
    assume(len(distribution) > k)
    seen, tail = distribution[:k], len(distribution) - k
    entropy = measure_entropy(logs(seen), len(distribution))
    mass = 1.0 - math.fsum(seen)
    assume(mass > 1e-6)
    assert entropy.upper == pytest.approx(true_entropy([*seen, *([mass / tail] * tail)]), abs=1e-6)
    lumps = [seen[-1]] * min(int(mass / seen[-1]), tail)
    lumps.append(max(mass - math.fsum(lumps), 0.0))
    assert entropy.lower == pytest.approx(true_entropy([*seen, *lumps]), abs=1e-6)


@given(DISTRIBUTIONS)
def test_bounds_meet_with_the_whole_vocabulary(weights: list[float]) -> None:
    distribution = normalize(weights)
    entropy = measure_entropy(logs(distribution), len(distribution))
    truth = true_entropy(distribution)
    assert entropy.lower == entropy.upper == pytest.approx(truth, abs=1e-9)
    assert entropy.estimate == pytest.approx(truth, abs=1e-9)
    assert entropy.seen_mass == pytest.approx(1.0)


@given(DISTRIBUTIONS, st.integers(1, 25))
def test_the_renormalized_estimate_rescales_what_was_seen(weights: list[float], k: int) -> None:
    seen = normalize(weights)[:k]
    entropy = measure_entropy(logs(seen), 50_000)
    assert entropy.estimate == pytest.approx(true_entropy(normalize(seen)), abs=1e-9)
    assert 0.0 <= entropy.estimate <= math.log(len(seen)) + 1e-9


@given(DISTRIBUTIONS, st.integers(1, 25), st.integers(0), st.sampled_from(["lower", "upper"]))
def test_order_does_not_matter(
    weights: list[float], k: int, seed: int, estimator: Estimator
) -> None:
    ordered = logs(normalize(weights)[:k])
    shuffled = random.Random(seed).sample(ordered, len(ordered))
    one = measure_entropy(ordered, 1000, estimator)
    other = measure_entropy(shuffled, 1000, estimator)
    assert one.estimate == pytest.approx(other.estimate, abs=1e-9)
    assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper), abs=1e-9)


@given(DISTRIBUTIONS, st.integers(2, 25))
def test_more_tokens_never_widen_the_bounds(weights: list[float], k: int) -> None:
    distribution = logs(normalize(weights))
    narrow = measure_entropy(distribution[:k], len(distribution))
    wide = measure_entropy(distribution[: k - 1], len(distribution))
    assert wide.lower <= narrow.lower + 1e-7
    assert narrow.upper <= wide.upper + 1e-7


@pytest.mark.parametrize("nothing", [-math.inf, -9999.0, -800.0])
def test_one_hot_has_no_entropy(nothing: float) -> None:
    """vLLM writes -9999 or -inf for tokens that cannot come."""
    entropy = measure_entropy([0.0, *([nothing] * 19)], 151_936)
    assert entropy == Entropy(0.0, 0.0, 0.0, 1.0)


def test_uniform_over_a_huge_vocabulary() -> None:
    size = 1_000_000
    entropy = measure_entropy([-math.log(size)] * 20, size)
    assert entropy.estimate == pytest.approx(math.log(20))
    assert entropy.lower == pytest.approx(math.log(size), abs=1e-4)
    assert entropy.upper == pytest.approx(math.log(size), abs=1e-9)
    assert entropy.seen_mass == pytest.approx(20 / size)


def test_the_estimate_can_lie_below_the_lower_bound() -> None:
    """What the published number cannot see: a heavy tail behind an even top."""
    entropy = measure_entropy([math.log(0.01)] * 20, 50_000)
    assert entropy.estimate == pytest.approx(math.log(20))
    assert entropy.lower == pytest.approx(math.log(100))
    assert entropy.upper > 9


@given(st.floats(1.0, 1.001), DISTRIBUTIONS)
def test_rounding_above_one_keeps_everything_in_range(excess: float, weights: list[float]) -> None:
    distribution = [p * excess for p in normalize(weights)]
    for size in (len(distribution), 50_000):
        entropy = measure_entropy(logs(distribution), size)
        assert 0.0 <= entropy.estimate <= math.log(len(distribution)) + 1e-9
        assert 0.0 <= entropy.lower <= entropy.upper
        assert entropy.seen_mass <= 1.0


@pytest.mark.parametrize(
    "logprobs",
    [
        [],
        [math.nan],
        [math.nan, -1.0],
        [-0.1, math.nan, -3.0],
        [-0.1, -3.0, math.nan],
        [-math.inf, -math.inf],
        [math.inf, -1.0],
        [1e6, -1.0],
    ],
)
def test_what_is_no_distribution_is_refused(logprobs: list[float]) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        measure_entropy(logprobs, 100)


def test_the_estimator_chooses_the_estimate() -> None:
    logprobs = logs([0.5, 0.2, 0.1])
    renormalized, lower, upper = (
        measure_entropy(logprobs, 100, estimator)
        for estimator in ("renormalized", "lower", "upper")
    )
    assert lower.estimate == lower.lower == renormalized.lower == upper.lower
    assert upper.estimate == upper.upper == renormalized.upper == lower.upper
    assert lower.lower < upper.upper
    assert renormalized.estimate == pytest.approx(true_entropy([5 / 8, 2 / 8, 1 / 8]))


@pytest.mark.parametrize(
    ("threshold", "straddles"),
    [(0.9, False), (1.0, True), (1.5, True), (2.0, False), (2.1, False)],
)
def test_straddling_agrees_with_strictly_above(threshold: float, straddles: bool) -> None:
    """A step goes to the large model iff entropy > threshold."""
    entropy = Entropy(1.5, 1.0, 2.0, 0.9)
    assert entropy.straddles(threshold) is straddles
    possible = {truth > threshold for truth in (1.0, 1.5, 2.0)}
    assert entropy.straddles(threshold) is (len(possible) == 2)
