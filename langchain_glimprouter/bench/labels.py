"""Puts labels next to points so that nothing covers anything. Plain geometry, in pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GAPS = (9.0, 15.0, 24.0, 38.0, 56.0, 80.0, 110.0)  # pixels between a point and its label
_DIRECTIONS = 16
_SWEEPS = 6
_OUTSIDE, _OVER_LABEL = 8.0, 4.0  # what covering costs, beside 1 for points and lines


class Box(NamedTuple):
    """An upright rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> Box:
        """Return the rectangle around a centre."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    @property
    def size(self) -> float:
        """Its area."""
        return max(self.right - self.left, 0.0) * max(self.top - self.bottom, 0.0)

    def shared(self, other: Box) -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)


class Offset(NamedTuple):
    """From a point to the centre of its label.

    Attributes:
        dx: To the right.
        dy: Upwards.
        near: Whether it is plain whose label it is, without a line to the point.
    """

    dx: float
    dy: float
    near: bool


def arrange(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    area: Box,
) -> list[Offset]:
    """Find a place for each point's label.

    Each label goes where it covers least, the others staying; after a few rounds nothing moves.

    Args:
        points: The points.
        sizes: Widths and heights of their labels.
        obstacles: What no label should cover: markers, error bars.
        area: What no label should leave.
    """
    labels: list[Box | None] = [None] * len(points)
    chosen = [Offset(0.0, 0.0, near=True)] * len(points)
    for _ in range(_SWEEPS):
        before = list(chosen)
        for index, (x, y) in enumerate(points):
            width, height = sizes[index]
            reach = Box.around(x, y, 2 * (width + _GAPS[-1]), 2 * (height + _GAPS[-1]))
            markers = [box for box in obstacles if box.shared(reach)]
            others = [
                box
                for place, box in enumerate(labels)
                if box is not None and place != index and box.shared(reach)
            ]
            best = math.inf
            for offset, effort in _candidates(width, height):
                box = Box.around(x + offset.dx, y + offset.dy, width, height)
                cost = effort
                cost += sum(box.shared(one) for one in markers)
                cost += _OVER_LABEL * sum(box.shared(one) for one in others)
                cost += _OUTSIDE * (box.size - box.shared(area))
                if cost < best:
                    best, chosen[index], labels[index] = cost, offset, box
        if chosen == before:
            break
    return chosen


def _candidates(width: float, height: float) -> Iterator[tuple[Offset, float]]:
    """Yield places around a point, and what each costs for being far off or unusual."""
    for step, gap in enumerate(_GAPS):
        for number in range(_DIRECTIONS):
            angle = 2.0 * math.pi * number / _DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            offset = Offset(across * (width / 2 + gap), up * (height / 2 + gap), near=step < 2)
            yield offset, 6.0 * step + (1.0 - across) + abs(up)
