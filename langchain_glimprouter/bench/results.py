"""What a study found, in numbers: one summary an arm, from the record alone."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.arms import ALWAYS_LARGE, Arm, parse_arm
from langchain_glimprouter.bench.statistics import (
    Estimate,
    paired_difference,
    paired_ratio,
    quantile,
    share,
)
from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.journal import Journal
    from langchain_glimprouter.bench.records import Done
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.trace import ModelUsage


@dataclass(frozen=True, slots=True)
class Tokens:
    """Mean tokens of one model per question.

    Attributes:
        decode: Tokens that stayed.
        drafted: Those of them that were drafts and were kept; the small model's.
        probe: Probes and verdicts that were dropped.
        rejected: Drafts that were dropped.
        discarded: Other tokens that were dropped.
        prefill: Context tokens that were computed.
        cached: Context tokens that the prefix cache held.
    """

    decode: float
    drafted: float
    probe: float
    rejected: float
    discarded: float
    prefill: float
    cached: float

    @property
    def written(self) -> float:
        """Everything that the model wrote, kept or not."""
        return self.decode + self.probe + self.rejected + self.discarded


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What one arm did.

    Attributes:
        label: Its name.
        policy: Its policy.
        variant: The large engine's set-up.
        threshold: τ in force, for policies with one.
        signal: What is compared with it.
        calibrated: Whether τ is from the calibration split.
        routes: Whether it chooses by a signal.
        questions: Questions tried.
        errors: Those that an engine broke off; they count as wrong.
        accuracy: Share of right answers.
        seconds_median: Median wall time of a finished question.
        seconds_p95: Its 95th percentile.
        intervention_rate: Share of all routed steps that the large model wrote.
        steps: Mean routed steps per question.
        hand_offs: Mean switches between the models per question.
        small: The small model's tokens.
        large: The large model's tokens.
        forced_closes: Share of finished questions whose thought the router closed.
        loops: Share that went round in circles.
        grade_errors: Share whose answer could not even be compared.
        partner: Label of the random arm at the matched rate.
        partner_rate: Intervention rate of that arm.
        vs_large: Accuracy less that of `always large`.
        vs_random: Accuracy less that of the partner.
        seconds_vs_large: Seconds over those of `always large`, in sum.
        seconds_vs_random: Seconds over those of the partner, in sum.
    """

    label: str
    policy: str
    variant: str
    threshold: float | None
    signal: str | None
    calibrated: bool
    routes: bool
    questions: int
    errors: int
    accuracy: Estimate
    seconds_median: float
    seconds_p95: float
    intervention_rate: float | None
    steps: float
    hand_offs: float
    small: Tokens
    large: Tokens
    forced_closes: float
    loops: float
    grade_errors: float
    partner: str | None
    partner_rate: float | None
    vs_large: Estimate | None
    vs_random: Estimate | None
    seconds_vs_large: Estimate | None
    seconds_vs_random: Estimate | None


@dataclass(frozen=True, slots=True)
class Results:
    """What a study found.

    Attributes:
        settings: Of all arms.
        variants: Further set-ups of the large engine.
        thresholds: What was calibrated, by signal.
        arms: In the order in which they were first run.
    """

    settings: dict[str, Any]
    variants: dict[str, Any]
    thresholds: dict[str, dict[str, Any]]
    arms: list[ArmResult]

    def arm(self, label: str) -> ArmResult | None:
        """Return one arm's result."""
        return next((arm for arm in self.arms if arm.label == label), None)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def results_of(journal: Journal) -> Results:
    """Summarize a study.

    Raises:
        ConfigurationError: If nothing was run yet.
    """
    if journal.header is None or not (journal.turns or journal.failures):
        msg = f"{journal.path} holds no finished turn yet: run the bench first"
        raise ConfigurationError(msg)
    variants = {"main", *journal.variants}
    labels = dict.fromkeys(arm for arm, _ in (*journal.turns, *journal.failures))
    arms = [parse_arm(label, variants) for label in labels]
    return Results(
        settings=journal.header.settings,
        variants={name: one.settings for name, one in journal.variants.items()},
        thresholds={
            name: tau.model_dump(exclude={"kind", "signal"})
            for name, tau in journal.thresholds.items()
        },
        arms=[_result(journal, arm) for arm in arms],
    )


def _result(journal: Journal, arm: Arm) -> ArmResult:
    turns = journal.turns_of(arm.label)
    verdicts = _verdicts(journal, arm.label)
    failed = len(verdicts) - len(turns)
    match = journal.matches.get(arm.label)
    seconds = [turn.seconds for turn in turns]
    baseline = None if arm.label == ALWAYS_LARGE else ALWAYS_LARGE
    partner = match.random if match else None
    return ArmResult(
        label=arm.label,
        policy=arm.policy,
        variant=arm.variant,
        threshold=turns[0].threshold if turns else arm.threshold,
        signal=arm.signal,
        calibrated=arm.calibrates,
        routes=arm.routes,
        questions=len(verdicts),
        errors=failed,
        accuracy=share(list(verdicts.values())),
        seconds_median=quantile(seconds, 0.5),
        seconds_p95=quantile(seconds, 0.95),
        intervention_rate=journal.rate(arm.label),
        steps=_mean([turn.routed for turn in turns]),
        hand_offs=_mean([turn.hand_offs for turn in turns]),
        small=_tokens(turns, "small"),
        large=_tokens(turns, "large"),
        forced_closes=_mean([turn.forced_close for turn in turns]),
        loops=_mean(["loop" in (turn.thought_end, turn.stop_reason) for turn in turns]),
        grade_errors=_mean([turn.grade_error is not None for turn in turns]),
        partner=partner,
        partner_rate=journal.rate(partner) if partner else None,
        vs_large=_difference(journal, arm.label, baseline),
        vs_random=_difference(journal, arm.label, partner),
        seconds_vs_large=_ratio(journal, arm.label, baseline),
        seconds_vs_random=_ratio(journal, arm.label, partner),
    )


def _verdicts(journal: Journal, label: str) -> dict[str, bool]:
    """Return whether each question was answered right; broken turns were not."""
    failed = {question: False for arm, question in journal.failures if arm == label}
    done = {turn.question: turn.correct for turn in journal.turns_of(label)}
    return failed | done


def _difference(journal: Journal, label: str, other: str | None) -> Estimate | None:
    if other is None:
        return None
    one, two = _verdicts(journal, label), _verdicts(journal, other)
    shared = sorted(one.keys() & two.keys())
    if not shared:
        return None
    return paired_difference([one[name] for name in shared], [two[name] for name in shared])


def _ratio(journal: Journal, label: str, other: str | None) -> Estimate | None:
    if other is None:
        return None
    one, two = (
        {turn.question: turn.seconds for turn in journal.turns_of(name)} for name in (label, other)
    )
    shared = sorted(one.keys() & two.keys())
    if not shared:
        return None
    return paired_ratio([one[name] for name in shared], [two[name] for name in shared])


def _tokens(turns: Sequence[Done], role: Role) -> Tokens:
    shares: list[ModelUsage] = [getattr(turn, role) for turn in turns]
    drafted = [turn.drafted for turn in turns] if role == "small" else []
    return Tokens(
        decode=_mean([one.decode for one in shares]),
        drafted=_mean(drafted),
        probe=_mean([one.probe for one in shares]),
        rejected=_mean([one.rejected for one in shares]),
        discarded=_mean([one.discarded for one in shares]),
        prefill=_mean([one.prefill for one in shares]),
        cached=_mean([one.cached for one in shares]),
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
