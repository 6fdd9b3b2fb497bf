"""The command `glimprouter bench`: policies side by side."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from langchain_glimprouter.bench.arms import ALWAYS_LARGE, ALWAYS_SMALL
from langchain_glimprouter.bench.replay_cli import replay_traces
from langchain_glimprouter.bench.setup import (
    Setup,
    as_object,
    as_pairs,
    as_variants,
    plan_of,
    settle,
)
from langchain_glimprouter.cli_options import reported
from langchain_glimprouter.errors import ConfigurationError, EngineError

if TYPE_CHECKING:
    from langchain_glimprouter.bench.study import Study

DEFAULTS = (ALWAYS_SMALL, ALWAYS_LARGE, "glimprouter")
RECORD = "study.jsonl"
_WORK, _MODELS, _ARMS, _TURNS, _RESULTS = "Work", "Models", "Arms", "Turns", "Results"


def compare_policies(
    ctx: typer.Context,
    *,
    task: Annotated[
        str, typer.Option(help="What is asked: a task's name.", rich_help_panel=_WORK)
    ] = "gsm_symbolic",
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="A local file or folder of the task's data.", rich_help_panel=_WORK
        ),
    ] = None,
    task_option: Annotated[
        list[str] | None,
        typer.Option(
            help="An option of the task, as NAME=VALUE; repeatable.", rich_help_panel=_WORK
        ),
    ] = None,
    questions: Annotated[
        int,
        typer.Option("--questions", "-n", min=1, help="Held-out questions.", rich_help_panel=_WORK),
    ] = 100,
    calibration_questions: Annotated[
        int,
        typer.Option(
            min=1, help="Other questions, which thresholds are taken from.", rich_help_panel=_WORK
        ),
    ] = 32,
    seed: Annotated[
        int, typer.Option(help="Of questions, sampling and draws.", rich_help_panel=_WORK)
    ] = 0,
    small: Annotated[
        str | None,
        typer.Option(
            help="Small model: an id, a path, or a server's URL.", rich_help_panel=_MODELS
        ),
    ] = None,
    large: Annotated[
        str | None, typer.Option(help="Large model, likewise.", rich_help_panel=_MODELS)
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Chat template for both models.",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    engine_args: Annotated[
        str | None,
        typer.Option(
            help="Of both in-process engines, as JSON: '{\"dtype\": …}'.", rich_help_panel=_MODELS
        ),
    ] = None,
    small_engine_args: Annotated[
        str | None, typer.Option(help="Of the small engine; these win.", rich_help_panel=_MODELS)
    ] = None,
    large_engine_args: Annotated[
        str | None, typer.Option(help="Of the large engine.", rich_help_panel=_MODELS)
    ] = None,
    large_variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Another set-up of the large engine, as NAME=JSON of further arguments (or "
            '"model" for another server); repeatable.',
            rich_help_panel=_MODELS,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="An arm: a policy's name (default: always small, always large, "
            "glimprouter); repeatable. Write a threshold (else it is calibrated) as "
            "'glimprouter threshold=0.8', one that sets itself as 'glimprouter rate=0.3', a set-up "
            "of the large engine as 'always large @draft'.",
            rich_help_panel=_ARMS,
        ),
    ] = None,
    target_rate: Annotated[
        float,
        typer.Option(
            help="Share of the steps that thresholds send to the large model.",
            rich_help_panel=_ARMS,
        ),
    ] = 0.3,
    matched_random: Annotated[
        bool,
        typer.Option(
            help="Give each routing arm a random one at the rate it came to.", rich_help_panel=_ARMS
        ),
    ] = True,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking", help="Open or close a thought.", rich_help_panel=_TURNS
        ),
    ] = None,
    max_thinking_tokens: Annotated[
        int, typer.Option(help="Budget of a thought.", rich_help_panel=_TURNS)
    ] = 8192,
    max_tokens: Annotated[
        int, typer.Option(help="Budget of an answer.", rich_help_panel=_TURNS)
    ] = 2048,
    max_step_tokens: Annotated[
        int, typer.Option(help="A longer step is cut there.", rich_help_panel=_TURNS)
    ] = 512,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature.", rich_help_panel=_TURNS)
    ] = 0.0,
    steps: Annotated[
        str | None, typer.Option(help="Where steps end, by name.", rich_help_panel=_TURNS)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one question.", rich_help_panel=_TURNS)
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Questions asked at once.", rich_help_panel=_TURNS)
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", file_okay=False, help="Folder of the results.", rich_help_panel=_RESULTS
        ),
    ] = None,
    limit_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Stop after so long; the same command goes on.", rich_help_panel=_RESULTS
        ),
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Add every turn's whole trace here, as JSON Lines.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    only_report: Annotated[
        bool,
        typer.Option(
            "--only-report",
            help="Write the reports of --out anew; no model.",
            rich_help_panel=_RESULTS,
        ),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Judge recorded traces by other thresholds; no model.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            "-t",
            help="Of --replay: nats, or a calibration's file.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
) -> None:
    """Run policies side by side on the same questions and engines, and report."""
    if ctx.invoked_subcommand is not None:
        return
    if replay is not None:
        replay_traces(replay, threshold=threshold)
        return
    console = Console()
    with reported():
        if threshold:
            msg = "--threshold is for --replay; write --policy 'glimprouter threshold=…' for an arm"
            raise ConfigurationError(msg)
        if out is None:
            msg = "--out is missing: give a folder for the results"
            raise ConfigurationError(msg)
        if only_report:
            _report(console, out)
            return
        if not small or not large:
            msg = "--small and --large are missing: give two models (or --only-report, --replay)"
            raise ConfigurationError(msg)
        setup = Setup(
            small=small,
            large=large,
            task=task,
            data=data,
            task_options=as_pairs(task_option or ()),
            policies=policy or DEFAULTS,
            questions=questions,
            calibration_questions=calibration_questions,
            target_rate=target_rate,
            matched_random=matched_random,
            seed=seed,
            concurrency=concurrency,
            chat_template=chat_template,
            chat={
                "thinking": thinking,
                "max_thinking_tokens": max_thinking_tokens,
                "max_tokens": max_tokens,
                "max_step_tokens": max_step_tokens,
                "temperature": temperature,
                "seed": seed,
                "timeout": timeout,
                **({} if steps is None else {"steps": steps}),
            },
            small_args={
                **as_object("--engine-args", engine_args),
                **as_object("--small-engine-args", small_engine_args),
            },
            large_args={
                **as_object("--engine-args", engine_args),
                **as_object("--large-engine-args", large_engine_args),
            },
            variants=as_variants(large_variant or ()),
            seconds=None if limit_minutes is None else 60.0 * limit_minutes,
            traces=traces,
        )
        finished = _run(setup, out)
        if finished or _has_turns(out):
            _report(console, out)
        if not finished:
            console.print(
                f"stopped after {limit_minutes:g} minutes; the same command goes on",
                style="yellow",
                highlight=False,
            )


def _run(setup: Setup, out: Path) -> bool:
    """Run or go on with a study; return whether it is finished."""
    from langchain_glimprouter.bench.journal import Journal
    from langchain_glimprouter.bench.progress import StudyProgress
    from langchain_glimprouter.bench.study import OutOfTimeError, Study

    out.mkdir(parents=True, exist_ok=True)
    plan, engines = plan_of(setup)
    errors = Console(stderr=True)
    with _alone(out), StudyProgress(errors) as progress:
        journal = Journal(out / RECORD)
        study = Study(plan, engines, journal, progress)
        asyncio.run(settle(setup, plan, engines, journal))
        try:
            asyncio.run(_stoppable(study))
        except OutOfTimeError:
            return False
        except (EngineError, OSError, KeyboardInterrupt, asyncio.CancelledError) as error:
            errors.print(
                f"{len(journal.turns)} turns are kept in {journal.path}; the same command goes on",
                style="yellow",
                markup=False,
                highlight=False,
            )
            if isinstance(error, asyncio.CancelledError):
                raise typer.Exit(128 + signal.SIGTERM) from None
            raise
    return True


async def _stoppable(study: Study) -> None:
    """Run a study so that SIGTERM ends it as cleanly as Ctrl-C does."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await study.run()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second bench out of a folder: both would run, and slow down, the same turns."""
    with (out / RECORD).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"another bench is at work in {out}: wait for it, or give another --out"
            raise ConfigurationError(msg) from None
        yield


def _has_turns(out: Path) -> bool:
    from langchain_glimprouter.bench.journal import Journal

    return bool(Journal(out / RECORD).turns)


def _report(console: Console, out: Path) -> None:
    from langchain_glimprouter.bench.journal import Journal
    from langchain_glimprouter.bench.report import write_reports

    for path in write_reports(Journal(out / RECORD), out, console):
        console.print(f"written: {path}", markup=False, highlight=False)
