"""The interactive plot, by plotly: one HTML file that fetches nothing."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.labels import Box, arrange
from langchain_glimprouter.bench.pictures import ACCURACY, AXES, COSTS, front, spots, title
from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.pictures import Cost, Spot
    from langchain_glimprouter.bench.results import Results

_WIDTH, _HEIGHT = 1360, 680  # pixels
_LINE = 180  # characters of small print
_MARGIN = {"l": 70, "r": 20, "t": 85, "b": 95}
_DOMAINS = ((0.0, 0.48), (0.52, 1.0))  # of the panels, as shares of the width
_BUTTONS = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]
_FONT = 12
_LETTER = 0.56  # a letter's mean width over its height
_MARKER = 13.0


def pareto_html(results: Results) -> str:
    """Return accuracy over seconds and over large-model tokens, as an interactive page.

    Hovering tells an arm's numbers, dragging zooms in. plotly's own script is in the page, so that
    it works without a network, and looks the same for good.

    Raises:
        ConfigurationError: If plotly is missing.
    """
    go = _plotly()
    shown = spots(results)
    figure = go.Figure()
    ranges = {cost: _range([one.costs[cost] for one in shown], 0.12) for cost in COSTS}
    heights = _range(
        [100 * end for one in shown for end in (one.accuracy.lower, one.accuracy.upper)], 0.06
    )
    for index, cost in enumerate(COSTS):
        axes = {"xaxis": _axis("x", index), "yaxis": _axis("y", index)}
        _scatter(go, figure, shown, cost, axes, first=index == 0)
        for note in _labels(shown, cost, ranges[cost], heights, index):
            figure.add_annotation(note)
    if not all(one.filled for one in shown):
        hollow = {"color": "black", "symbol": "circle-open", "size": 10}
        name = "other large engine (@)"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=hollow, name=name))
    lines = "<br>".join(html.escape(line) for line in title(results, _LINE))
    plain = {"zeroline": False, "gridcolor": "#eeeeee", "linecolor": "#444444", "ticks": "outside"}
    figure.update_layout(
        title={
            "text": f"<b>Accuracy over cost</b><br><sub>{lines}</sub>",
            "x": 0.01,
        },
        width=_WIDTH,
        height=_HEIGHT,
        margin=_MARGIN,
        template="none",
        font={"size": _FONT},
        hoverlabel={"align": "left"},
        legend={
            "orientation": "h",
            "x": 0.5,
            "xanchor": "center",
            "y": -0.13,
            "itemclick": False,  # it would hide points, and leave their names
            "itemdoubleclick": False,
        },
        xaxis={
            "domain": _DOMAINS[0],
            "title": AXES["seconds"],
            "range": ranges["seconds"],
            **plain,
        },
        xaxis2={
            "domain": _DOMAINS[1],
            "title": AXES["large_tokens"],
            "range": ranges["large_tokens"],
            "anchor": "y2",
            **plain,
        },
        yaxis={"title": ACCURACY, "range": heights, **plain},
        yaxis2={"range": heights, "anchor": "x2", "matches": "y", "showticklabels": False, **plain},
    )
    page: str = figure.to_html(
        include_plotlyjs=True,
        include_mathjax=False,
        full_html=True,
        config={
            "displaylogo": False,
            "plotlyServerURL": "",
            "topojsonURL": "",
            "modeBarButtons": [_BUTTONS],  # no others: one would share the figure in a cloud
        },
        div_id="pareto",
    )
    return page


def _scatter(
    go: Any, figure: Any, shown: Sequence[Spot], cost: Cost, axes: dict[str, str], *, first: bool
) -> None:
    best = front(shown, cost)
    figure.add_trace(
        go.Scatter(
            x=[one.costs[cost] for one in best],
            y=[100 * one.accuracy.value for one in best],
            mode="lines",
            line={"color": "#b3b3b3", "width": 1.2},
            name="not beaten in both",
            legendgroup="front",
            showlegend=first,
            hoverinfo="skip",
            **axes,
        )
    )
    for family in dict.fromkeys(one.family for one in shown):
        own = [one for one in shown if one.family == family]
        values = [one.accuracy for one in own]
        figure.add_trace(
            go.Scatter(
                x=[one.costs[cost] for one in own],
                y=[100 * one.value for one in values],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (one.upper - one.value) for one in values],
                    "arrayminus": [100 * (one.value - one.lower) for one in values],
                    "color": family.color + "66",
                    "thickness": 1,
                    "width": 0,
                },
                mode="markers",
                marker={
                    "size": 10,
                    "color": family.color,
                    "symbol": [family.symbol + ("" if one.filled else "-open") for one in own],
                },
                hovertext=[one.details for one in own],
                hoverinfo="text",
                name=family.name,
                legendgroup=family.name,
                showlegend=first,
                **axes,
            )
        )


def _labels(
    shown: Sequence[Spot],
    cost: Cost,
    across: tuple[float, float],
    upwards: tuple[float, float],
    index: int,
) -> list[dict[str, Any]]:
    """Return each arm's name as an annotation next to its point."""
    start, end = _DOMAINS[index]
    inner = _WIDTH - _MARGIN["l"] - _MARGIN["r"]
    width, height = inner * (end - start), float(_HEIGHT - _MARGIN["t"] - _MARGIN["b"])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            width * (x - across[0]) / (across[1] - across[0]),
            height * (y - upwards[0]) / (upwards[1] - upwards[0]),
        )

    points = [place(one.costs[cost], 100 * one.accuracy.value) for one in shown]
    obstacles = [Box.around(x, y, _MARKER, _MARKER) for x, y in points]
    for one in shown:
        x, low = place(one.costs[cost], 100 * one.accuracy.lower)
        high = place(one.costs[cost], 100 * one.accuracy.upper)[1]
        obstacles.append(Box(x - 0.6, low, x + 0.6, high))
    sizes = [(len(one.label) * _FONT * _LETTER + 6.0, _FONT * 1.3) for one in shown]
    offsets = arrange(points, sizes, obstacles, Box(0.0, 0.0, width, height))
    return [
        {
            "x": one.costs[cost],
            "y": 100 * one.accuracy.value,
            "xref": _axis("x", index),
            "yref": _axis("y", index),
            "text": html.escape(one.label),
            "font": {"color": one.family.color, "size": _FONT},
            "showarrow": True,
            "ax": offset.dx,
            "ay": -offset.dy,
            "arrowhead": 0,
            "arrowwidth": 0.6,
            "arrowcolor": "rgba(0,0,0,0)" if offset.near else one.family.color,
        }
        for one, offset in zip(shown, offsets, strict=True)
    ]


def _axis(letter: str, index: int) -> str:
    """Return plotly's name of a panel's axis."""
    return letter if index == 0 else f"{letter}{index + 1}"


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = margin * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def _plotly() -> Any:
    try:
        from plotly import graph_objects
    except ImportError:
        msg = "the interactive plot needs plotly: pip install 'langchain-glimprouter[bench]'"
        raise ConfigurationError(msg) from None
    return graph_objects
