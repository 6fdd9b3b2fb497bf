"""The command `glimprouter`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from langchain_glimprouter._version import __version__
from langchain_glimprouter.bench.cli import bench
from langchain_glimprouter.bench.replay_cli import threshold_of
from langchain_glimprouter.calibration_cli import calibrate_command
from langchain_glimprouter.cli_options import Large, Small, StepNames, Template, reported
from langchain_glimprouter.routing.events import TurnFinished
from langchain_glimprouter.terminal import TurnPrinter
from langchain_glimprouter.trace_cli import show_traces

if TYPE_CHECKING:
    from langchain_glimprouter.chat_models import ChatGlimpRouter

app = typer.Typer(
    name="glimprouter",
    help="Step-level routing between a small and a large model (GlimpRouter, arXiv 2601.05110).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench, name="bench")
app.command(name="calibrate")(calibrate_command)
app.command(name="trace")(show_traces)


@app.callback(invoke_without_command=True)
def main(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, or go on to a command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question; '-' reads standard input.")],
    *,
    small: Small,
    large: Large,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            "-t",
            help="Entropy in nats above which the large model writes, or a file of 'calibrate'.",
        ),
    ] = "1.0",
    policy: Annotated[
        str,
        typer.Option(help="glimprouter, or another one by name: 'specreason(7)', 'always large' …"),
    ] = "glimprouter",
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    chat_template: Template = None,
    thinking: Annotated[
        bool | None, typer.Option("--thinking/--no-thinking", help="Open or close a thought.")
    ] = None,
    answer_by: Annotated[str, typer.Option(help="large, small or route.")] = "large",
    steps: StepNames = "blank line",
    first_n_steps_large: Annotated[int, typer.Option(help="Steps that go to the large model.")] = 0,
    max_thinking_tokens: Annotated[int, typer.Option(help="Budget of the thought.")] = 8192,
    max_tokens: Annotated[int, typer.Option(help="Budget of the answer.")] = 2048,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for the whole turn.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON, only.")] = False,
) -> None:
    """Answer a question, each step in the colour of the model that wrote it."""
    console = Console()
    with reported():
        model = _model(
            small,
            large,
            threshold=threshold_of(threshold),
            policy=policy,
            chat_template=chat_template,
            thinking=thinking,
            answer_by=answer_by,
            steps=steps,
            first_n_steps_large=first_n_steps_large,
            max_thinking_tokens=max_thinking_tokens,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            timeout=timeout,
        )
        text = sys.stdin.read() if question == "-" else question
        messages = [("system", system)] if system else []
        messages.append(("human", text))
        printer = TurnPrinter(console)
        waiting = Console(stderr=True).status("starting the engines …")
        with model, closing(model.events(messages)) as events:
            waiting.start()
            try:
                for event in events:
                    waiting.stop()
                    if not as_json:
                        printer.push(event)
                    elif isinstance(event, TurnFinished):
                        typer.echo(event.trace.model_dump_json(indent=2))
            finally:
                waiting.stop()


def _model(
    small: str, large: str, *, chat_template: Path | None, **options: Any
) -> ChatGlimpRouter:
    from langchain_glimprouter.chat_models import ChatGlimpRouter

    template = str(chat_template) if chat_template else None
    return ChatGlimpRouter(small=small, large=large, chat_template=template, **options)
