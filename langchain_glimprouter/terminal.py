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
from langchain_glimprouter.routing.thresholds import Decision

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import Phase, RoutingTrace

COLORS: dict[Role, str] = {"small": "green", "large": "magenta"}
_ENDS = {
    "max_tokens": "the answer's token budget ran out (max_tokens)",
    "context_window": "the context window is full",
    "loop": "the text went round in circles",
    "error": "an engine failed",
    "cancelled": "it was cancelled",
    "steered": "somebody stopped it",
}
_FORCED = {
    "max_thinking_tokens": "the thinking budget ran out",
    "context_window": "the context window is full",
    "loop": "the thought went round in circles",
    "end_of_text": "a model ended its text inside the thought",
    "steered": "somebody asked for the answer",
}


class TurnPrinter:
    """Prints a turn's events as they come.

    Args:
        console: Where to.
        labels: Whether each step begins with its writer and entropy.
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
    if decision.entropy is not None:
        sign = ">" if decision.writer == "large" else "≤"
        tau = "" if decision.threshold is None else f" {sign} {decision.threshold:.2f}"
        label.append(f" H {decision.entropy.estimate:.2f}{tau}", style=f"not reverse dim {color}")
    return label


def print_trace(trace: RoutingTrace, console: Console, *, labels: bool = True) -> None:
    """Print a recorded turn as it looked live."""
    printer = TurnPrinter(console, labels=labels)
    for step in trace.steps:
        decision = Decision(
            step.writer,
            step.reason,
            step.probe.measured() if step.probe else None,
            step.probe.threshold if step.probe else None,
        )
        printer.push(StepStarted(step.index, step.phase, decision))
        if text := trace.step_text(step):
            printer.push(TokenDelta(step.index, step.phase, step.writer, text))
        printer.push(StepFinished(step))
    printer.push(TurnFinished(trace))


def summary_table(trace: RoutingTrace) -> Table:
    """Return what each model did, as a table."""
    rate = f"{trace.intervention_rate:.0%}"
    routed = len(trace.routed_steps)
    title = (
        f"{trace.policy}: the large model wrote {trace.usage.large.steps} of {routed} steps "
        f"({rate}), {trace.usage.hand_offs} hand-offs, {trace.seconds:.1f} s"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("model")
    for name in ("steps", "tokens", "probes", "dropped", "prefilled", "cached", "seconds"):
        table.add_column(name, justify="right")
    for role, color in COLORS.items():
        usage = trace.usage.of(role)
        if not usage.model:
            continue
        table.add_row(
            Text(f"{role}: {short_name(usage.model)}", style=color),
            str(usage.steps),
            str(usage.decode),
            str(usage.probe),
            str(usage.discarded),
            str(usage.prefill),
            str(usage.cached),
            f"{usage.seconds:.1f}",
        )
    return table


def closing_note(trace: RoutingTrace) -> str:
    """Return a sentence where a turn did not end by itself; else an empty string."""
    if trace.forced_close and trace.thought_end in _FORCED:
        return f"The thought was closed by the router: {_FORCED[trace.thought_end]}."
    if trace.stop_reason in _ENDS:
        return f"The turn ended because {_ENDS[trace.stop_reason]}."
    return ""


def short_name(model: str) -> str:
    """Return a model's name for a narrow column: of a path, its last part."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", "./", "~")) else model
