"""How a study goes, in a terminal: a bar, or a line now and then in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from langchain_glimprouter.bench.records import Done, Failed, Probes

if TYPE_CHECKING:
    from rich.console import Console

_EVERY = 60.0  # seconds between two lines of a log


class StudyProgress:
    """Shows a bar with the turns of a study; implements `Observer`.

    Args:
        console: Where to. In a file, a bar is no use: there it is a line a minute.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("turns", total=None)
        self._total = self._done = 0
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state standing."""
        self._progress.stop()

    def plan(self, done: int, total: int) -> None:
        """Take how many turns are done, of how many."""
        self._done, self._total = done, total
        self._progress.update(self._task, completed=done, total=total)

    def saw(self, line: Done | Failed | Probes) -> None:
        """Show a turn."""
        match line:
            case Probes():
                self._show(f"calibration: question {line.question}", counted=False)
                return
            case Failed():
                text = f"{line.arm}: question {line.question}: {line.error}"
                self._progress.console.print(text, style="red", markup=False, highlight=False)
            case Done():
                mark = "right" if line.correct else "wrong"
                self._show(f"{line.arm}: question {line.question} {mark}, {line.seconds:.1f} s")
        self._done += 1
        self._progress.update(self._task, completed=self._done)

    def says(self, text: str) -> None:
        """Print a sentence."""
        self._progress.console.print(text, style="dim", markup=False, highlight=False)

    def _show(self, text: str, *, counted: bool = True) -> None:
        if self._console.is_terminal:
            self._progress.update(self._task, description=text)
        elif time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            place = f"{self._done + 1} of {self._total}  " if counted else ""
            self._console.print(place + text, markup=False, highlight=False)
