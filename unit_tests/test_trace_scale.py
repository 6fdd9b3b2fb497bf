"""Axes of charts: every value has a place, and labels are round and few."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.trace_scale import Scale, linear, logarithmic, nice


def check(scale: Scale, low: float, high: float, most: int) -> None:
    margin = 1e-6 * max(1.0, abs(low), abs(high))
    assert scale.ticks[0] <= low + margin
    assert scale.ticks[-1] >= high - margin
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert 2 <= len(scale.ticks) <= most + 2
    shares = [scale.share(low + (high - low) * part / 7) for part in range(8)]
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] < shares[-1] <= 1.0
    assert (scale.share(scale.ticks[0]), scale.share(scale.ticks[-1])) == (0.0, 1.0)
    assert scale.share(2 * abs(scale.ticks[-1]) + 1) == 1.0


@given(st.floats(-1e3, 1e3), st.floats(0.01, 1e4), st.integers(2, 9), st.booleans())
def test_equal_distances(low: float, span: float, most: int, whole: bool) -> None:
    scale = linear(low, low + span, most, whole=whole)
    check(scale, low, low + span, most)
    steps = [b - a for a, b in itertools.pairwise(scale.ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    if whole:
        assert all(tick.is_integer() for tick in scale.ticks)


@given(st.floats(0.01, 690.0), st.integers(3, 9))
def test_equal_ratios(nats: float, most: int) -> None:
    high = 1.0 + math.expm1(nats)
    check(logarithmic(1.0, high, most), 1.0, high, most)


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (1.3, "1 1.05 1.1 1.15 1.2 1.25 1.3"),
        (40.0, "1 2 5 10 20 50"),
        (9e4, "1 10 100 1000 10000 100000"),
    ],
)
def test_labels_of_ratios_are_round(high: float, labels: str) -> None:
    assert [f"{tick:.6g}" for tick in logarithmic(1.0, high, 6).ticks] == labels.split()


@pytest.mark.parametrize(
    ("least", "found"), [(1.0, 1.0), (1.1, 2.0), (2.1, 2.5), (0.3, 0.5), (7, 10), (0.06, 0.1)]
)
def test_round_numbers(least: float, found: float) -> None:
    assert nice(least) == pytest.approx(found)
