"""The command `glimprouter bench`."""

from __future__ import annotations

import asyncio
import json
import shlex
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from langchain_glimprouter.bench.replay_cli import replay_traces
from langchain_glimprouter.bench.run_cli import compare_policies
from langchain_glimprouter.cli_options import Large, Small, Tau, Template, reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.overhead import OverheadBench, Run
    from langchain_glimprouter.bench.questions import Question
    from langchain_glimprouter.engines.base import Engine
    from langchain_glimprouter.errors import Role

bench = typer.Typer(help="Run policies side by side, and measure the router itself.")
bench.callback(invoke_without_command=True, no_args_is_help=True)(compare_policies)
bench.command(name="replay")(replay_traces)


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


@bench.command()
def overhead(
    *,
    small: Small,
    large: Large,
    threshold: Tau = 1.0,
    questions: Annotated[int, typer.Option(min=1, help="How many questions.")] = 8,
    task: Annotated[str, typer.Option(help="A data set of reasoning-gym.")] = "gsm_symbolic",
    seed: Annotated[int, typer.Option(help="Seed of the questions.")] = 7,
    chat_template: Template = None,
    max_thinking_tokens: Annotated[int, typer.Option(help="Budget of the thought.")] = 256,
    max_tokens: Annotated[int, typer.Option(help="Budget of the answer.")] = 128,
    max_model_len: Annotated[int, typer.Option(help="Context window of the engines.")] = 2048,
    in_process: Annotated[bool, typer.Option(help="Measure in-process engines.")] = True,
    servers: Annotated[bool, typer.Option(help="Measure over two local servers, too.")] = True,
    small_server: Annotated[
        str | None,
        typer.Option(help="A running server to use, instead of starting one on the CPU."),
    ] = None,
    large_server: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    server_args: Annotated[
        str,
        typer.Option(
            help="Further arguments of the servers that are started, such as `--block-size 128`, "
            "vLLM's own on CPUs (here: 32)."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write all results here, as JSON.")] = None,
) -> None:
    """Measure wall time over ideal time: the fused probe against the published protocol."""
    from langchain_glimprouter.bench.overhead import OverheadBench, as_json
    from langchain_glimprouter.bench.questions import reasoning_gym_questions
    from langchain_glimprouter.bench.servers import serve
    from langchain_glimprouter.engines.base import Sampling
    from langchain_glimprouter.engines.runtime import get_runtime
    from langchain_glimprouter.engines.vllm_local import VLLMEngine
    from langchain_glimprouter.engines.vllm_server import VLLMServer
    from langchain_glimprouter.routing.options import TurnOptions
    from langchain_glimprouter.routing.policies import GlimpRouter, Reference
    from langchain_glimprouter.routing.thresholds import Fixed

    console = Console()
    options = TurnOptions(
        max_thinking_tokens=max_thinking_tokens,
        max_tokens=max_tokens,
        sampling=Sampling(temperature=0.0),
    )
    template = str(chat_template) if chat_template else None
    fused, reference = GlimpRouter(Fixed(threshold)), Reference(Fixed(threshold))
    benches: list[OverheadBench] = []

    def measure(label: str, engines: dict[Role, Engine], items: list[Question]) -> None:
        console.print(f"{label}: {questions} questions …", style="dim")
        one = OverheadBench(engines, label, options)
        benches.append(one)
        get_runtime().run(one.run(items, [fused, reference], lambda run: _progress(console, run)))
        if out is not None:
            out.write_text(json.dumps(as_json(benches), indent=1), encoding="utf-8")

    with reported():
        items = reasoning_gym_questions(task, questions, seed)
        if in_process:
            with (
                VLLMEngine(small, chat_template=template, max_model_len=max_model_len) as one,
                VLLMEngine(large, chat_template=template, max_model_len=max_model_len) as two,
            ):
                measure("in-process", {"small": one, "large": two}, items)
        if servers:
            args = ["--max-model-len", str(max_model_len), "--enable-prompt-tokens-details"]
            args += shlex.split(server_args)
            with ExitStack() as stack:
                first = small_server or stack.enter_context(serve(small, *args)).url
                second = large_server or stack.enter_context(serve(large, *args)).url
                pair = [VLLMServer(url, chat_template=template) for url in (first, second)]
                one_server, two_servers = (stack.enter_context(server) for server in pair)
                measure("servers", {"small": one_server, "large": two_servers}, items)
        _print_overhead(console, benches)


def _progress(console: Console, run: Run) -> None:
    usage = run.trace["usage"]
    console.print(
        f"  question {run.question + 1}  {run.policy:<12} {run.wall:6.1f} s  "
        f"wall/ideal {run.ratio:.3f}  hand-offs {usage['hand_offs']}  "
        f"tokens {usage['small']['decode']}+{usage['large']['decode']}",
        highlight=False,
    )


def _print_overhead(console: Console, benches: Sequence[OverheadBench]) -> None:
    from langchain_glimprouter.bench.router_cost import spread

    table = Table(title="medians [minimum, maximum] over questions", title_justify="left", box=None)
    for name in ("engines", "policy"):
        table.add_column(name)
    columns = ["wall/ideal", "wall, s", "tokens small", "tokens large", "steps", "hand-offs"]
    columns.append("cached")
    for name in columns:
        table.add_column(name, justify="right")
    ratios: dict[tuple[str, str], dict[int, float]] = {}
    for one in benches:
        for policy in dict.fromkeys(run.policy for run in one.runs):
            runs = [run for run in one.runs if run.policy == policy]
            ratios[one.label, policy] = {run.question: run.ratio for run in runs}
            usages = [run.trace["usage"] for run in runs]
            cached = [_cached_share(usage) for usage in usages]
            table.add_row(
                one.label,
                policy,
                spread([run.ratio for run in runs]),
                f"{statistics.median(run.wall for run in runs):.1f}",
                _median([usage["small"]["decode"] for usage in usages]),
                _median([usage["large"]["decode"] for usage in usages]),
                _median([len(run.trace["steps"]) for run in runs]),
                _median([usage["hand_offs"] for usage in usages]),
                f"{statistics.median(cached):.0%}",
            )
    console.print(table)
    fused = ratios.get(("in-process", "glimprouter"))
    for (label, policy), other in ratios.items():
        if fused is None or other is fused:
            continue
        paired = [fused[question] / other[question] for question in fused if question in other]
        console.print(
            f"fused in-process ÷ {policy} over {label}: {spread(paired)} (paired by question)",
            highlight=False,
        )


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.0f}"


def _cached_share(usage: dict[str, dict[str, int]]) -> float:
    """Share of all requests' context tokens that the prefix caches held."""
    cached = usage["small"]["cached"] + usage["large"]["cached"]
    return cached / max(cached + usage["small"]["prefill"] + usage["large"]["prefill"], 1)
