"""A study's numbers as cells of tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_glimprouter.bench.results import ArmResult, Results, Tokens
    from langchain_glimprouter.bench.statistics import Estimate

MAIN_COLUMNS = (
    "policy",
    "τ",
    "n",
    "accuracy, %",
    "− always large",
    "− random",
    "rate",
    "s, median",
    "s, p95",
    "s ÷ large's",
    "large tokens",
    "small tokens",
    "hand-offs",
)
TOKEN_COLUMNS = (
    "policy",
    "model",
    "decode",
    "of drafts",
    "probe",
    "rejected",
    "other",
    "prefill",
    "cached",
)
END_COLUMNS = ("policy", "steps", "thought closed by force", "loops", "errors", "ungradable")


def main_row(arm: ArmResult) -> list[str]:
    """Return an arm's row of the main table."""
    accuracy = arm.accuracy
    return [
        arm.label,
        tau(arm),
        str(arm.questions),
        f"{100 * accuracy.value:.1f} [{100 * accuracy.lower:.0f}–{100 * accuracy.upper:.0f}]",
        points(arm.vs_large),
        points(arm.vs_random),
        percent(arm.intervention_rate),
        number(arm.seconds_median),
        number(arm.seconds_p95),
        ratio(arm.seconds_vs_large),
        f"{arm.large.written:.0f}",
        f"{arm.small.written:.0f}",
        f"{arm.hand_offs:.1f}",
    ]


def token_rows(arm: ArmResult) -> list[list[str]]:
    """Return an arm's rows of the token table: mean tokens per question, by model."""
    return [_token_row(arm.label, "small", arm.small), _token_row("", "large", arm.large)]


def _token_row(label: str, role: str, tokens: Tokens) -> list[str]:
    cells = (
        tokens.decode,
        tokens.drafted,
        tokens.probe,
        tokens.rejected,
        tokens.discarded,
        tokens.prefill,
        tokens.cached,
    )
    return [label, role, *(f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in cells)]


def end_row(arm: ArmResult) -> list[str]:
    """Return an arm's row of the table of ends."""
    return [
        arm.label,
        f"{arm.steps:.1f}",
        percent(arm.forced_closes),
        percent(arm.loops),
        percent(arm.errors / arm.questions),
        percent(arm.grade_errors),
    ]


def tau(arm: ArmResult) -> str:
    """Return the threshold of an arm."""
    return "" if arm.threshold is None else f"{arm.threshold:.3g}"


def points(difference: Estimate | None) -> str:
    """Return a difference of shares in percentage points."""
    if difference is None:
        return ""
    value, lower, upper = (
        signed(100.0 * one) for one in (difference.value, difference.lower, difference.upper)
    )
    return f"{value} [{lower}, {upper}]"


def signed(value: float) -> str:
    """Return a number with one decimal and its sign, and a real minus."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0.0 else text.replace("-", "−")


def ratio(value: Estimate | None) -> str:
    """Return a ratio with its interval."""
    return "" if value is None else f"{value.value:.2f} [{value.lower:.2f}–{value.upper:.2f}]"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return "" if value is None else f"{value:.0%}".replace("%", " %")


def number(value: float) -> str:
    """Return seconds, to three digits."""
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def terminal_table(results: Results, console: Console) -> Table:
    """Return the main table, with as many columns as the terminal takes; the report has all."""
    kept = [0, 1, 2, 3, 4, 5, 6, 7, 10]
    for dropped in (None, *_DISPENSABLE):
        kept = [index for index in kept if index != dropped]
        table = Table(box=None, pad_edge=False)
        for index in kept:
            table.add_column(
                MAIN_COLUMNS[index], justify="right" if index else "left", no_wrap=True
            )
        for arm in results.arms:
            row = main_row(arm)
            table.add_row(*(Text(row[index]) for index in kept))
        wide = console.options.update(max_width=1000)
        if console.measure(table, options=wide).maximum <= console.width:
            break
    return table


_DISPENSABLE = (1, 2, 4, 10)  # the first goes first
