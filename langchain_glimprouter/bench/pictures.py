"""What the plots of a study show, and in which colours."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from langchain_glimprouter.bench.arms import MAIN, parse_arm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.results import ArmResult, Results
    from langchain_glimprouter.bench.statistics import Estimate

Cost = Literal["seconds", "large_tokens"]
COSTS: tuple[Cost, Cost] = ("seconds", "large_tokens")
AXES: dict[Cost, str] = {
    "seconds": "seconds per question (median)",
    "large_tokens": "tokens written by the large model per question (mean)",
}
ACCURACY = "accuracy, %"


class Family(NamedTuple):
    """A kind of policy: its name and looks.

    Colours are Okabe and Ito's, which people with any colour vision tell apart; shapes say the
    same again. `marker` is matplotlib's, `symbol` plotly's.
    """

    name: str
    color: str
    marker: str
    symbol: str


ONE_MODEL = Family("one model", "#000000", "s", "square")
RANDOM = Family("random", "#7f7f7f", "X", "x")
FIRST_TOKEN = Family("first token", "#0072B2", "o", "circle")
WHOLE_DRAFT = Family("whole draft", "#D55E00", "^", "triangle-up")
JUDGED = Family("judged by a model", "#009E73", "D", "diamond")
_FAMILIES = {
    "always small": ONE_MODEL,
    "always large": ONE_MODEL,
    "random": RANDOM,
    "step entropy": WHOLE_DRAFT,
    "step perplexity": WHOLE_DRAFT,
    "specreason": JUDGED,
    "rsd": JUDGED,
    "speccot": JUDGED,
}


@dataclass(frozen=True, slots=True)
class Spot:
    """An arm in a plot.

    Attributes:
        label: Its name.
        family: Its kind.
        filled: Whether it ran over the large engine's own set-up.
        accuracy: In percent, with its interval.
        costs: Its place on each axis.
        details: What hovering tells.
    """

    label: str
    family: Family
    filled: bool
    accuracy: Estimate
    costs: dict[Cost, float]
    details: str


def spots(results: Results) -> list[Spot]:
    """Return the arms that have a place: those with a finished question."""
    return [_spot(arm, set(results.variants)) for arm in results.arms if arm.questions > arm.errors]


def front(spots: Sequence[Spot], cost: Cost) -> list[Spot]:
    """Return the arms that no other beats in both accuracy and cost, the cheapest first."""
    best: list[Spot] = []
    for spot in sorted(spots, key=lambda one: (one.costs[cost], -one.accuracy.value)):
        if not best or spot.accuracy.value > best[-1].accuracy.value:
            best.append(spot)
    return best


def title(results: Results, width: int) -> list[str]:
    """Return what a plot is of, in lines of so many characters."""
    settings = results.settings
    count = max(arm.questions for arm in results.arms)
    text = (
        f"{settings['task']}, {count} questions: {settings['small']['model']} + "
        f"{settings['large']['model']}"
    )
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _spot(arm: ArmResult, variants: set[str]) -> Spot:
    name = parse_arm(arm.label, {MAIN, *variants}).name
    accuracy, rate = arm.accuracy, arm.intervention_rate
    details = [
        f"<b>{arm.label}</b>",
        f"accuracy {accuracy.value:.1%} [{accuracy.lower:.1%}, {accuracy.upper:.1%}]",
        f"{accuracy.count} questions",
        f"seconds: median {arm.seconds_median:.1f}, p95 {arm.seconds_p95:.1f}",
        f"large model: {arm.large.written:.0f} tokens written, {arm.large.prefill:.0f} prefilled",
        f"small model: {arm.small.written:.0f} tokens written, {arm.small.rejected:.0f} rejected",
    ]
    if rate is not None:
        details.append(f"intervention rate {rate:.1%}, {arm.hand_offs:.1f} hand-offs")
    return Spot(
        label=arm.label,
        family=_FAMILIES.get(name, FIRST_TOKEN),
        filled=arm.variant == MAIN,
        accuracy=accuracy,
        costs={"seconds": arm.seconds_median, "large_tokens": arm.large.written},
        details="<br>".join(details),
    )
