"""Thresholds picked from recorded turns, their files, and turns judged again."""

from __future__ import annotations

import json
import math
import os
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from langchain_glimprouter import MinTokens, Newlines, trace_of
from langchain_glimprouter.bench.replay import replay
from langchain_glimprouter.calibration import LEVELS, calibrate, threshold_for
from langchain_glimprouter.calibration_cli import record_turns
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.resampling import TurnBootstrap
from langchain_glimprouter.routing.budget import Budget
from langchain_glimprouter.routing.calibrated import Calibrated, read_calibration
from langchain_glimprouter.routing.policies.named import as_threshold
from langchain_glimprouter.routing.steps import as_steps, rule_name
from langchain_glimprouter.routing.target_rate import TargetRate
from langchain_glimprouter.routing.thresholds import Fixed, Threshold
from langchain_glimprouter.routing.trace import RoutingTrace
from unit_tests.command import run
from unit_tests.models import router
from unit_tests.traces import trace, traces


def write(file: Path, turns: list[RoutingTrace]) -> Path:
    file.write_text("".join(turn.model_dump_json() + "\n" for turn in turns))
    return file


def rate_at(turns: list[RoutingTrace], tau: float) -> float:
    above = [step.probe.entropy > tau for turn in turns for step in turn.steps if step.probe]
    return sum(above) / len(above)


# -- the threshold -------------------------------------------------------------------------------


@example([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], 0.71875)  # equal ones go one way
@example([0.0, 0.0, 0.0, 0.0, 0.0, 4.999999999999999, 5.0], 0.125)  # neighbouring floats
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_no_other_threshold_is_nearer_to_the_rate(entropies: list[float], rate: float) -> None:
    ranked = sorted(entropies)
    tau = threshold_for(ranked, rate)
    assert tau >= 0.0

    def miss(threshold: float) -> float:
        return abs(sum(entropy > threshold for entropy in ranked) / len(ranked) - rate)

    resolution = 0.5 / len(ranked)
    best = min(miss(other) for other in (*ranked, math.nextafter(max(ranked[0], 1e-300), 0.0)))
    assert miss(tau) <= best + resolution + 1e-9


def test_it_finds_what_a_large_sample_says() -> None:
    turns = traces(80, 40)
    found = calibrate(turns, 0.25, source="x.jsonl")
    assert rate_at(turns, found.threshold) == pytest.approx(0.25, abs=0.001)
    assert found.achieved.rate == rate_at(turns, found.threshold)
    assert found.achieved.lower < 0.25 < found.achieved.upper
    assert found.threshold_lower < found.threshold < found.threshold_upper
    assert (found.small, found.large, found.turns, found.steps) == ("tiny", "huge", 80, 3200)
    assert found.warnings == []
    assert [point.level for point in found.quantiles] == list(LEVELS)
    entropies = [point.entropy for point in found.quantiles]
    assert entropies == sorted(entropies)
    assert all(point.lower <= point.entropy <= point.upper for point in found.quantiles)
    rates = [point.rate for point in found.curve]
    assert rates == sorted(rates, reverse=True)
    assert len(found.curve) == 21
    assert rates == pytest.approx([rate_at(turns, point.threshold) for point in found.curve])
    assert rate_at(traces(80, 40, seed=1), found.threshold) == pytest.approx(0.25, abs=0.05)


def test_intervals_hold_what_they_promise() -> None:
    """Over many data sets, the interval holds the true rate about as often as it says."""
    held = trials = 120
    for seed in range(trials):
        source = random.Random(seed)
        owners: list[int] = []
        chosen: list[bool] = []
        for number in range(40):
            likely = source.uniform(0.0, 0.6)  # a turn's own rate; 0.3 on the whole
            owners += [number] * 25
            chosen += [source.random() < likely for _ in range(25)]
        interval = TurnBootstrap(owners).share(chosen)
        held -= not interval.lower <= 0.3 <= interval.upper
    assert 0.88 <= held / trials <= 0.99


def test_steps_of_one_turn_are_not_taken_for_independent() -> None:
    owners = [number for number in range(20) for _ in range(50)]
    alike = [number % 4 == 0 for number in owners]
    loose = [number % 4 == 0 for number in range(1000)]
    assert TurnBootstrap(owners).share(alike).half_width > 0.15
    assert TurnBootstrap(owners).share(loose).half_width < 0.03


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (traces(3, 10), ["30 steps of 3 turns are few", "rest on 3 turns only"]),
        (traces(1, 1), ["rest on 1 turn only"]),
        ([trace([1.0] * 50) for _ in range(20)], ["no threshold gives 25% on this data"]),
    ],
)
def test_too_little_data_is_said_plainly(turns: list[RoutingTrace], said: list[str]) -> None:
    doubts = " | ".join(calibrate(turns, 0.25).warnings)
    for words in said:
        assert words in doubts


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, math.nan, 25.0])
def test_a_rate_that_is_no_target(rate: float) -> None:
    with pytest.raises(ConfigurationError, match=r"target_rate=.* give a share between 0 and 1"):
        calibrate(traces(2, 5), rate)


