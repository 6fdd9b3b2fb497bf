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

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    html: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write them as one HTML page instead; needs no network."),
    ] = None,
) -> None:
    """Show recorded turns as they looked live."""
    console = Console()
    with reported():
        turns = [found for _, found in read_traces(file)]
        if turn is not None:
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
        for one in turns:
            print_trace(one, console)


def turns_table(traces: Sequence[RoutingTrace]) -> Table:
    """Return a list of turns, one a row."""
    table = Table(title=f"{len(traces)} turns", title_justify="left", title_style="bold", box=None)
    for name in ("turn", "steps", "large", "hand-offs", "tokens", "seconds"):
        table.add_column(name, justify="right")
    for name in ("ended by", "begins"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for number, trace in enumerate(traces, 1):
        usage = trace.usage
        table.add_row(
            str(number),
            str(len(trace.routed_steps)),
            f"{trace.intervention_rate:.0%}",
            str(usage.hand_offs),
            str(usage.thinking_tokens + usage.answer_tokens),
            f"{trace.seconds:.1f}",
            trace.stop_reason,
            Text(" ".join(trace.text[:200].split())[:60]),
        )
    return table
