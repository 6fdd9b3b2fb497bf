"""Recorded turns as one HTML page: no script, no network, nothing but itself."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from langchain_glimprouter import trace_chart
from langchain_glimprouter._version import __version__
from langchain_glimprouter.trace_chart import Chart, entropy_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import (
        ModelUsage,
        Phase,
        ProbeTrace,
        RoutingTrace,
        StepTrace,
    )

_ROLES: tuple[Role, Role] = ("small", "large")
_REASONS = {
    "first_steps": "first_n_steps_large",
    "always": "the policy always does",
    "random": "drawn at random",
    "answer": "the answer, unrouted",
    "steered": "steered by a person",
}
_HEIGHT = 640  # of a notebook's frame, in pixels

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
    why: str
    candidates: list[tuple[str, float]]


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
    models: list[_Model]
    chart: Chart | None
    phases: list[_Phase]


def trace_page(trace: RoutingTrace) -> str:
    """Return a turn as a self-contained HTML page."""
    return traces_page([trace])


def traces_page(traces: Sequence[RoutingTrace]) -> str:
    """Return turns as one self-contained HTML page, with a list of them if there are several.

    Steps are coloured and marked by writer; hovering over one, or moving the focus to it, shows its
    probe's likeliest tokens. The page runs no script and fetches nothing, and says so to the
    browser. All text is escaped; control characters are made visible.

    Args:
        traces: The turns, in order.
    """
    turns = [_turn(number, trace) for number, trace in enumerate(traces, 1)]
    template = _environment().get_template("trace.html")
    return template.render(turns=turns, version=__version__, plot=trace_chart)


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
        candidates = step.probe.candidates if step.probe is not None else []
        text = trace.step_text(step).strip("\n")  # the frame around it says where it ends
        phases[-1].steps.append(_Step(step, text, _why(step), candidates[:5]))
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
    return _Turn(number, trace, models, entropy_chart(trace), phases)


def _why(step: StepTrace) -> str:
    reason = _REASONS.get(step.reason, step.reason)
    if step.probe is None:
        return reason
    compared = _compared(step.probe)
    return compared if step.reason == "entropy" else f"{reason}; {compared}"


def _compared(probe: ProbeTrace) -> str:
    tau = math.inf if probe.threshold is None else probe.threshold
    sign = ">" if probe.entropy > tau else "≤"
    return f"H {probe.entropy:.3f} {sign} τ {'∞' if tau == math.inf else f'{tau:.3f}'}"


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
    return made