def test_pairs_are_not_mixed() -> None:
    mixed = [*traces(2, 5), *traces(2, 5, large="giant")]
    with pytest.raises(ConfigurationError, match=r"mixes pairs .*'giant'.*'huge'.*--large"):
        calibrate(mixed, 0.25, source="x.jsonl")
    assert calibrate(mixed, 0.25, large="/models/giant").large == "giant"
    with pytest.raises(ConfigurationError, match=r"x.jsonl holds no turn of small 'other'; it is"):
        calibrate(mixed, 0.25, small="other", source="x.jsonl")


def test_rules_of_steps_are_not_mixed() -> None:
    mixed = [*traces(2, 5), *traces(2, 5, step_rule="A"), *traces(2, 5, step_rule="B")]
    assert calibrate(mixed[:4], 0.25).step_rule == "A"  # older records do not tell theirs
    with pytest.raises(ConfigurationError, match=r"x.jsonl mixes rules of steps \(A; B\)"):
        calibrate(mixed, 0.25, source="x.jsonl")


def test_turns_without_probes() -> None:
    bare = trace([None, None], policy="random(0.25)")
    with pytest.raises(ConfigurationError, match=r"no probed step \(its policy is random"):
        calibrate([bare], 0.25)
    assert calibrate([bare, trace([0.1, 2.0])], 0.5).turns == 1


# -- the file ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    data, out = write(tmp_path / "traces.jsonl", traces(40, 30)), tmp_path / "calibrated.json"
    done = run("calibrate", data, "--target-rate", 0.3, "--out", out)
    assert done.exit_code == 0, done.output
    assert "sends 30.0%" in done.output
    assert "1,200 probed steps of 40 turns" in done.output
    return out


def test_a_chat_model_takes_the_file(file: Path) -> None:
    found = read_calibration(file)
    threshold = as_threshold(str(file))
    assert threshold == as_threshold(file) == Calibrated(found.threshold, "tiny", "huge", str(file))
    assert isinstance(threshold, Threshold)
    message = router(threshold=str(file)).invoke("What is 3 + 4?")
    steps = message.response_metadata["glimprouter"]["trace"]["steps"]
    assert steps[0]["probe"]["threshold"] == found.threshold
    again = router().invoke("What is 3 + 4?", threshold=str(file))
    assert again.response_metadata["glimprouter"]["steps"] == {"small": 3, "large": 1}


def test_the_file_of_another_pair_is_refused(file: Path) -> None:
    text = file.read_text().replace('"huge"', '"giant"')
    file.write_text(text)
    with pytest.raises(
        ConfigurationError,
        match=r"calibrated for small 'tiny' \+ large 'giant', but the models are small 'tiny' \+ "
        r"large 'huge'",
    ):
        router(threshold=str(file)).invoke("What is 3 + 4?")


@pytest.mark.filterwarnings("ignore:threshold=:UserWarning")
def test_the_file_of_another_rule_of_steps_is_refused(tmp_path: Path) -> None:
    turn = trace_of(router(steps="newline(2)").invoke("What is 3 + 4?"))
    assert turn is not None
    data, out = write(tmp_path / "traces.jsonl", [turn]), tmp_path / "calibrated.json"
    assert run("calibrate", data, "--out", out).exit_code == 0
    model = router(threshold=str(out), steps="newline(2)")
    assert trace_of(model.invoke("What is 3 + 4?")) is not None
    with pytest.raises(ConfigurationError, match=r"steps by MinTokens.*, but these end by Blank"):
        router(threshold=str(out)).invoke("What is 3 + 4?")
    text = out.read_text().replace(json.dumps(turn.step_rule), "null")
    out.write_text(text)  # as earlier versions wrote it
    assert trace_of(router(threshold=str(out)).invoke("What is 3 + 4?")) is not None


def test_a_rule_has_one_name_in_every_process() -> None:
    def ends(text: str) -> bool:
        return text.endswith(";")

    name = rule_name(as_steps(ends))
    assert "ends" in name
    assert "0x" not in name
    assert rule_name(as_steps("newline(8)")) == rule_name(MinTokens(Newlines(), 8))
    assert rule_name(as_steps("newline")) != rule_name(as_steps("blank line"))


def test_folders_do_not_make_another_pair() -> None:
    Calibrated(1.0, "/home/me/tiny", "org/huge").check("/srv/tiny/", "huge")
    with pytest.raises(ConfigurationError, match="calibrated for"):
        Calibrated(1.0, "tiny", "huge").check("huge", "tiny")


def test_a_changed_file_is_read_again(file: Path) -> None:
    assert as_threshold(file) is as_threshold(file)
    saved = json.loads(file.read_text())
    file.write_text(json.dumps({**saved, "threshold": 0.123}))
    os.utime(file, ns=(1, 1))
    changed = as_threshold(file)
    assert isinstance(changed, Calibrated)
    assert changed.tau == 0.123


