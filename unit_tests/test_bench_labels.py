"""What goes onto a bench's pictures: the front, and labels that keep off each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.bench.labels import Box, arrange
from langchain_glimprouter.bench.pictures import front, spots
from langchain_glimprouter.bench.results import results_of
from unit_tests.studies import pictured

AREA = Box(0.0, 0.0, 600.0, 400.0)


def places(points: list[tuple[float, float]]) -> list[Box]:
    """Where labels of 80 × 14 pixels come to lie."""
    sizes = [(80.0, 14.0)] * len(points)
    markers = [Box.around(x, y, 10.0, 10.0) for x, y in points]
    offsets = arrange(points, sizes, markers, AREA)
    return [
        Box.around(x + offset.dx, y + offset.dy, *size)
        for (x, y), offset, size in zip(points, offsets, sizes, strict=True)
    ]


@given(
    st.lists(
        st.tuples(st.floats(20.0, 580.0), st.floats(20.0, 380.0)),
        min_size=1,
        max_size=10,
        unique=True,
    )
)
def test_labels_never_cover_each_other(points: list[tuple[float, float]]) -> None:
    found = places(points)
    for index, one in enumerate(found):
        assert one.size - one.shared(AREA) < 1e-6 * one.size
        for other in found[index + 1 :]:
            assert one.shared(other) < 0.02 * one.size


def test_labels_stay_close_where_there_is_room() -> None:
    (only,) = places([(300.0, 200.0)])
    assert only.left - 300.0 == pytest.approx(9.0)  # right of its point
    assert (only.bottom + only.top) / 2 == pytest.approx(200.0)
    crowd = places([(300.0, 200.0), (302.0, 201.0), (301.0, 199.0)])
    assert all(abs((box.left + box.right) / 2 - 300.0) < 120.0 for box in crowd)


def test_the_front_holds_what_nothing_beats(tmp_path: Path) -> None:
    shown = spots(results_of(pictured(tmp_path)))
    by_seconds = [one.label for one in front(shown, "seconds")]
    assert by_seconds == ["always small", "random(0.3)", "glimprouter", "always large @draft"]
    by_tokens = [one.label for one in front(shown, "large_tokens")]
    assert by_tokens == ["always small", "specreason(7)", "always large"]
