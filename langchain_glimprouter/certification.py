"""Picks a threshold from graded turns: the highest one that surely costs little accuracy."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.resampling import CONFIDENCE
from langchain_glimprouter.routing.calibrated import GradedPoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_glimprouter.routing.trace import RoutingTrace


@dataclass(frozen=True, slots=True)
class GradedTurn:
    """A recorded turn whose answer was checked.

    Attributes:
        question: What was asked, or any name of it: it pairs the turns of one question.
        correct: Whether the answer was right.
        trace: The turn.
        where: File and line, for messages.
    """

    question: str
    correct: bool
    trace: RoutingTrace
    where: str = ""


def certify(turns: Iterable[GradedTurn], max_loss: float) -> list[GradedPoint]:
    """Bound what each recorded threshold costs against the large model alone.

    On the same questions, b were right only by the large model and c only by routing; the loss of
    accuracy is P(b) − P(c), bounded from above by the exact bounds of both (Clopper and Pearson
    1934), with half of the error each. Thresholds are tested from the lowest upwards, and the first
    that fails ends it, so that testing many costs no confidence (fixed-sequence testing, as in
    Learn then Test, arXiv 2110.01052).

    Args:
        turns: Questions answered at one or more fixed thresholds, and by policy `always large`.
        max_loss: The greatest loss of accuracy that is acceptable, as a share of the questions.

    Returns:
        A point for each threshold, from the lowest on; `holds` up to the highest certified one.

    Raises:
        ConfigurationError: If the loss cannot work, or a baseline or pairs of turns are missing.
    """
    if isinstance(max_loss, bool) or not 0.0 < max_loss < 1.0:
        msg = f"max_loss={max_loss!r} cannot work: give a share between 0 and 1 (try 0.05)"
        raise ConfigurationError(msg)
    baseline: dict[str, bool] = {}
    runs: defaultdict[float, dict[str, bool]] = defaultdict(dict)
    for turn in turns:
        tau = recorded_threshold(turn)
        answers = baseline if tau is None else runs[tau]
        if turn.question in answers:
            msg = f"{turn.where}: a second turn of the same question under the same threshold"
            raise ConfigurationError(msg)
        answers[turn.question] = turn.correct
    if not baseline or not runs:
        missing = "policy='always large'" if not baseline else "one or more fixed thresholds"
        msg = f"labels need turns under {missing} as well, on the same questions, to compare with"
        raise ConfigurationError(msg)
    points, holding = [], True
    for tau in sorted(runs):
        point = _point(tau, runs[tau], baseline, max_loss)
        holding = holding and point.holds
        points.append(point.model_copy(update={"holds": holding}))
    return points


def chosen(points: Iterable[GradedPoint], max_loss: float) -> GradedPoint:
    """Return the highest certified threshold.

    Raises:
        ConfigurationError: If there is none; the message tells how many questions could do.
    """
    points = list(points)
    certified = [point for point in points if point.holds]
    if certified:
        return certified[-1]
    first = points[0]
    msg = (
        f"no threshold is sure to cost at most {max_loss:.0%}: of threshold {first.threshold:g} "
        f"it is only known that it costs at most {first.loss_upper:.0%} ({first.questions} "
        f"questions, {CONFIDENCE:.0%} confidence); record more questions (if no answer at all gets "
        f"worse, {questions_needed(max_loss)} do), record lower thresholds, or raise --max-loss"
    )
    raise ConfigurationError(msg)


def recorded_threshold(turn: GradedTurn) -> float | None:
    """Return the one threshold of a turn; `None` of the large model's alone.

    Raises:
        ConfigurationError: If the threshold moved, or there was none.
    """
    if turn.trace.policy == "always large":
        return None
    taus = {step.probe.threshold for step in turn.trace.steps if step.probe is not None}
    tau = taus.pop() if len(taus) == 1 else None
    if tau is None:
        msg = (
            f"{turn.where}: a graded turn needs one fixed threshold, or policy='always large'; "
            f"this one (policy {turn.trace.policy!r}) has {'several' if taus else 'none'}"
        )
        raise ConfigurationError(msg)
    return tau


def questions_needed(max_loss: float) -> int:
    """Return how many questions can certify a loss, if none is answered worse."""
    return math.ceil(math.log((1.0 - CONFIDENCE) / 2.0) / math.log1p(-max_loss))


def _point(
    tau: float, run: Mapping[str, bool], baseline: Mapping[str, bool], max_loss: float
) -> GradedPoint:
    both = run.keys() & baseline.keys()
    if not both:
        msg = f"no question was answered both at threshold {tau:g} and by the large model alone"
        raise ConfigurationError(msg)
    count = len(both)
    worse = sum(baseline[question] and not run[question] for question in both)
    better = sum(run[question] and not baseline[question] for question in both)
    upper = _at_most(worse, count) - (1.0 - _at_most(count - better, count))
    return GradedPoint(
        threshold=tau,
        questions=count,
        accuracy=sum(run[question] for question in both) / count,
        large_accuracy=sum(baseline[question] for question in both) / count,
        loss_upper=upper,
        holds=upper <= max_loss,
    )


def _at_most(seen: int, count: int) -> float:
    """Return the exact upper bound of a probability that was seen so often."""
    if seen == count:
        return 1.0
    error = (1.0 - CONFIDENCE) / 2.0
    low, high = seen / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _cumulated(seen, count, middle) > error else (low, middle)
    return high


def _cumulated(seen: int, count: int, probability: float) -> float:
    """Return the chance of seeing it so often, or less."""
    if probability >= 1.0:
        return 0.0
    odds = math.log(probability) - math.log1p(-probability)
    start = count * math.log1p(-probability)
    choices = math.lgamma(count + 1)
    return math.fsum(
        math.exp(start + hit * odds + choices - math.lgamma(hit + 1) - math.lgamma(count - hit + 1))
        for hit in range(seen + 1)
    )
