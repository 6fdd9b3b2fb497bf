"""A bench's numbers, checked by hand, and what its report says of them."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.bench.journal import Journal
from langchain_glimprouter.bench.markdown import (
    against_large,
    against_random,
    as_markdown,
    caveats,
)
from langchain_glimprouter.bench.records import Match, Tau
from langchain_glimprouter.bench.report import write_reports
from langchain_glimprouter.bench.results import Results, results_of
from langchain_glimprouter.bench.statistics import paired_difference, paired_ratio, quantile, share
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.trace import ModelUsage
from unit_tests.studies import made_up, turn

# -- intervals ---------------------------------------------------------------------------------


def test_a_share_has_its_bootstrap_interval() -> None:
    """Against all resamples of a small case, weighed exactly."""
    correct = [True] * 30 + [False] * 10
    found = share(correct)
    assert (found.value, found.count) == (0.75, 40)
    # The bootstrap of a share is binomial: 0.75 ± about 1.96 √(0.75·0.25/40) = 0.134.
    assert found.lower == pytest.approx(0.75 - 0.134, abs=0.025)
    assert found.upper == pytest.approx(0.75 + 0.134, abs=0.025)
    none = share([False] * 5)
    assert (none.value, none.lower) == (0.0, 0.0)
    assert none.upper == pytest.approx(0.434, abs=0.001)  # Wilson's of 0 of 5


def test_a_paired_difference_keeps_the_pairs_together() -> None:
    """Two arms that differ on few questions are told apart, whatever they get right."""
    one = [True] * 60 + [False] * 40
    other = [True] * 50 + [False] * 50  # wrong on ten of them, never right alone
    found = paired_difference(one, other)
    assert found.value == pytest.approx(0.1)
    assert 0.03 < found.lower < 0.06  # unpaired, it would reach below 0
    assert 0.14 < found.upper < 0.18
    mirrored = paired_difference(other, one)
    assert mirrored.value == pytest.approx(-0.1)
    assert mirrored.lower == pytest.approx(-found.upper, abs=0.01)


def test_a_paired_difference_is_that_of_all_resamples() -> None:
    one, other = [True, True, True, False, True], [False, True, False, False, False]
    differences = [int(a) - int(b) for a, b in zip(one, other, strict=True)]
    drawn = [np.mean(draw) for draw in itertools.product(differences, repeat=5)]
    found = paired_difference(one, other)
    assert found.value == pytest.approx(0.6)
    assert found.lower <= np.quantile(drawn, 0.025) + 1e-9
    assert found.upper >= np.quantile(drawn, 0.975) - 1e-9


def test_two_equal_arms_are_not_surely_equal() -> None:
    found = paired_difference([True] * 10, [True] * 10)
    # Agresti and Min: n* = 12, b* = c* = 1/2, so 1.96 · √1 / 12.
    assert found.lower == pytest.approx(-1.959964 / 12)
    assert found.upper == pytest.approx(1.959964 / 12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_intervals_hold_their_value_and_repeat_themselves(pairs: list[tuple[bool, bool]]) -> None:
    one, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for found in (share(one), paired_difference(one, other)):
        assert -1.0 <= found.lower <= found.value + 1e-12
        assert found.value - 1e-12 <= found.upper <= 1.0
    assert paired_difference(one, other) == paired_difference(one, other)
    assert share(one) == share(one)


def test_a_ratio_is_of_sums() -> None:
    found = paired_ratio([2.0, 4.0, 6.0], [4.0, 4.0, 4.0])
    assert found.value == 1.0
    assert 0.5 <= found.lower < 1.0 < found.upper <= 1.5
    same = paired_ratio([1.0, 2.0, 8.0], [2.0, 4.0, 16.0])
    assert (same.value, same.lower, same.upper) == (0.5, 0.5, 0.5)


def test_quantiles() -> None:
    values = [float(number) for number in range(1, 22)]
    assert quantile(values, 0.5) == 11.0
    assert quantile(values, 0.95) == 20.0
    assert math.isnan(quantile([], 0.5))


# -- results -----------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Four arms over four questions, one of which broke off."""
    made = made_up(
        tmp_path, {"always large": "+++-", "random(0.3)": "+---", "step entropy": "++!-"}
    )
    made.append(
        turn(
            "glimprouter",
            "0",
            correct=True,
            seconds=1.0,
            threshold=0.8,
            hand_offs=3,
            forced_close=True,
            thought_end="max_thinking_tokens",
            small=ModelUsage(decode=50, probe=3, prefill=30, cached=10, discarded=1),
            large=ModelUsage(decode=20, prefill=40, cached=5),
            steps=[
                ("s", 30, 0.2, None, 0.3),
                ("s", 20, 0.1, None, 0.2),
                ("l", 20, 1.9, None, 0.4),
                ("L", 4, None, None, 0.1),
            ],
        )
    )
    made.append(
        turn(
            "glimprouter",
            "1",
            correct=False,
            seconds=3.0,
            threshold=0.8,
            hand_offs=1,
            stop_reason="loop",
            grade_error="no number",
            small=ModelUsage(decode=10, probe=1, rejected=8, prefill=10),
            large=ModelUsage(decode=40, prefill=20, cached=15, probe=2),
            drafted=6,
            steps=[("s", 10, 0.3, None, 1.0), ("l", 40, 1.0, None, 2.0)],
        )
    )
    made.append(Match(arm="glimprouter", rate=0.4, random="random(0.3)"))
    tau = Tau(
        signal="entropy",
        threshold=0.8,
        lower=0.7,
        upper=0.95,
        target_rate=0.3,
        rate=0.29,
        steps=100,
        turns=5,
    )
    made.append(tau)
    return Journal(tmp_path / "study.jsonl")