def test_doubts_are_told_to_who_loads_it(tmp_path: Path) -> None:
    out = tmp_path / "few.json"
    done = run("calibrate", write(tmp_path / "t.jsonl", traces(2, 10)), "-o", out)
    assert done.exit_code == 0
    assert "20 steps of 2 turns are few" in done.output
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        as_threshold(out)
        as_threshold(out)
    assert [str(one.message) for one in told if "are few" in str(one.message)] == [
        f"threshold={str(out)!r}: {read_calibration(out).warnings[0]}"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{}", "created: Field required"),
        ("x", "Invalid JSON"),
        ('{"kind": "glimprouter target rate"}', "kind: Input should be 'glimprouter calibration'"),
        (b"\xff", "no text in UTF-8"),
    ],
)
def test_what_is_no_calibration(text: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=rf"threshold='.*c\.json' .*{said}"):
        as_threshold(file)


# -- questions -----------------------------------------------------------------------------------


def test_turns_are_recorded_as_they_come(tmp_path: Path) -> None:
    keep = tmp_path / "kept.jsonl"
    turns = record_turns(
        router(threshold=TargetRate(0.5)), ["What is 3 + 4?"] * 3, Console(quiet=True), keep=keep
    )
    assert len(turns) == 3
    assert [RoutingTrace.model_validate_json(line) for line in keep.open()] == turns
    assert calibrate(turns, 0.5).steps == 12


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", (), "is empty"),
        ('{"question": "a"}', (), "give --small and --large"),
        ('{"question": "a"}\n{"question": " "}', (), "line 2: no question"),
        ('{"question": "a"}\n{"x": 1}', (), "line 2: no question"),
        ('{"x": 1}', (), "line 1: no trace"),
        ("oops", (), "line 1: no JSON"),
        ("{}", ("--target-rate", "1"), "target_rate=1.0 cannot work"),
    ],
)
def test_bad_data_is_refused(
    text: str, options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    done = run("calibrate", data, "-o", tmp_path / "out.json", *options)
    assert done.exit_code == 2
    assert said in done.output.replace("\n", " ")
    assert not (tmp_path / "out.json").exists()


# -- judged again --------------------------------------------------------------------------------


def test_the_recorded_threshold_gives_the_recorded_rate() -> None:
    turns = traces(20, 30, threshold=0.8)
    again = replay(turns, Fixed(0.8), "0.8")
    assert (again.rate, again.changed) == (again.recorded, 0.0)
    assert again.rate == sum(turn.usage.large.steps for turn in turns) / 600
    assert again.lower < again.rate < again.upper
    assert (again.turns, again.steps, again.probed) == (20, 600, 600)
    assert (
        again.uncertain
        == sum(step.probe.straddles for t in turns for step in t.steps if step.probe) / 600
    )
    rates = [replay(turns, Fixed(tau), "").rate for tau in (0.0, 0.4, 0.8, 1.6, math.inf)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (1.0, 0.0)
    assert replay(turns, Fixed(math.inf), "").uncertain == 0.0


def test_steps_without_a_probe_keep_their_writer() -> None:
    again = replay([trace([None, 0.1, 2.0, 0.2])], Fixed(5.0), "5")
    assert (again.steps, again.probed, again.rate) == (4, 3, 0.25)
    with pytest.raises(ConfigurationError, match="no probed step"):
        replay([trace([None])], Fixed(1.0), "1")


def test_any_threshold_can_judge_again() -> None:
    turns = traces(20, 30)
    assert replay(turns, TargetRate(0.3), "").rate == pytest.approx(0.3, abs=0.03)
    assert replay(turns, Budget(Fixed(0.0), interventions=3), "").rate == 0.1
    with pytest.raises(ConfigurationError, match="calibrated for"):
        replay(turns, Calibrated(1.0, "a", "b"), "")


def test_the_command_shows_a_table_or_json(tmp_path: Path, file: Path) -> None:
    data = write(tmp_path / "t.jsonl", traces(10, 20))
    done = run("bench", "replay", data, "-t", 0.5, "-t", file, "--target-rate", 0.25)
    assert done.exit_code == 0, done.output
    assert "200 routed steps of 10 turns" in done.output
    assert "target rate 0.25" in done.output
    listed = json.loads(run("bench", "replay", data, "-t", 0.5, "-t", file, "--json").stdout)
    assert [one["label"] for one in listed] == ["0.5", str(file)]
    assert listed[0]["rate"] > listed[1]["rate"]
    assert len(json.loads(run("bench", "replay", data, "--json").stdout)) == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-t", "high"), "threshold='high' cannot work"),
        (("-t", "-1"), "threshold=-1.0 cannot work"),
        (("--target-rate", "2"), "rate=2.0 cannot be a target"),
    ],
)
def test_the_command_refuses(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run("bench", "replay", write(tmp_path / "t.jsonl", traces(2, 5)), *options)
    assert done.exit_code == 2
    assert said in done.output
