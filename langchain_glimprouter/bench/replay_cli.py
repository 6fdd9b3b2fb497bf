"""The command `glimprouter bench replay`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from langchain_glimprouter.cli_options import reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.replay import Replay
    from langchain_glimprouter.routing.thresholds import Threshold


def replay_traces(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Recorded traces, as JSON Lines.")
    ],
    *,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold", "-t", help="Nats, or a file of 'glimprouter calibrate'; repeatable."
        ),
    ] = None,
    target_rate: Annotated[
        list[float] | None, typer.Option(help="A threshold that sets itself; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, only.")] = False,
) -> None:
    """Judge recorded turns again by other thresholds; needs no model."""
    from langchain_glimprouter.bench.replay import replay
    from langchain_glimprouter.trace_files import read_traces

    with reported():
        wanted = _thresholds(threshold or (), target_rate or ())
        traces = [trace for _, trace in read_traces(file)]
        replays = [replay(traces, one, label) for label, one in wanted]
        if as_json:
            typer.echo(json.dumps([asdict(one) for one in replays], indent=1))
        else:
            _print(Console(), replays)


def _thresholds(given: Sequence[str], rates: Sequence[float]) -> list[tuple[str, Threshold]]:
    from langchain_glimprouter.routing.target_rate import TargetRate

    wanted = [(text, threshold_of(text)) for text in given or (() if rates else DEFAULTS)]
    return [*wanted, *((f"target rate {rate:g}", TargetRate(rate)) for rate in rates)]


DEFAULTS = ("0.25", "0.5", "0.75", "1.0", "1.25", "1.5", "2.0")


def threshold_of(text: str) -> Threshold:
    """Return the threshold that a user wrote: a number of nats, or the name of a file.

    Raises:
        ConfigurationError: If it is neither.
    """
    from langchain_glimprouter.routing.policies.named import as_threshold

    try:
        number = float(text)
    except ValueError:
        return as_threshold(text)
    return as_threshold(number)


def _print(console: Console, replays: Sequence[Replay]) -> None:
    first = replays[0]
    table = Table(
        title=f"{first.steps:,} routed steps of {first.turns:,} turns, {first.probed:,} of them "
        f"probed; the large model wrote {first.recorded:.1%}",
        title_justify="left",
        box=None,
    )
    table.add_column("threshold")
    for name in ("rate", "95 % interval", "changed", "bounds straddle", "large tokens"):
        table.add_column(name, justify="right")
    for one in replays:
        table.add_row(
            one.label,
            f"{one.rate:.1%}",
            f"{one.lower:.1%} … {one.upper:.1%}",
            f"{one.changed:.1%}",
            f"{one.uncertain:.1%}",
            f"{one.large_tokens / max(one.tokens, 1):.1%}",
        )
    console.print(table)
    console.print(
        "Rates are counterfactual: the recorded entropies, as if nothing but the writers changed.",
        style="dim",
    )