def test_numbers_are_those_of_the_rows(journal: Journal) -> None:
    results = results_of(journal)
    routed = results.arm("glimprouter")
    assert routed is not None
    assert (routed.questions, routed.errors) == (2, 0)
    assert routed.accuracy.value == 0.5
    assert routed.seconds_median == 2.0
    assert routed.seconds_p95 == pytest.approx(2.9)
    assert routed.intervention_rate == pytest.approx(2 / 5)
    assert (routed.steps, routed.hand_offs) == (2.5, 2.0)
    assert (routed.forced_closes, routed.loops, routed.grade_errors) == (0.5, 0.5, 0.5)
    small, large = routed.small, routed.large
    assert (small.decode, small.drafted, small.probe, small.rejected) == (30.0, 3.0, 2.0, 4.0)
    assert (small.prefill, small.cached, small.discarded) == (20.0, 5.0, 0.5)
    assert small.written == 36.5
    assert (large.decode, large.probe, large.prefill, large.cached) == (30.0, 1.0, 30.0, 10.0)
    assert large.drafted == 0.0
    assert routed.vs_large is not None
    assert (routed.vs_large.value, routed.vs_large.count) == (-0.5, 2)  # ++ of the large one
    assert routed.vs_random is not None
    assert (routed.vs_random.value, routed.vs_random.count) == (0.0, 2)
    assert routed.seconds_vs_large is not None
    assert routed.seconds_vs_large.value == 1.0  # (1 + 3) / (2 + 2)
    assert (routed.partner, routed.partner_rate) == ("random(0.3)", 0.5)
    assert routed.calibrated


def test_a_broken_turn_counts_as_wrong_and_costs_nothing(journal: Journal) -> None:
    arm = results_of(journal).arm("step entropy")
    assert arm is not None
    assert (arm.questions, arm.errors, arm.accuracy.value) == (4, 1, 0.5)
    assert arm.seconds_median == 2.0
    assert arm.vs_large is not None
    assert (arm.vs_large.value, arm.vs_large.count) == (-0.25, 4)
    assert arm.seconds_vs_large is not None
    assert arm.seconds_vs_large.count == 3


def test_an_empty_study_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no finished turn"):
        write_reports(made_up(tmp_path, {}), tmp_path)
    with pytest.raises(ConfigurationError, match="no finished turn"):
        results_of(Journal(tmp_path / "none.jsonl"))


# -- the report --------------------------------------------------------------------------------


def compared(folder: Path, arm: str, partner: str) -> Results:
    """A study of 100 questions."""
    folder.mkdir()
    marks = {"always large": "+" * 80 + "-" * 20, "random(0.3)": partner, "glimprouter": arm}
    made = made_up(folder, marks)
    made.append(Match(arm="glimprouter", rate=0.5, random="random(0.3)"))
    return results_of(made)


