"""The entropy of a turn's steps as a chart: where everything lies, for a template to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import RoutingTrace, StepTrace

    _Scale = Callable[[float], float]

WIDTH, HEIGHT = 960.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 10.0, 34.0
_TICKS = 6  # at most, upwards
_LABELS = 12  # at most, along
_TALL = 1.5  # bounds are drawn so far above the rest, and cut there


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid.

    Attributes:
        place: Where, in units of the drawing.
        label: What it stands for.
    """

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A step that was probed.

    Attributes:
        step: The step.
        writer: Who wrote it.
        x: Middle of its column.
        y: Its entropy.
        low: Lower bound of the true entropy.
        high: Upper bound, at most the chart's edge.
        size: Half the width of its mark.
    """

    step: StepTrace
    writer: Role
    x: float
    y: float
    low: float
    high: float
    size: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is to be drawn.

    Attributes:
        dots: The probed steps.
        threshold: An SVG path along the thresholds in force; empty if there was none.
        across: Horizontal lines of the grid, in nats.
        along: Numbers of steps.
        width: Least width at which steps can be told apart, in pixels.
    """

    dots: list[Dot]
    threshold: str
    across: list[Tick]
    along: list[Tick]
    width: int


def entropy_chart(trace: RoutingTrace) -> Chart | None:
    """Return the chart of a turn; `None` if no step was probed.

    Args:
        trace: The turn.
    """
    steps = trace.steps
    probes = [step.probe for step in steps if step.probe is not None]
    if not probes:
        return None
    column = (WIDTH - LEFT - RIGHT) / len(steps)
    firm = max(1.0, *(max(probe.entropy, probe.threshold or 0.0) for probe in probes))
    highest = max(firm, min(max(probe.upper for probe in probes), _TALL * firm))
    spacing = _spacing(highest)
    rows = math.ceil(highest / spacing)
    top = rows * spacing

    def x(place: float) -> float:
        return round(LEFT + place * column, 2)

    def y(nats: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - min(nats, top) / top), 2)

    size = round(min(max(column * 0.4, 1.6), 5.0), 2)
    dots = [
        Dot(
            step,
            step.writer,
            x(index + 0.5),
            y(step.probe.entropy),
            y(step.probe.lower),
            y(step.probe.upper),
            size,
        )
        for index, step in enumerate(steps)
        if step.probe is not None
    ]
    every = max(math.ceil(len(steps) / _LABELS), 1)
    return Chart(
        dots=dots,
        threshold=_threshold(steps, x, y),
        across=[Tick(y(row * spacing), f"{row * spacing:g}") for row in range(rows + 1)],
        along=[Tick(x(n + 0.5), str(steps[n].index)) for n in range(0, len(steps), every)],
        width=min(max(320, 3 * len(steps)), 20_000),
    )


def _spacing(highest: float) -> float:
    for spacing in (0.25, 0.5, 1.0, 2.0, 5.0):
        if highest / spacing <= _TICKS:
            return spacing
    return float(10 ** math.ceil(math.log10(highest / _TICKS)))


def _threshold(steps: Sequence[StepTrace], x: _Scale, y: _Scale) -> str:
    """Return a line over the columns; equal neighbours are drawn as one piece."""
    path: list[str] = []
    last: float | None = None
    for index, step in enumerate(steps):
        tau = step.probe.threshold if step.probe is not None else None
        if tau is None:
            last = None
            continue
        if tau != last:
            path.append(f"{'M' if last is None else 'L'}{x(index)} {y(tau)}")
        path.append(f"H{x(index + 1)}")
        last = tau
    return "".join(path)
