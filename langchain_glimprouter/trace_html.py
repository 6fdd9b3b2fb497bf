"""Recorded turns as one HTML page: no script, no network, nothing but itself."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from langchain_glimprouter import trace_chart
from langchain_glimprouter._version import __version__
from langchain_glimprouter.trace_chart import H_INIT, Chart, Dot, charts
from langchain_glimprouter.trace_words import (
    begins,
    closing_note,
    counted,
    decision_of,
    drafts_note,
    duration,
    step_end_note,
    verdict,
    why,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import (
        ModelUsage,
        Phase,
        RoutingTrace,
        StepTrace,
    )

_ROLES: tuple[Role, Role] = ("small", "large")
_HEIGHT = 640  # of a notebook's frame, in pixels
_DIGITS = 3  # decimals of entropies
_BEGINS = 40  # characters of a turn in the list of turns
_SHOWN = 5  # of the likeliest first tokens

# What no page may hold, or what would turn the reading direction of all that follows, made visible.
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if code not in (9, 10)},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    **dict.fromkeys((0xFFFE, 0xFFFF), "\ufffd"),
    **{code: f"⟦{code:X}⟧" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}


@dataclass(frozen=True, slots=True)
class _Step:
    """A step as the page shows it."""

    record: StepTrace
    text: str
    facts: list[str]
    candidates: list[tuple[str, float]]
    numbers: str
    rejection: str
    rejected: list[str]


@dataclass(frozen=True, slots=True)
class _Phase:
    """A thought or an answer as the page shows it."""

    name: Phase
    steps: list[_Step]


@dataclass(frozen=True, slots=True)
class _Model:
    """A model's share as the page shows it."""

    role: Role
    usage: ModelUsage
    tokens_share: float
    seconds_share: float


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn as the page shows it."""

    number: int
    trace: RoutingTrace
    begins: str
    models: list[_Model]
    rejected: int
    drafts: str
    note: str
    charts: list[Chart]
    phases: list[_Phase]


def trace_page(trace: RoutingTrace) -> str:
    """Return a turn as a self-contained HTML page."""
    return traces_page([trace])


def traces_page(traces: Sequence[RoutingTrace]) -> str:
    """Return turns as one self-contained HTML page, with a list of them if there are several.

    Steps are coloured and marked by writer; hovering over one, or moving the focus to it, shows its
    probe's likeliest tokens; rejected drafts unfold. The page runs no script and fetches
    nothing, and says so to the browser. All text is escaped; control characters are made visible.

    Args:
        traces: The turns, in order.
    """
    turns = [_turn(number, trace) for number, trace in enumerate(traces, 1)]
    template = _environment().get_template("trace.html")
    return template.render(
        turns=turns,
        policies=len({trace.policy for trace in traces}),
        rejected=sum(turn.rejected for turn in turns),
        version=__version__,
        plot=trace_chart,
    )


def trace_frame(trace: RoutingTrace) -> str:
    """Return a turn for a notebook's cell: the page in a frame that keeps its styles to itself."""
    rows = 60 + 3 * len(trace.steps) + trace.text.count("\n") + len(trace.text) // 80
    height = min(_HEIGHT, 16 * rows)
    page = escape(trace_page(trace), quote=True)
    return (
        f'<iframe title="turn" sandbox="" srcdoc="{page}" '
        f'style="width: 100%; height: {height}px; border: 0"></iframe>'
    )


def _turn(number: int, trace: RoutingTrace) -> _Turn:
    phases: list[_Phase] = []
    for step in trace.steps:
        if not phases or phases[-1].name != step.phase:
            phases.append(_Phase(step.phase, []))
        phases[-1].steps.append(_step(trace, step))
    usage = trace.usage
    tokens = usage.small.decode + usage.large.decode
    seconds = usage.small.seconds + usage.large.seconds
    models = [
        _Model(
            role,
            share,
            share.decode / tokens if tokens else 0.0,
            share.seconds / seconds if seconds else 0.0,
        )
        for role in _ROLES
        if (share := usage.of(role)).model
    ]
    return _Turn(
        number,
        trace,
        begins(trace, _BEGINS),
        models,
        usage.small.rejected + usage.large.rejected,
        drafts_note(trace),
        closing_note(trace),
        charts(trace),
        phases,
    )


def _step(trace: RoutingTrace, step: StepTrace) -> _Step:
    text = trace.step_text(step).strip("\n")  # the frame around it says where it ends
    draft = step.draft
    facts = [why(decision_of(step), _DIGITS), counted(step.tokens.decode, "token"), _time(step)]
    if step.probe is not None and step.probe.straddles:
        facts.append("bounds straddle τ")
    facts.append(step_end_note(step))
    if not text.strip():
        facts.append("ends the thought" if step.ended_by == "closed" else "no text")
    rejected = draft.rejected if draft is not None else []
    if not any(text.strip() for text in rejected):
        rejected = []  # the facts say so
    return _Step(
        step,
        text,
        [fact for fact in facts if fact],
        step.probe.candidates[:_SHOWN] if step.probe is not None else [],
        _measured(step),
        f"{counted(len(rejected), 'rejected draft')}, {counted(step.tokens.rejected, 'token')}",
        rejected,
    )


def _time(step: StepTrace) -> str:
    """Return what a step took, and how much of it went into drafts that were more than the step."""
    draft, whole = step.draft, duration(step.seconds)
    if draft is None or (draft.accepted and not draft.judge_seconds):
        return whole
    parts = f"drafting {duration(draft.seconds)}"
    if draft.judge_seconds:
        parts += f", judging {duration(draft.judge_seconds)}"
    return f"{whole} ({parts})"


def _measured(step: StepTrace) -> str:
    """Return every measure of a step, with the bounds of the first token's entropy."""
    probe, draft = step.probe, step.draft
    parts = []
    if probe is not None:
        parts.append(
            f"H_init {probe.entropy:.3f} nats (true entropy {probe.lower:.3f} to {probe.upper:.3f})"
        )
    if draft is not None and draft.entropy is not None:
        parts.append(f"H_step {draft.entropy:.3f} nats")
    if draft is not None and draft.perplexity is not None:
        parts.append(f"PPL_step {draft.perplexity:.3f}")
    if draft is not None and draft.overconfidence is not None:
        parts.append(f"sure of {100 * draft.overconfidence:.0f} % of its tokens")
    return " · ".join(parts)


def _said(chart: Chart, dot: Dot) -> str:
    """Return what a mark in a chart says when pointed at."""
    probe, draft = dot.step.probe, dot.step.draft
    if chart.name == H_INIT and probe is not None:
        return f"H {probe.entropy:.3f} in [{probe.lower:.3f}, {probe.upper:.3f}]"
    return verdict(draft, _DIGITS) if draft is not None else ""


def _visible(value: Any) -> Any:
    """Clean what a template is about to write; escaping comes behind it."""
    return value.translate(_VISIBLE) if type(value) is str else value


def _quoted(token: str) -> str:
    """Return a token's text so that its spaces and line ends show."""
    return f"“{token}”".replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("langchain_glimprouter", "templates"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["quoted"] = _quoted
    made.filters["duration"] = duration
    made.globals.update(counted=counted, said=_said)
    return made
