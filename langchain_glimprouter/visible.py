"""Routing made visible: decisions and steps as plain dictionaries, on LangGraph's custom stream."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, TypedDict

from langchain_glimprouter.routing.events import StepFinished, StepStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.thresholds import Decision
    from langchain_glimprouter.routing.trace import Phase, StepTrace

DECISION = "glimprouter.decision"
STEP = "glimprouter.step"


class RoutingDecision(TypedDict):
    """Who writes a step, and why.

    Attributes:
        step: Number of the step in its turn, from 0.
        phase: `thinking` or `answer`.
        writer: The chosen model.
        reason: What decided; see `Decision.reason`.
        entropy: The probe's entropy in nats; `None` where there was no probe.
        lower: Lower bound of the true entropy, in nats.
        upper: Upper bound of the true entropy, in nats.
        threshold: The threshold in force, in nats; `None` where there was none, or no limit.
    """

    step: int
    phase: Phase
    writer: Role
    reason: str
    entropy: float | None
    lower: float | None
    upper: float | None
    threshold: float | None


def routing_decision(step: int, phase: Phase, decision: Decision) -> RoutingDecision:
    """Return a decision about the step number `step` as plain data."""
    entropy, threshold = decision.entropy, decision.threshold
    return RoutingDecision(
        step=step,
        phase=phase,
        writer=decision.writer,
        reason=decision.reason,
        entropy=entropy.estimate if entropy else None,
        lower=entropy.lower if entropy else None,
        upper=entropy.upper if entropy else None,
        threshold=threshold if threshold is not None and math.isfinite(threshold) else None,
    )


def step_decision(step: StepTrace) -> RoutingDecision:
    """Return the decision that a finished step was written by."""
    probe = step.probe
    return RoutingDecision(
        step=step.index,
        phase=step.phase,
        writer=step.writer,
        reason=step.reason,
        entropy=probe.entropy if probe else None,
        lower=probe.lower if probe else None,
        upper=probe.upper if probe else None,
        threshold=probe.threshold if probe else None,
    )


def routing_event(event: Event) -> dict[str, Any] | None:
    """Return what the custom stream tells of an event, or `None` if nothing.

    A chosen writer becomes `{"type": "glimprouter.decision"}` with the keys of `RoutingDecision`; a
    finished step `{"type": "glimprouter.step"}` with the same keys and `tokens`, `seconds` and
    `ended_by`.
    """
    match event:
        case StepStarted(index, phase, decision):
            return {"type": DECISION, **routing_decision(index, phase, decision)}
        case StepFinished(step):
            return {
                "type": STEP,
                **step_decision(step),
                "tokens": step.tokens.decode,
                "seconds": step.seconds,
                "ended_by": step.ended_by,
            }
    return None


def stream_writer() -> Callable[[Any], None] | None:
    """Return the custom stream of the graph that this call runs in, or `None` outside a graph.

    To be called where the caller's context variables are: not on the engines' event loop.
    """
    config = sys.modules.get("langgraph.config")  # no graph runs before that is loaded
    if config is None:
        return None
    try:
        writer: Callable[[Any], None] = config.get_stream_writer()
    except (RuntimeError, KeyError):  # no runnable at all, or one that is no graph's
        return None
    return writer
