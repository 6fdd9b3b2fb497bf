"""A study's pictures, by matplotlib: accuracy over cost, and the entropies."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_glimprouter.bench.labels import Box, arrange
from langchain_glimprouter.bench.pictures import ACCURACY, AXES, COSTS, front, spots, title
from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.journal import Journal
    from langchain_glimprouter.bench.pictures import Cost, Spot
    from langchain_glimprouter.bench.results import Results

_LABEL = 10.5  # points
_MARKER = 11.0  # pixels that a marker takes, for labels to keep off
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#b3b3b3"
_BINS = 40
_COLUMNS = 5  # of the legend
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "svg.fonttype": "none",
}


def pareto_png(results: Results) -> bytes:
    """Return accuracy over seconds and over large-model tokens, as a PNG.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    mpl = _matplotlib()
    shown = spots(results)
    with mpl.rc_context(_STYLE):
        figure = _figure(14.0, 6.6)
        axes = figure.subplots(1, 2, sharey=True)
        figure.suptitle("Accuracy over cost", x=0.01, ha="left", fontsize=14, fontweight="bold")
        axes[0].set_title("\n".join(title(results, 150)), loc="left", pad=10)
        for place, cost in zip(axes, COSTS, strict=True):
            _scatter(place, shown, cost)
            place.set_xlabel(AXES[cost])
        axes[0].set_ylabel(ACCURACY)
        _legend(figure, axes[0], shown)
        figure.draw_without_rendering()  # labels have to know where the points will be
        figure.set_layout_engine("none")
        for place, cost in zip(axes, COSTS, strict=True):
            _label(figure, place, shown, cost)
        return _png(figure)


