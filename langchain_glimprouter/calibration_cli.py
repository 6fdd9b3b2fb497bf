"""The command `glimprouter calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from langchain_glimprouter.cli_options import StepNames, Template, reported
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.files import append_line, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.certification import GradedTurn
    from langchain_glimprouter.chat_models import ChatGlimpRouter
    from langchain_glimprouter.routing.calibrated import Calibration
    from langchain_glimprouter.routing.trace import RoutingTrace


def calibrate_command(
    data: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help='JSON Lines: {"question": …} a line, or recorded traces (these need no model).',
        ),
    ],
    *,
    target_rate: Annotated[
        float, typer.Option(help="Share of the steps that the large model is to write.")
    ] = 0.25,
    small: Annotated[
        str | None, typer.Option(help="Small model; of traces, whose to take.")
    ] = None,
    large: Annotated[str | None, typer.Option(help="Large model, likewise.")] = None,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help='Choose by accuracy instead: {"question": …, "correct": true, "trace": …} a line, '
            "recorded at fixed thresholds and with policy 'always large'.",
        ),
    ] = False,
    max_loss: Annotated[
        float, typer.Option(help="Of labels: the greatest loss of accuracy, as a share.")
    ] = 0.05,
    out: Annotated[
        Path, typer.Option("--out", "-o", dir_okay=False, help="The file for threshold='…'.")
    ] = Path("calibrated.json"),
    traces: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Of questions: keep the turns here, as JSON Lines."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many records at most.")] = None,
    chat_template: Template = None,
    steps: StepNames = "blank line",
    max_thinking_tokens: Annotated[int, typer.Option(help="Budget of a thought.")] = 8192,
    max_tokens: Annotated[int, typer.Option(help="Budget of an answer.")] = 2048,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
) -> None:
    """Find the threshold that gives a target rate on your models and your data."""
    from langchain_glimprouter.calibration import calibrate, calibrate_by_labels, check_rate
    from langchain_glimprouter.trace_files import as_trace, read_records

    errors = Console(stderr=True)
    with reported():
        check_rate(target_rate)
        records = list(read_records(data))[:limit]
        if labels:
            graded = [_graded(data, line, record) for line, record in records]
            found = calibrate_by_labels(
                graded, max_loss, small=small, large=large, source=data.name
            )
        elif "question" in records[0][1] and "trace" not in records[0][1]:
            questions = [_question(data, line, record) for line, record in records]
            if not small or not large:
                msg = (
                    f"{data} holds questions, which need models: give --small and --large (or "
                    f"recorded traces)"
                )
                raise ConfigurationError(msg)
            from langchain_glimprouter.chat_models import ChatGlimpRouter
            from langchain_glimprouter.routing.target_rate import TargetRate

            options: dict[str, Any] = {
                "chat_template": str(chat_template) if chat_template else None,
                "max_thinking_tokens": max_thinking_tokens,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "seed": seed,
                "steps": steps,
            }
            rate = TargetRate(target_rate)  # so that the contexts are those of the target
            with ChatGlimpRouter(small=small, large=large, threshold=rate, **options) as model:
                turns = record_turns(model, questions, errors, keep=traces)
            found = calibrate(turns, target_rate, source=data.name)
        else:
            turns = [as_trace(data, line, record) for line, record in records]
            found = calibrate(turns, target_rate, small=small, large=large, source=data.name)
        write_whole(out, found.model_dump_json(indent=1) + "\n")
        _print(Console(), found, out)
        for doubt in found.warnings:
            errors.print("warning:", style="bold yellow", end=" ")
            errors.print(doubt, markup=False, highlight=False)


def record_turns(
    model: ChatGlimpRouter,
    questions: Sequence[str],
    console: Console,
    *,
    keep: Path | None = None,
) -> list[RoutingTrace]:
    """Ask the questions one by one and return the records of the turns.

    Args:
        model: Answers them.
        questions: What to ask.
        console: Shows the progress.
        keep: A file that each record is added to as soon as it is there, as a JSON line.

    Raises:
        ConfigurationError: If a question or an option cannot work.
        EngineError: If an engine fails; what is kept stays.
        OSError: If `keep` cannot be written.
    """
    from langchain_glimprouter.routing.events import TurnFinished

    turns: list[RoutingTrace] = []
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for question in progress.track(questions, description="questions"):
            events = model.events(question)
            turns += [event.trace for event in events if isinstance(event, TurnFinished)]
            if keep is not None:
                append_line(keep, turns[-1].model_dump_json())
    return turns


def _question(file: Path, line: int, record: dict[str, Any]) -> str:
    question = record.get("question")
    if isinstance(question, str) and question.strip():
        return question
    msg = f'{file}, line {line}: no question: give {{"question": "…"}} on each line'
    raise ConfigurationError(msg)


def _graded(file: Path, line: int, record: dict[str, Any]) -> GradedTurn:
    from langchain_glimprouter.certification import GradedTurn
    from langchain_glimprouter.trace_files import as_trace

    question, correct = record.get("question"), record.get("correct")
    if "trace" not in record or not isinstance(question, str) or not isinstance(correct, bool):
        msg = (
            f"{file}, line {line}: no graded turn: --labels needs "
            f'{{"question": "…", "correct": true or false, "trace": {{…}}}} on each line'
        )
        raise ConfigurationError(msg)
    return GradedTurn(question, correct, as_trace(file, line, record), f"{file}, line {line}")


def _print(console: Console, found: Calibration, out: Path) -> None:
    console.print(
        f"threshold {found.threshold:.4f} nats [{found.threshold_lower:.3f} … "
        f"{found.threshold_upper:.3f}] sends {found.achieved.rate:.1%} "
        f"[{found.achieved.lower:.1%} … {found.achieved.upper:.1%}] of the steps to the large "
        f"model",
        highlight=False,
    )
    console.print(
        f"{found.small} + {found.large}; {found.steps:,} probed steps of {found.turns:,} turns; "
        f"intervals of {found.confidence:.0%}",
        markup=False,
        highlight=False,
    )
    for graded in found.graded:
        console.print(
            f"threshold {graded.threshold:g}: {graded.accuracy:.1%} right, the large model alone "
            f"{graded.large_accuracy:.1%}; it costs at most {graded.loss_upper:.1%} "
            f"({graded.questions} questions): {'certified' if graded.holds else 'not certified'}",
            highlight=False,
        )
    table = Table(box=None)
    for name in ("threshold", "rate", "interval"):
        table.add_column(name, justify="right")
    for point in found.curve[:: max(len(found.curve) // 10, 1)]:
        table.add_row(
            f"{point.threshold:.3f}", f"{point.rate:.1%}", f"{point.lower:.1%} … {point.upper:.1%}"
        )
    console.print(table)
    console.print(f"written: {out} (use it as threshold={str(out)!r})", markup=False)
