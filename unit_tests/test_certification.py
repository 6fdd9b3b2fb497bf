"""Thresholds picked from graded turns: certified, or refused with the questions it takes."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

from langchain_glimprouter.calibration import calibrate_by_labels
from langchain_glimprouter.certification import (
    GradedTurn,
    _at_most,
    _cumulated,
    certify,
    questions_needed,
)
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.calibrated import read_calibration
from unit_tests import command
from unit_tests.traces import trace

ENTROPIES = [0.2, 0.6, 1.4, 2.0]


def large_only(question: str, *, correct: bool) -> GradedTurn:
    turn = trace([None] * 4, policy="always large", small="")
    return GradedTurn(question, correct, turn, "x.jsonl, line 1")


def routed(question: str, tau: float, *, correct: bool, **options: Any) -> GradedTurn:
    turn = trace(ENTROPIES, threshold=tau, **options)
    return GradedTurn(question, correct, turn, "x.jsonl, line 2")


def study(count: int, losses: dict[float, float], seed: int = 0) -> list[GradedTurn]:
    """The large model is right; routing loses a share of the questions."""
    source = random.Random(seed)
    model = large_only("", correct=True)
    turns = [replace(model, question=str(number)) for number in range(count)]
    for tau, loss in losses.items():
        model = routed("", tau, correct=True)
        turns += [
            replace(model, question=str(number), correct=source.random() >= loss)
            for number in range(count)
        ]
    return turns


# -- the bounds ----------------------------------------------------------------------------------


def test_the_binomial_sums_up() -> None:
    for count, probability in ((10, 0.3), (7, 0.01)):
        for seen in range(count + 1):
            exact = sum(
                math.comb(count, hit) * probability**hit * (1 - probability) ** (count - hit)
                for hit in range(seen + 1)
            )
            assert _cumulated(seen, count, probability) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("seen", "count", "most"),
    [(0, 10, 0.3085), (1, 10, 0.4450), (5, 20, 0.4910), (0, 100, 0.0362), (100, 100, 1.0)],
)
def test_the_bound_is_that_of_clopper_and_pearson(seen: int, count: int, most: float) -> None:
    assert _at_most(seen, count) == pytest.approx(most, abs=1e-4)


@given(st.floats(0.005, 0.5))
def test_so_many_questions_do(max_loss: float) -> None:
    count = questions_needed(max_loss)
    assert _at_most(0, count) <= max_loss + 1e-9
    assert count == 1 or _at_most(0, count - 1) > max_loss


def test_certified_thresholds_are_wrong_as_rarely_as_promised() -> None:
    """Where every threshold costs a little more than is allowed, few studies certify one."""
    certified = sum(
        any(point.holds for point in certify(study(120, {0.5: 0.11, 1.0: 0.12}, seed), 0.1))
        for seed in range(40)
    )
    assert certified / 40 <= 0.08


# -- the choice ----------------------------------------------------------------------------------


def test_the_highest_threshold_that_holds_is_chosen() -> None:
    turns = study(200, {0.5: 0.0, 1.0: 0.0, 1.5: 0.4, 1.9: 0.0})
    found = calibrate_by_labels(turns, 0.05, source="x.jsonl")
    assert found.threshold == 1.0
    assert [point.holds for point in found.graded] == [True, True, False, False]
    assert (found.target_rate, found.max_loss) == (None, 0.05)
    assert (found.small, found.large) == ("tiny", "huge")
    assert (found.turns, found.steps, found.achieved.rate) == (200, 800, 0.5)
    assert found.graded[0].accuracy == found.graded[0].large_accuracy == 1.0
    assert found.warnings == []


def test_questions_that_only_routing_gets_right_make_up_for_some() -> None:
    turns = [large_only(str(number), correct=number >= 40) for number in range(200)]
    turns += [routed(str(number), 1.0, correct=number < 190) for number in range(200)]
    (point,) = certify(turns, 0.05)
    assert point.loss_upper < 0.0
    assert (point.accuracy, point.large_accuracy) == (0.95, 0.8)


def test_too_few_questions_are_refused_with_their_number() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"no threshold is sure to cost at most 5%: .* at most 31% \(10 questions.*, 72 do\)",
    ):
        calibrate_by_labels(study(10, {1.0: 0.0}), 0.05)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([routed("a", 1.0, correct=True)], "need turns under policy='always large'"),
        ([large_only("a", correct=True)], "need turns under one or more fixed thresholds"),
        (
            [large_only("a", correct=True), routed("b", 1.0, correct=True)],
            "no question was answered both at threshold 1 and by",
        ),
        (
            [large_only("a", correct=True), *[routed("a", 1.0, correct=True)] * 2],
            "x.jsonl, line 2: a second turn of the same question",
        ),
        (
            [GradedTurn("a", True, trace([0.1], threshold=None), "x.jsonl, line 3")],
            r"x.jsonl, line 3: a graded turn needs one fixed threshold.* has none",
        ),
    ],
)
def test_turns_that_cannot_be_compared(turns: list[GradedTurn], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        certify(turns, 0.05)


@pytest.mark.parametrize("max_loss", [0.0, 1.0, -0.1, math.nan, True])
def test_a_loss_that_cannot_be(max_loss: float) -> None:
    with pytest.raises(ConfigurationError, match="max_loss=.* give a share between 0 and 1"):
        certify(study(2, {1.0: 0.0}), max_loss)


def test_other_pairs_are_refused_or_left_out() -> None:
    turns = study(100, {1.0: 0.0})
    turns += [routed(turn.question, 1.2, correct=True, small="wee") for turn in turns[:100]]
    with pytest.raises(ConfigurationError, match="mixes pairs"):
        calibrate_by_labels(turns, 0.05)
    assert calibrate_by_labels(turns, 0.05, small="wee").threshold == 1.2


# -- the command ---------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return command.run("calibrate", *arguments, "--labels")


def test_the_command(tmp_path: Path) -> None:
    data, out = tmp_path / "graded.jsonl", tmp_path / "calibrated.json"
    records = [
        {"question": turn.question, "correct": turn.correct, "trace": turn.trace.model_dump()}
        for turn in study(120, {0.5: 0.0, 1.5: 0.5})
    ]
    data.write_text("\n".join(map(json.dumps, records)))
    done = run(data, "--max-loss", 0.05, "-o", out)
    assert done.exit_code == 0, done.output
    assert "threshold 0.5: 100.0% right, the large model alone 100.0%" in done.output
    assert "(120 questions): not certified" in done.output
    assert read_calibration(out).threshold == 0.5
    data.write_text('{"question": "a", "correct": "yes"}')
    refused = run(data, "-o", out)
    assert refused.exit_code == 2
    assert "line 1: no graded turn" in refused.output
