"""A bench takes its thresholds from other questions, without labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.bench.journal import Journal
from langchain_glimprouter.bench.records import Probes
from langchain_glimprouter.bench.signals import calibrated
from langchain_glimprouter.calibration import threshold_for
from langchain_glimprouter.errors import ConfigurationError
from unit_tests.studies import STEPS, Log, Sums, plan, scripted, study

SIGNALS = ["glimprouter", "step entropy", "step perplexity", "two sided(0.85)"]


def probes(*steps: tuple[float | None, float | None, float | None, float | None]) -> list[Probes]:
    return [Probes(question=str(number), steps=[step]) for number, step in enumerate(steps)]


def test_each_signal_has_its_own_threshold() -> None:
    steps = [(0.1 * n, 0.01 * n, 1.0 + n, 0.0) for n in range(10)]
    for signal, between in (
        ("entropy", 0.65),
        ("step_entropy", 0.065),
        ("step_perplexity", 7.5),
        ("two_sided(0.85)", 0.65),
    ):
        tau = calibrated(signal, probes(*steps), 0.3)
        assert tau.threshold == pytest.approx(between)
        assert tau.rate == pytest.approx(0.3)
        assert (tau.steps, tau.turns) == (10, 10)
        assert tau.lower <= tau.threshold <= tau.upper


def test_overconfident_drafts_take_their_part_of_the_target() -> None:
    sure = [(0.01, 0.0, 1.0, 0.9)] * 2
    others = [(0.1 * n, 0.1, 1.5, 0.5) for n in range(1, 9)]
    tau = calibrated("two_sided(0.85)", probes(*sure, *others), 0.3)
    assert tau.threshold == pytest.approx(0.75)  # one more step, beside the two
    assert calibrated("two_sided(0.95)", probes(*sure, *others), 0.3).threshold < 0.65
    never = calibrated("two_sided(0.4)", probes(*sure, *others), 0.3)
    assert never.rate == 1.0  # overconfidence alone spends more


@given(
    st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
)
def test_a_threshold_is_the_quantile(entropies: list[float], rate: float) -> None:
    tau = calibrated("entropy", probes(*[(one, None, None, None) for one in entropies]), rate)
    assert tau.threshold == threshold_for(sorted(entropies), rate)
    assert tau.rate == pytest.approx(sum(one > tau.threshold for one in entropies) / len(entropies))


def test_a_split_without_the_signal_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="step_entropy"):
        calibrated("step_entropy", probes((0.5, None, None, None)), 0.3)
    with pytest.raises(ConfigurationError, match="no step"):
        calibrated("entropy", [Probes(question="0", steps=[])], 0.3)


async def test_thresholds_come_from_the_calibration_split_alone(tmp_path: Path) -> None:
    task, log = Sums(), Log()
    journal = await study(tmp_path, plan(SIGNALS, 4, calibration=6, task=task), log=log)
    assert set(journal.probes) == {f"calibration-{1000 + n}" for n in range(6)}
    assert not [name for name in task.graded if name.startswith("calibration")]  # label-free
    assert all(len(one.steps) == STEPS for one in journal.probes.values())
    for number, signal in enumerate(("entropy", "step_entropy", "step_perplexity")):
        values = sorted(
            value
            for one in journal.probes.values()
            for step in one.steps
            if (value := step[number]) is not None
        )
        assert len(values) == 6 * STEPS
        tau = journal.thresholds[signal]
        assert tau.threshold == threshold_for(values, 0.3)
        assert tau.rate == pytest.approx(0.3, abs=0.02)
    for arm, signal in zip(
        SIGNALS, ("entropy", "step_entropy", "step_perplexity", "two_sided(0.85)"), strict=True
    ):
        taus = {turn.threshold for turn in journal.turns_of(arm)}
        assert taus == {journal.thresholds[signal].threshold}


async def test_a_resumed_study_keeps_its_thresholds(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):  # in the middle of the calibration
        await study(tmp_path, plan(["glimprouter"], 3), log=Log(stop_after=2))
    assert len(Journal(tmp_path / "study.jsonl").probes) == 2
    with pytest.raises(KeyboardInterrupt):  # in the middle of the arm
        await study(tmp_path, plan(["glimprouter"], 3), log=Log(stop_after=4))
    before = Journal(tmp_path / "study.jsonl")
    assert (len(before.probes), len(before.turns)) == (5, 1)
    journal = await study(tmp_path, plan(["glimprouter"], 3))
    assert journal.thresholds == before.thresholds
    assert len({turn.threshold for turn in journal.turns_of("glimprouter")}) == 1
    lines = (tmp_path / "study.jsonl").read_text().splitlines()
    assert sum('"kind":"threshold"' in line for line in lines) == 1
    more = await study(tmp_path, plan(["glimprouter", "step entropy"], 3))
    assert more.thresholds["entropy"] == before.thresholds["entropy"]
    assert len(more.probes) == 5  # one pass gives all signals


async def test_the_large_model_writes_nothing_in_calibration(tmp_path: Path) -> None:
    large = scripted("large")
    with pytest.raises(KeyboardInterrupt):
        await study(
            tmp_path, plan(["glimprouter"], 3), large={"main": large}, log=Log(stop_after=5)
        )
    assert large.requests == []


async def test_the_rate_under_routing_is_near_the_target(tmp_path: Path) -> None:
    """The scripts' entropies are drawn alike on both splits, and nobody's text changes them."""
    what = plan(["glimprouter"], 40, calibration=40)
    journal = await study(tmp_path, what)
    rate = journal.rate("glimprouter")
    assert rate == pytest.approx(0.3, abs=0.08)
    assert journal.matches["glimprouter"].rate == rate
    assert journal.matches["glimprouter"].random in {"random(0.25)", "random(0.3)", "random(0.35)"}
    partner = journal.rate(journal.matches["glimprouter"].random)
    assert partner == pytest.approx(rate, abs=0.12)
