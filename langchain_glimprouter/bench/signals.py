"""Thresholds of all signals from one label-free pass of the small model."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

from langchain_glimprouter.bench.records import Tau
from langchain_glimprouter.calibration import threshold_for
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.resampling import TurnBootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.records import Probes

_ABOVE_ALL = 99.0  # nats; ln of any vocabulary lies far below


def calibrated(signal: str, probes: Sequence[Probes], target_rate: float) -> Tau:
    """Find the τ of a signal that sends a share of the steps to the large model.

    It is measured on a thought that the small model wrote alone. Once the large one writes some
    steps, the others look different to the small one, so the rate under routing is another.

    Args:
        signal: `entropy`, `step_entropy`, `step_perplexity`, or `two_sided(ρ)`: H_init, or a draft
            whose share of overconfident tokens lies above ρ, whatever its H_init. All of these go
            to the large model, so τ makes room for them within the target.
        probes: The steps of the calibration split.
        target_rate: The share.

    Raises:
        ConfigurationError: If the steps do not hold the signal.
    """
    owners: list[int] = []
    values: list[float] = []
    number, highest = 0, _highest(signal, probes)
    for turn in probes:
        found = [value for step in turn.steps if (value := _value(signal, step)) is not None]
        values += found
        owners += [number] * len(found)
        number += bool(found)
    if not values:
        msg = (
            f"the calibration split gave no step with the signal {signal}: the small model wrote "
            f"no steps, or this policy cannot be calibrated; give its threshold, as in "
            f"--policy 'glimprouter threshold=1.0'"
        )
        raise ConfigurationError(msg)
    ranked = sorted(values)
    tau = min(threshold_for(ranked, target_rate), highest)
    interval = TurnBootstrap(owners).quantiles(values, [1.0 - target_rate])[0]
    return Tau(
        signal=signal,
        threshold=tau,
        lower=min(interval.lower, tau),
        upper=max(min(interval.upper, highest), tau),
        target_rate=target_rate,
        rate=1.0 - bisect_right(ranked, tau) / len(ranked),
        steps=len(values),
        turns=number,
    )


def _highest(signal: str, probes: Sequence[Probes]) -> float:
    """Return the τ above which nothing is left that τ could decide."""
    if not signal.startswith("two_sided"):
        return math.inf
    return max((step[0] or 0.0 for turn in probes for step in turn.steps), default=0.0)


def _value(signal: str, step: Sequence[float | None]) -> float | None:
    entropy, step_entropy, perplexity, overconfidence = step
    match signal:
        case "entropy":
            return entropy
        case "step_entropy":
            return step_entropy
        case "step_perplexity":
            return perplexity
        case _:
            limit = float(signal.removeprefix("two_sided(").removesuffix(")"))
            return _ABOVE_ALL if (overconfidence or 0.0) > limit else entropy