def entropy_png(results: Results, journal: Journal) -> bytes | None:
    """Return the distribution of H_init with its threshold, as a PNG; `None` without probes.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    series = entropies(results, journal)
    if not series:
        return None
    mpl = _matplotlib()
    tau = results.thresholds.get("entropy") or {}
    with mpl.rc_context(_STYLE):
        figure = _figure(9.0, 4.8)
        axes = figure.subplots()
        figure.suptitle(
            "First-token entropy of steps", x=0.01, ha="left", fontsize=14, fontweight="bold"
        )
        axes.set_title("\n".join(title(results, 86)), loc="left", pad=26)
        top = max(max(values) for _, values in series)
        edges = np.linspace(0.0, max(top, 0.1), _BINS + 1)
        for index, (name, values) in enumerate(series):
            weights = np.full(len(values), 100.0 / len(values))
            filled = index == 0
            axes.hist(
                values,
                bins=edges,
                weights=weights,
                label=f"{name} ({len(values):,} steps)",
                color=_BLUE if filled else _RED,
                alpha=0.45 if filled else 1.0,
                histtype="stepfilled" if filled else "step",
                linewidth=1.6,
            )
        marked = tau.get("threshold", next(iter(_given(results)), None))
        if marked is not None:
            _mark_threshold(axes, marked, tau.get("rate"))
        axes.set_xlabel("entropy of a step's first token (H_init), nats")
        axes.set_ylabel("share of steps, %")
        axes.legend(frameon=False, loc="best")
        return _png(figure)


def _given(results: Results) -> list[float]:
    """Return thresholds of H_init that the user gave."""
    return [
        arm.threshold
        for arm in results.arms
        if arm.policy == "glimprouter" and arm.threshold is not None
    ]


def _mark_threshold(axes: Any, tau: float, rate: float | None) -> None:
    """Draw τ as a line, and say above the panel what lies beyond it."""
    axes.axvline(tau, color="black", linewidth=1.4, linestyle="--")
    low, high = axes.get_xlim()
    said = "" if rate is None else f"; above it: {100 * rate:.0f} % of the calibration's steps"
    axes.annotate(
        f"τ = {tau:.2f}{said}",
        (tau, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="left" if tau < (low + high) / 2 else "right",
        va="bottom",
    )


def entropies(results: Results, journal: Journal) -> list[tuple[str, list[float]]]:
    """Return the H_init of steps: of the small model alone, and under routing by it."""
    alone = [step[0] for turn in journal.probes.values() for step in turn.steps]
    found = [("the small model alone, calibration split", alone)]
    for arm in results.arms:
        if arm.policy == "glimprouter" and arm.variant == "main":
            routed = [step[2] for turn in journal.turns_of(arm.label) for step in turn.steps]
            found.append((f"under routing by {arm.label}", routed))
            break
    known = [(name, [one for one in values if one is not None]) for name, values in found]
    return [(name, values) for name, values in known if values]


def _scatter(axes: Any, shown: Sequence[Spot], cost: Cost) -> None:
    best = front(shown, cost)
    axes.plot(
        [one.costs[cost] for one in best],
        [100 * one.accuracy.value for one in best],
        color=_GREY,
        linewidth=1.2,
        zorder=1,
    )
    for one in shown:
        accuracy = one.accuracy
        axes.errorbar(
            one.costs[cost],
            100 * accuracy.value,
            yerr=[
                [100 * (accuracy.value - accuracy.lower)],
                [100 * (accuracy.upper - accuracy.value)],
            ],
            fmt=one.family.marker,
            color=one.family.color,
            markerfacecolor=one.family.color if one.filled else "white",
            markersize=8,
            elinewidth=0.8,
            ecolor=one.family.color + "66",
            zorder=3,
        )
    axes.margins(x=0.12, y=0.06)
    axes.grid(visible=True, color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)


def _label(figure: Any, axes: Any, shown: Sequence[Spot], cost: Cost) -> None:
    """Write each arm's name next to its point."""
    renderer = figure.canvas.get_renderer()
    place = axes.transData.transform
    points = [tuple(place((one.costs[cost], 100 * one.accuracy.value))) for one in shown]
    obstacles = [Box.around(x, y, _MARKER, _MARKER) for x, y in points]
    for one in shown:
        x, low = place((one.costs[cost], 100 * one.accuracy.lower))
        high = place((one.costs[cost], 100 * one.accuracy.upper))[1]
        obstacles.append(Box(x - 0.6, low, x + 0.6, high))
    texts = [figure.text(0.5, 0.5, one.label, fontsize=_LABEL) for one in shown]
    extents = [text.get_window_extent(renderer) for text in texts]
    for text in texts:
        text.remove()
    area = axes.get_window_extent(renderer)
    offsets = arrange(
        points,
        [(extent.width + 4, extent.height + 2) for extent in extents],
        obstacles,
        Box(area.x0, area.y0, area.x1, area.y1),
    )
    for one, offset in zip(shown, offsets, strict=True):
        axes.annotate(
            one.label,
            (one.costs[cost], 100 * one.accuracy.value),
            xytext=(offset.dx, offset.dy),
            textcoords="offset pixels",
            ha="center",
            va="center",
            fontsize=_LABEL,
            color=one.family.color,
            arrowprops=None
            if offset.near
            else {"arrowstyle": "-", "color": one.family.color + "88", "linewidth": 0.6},
            zorder=4,
        )


def _legend(figure: Any, axes: Any, shown: Sequence[Spot]) -> None:
    """Explain shapes, hollow markers, bars and the line, below both panels."""
    handles = []
    for family in dict.fromkeys(one.family for one in shown):
        handles += axes.plot(
            [], [], family.marker, color=family.color, markersize=8, label=family.name
        )
    if not all(one.filled for one in shown):
        handles += axes.plot(
            [], [], "o", color="black", markerfacecolor="white", label="other large engine (@)"
        )
    handles += axes.plot([], [], color=_GREY, label="not beaten in both")
    handles.append(
        axes.errorbar([], [], yerr=[], fmt="none", ecolor="#999999", label="95 % interval")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=_COLUMNS, frameon=False)


def _figure(width: float, height: float) -> Any:
    """Return a figure of so many inches, apart from pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _matplotlib() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        msg = "plots need matplotlib: pip install 'langchain-glimprouter[bench]'"
        raise ConfigurationError(msg) from None
    return mpl
