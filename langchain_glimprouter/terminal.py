"""Turns in a terminal: every step in its writer's colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from langchain_glimprouter.routing.events import (
    Event,
    StepFinished,
    StepStarted,
    TokenDelta,
    TurnFinished,
)
from langchain_glimprouter.trace_words import (
    closing_note,
    counted,
    decision_of,
    drafts_note,
    why,
)

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.thresholds import Decision
    from langchain_glimprouter.routing.trace import Phase, RoutingTrace

COLORS: dict[Role, str] = {"small": "green", "large": "magenta"}
_COLUMNS = {
    "steps": "steps",
    "tokens": "decode",
    "probes": "probe",
    "rejected": "rejected",
    "discarded": "discarded",
    "prefilled": "prefill",
    "cached": "cached",
}
_RARE = ("rejected", "discarded")


class TurnPrinter:
    """Prints a turn's events as they come.

    Args:
        console: Where to.
        labels: Whether each step begins with its writer and why it is that one.
    """

    def __init__(self, console: Console, *, labels: bool = True) -> None:
        self._console = console
        self._labels = labels
        self._phase: Phase | None = None
        self._fresh = True  # the cursor stands at the start of a line
        self._label: Text | None = None

    def push(self, event: Event) -> None:
        """Print one event."""
        match event:
            case StepStarted():
                self._start(event.phase, event.decision)
            case TokenDelta():
                self._write(event.text, COLORS[event.writer])
            case StepFinished():
                self._label = None
            case TurnFinished(trace=trace):
                self._newline()
                self._console.print()
                self._console.print(summary_table(trace))
                if drafts := drafts_note(trace):
                    self._console.print(drafts, style="dim", highlight=False)
                if note := closing_note(trace):
                    self._console.print(note, style="yellow", highlight=False)

    def _start(self, phase: Phase, decision: Decision) -> None:
        if phase != self._phase:
            self._phase = phase
            self._newline()
            self._console.rule(phase, style="dim")
        if self._labels:
            self._label = step_label(decision)

    def _write(self, text: str, color: str) -> None:
        if self._label is not None:
            self._newline()
            self._console.print(self._label, end=" ", soft_wrap=True)
            self._label = None
            text = text.lstrip("\n")
        self._console.print(Text(text, style=color), end="", soft_wrap=True)
        if text:
            self._fresh = text.endswith("\n")

    def _newline(self) -> None:
        if not self._fresh:
            self._console.print()
            self._fresh = True


def step_label(decision: Decision) -> Text:
    """Return a step's label: who writes it, and why."""
    color = COLORS[decision.writer]
    label = Text(f" {decision.writer} ", style=f"reverse {color}")
    if words := why(decision):
        label.append(f" {words}", style=f"not reverse dim {color}")
    return label


def print_trace(trace: RoutingTrace, console: Console, *, labels: bool = True) -> None:
    """Print a recorded turn as it looked live."""
    printer = TurnPrinter(console, labels=labels)
    for step in trace.steps:
        printer.push(StepStarted(step.index, step.phase, decision_of(step)))
        if text := trace.step_text(step):
            printer.push(TokenDelta(step.index, step.phase, step.writer, text))
        printer.push(StepFinished(step))
    printer.push(TurnFinished(trace))


def summary_table(trace: RoutingTrace) -> Table:
    """Return what each model did, as a table; what neither did has no column."""
    rate = f"{trace.intervention_rate:.0%}"
    routed = len(trace.routed_steps)
    title = (
        f"{trace.policy}: the large model wrote {trace.usage.large.steps} of {routed} steps "
        f"({rate}), {counted(trace.usage.hand_offs, 'hand-off')}, {trace.seconds:.1f} s"
    )
    shares = {role: trace.usage.of(role) for role in COLORS}
    columns = {
        name: field
        for name, field in _COLUMNS.items()
        if name not in _RARE or any(getattr(usage, field) for usage in shares.values())
    }
    table = Table(title=Text(title, "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    # In a narrow terminal a name gives way, no number.
    table.add_column("model", min_width=8, overflow="fold")
    for name in (*columns, "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for role, usage in shares.items():
        if not usage.model:
            continue
        table.add_row(
            Text(f"{role}: {short_name(usage.model)}", style=COLORS[role]),
            *(str(getattr(usage, field)) for field in columns.values()),
            f"{usage.seconds:.1f}",
        )
    return table


def short_name(model: str) -> str:
    """Return a model's name for a narrow column: of a path, its last part."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", "./", "~")) else model
