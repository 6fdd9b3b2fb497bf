"""The command `glimprouter trace`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_glimprouter.cli_options import reported
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.files import write_whole
from langchain_glimprouter.terminal import print_trace
from langchain_glimprouter.trace_files import read_traces
from langchain_glimprouter.trace_words import begins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_glimprouter.routing.trace import RoutingTrace


def show_traces(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Traces: one, a list, or JSON Lines."),
    ],
    *,
    turn: Annotated[
        int | None, typer.Option(min=1, help="Show this turn only, counted from 1.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every turn behind their list, one after the other.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write them as one HTML page instead; needs no network."),
    ] = None,
) -> None:
    """Show a recorded turn as it looked live; of several, a list."""
    console = Console()
    with reported():
        turns = [found for _, found in read_traces(file)]
        if turn is not None:
            if every:
                msg = f"--turn {turn} and --all contradict each other: leave one out"
                raise ConfigurationError(msg)
            if turn > len(turns):
                msg = f"--turn {turn}: {file} holds {len(turns)} turns; give 1 to {len(turns)}"
                raise ConfigurationError(msg)
            turns = turns[turn - 1 : turn]
        if html is not None:
            from langchain_glimprouter.trace_html import traces_page

            write_whole(html, traces_page(turns))
            console.print(f"written: {html}", markup=False)
            return
        if len(turns) > 1:
            console.print(turns_table(turns))
            if not every:
                hint = "--turn N shows one of them, --all shows every one, --html FILE makes a page"
                console.print(f"\n{hint}", style="dim", highlight=False)
                return
        for one in turns:
            print_trace(one, console)


def turns_table(traces: Sequence[RoutingTrace]) -> Table:
    """Return a list of turns, one a row.

    Policies have a column where there are several, rejected drafts where there are any, and ends
    where a turn did not end by itself. In a narrow terminal the text gives way, no number.
    """
    columns: dict[str, Callable[[RoutingTrace], str]] = {
        "policy": lambda trace: trace.policy,
        "steps": lambda trace: str(len(trace.routed_steps)),
        "large": lambda trace: f"{trace.intervention_rate:.0%}",
        "hand-offs": lambda trace: str(trace.usage.hand_offs),
        "tokens": lambda trace: str(trace.usage.thinking_tokens + trace.usage.answer_tokens),
        "rejected": lambda trace: str(trace.usage.small.rejected + trace.usage.large.rejected),
        "seconds": lambda trace: f"{trace.seconds:.1f}",
        "ended by": lambda trace: trace.stop_reason,
    }
    policy = traces[0].policy
    for name, plain in (("policy", policy), ("rejected", "0"), ("ended by", "end_of_text")):
        if all(columns[name](trace) == plain for trace in traces):
            del columns[name]
    title = f"{len(traces)} turns" + ("" if "policy" in columns else f" of {policy}")
    table = Table(title=Text(title, "bold"), title_justify="left", box=None, expand=True)
    table.padding = (0, 1, 0, 0)
    table.add_column("turn", justify="right", no_wrap=True)
    for name in columns:
        words = name in ("policy", "ended by")
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    table.add_column("begins", ratio=1, no_wrap=True, overflow="ellipsis")
    for number, trace in enumerate(traces, 1):
        cells = (Text(value(trace)) for value in columns.values())
        table.add_row(str(number), *cells, Text(begins(trace, 60)))
    return table
