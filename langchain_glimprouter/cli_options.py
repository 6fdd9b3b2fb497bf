"""What the commands have in common."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from langchain_glimprouter.errors import ConfigurationError, GlimpRouterError

if TYPE_CHECKING:
    from collections.abc import Iterator

Small = Annotated[
    str, typer.Option(help="Small model: an id, a path, or the URL of a vLLM server.")
]
Large = Annotated[str, typer.Option(help="Large model, likewise.")]
Tau = Annotated[
    float,
    typer.Option("--threshold", "-t", help="Entropy in nats above which the large model writes."),
]
StepNames = Annotated[
    str,
    typer.Option(
        "--steps",
        help="Where steps end: 'blank line', newline, sentence, 'cue words', or the number of "
        "tokens of every step; newline(8) merges steps of fewer than 8 tokens with the next.",
    ),
]
Template = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Chat template for both models.")
]


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into a sentence and an exit code: 2 for the caller's, 1 for the engines'."""
    errors = Console(stderr=True)
    try:
        yield
    except (ConfigurationError, ValidationError) as error:
        errors.print("error:", style="bold red", end=" ")
        errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    except (GlimpRouterError, OSError) as error:
        errors.print("error:", style="bold red", end=" ")
        errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        errors.print("stopped", style="yellow")
        raise typer.Exit(130) from None
