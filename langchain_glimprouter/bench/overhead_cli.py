"""The command `glimprouter bench overhead`."""

from __future__ import annotations

import json
import os
import shlex
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from langchain_glimprouter.cli_options import Large, Small, Tau, Template, reported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langchain_glimprouter.bench.overhead import OverheadBench, Run
    from langchain_glimprouter.bench.questions import Question
    from langchain_glimprouter.engines.base import Engine
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.policies.base import Policy


_NO_RESET = (
    "{url} keeps its prefix cache, so whichever policy goes second finds the question computed. "
    "Started with VLLM_SERVER_DEV_MODE=1, it could be emptied before each turn."
)


def measure_overhead(
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
    """Measure wall time over ideal time: the fused probe, the published protocol, no routing."""
    from langchain_glimprouter.bench.overhead import OverheadBench, as_json
    from langchain_glimprouter.bench.questions import reasoning_gym_questions
    from langchain_glimprouter.bench.servers import empty_cache, serve
    from langchain_glimprouter.engines.base import Sampling
    from langchain_glimprouter.engines.runtime import get_runtime
    from langchain_glimprouter.engines.vllm_local import VLLMEngine
    from langchain_glimprouter.engines.vllm_server import VLLMServer
    from langchain_glimprouter.errors import EngineError
    from langchain_glimprouter.routing.options import TurnOptions
    from langchain_glimprouter.routing.policies import Always, GlimpRouter, Reference
    from langchain_glimprouter.routing.thresholds import Fixed

    console = Console()
    options = TurnOptions(
        max_thinking_tokens=max_thinking_tokens,
        max_tokens=max_tokens,
        sampling=Sampling(temperature=0.0),
    )
    template = str(chat_template) if chat_template else None
    policies: list[Policy] = [GlimpRouter(Fixed(threshold)), Reference(Fixed(threshold))]
    policies.append(Always("large"))  # what a turn takes beside its tokens without any routing
    benches: list[OverheadBench] = []

    def measure(
        label: str,
        engines: dict[Role, Engine],
        items: list[Question],
        cool: Callable[[], Awaitable[object]] | None,
    ) -> None:
        console.print(f"{label}: {questions} questions …", style="dim")
        one = OverheadBench(engines, label, options, cool=cool)
        benches.append(one)
        get_runtime().run(one.run(items, policies, lambda run: _progress(console, run)))
        if out is not None:
            out.write_text(json.dumps(as_json(benches), indent=1), encoding="utf-8")

    with reported():
        items = reasoning_gym_questions(task, questions, seed)
        emptied = True
        for url in filter(None, (small_server, large_server) if servers else ()):
            with VLLMServer(url) as server:
                get_runtime().run(server.start())  # says what is wrong, before anything is measured
            if not get_runtime().run(empty_cache(url)):
                emptied = False
                console.print(_NO_RESET.format(url=url), style="yellow")
        if in_process:
            with (
                VLLMEngine(small, chat_template=template, max_model_len=max_model_len) as one,
                VLLMEngine(large, chat_template=template, max_model_len=max_model_len) as two,
            ):

                async def empty_both() -> None:
                    await one.empty_cache()
                    await two.empty_cache()

                measure("in-process", {"small": one, "large": two}, items, empty_both)
        if servers:
            args = ["--max-model-len", str(max_model_len), "--enable-prompt-tokens-details"]
            args += shlex.split(server_args)
            with ExitStack() as stack:
                env = {**os.environ, "VLLM_SERVER_DEV_MODE": "1"}  # else no cache can be emptied
                first = small_server or stack.enter_context(serve(small, *args, env=env)).url
                second = large_server or stack.enter_context(serve(large, *args, env=env)).url
                pair = [VLLMServer(url, chat_template=template) for url in (first, second)]
                one_server, two_servers = (stack.enter_context(server) for server in pair)

                async def empty_servers() -> None:
                    for url in (first, second):
                        if not await empty_cache(url):
                            raise EngineError(f"{url} is busy: its prefix cache cannot be emptied")

                measure(
                    "servers",
                    {"small": one_server, "large": two_servers},
                    items,
                    empty_servers if emptied else None,
                )
        _print_overhead(console, benches)


def _progress(console: Console, run: Run) -> None:
    usage = run.trace["usage"]
    console.print(
        f"  question {run.question + 1}  {run.policy:<12} {run.wall:6.1f} s  "
        f"wall/ideal {run.ratio:.3f}  hand-offs {usage['hand_offs']}  "
        f"tokens {usage['small']['decode']}+{usage['large']['decode']}",
        highlight=False,
        soft_wrap=True,
    )


def _print_overhead(console: Console, benches: Sequence[OverheadBench]) -> None:
    from langchain_glimprouter.bench.router_cost import spread

    ratios = _table("medians [minimum, maximum] over questions", "wall/ideal", "without prompt")
    ratios.add_column("wall, s", justify="right")
    beyond = _table("seconds beyond ideal, medians", "prompt", "behind hand-offs", "rest")
    work = _table("medians", "tokens small", "tokens large", "steps", "hand-offs", "requests")
    work.add_column("cached", justify="right")
    measured: dict[tuple[str, str], dict[int, Run]] = {}
    for one in benches:
        for policy in dict.fromkeys(run.policy for run in one.runs):
            runs = [run for run in one.runs if run.policy == policy]
            measured[one.label, policy] = {run.question: run for run in runs}
            usages = [run.trace["usage"] for run in runs]
            ratios.add_row(
                one.label,
                policy,
                spread([run.ratio for run in runs]),
                spread([run.routing_ratio for run in runs]),
                f"{statistics.median(run.wall for run in runs):.1f}",
            )
            beyond.add_row(
                one.label,
                policy,
                *(
                    f"{statistics.median(values):.2f}"
                    for values in zip(
                        *((run.prompt, run.switching, run.rest) for run in runs), strict=True
                    )
                ),
            )
            work.add_row(
                one.label,
                policy,
                _median([usage["small"]["decode"] for usage in usages]),
                _median([usage["large"]["decode"] for usage in usages]),
                _median([len(run.trace["steps"]) for run in runs]),
                _median([usage["hand_offs"] for usage in usages]),
                _median([len(run.requests) for run in runs]),
                _cached_share(runs),
            )
    for table in (ratios, beyond, work):
        console.print(table)
    fused = measured.get(("in-process", "glimprouter"), {})
    for (label, policy), other in measured.items():
        if not fused or other is fused:
            continue
        both = [(fused[question], run) for question, run in other.items() if question in fused]
        console.print(
            f"fused in-process ÷ {policy} over {label}: "
            f"{spread([one.ratio / two.ratio for one, two in both])}; without prompt "
            f"{spread([one.routing_ratio / two.routing_ratio for one, two in both])} "
            "(wall/ideal, paired by question)",
            highlight=False,
            soft_wrap=True,
        )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None)
    table.add_column("engines", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.0f}"


def _cached_share(runs: Sequence[Run]) -> str:
    """Share of the context tokens that the prefix caches held, of requests that tell."""
    told = [request for run in runs for request in run.requests if request.cached is not None]
    context = sum(request.context for request in told)
    return f"{sum(request.cached or 0 for request in told) / context:.0%}" if context else "–"
