"""Picks a threshold from recorded turns: the quantile of entropies that gives a target rate."""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langchain_glimprouter.certification import certify, chosen, recorded_threshold
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.resampling import CONFIDENCE, TurnBootstrap
from langchain_glimprouter.routing.calibrated import Calibration, QuantilePoint, RatePoint
from langchain_glimprouter.routing.thresholds import base_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_glimprouter.certification import GradedTurn
    from langchain_glimprouter.resampling import Interval
    from langchain_glimprouter.routing.trace import RoutingTrace

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Quantiles that a calibration tells."""

_RATES = (0.01, *(number / 20 for number in range(1, 20)), 0.99)  # of the curve
_PRECISE = 0.05  # half the width of an interval that needs no warning
_FEW_TURNS = 10  # a bootstrap over fewer is too narrow itself


def calibrate(
    traces: Iterable[RoutingTrace],
    target_rate: float,
    *,
    small: str | None = None,
    large: str | None = None,
    source: str = "",
) -> Calibration:
    """Find the threshold that sends a share of the steps to the large model.

    It rests on the probes alone and needs no labels. The turns should be like those to come, and
    recorded at about the rate that is asked for: what the large model writes changes what the small
    one sees next. (`glimprouter calibrate` does so where it is given questions.) Steps without a
    probe are left out.

    Args:
        traces: Recorded turns of one pair of models.
        target_rate: The share, between 0 and 1.
        small: Take only turns of this small model.
        large: Take only turns of this large model.
        source: What to call the data.

    Raises:
        ConfigurationError: If the rate cannot be a target, or the turns are of several pairs or
            hold no probes.
    """
    check_rate(target_rate)
    turns = _of_one_pair(list(traces), small, large, source)
    ranked = sorted(_probed(turns, source)[1])
    return _describe(turns, threshold_for(ranked, target_rate), target_rate, source)


def calibrate_by_labels(
    graded: Sequence[GradedTurn],
    max_loss: float,
    *,
    small: str | None = None,
    large: str | None = None,
    source: str = "",
) -> Calibration:
    """Find the highest recorded threshold that is sure to cost little accuracy; see `certify`.

    Args:
        graded: Checked turns of one pair of models.
        max_loss: The greatest loss of accuracy that is acceptable, as a share of the questions.
        small: Take only turns of this small model; those of the large one alone are taken anyway.
        large: Take only turns of this large model.
        source: What to call the data.

    Raises:
        ConfigurationError: If the turns are of several pairs, or no threshold is sure enough.
    """
    probed = [turn.trace for turn in graded if recorded_threshold(turn) is not None]
    wanted = _of_one_pair(probed or [turn.trace for turn in graded], small, large, source)
    names = base_name(wanted[0].small), base_name(wanted[0].large)
    own = [
        turn
        for turn in graded
        if base_name(turn.trace.large) == names[1] and base_name(turn.trace.small) in ("", names[0])
    ]
    points = certify(own, max_loss)
    best = chosen(points, max_loss)
    turns = [turn.trace for turn in own if recorded_threshold(turn) == best.threshold]
    found = _describe(turns, best.threshold, None, source)
    return found.model_copy(update={"max_loss": max_loss, "graded": points})


def _describe(
    turns: Sequence[RoutingTrace], tau: float, target: float | None, source: str
) -> Calibration:
    """Return the record of a threshold with everything that it rests on."""
    owners, entropies = _probed(turns, source)
    bootstrap = TurnBootstrap(owners)
    ranked = sorted(entropies)
    achieved = _point(ranked, tau, bootstrap.share([entropy > tau for entropy in entropies]))
    level = 1.0 - (achieved.rate if target is None else target)
    at_target, *intervals = bootstrap.quantiles(entropies, (level, *LEVELS))
    turn_count = owners[-1] + 1
    return Calibration(
        created=datetime.now(UTC).replace(microsecond=0),
        source=source,
        small=turns[0].small,
        large=turns[0].large,
        step_rule=next((turn.step_rule for turn in turns if turn.step_rule is not None), None),
        turns=turn_count,
        steps=len(entropies),
        target_rate=target,
        threshold=tau,
        threshold_lower=tau if target is None else min(at_target.lower, tau),
        threshold_upper=tau if target is None else max(at_target.upper, tau),
        achieved=achieved,
        confidence=CONFIDENCE,
        quantiles=[
            QuantilePoint(
                level=level, entropy=_quantile(ranked, level), lower=one.lower, upper=one.upper
            )
            for level, one in zip(LEVELS, intervals, strict=True)
        ],
        curve=_curve(ranked, entropies, bootstrap),
        warnings=_doubts(achieved, target, turn_count, len(entropies)),
    )


def check_rate(target_rate: float) -> None:
    """Refuse what cannot be a target rate.

    Raises:
        ConfigurationError: If it does not lie between 0 and 1.
    """
    if isinstance(target_rate, bool) or not 0.0 < target_rate < 1.0:
        msg = f"target_rate={target_rate!r} cannot work: give a share between 0 and 1 (try 0.25)"
        raise ConfigurationError(msg)


def threshold_for(ranked: Sequence[float], rate: float) -> float:
    """Return the τ above which the share of the entropies is nearest to a rate.

    It lies in the middle between two entropies, so that a rounding of either changes nothing.

    Args:
        ranked: Entropies in nats, ascending; at least one.
        rate: The share.
    """
    count = len(ranked)
    wanted = count - rate * count  # so many lie at τ or below
    value = ranked[min(max(round(wanted) - 1, 0), count - 1)]
    first, behind = _ties(ranked, value)
    # Equal entropies go the same way: all of them, or none.
    best = min((first, behind), key=lambda below: (abs(below - wanted), -below))
    if best == 0:
        return max(math.nextafter(ranked[0], 0.0), 0.0)
    if best == count:
        return ranked[-1]
    # Between neighbouring floats the middle rounds, perhaps to the upper one.
    return min((ranked[best - 1] + ranked[best]) / 2.0, math.nextafter(ranked[best], 0.0))


def _ties(ranked: Sequence[float], value: float) -> tuple[int, int]:
    behind = bisect_right(ranked, value)
    first = behind
    while first and ranked[first - 1] == value:
        first -= 1
    return first, behind


def _of_one_pair(
    traces: Sequence[RoutingTrace], small: str | None, large: str | None, source: str
) -> list[RoutingTrace]:
    routed = [trace for trace in traces if trace.small and trace.large] or traces
    wanted = [
        trace
        for trace in routed
        if (small is None or base_name(trace.small) == base_name(small))
        and (large is None or base_name(trace.large) == base_name(large))
    ]
    pairs = sorted({(trace.small, trace.large) for trace in wanted or routed})
    names = "; ".join(f"small {one!r} + large {two!r}" for one, two in pairs)
    if not wanted:
        asked = " + ".join(
            f"{role} {name!r}" for role, name in (("small", small), ("large", large)) if name
        )
        msg = f"{source or 'the data'} holds no turn of {asked or 'any pair'}; it is of: {names}"
        raise ConfigurationError(msg)
    if len({(base_name(one), base_name(two)) for one, two in pairs}) > 1:
        msg = (
            f"{source or 'the data'} mixes pairs of models ({names}), whose entropies cannot be "
            f"compared: choose one with --small and --large"
        )
        raise ConfigurationError(msg)
    rules = sorted({trace.step_rule for trace in wanted if trace.step_rule is not None})
    if len(rules) > 1:
        msg = (
            f"{source or 'the data'} mixes rules of steps ({'; '.join(rules)}), whose first tokens "
            f"cannot be compared: calibrate on turns of one rule"
        )
        raise ConfigurationError(msg)
    return wanted


def _probed(turns: Sequence[RoutingTrace], source: str) -> tuple[list[int], list[float]]:
    """Return the turn and the entropy of each probed step."""
    owners: list[int] = []
    entropies: list[float] = []
    number = 0
    for turn in turns:
        probes = [step.probe.entropy for step in turn.steps if step.probe is not None]
        owners += [number] * len(probes)
        entropies += probes
        number += bool(probes)
    if not entropies:
        policies = ", ".join(sorted({turn.policy for turn in turns}))
        msg = (
            f"{source or 'the data'} holds no probed step (its policy is {policies}): record turns "
            f"with policy='glimprouter'"
        )
        raise ConfigurationError(msg)
    return owners, entropies


def _quantile(ranked: Sequence[float], level: float) -> float:
    return ranked[min(max(math.ceil(level * len(ranked)) - 1, 0), len(ranked) - 1)]


def _point(ranked: Sequence[float], tau: float, interval: Interval) -> RatePoint:
    rate = 1.0 - bisect_right(ranked, tau) / len(ranked)
    return RatePoint(threshold=tau, rate=rate, lower=interval.lower, upper=interval.upper)


def _curve(
    ranked: Sequence[float], entropies: Sequence[float], bootstrap: TurnBootstrap
) -> list[RatePoint]:
    """Return the rate where it changes: at thresholds for evenly spaced rates."""
    taus = sorted({threshold_for(ranked, rate) for rate in _RATES})
    return [
        _point(ranked, tau, bootstrap.share([entropy > tau for entropy in entropies]))
        for tau in taus
    ]


def _doubts(achieved: RatePoint, target: float | None, turns: int, steps: int) -> list[str]:
    doubts = []
    half = (achieved.upper - achieved.lower) / 2.0
    if half > _PRECISE:
        needed = math.ceil(steps * (half / _PRECISE) ** 2 / 10.0) * 10
        doubts.append(
            f"{steps} steps of {turns} turns are few: at this threshold the large model will write "
            f"between {achieved.lower:.0%} and {achieved.upper:.0%} of the steps "
            f"({CONFIDENCE:.0%} confidence); about {needed:,} steps would tell it to within "
            f"{_PRECISE:.0%}"
        )
    if turns < _FEW_TURNS:
        doubts.append(
            f"the intervals rest on {turns} turn{'s' * (turns != 1)} only, and are narrower than "
            f"the truth: record {_FEW_TURNS} turns or more"
        )
    if target is not None and abs(achieved.rate - target) > _PRECISE / 2.0:
        doubts.append(
            f"no threshold gives {target:.0%} on this data, since many entropies are equal or the "
            f"steps are few; the nearest rate is {achieved.rate:.0%}"
        )
    return doubts
