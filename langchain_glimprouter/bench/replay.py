"""Recorded turns judged again by other thresholds, without any model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.resampling import TurnBootstrap
from langchain_glimprouter.routing.trace import ModelUsage, TurnUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.routing.thresholds import Threshold
    from langchain_glimprouter.routing.trace import RoutingTrace, StepTrace


@dataclass(frozen=True, slots=True)
class Replay:
    """What a threshold would have done.

    Attributes:
        label: Name of the threshold.
        turns: Turns judged again.
        steps: Their routed steps.
        probed: Those among them that had a probe; the others keep their writer.
        rate: Share of the routed steps that would have gone to the large model.
        lower: Lower end of its confidence interval (95 %, bootstrap over turns).
        upper: Upper end.
        recorded: The share that did.
        changed: Share of the routed steps that would have gone to the other model.
        uncertain: Share of the routed steps whose entropy is known so roughly that its bounds lie
            on both sides of the threshold.
        large_tokens: Tokens of the steps that would have gone to the large model, as they were
            written then.
        tokens: Tokens of all routed steps.
    """

    label: str
    turns: int
    steps: int
    probed: int
    rate: float
    lower: float
    upper: float
    recorded: float
    changed: float
    uncertain: float
    large_tokens: int
    tokens: int


def replay(traces: Sequence[RoutingTrace], threshold: Threshold, label: str) -> Replay:
    """Judge every probed step of recorded turns again.

    The entropies are those of the recorded turns: what another writer would have written instead,
    and what the small model would have thought of that, no record can tell. So the rate is an
    estimate, the better the fewer decisions change.

    A threshold with a state of its own (`TargetRate`) learns on the way; give a fresh one.

    Args:
        traces: The turns, in order.
        threshold: Judges them.
        label: What to call it.

    Raises:
        ConfigurationError: If no step was probed, or the threshold is for another pair of models.
    """
    owners: list[int] = []
    steps: list[StepTrace] = []
    large: list[bool] = []
    uncertain = 0
    number = 0
    for trace in traces:
        usage = TurnUsage(small=ModelUsage(model=trace.small), large=ModelUsage(model=trace.large))
        for step in trace.routed_steps:
            role = step.writer
            if step.probe is not None:
                entropy = step.probe.measured()
                role, tau = threshold.decide(entropy, usage)
                uncertain += math.isfinite(tau) and entropy.straddles(tau)
            _count(usage.of(role), step)
            owners.append(number)
            steps.append(step)
            large.append(role == "large")
        number += bool(trace.routed_steps)
    probed = sum(step.probe is not None for step in steps)
    if not probed:
        msg = (
            "the traces hold no probed step, so there is nothing to judge again: record turns with "
            "policy='glimprouter'"
        )
        raise ConfigurationError(msg)
    count, interval = len(steps), TurnBootstrap(owners).share(large)
    before = [step.writer == "large" for step in steps]
    tokens = [step.tokens.decode for step in steps]
    return Replay(
        label=label,
        turns=number,
        steps=count,
        probed=probed,
        rate=sum(large) / count,
        lower=interval.lower,
        upper=interval.upper,
        recorded=sum(before) / count,
        changed=sum(one != other for one, other in zip(large, before, strict=True)) / count,
        uncertain=uncertain / count,
        large_tokens=sum(size for size, big in zip(tokens, large, strict=True) if big),
        tokens=sum(tokens),
    )


def _count(usage: ModelUsage, step: StepTrace) -> None:
    usage.steps += 1
    usage.decode += step.tokens.decode
    usage.seconds += step.seconds
