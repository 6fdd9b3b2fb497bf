"""The command `glimprouter bench`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from langchain_glimprouter.bench.overhead_cli import measure_overhead
from langchain_glimprouter.bench.replay_cli import replay_traces
from langchain_glimprouter.bench.run_cli import compare_policies

bench = typer.Typer(help="Run policies side by side, and measure the router itself.")
bench.callback(invoke_without_command=True, no_args_is_help=True)(compare_policies)
bench.command(name="replay")(replay_traces)
bench.command(name="overhead")(measure_overhead)


@bench.command()
def router(
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over so many runs.")] = 9,
) -> None:
    """Measure the router's own cost over scripted engines; needs no model."""
    from langchain_glimprouter.bench.router_cost import router_cost

    cost = asyncio.run(router_cost(repeats))
    table = Table("the router's own cost", "median", box=None, title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("per token, Router.run", f"{cost.token:.1f} µs")
    table.add_row("per token, ChatGlimpRouter.astream", f"{cost.token_astream:.1f} µs")
    table.add_row("per step with a hand-off, behind 1,000 tokens", f"{cost.step_short:.0f} µs")
    table.add_row("per step with a hand-off, behind 32,000 tokens", f"{cost.step_long:.0f} µs")
    table.add_row("ratio of the last two, paired", f"{cost.growth:.3f}")
    Console().print(table)
