"""What a turn's steps were judged by, as charts: where everything lies, for a template to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.trace_scale import Scale, linear, logarithmic, nice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import RoutingTrace, StepTrace

HEIGHT = 240.0  # pixels, at any width
TOP, BOTTOM = 24.0, 36.0
_TICKS = 6  # at most, upwards
_WHOLE_TICKS = 9  # as many as a score has
_LABELS = 8  # at most, along
_TALL = 1.5  # bounds are drawn so far above the rest, and cut there
_COLUMN = 3  # pixels: the least that tells two steps apart
_WIDEST = 40_000  # pixels

H_INIT = "entropy"
_ABOVE = "dashed: the threshold τ, above which the large model writes"
_REJECTED = "dashed: the threshold, above which a draft is rejected"
_LEAST = "dashed: the least that a draft needs to be kept"
_OTHER = "dashed: the threshold"


@dataclass(frozen=True, slots=True)
class Signal:
    """A number that steps are judged by.

    Attributes:
        title: What the chart shows.
        unit: Of its upward axis.
        rule: What the dashed line means.
        ends: The axis' ends, where they are known beforehand.
        logarithmic: Whether equal distances are equal ratios where values lie far apart.
        percent: Whether its labels are percentages.
    """

    title: str
    unit: str
    rule: str
    ends: tuple[float, float] | None = None
    logarithmic: bool = False
    percent: bool = False


_SIGNALS = {
    H_INIT: Signal("Entropy of each step's first token (H_init)", "nats", _ABOVE),
    "step_entropy": Signal("Mean entropy of each draft's tokens (H_step)", "nats", _REJECTED),
    "step_perplexity": Signal(
        "Perplexity of each draft (PPL_step)", "perplexity", _REJECTED, logarithmic=True
    ),
    "overconfidence": Signal(
        "Share of each draft's tokens that the small model was sure of",
        "of its tokens",
        _REJECTED,
        (0.0, 1.0),
        percent=True,
    ),
    "score": Signal("The large model's score of each draft", "score, 0 to 9", _LEAST, (0.0, 9.0)),
    "reward": Signal("Reward of each draft", "reward, 0 to 1", _LEAST, (0.0, 1.0)),
    "selection": Signal(
        "The draft that the large model chose", "number; 0 for none", "below the dashed line: none"
    ),
}


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid, or a label of an axis.

    Attributes:
        place: Where: upwards in pixels from the top, along in percent of the width.
        label: What it stands for.
    """

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A step that was judged.

    Attributes:
        step: The step.
        writer: Who wrote it.
        value: What it was judged by.
        x: Middle of its column, in percent.
        y: Its value, in pixels from the top.
        low: Lower bound of the true value.
        high: Upper bound, at most the chart's edge.
        size: Half the width of its mark, in pixels.
    """

    step: StepTrace
    writer: Role
    value: float
    x: float
    y: float
    low: float
    high: float
    size: float


@dataclass(frozen=True, slots=True)
class Line:
    """A straight piece of the thresholds in force; see `Dot` for the units."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is to be drawn.

    Attributes:
        name: Of the signal, as traces have it.
        signal: What is shown.
        dots: The steps judged by it.
        threshold: The thresholds in force; empty if there were none.
        across: Horizontal lines of the grid.
        along: Numbers of steps.
        width: Least width at which steps can be told apart, in pixels.
    """

    name: str
    signal: Signal
    dots: list[Dot]
    threshold: list[Line]
    across: list[Tick]
    along: list[Tick]
    width: int


@dataclass(frozen=True, slots=True)
class _Point:
    """What one step was judged by."""

    place: int
    step: StepTrace
    value: float
    low: float
    high: float
    threshold: float | None
    unlimited: bool


def charts(trace: RoutingTrace) -> list[Chart]:
    """Return one chart for every signal that judged a step of a turn.

    Where a draft's own signal decided, the entropy of its first token is left out; where both had
    a say, both are shown.

    Args:
        trace: The turn.
    """
    by_signal: dict[str, list[_Point]] = {}
    for place, step in enumerate(trace.steps):
        for name, point in _points(place, step):
            by_signal.setdefault(name, []).append(point)
    names = sorted(by_signal, key=lambda name: name != H_INIT)
    return [_chart(name, by_signal[name], trace.steps) for name in names]


def _points(place: int, step: StepTrace) -> list[tuple[str, _Point]]:
    probe, draft = step.probe, step.draft
    found = []
    if probe is not None and (draft is None or draft.signal == "overconfidence"):
        measured = (probe.entropy, probe.lower, probe.upper, probe.threshold)
        unlimited = draft is None and probe.threshold is None  # else it was just not written down
        found.append((H_INIT, _Point(place, step, *measured, unlimited)))
    if draft is not None and draft.value is not None and math.isfinite(draft.value):
        value = draft.value
        measured = (value, value, value, draft.threshold)
        found.append((draft.signal, _Point(place, step, *measured, draft.threshold is None)))
    return found


def _chart(name: str, points: Sequence[_Point], steps: Sequence[StepTrace]) -> Chart:
    signal = _SIGNALS.get(name) or Signal(f"What each draft was judged by: {name}", name, _OTHER)
    scale = _scale(name, signal, points)
    count = len(steps)

    def x(place: float) -> float:
        return round(100.0 * place / count, 3)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - scale.share(value)), 2)

    size = round(min(max(200.0 / count, 2.2), 5.0), 2)
    dots = [
        Dot(
            point.step,
            point.step.writer,
            point.value,
            x(point.place + 0.5),
            y(point.value),
            y(point.low),
            y(point.high),
            size,
        )
        for point in points
    ]
    pieces = [
        (x(point.place), x(point.place + 1), _height(point, y))
        for point in points
        if point.threshold is not None or point.unlimited
    ]
    every = max(int(nice(count / _LABELS)), 1)
    return Chart(
        name=name,
        signal=signal,
        dots=dots,
        threshold=_joined(pieces),
        across=[Tick(y(value), _label(value, signal)) for value in scale.ticks],
        along=[Tick(x(n + 0.5), str(steps[n].index)) for n in range(0, count, every)],
        width=min(_COLUMN * count, _WIDEST),
    )


def _scale(name: str, signal: Signal, points: Sequence[_Point]) -> Scale:
    """Return an upward axis on which every value and threshold has a place."""
    firm = [point.value for point in points]
    firm += [point.threshold for point in points if point.threshold is not None]
    least, most = min(firm), max(firm)
    if signal.logarithmic:
        return logarithmic(1.0, max(most, 1.1), _TICKS)
    if name == "selection":
        most = max(most, *(point.step.draft.drafts for point in points if point.step.draft))
        return linear(0.0, most, _WHOLE_TICKS, whole=True)
    if signal.ends is not None:
        low, high = signal.ends
        whole = high > 1.0
        ticks = _WHOLE_TICKS if whole else _TICKS
        return linear(min(low, least), max(high, most), ticks, whole=whole)
    upper = max(point.high for point in points)
    most = max(1.0, most)
    return linear(min(least, 0.0), max(most, min(upper, _TALL * most)), _TICKS)


def _label(value: float, signal: Signal) -> str:
    return f"{100 * value:g} %" if signal.percent else f"{value:g}"


def _height(point: _Point, y: Callable[[float], float]) -> float | None:
    return None if point.threshold is None else y(point.threshold)


def _joined(pieces: Sequence[tuple[float, float, float | None]]) -> list[Line]:
    """Return lines over the columns of thresholds; `None` is one of infinity, which has no line.

    Equal ones are one line, also across columns that say nothing; neighbours that differ have an
    upright line between them.
    """
    lines: list[Line] = []
    last: Line | None = None
    for left, right, height in pieces:
        if height is None:
            last = None
            continue
        begin = left
        if last is not None and last.y2 == height:
            lines.pop()
            begin = last.x1
        elif last is not None and last.x2 == left:
            lines.append(Line(left, last.y2, left, height))
        last = Line(begin, height, right, height)
        lines.append(last)
    return lines