def test_the_report_says_what_beats_random_and_what_does_not(tmp_path: Path) -> None:
    (better,) = against_random(compared(tmp_path / "a", "+" * 70 + "-" * 30, "+" * 50 + "-" * 50))
    said = "`glimprouter` **beats** `random(0.3)` (rate 50 %) at a rate of 50 %: +20.0 [+1"
    assert better.startswith(said)
    assert "it takes 1.00 [1.00–1.00] of its time" in better
    (worse,) = against_random(compared(tmp_path / "b", "+" * 50 + "-" * 50, "+" * 70 + "-" * 30))
    assert "is **worse** than `random(0.3)`" in worse
    assert ": −20.0 [−2" in worse
    (unclear,) = against_random(
        compared(tmp_path / "c", "+-" * 26 + "-" * 48, "-+" * 24 + "-" * 52)
    )
    assert "is **not shown to beat** `random(0.3)`" in unclear
    # b = 26, c = 24: half the interval's width is about 1.96 √50 / 100 = 14 points.
    assert "100 questions show differences of 14 points or more" in unclear
    assert "this one would need 4,9" in unclear  # 100 · (14 / 2)²


def test_the_report_compares_with_the_large_model(tmp_path: Path) -> None:
    (less,) = against_large(compared(tmp_path / "a", "+" * 50 + "-" * 50, "+" * 50 + "-" * 50))
    assert "`glimprouter` is **less accurate**: −30.0 [" in less
    assert "it takes 1.00 [1.00–1.00] of its time and 1.00 of its large-model tokens" in less
    (same,) = against_large(compared(tmp_path / "b", "+" * 79 + "-" * 21, "+" * 50 + "-" * 50))
    assert "is **not shown to differ**" in same


def test_a_partner_at_another_rate_is_no_match(tmp_path: Path) -> None:
    made = made_up(tmp_path, {"always large": "++", "glimprouter": "+-"})
    for number in range(2):
        steps = [("s", 9, None, None, 0.1)] * 9 + [("l", 9, None, None, 0.1)]
        made.append(turn("random(0.1)", str(number), correct=True, steps=steps))
    made.append(Match(arm="glimprouter", rate=0.5, random="random(0.1)"))
    assert "The rates differ, so this is no fair match." in against_random(results_of(made))[0]


def test_unfinished_studies_and_missing_baselines_are_told(tmp_path: Path) -> None:
    results = results_of(made_up(tmp_path, {"glimprouter": "+-+", "reference": "+!"}))
    assert against_large(results) == [
        "`always large` is not among the arms, so nothing is compared with it."
    ]
    assert all("no random arm at its rate was run" in said for said in against_random(results))
    unfinished, broken, many = caveats(results)
    assert "its arms stand at 2 to 3 questions" in unfinished
    assert broken.startswith("Turns that an engine broke off: 1.")
    assert many.startswith("2 arms are compared.")
    (tmp_path / "one").mkdir()
    assert caveats(results_of(made_up(tmp_path / "one", {"glimprouter": "+-+"}))) == []


def test_the_report_is_whole(journal: Journal) -> None:
    text = as_markdown(results_of(journal))
    lines = text.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    for line in tables:
        assert line.count("|") >= 6
    row = next(line for line in lines if line.startswith("| glimprouter | 0.8 | 2 | 50.0 ["))
    assert "| 40 % | 2.0 | 2.9 |" in row
    assert "| glimprouter | 0.8 [0.7–0.95] | 30 % | 29 % | 40 % |" in lines
    assert "the rate differs from the target" in text
    assert not re.search(r"\bnan\b", text)


def test_reports_are_written_and_rebuilt(journal: Journal, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    files = write_reports(journal, out)
    assert {file.name for file in files} >= {"results.json", "report.md", "pareto.png"}
    numbers = json.loads((out / "results.json").read_text(encoding="utf-8"))
    arm = next(one for one in numbers["arms"] if one["label"] == "glimprouter")
    assert arm["accuracy"]["value"] == 0.5
    assert arm["small"]["rejected"] == 4.0
    before = {file: file.read_bytes() for file in files}
    assert write_reports(Journal(journal.path), out) == files
    for file in files:
        if file.suffix in {".json", ".md"}:
            assert file.read_bytes() == before[file]
