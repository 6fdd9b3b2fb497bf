"""A bench runs its arms, is interrupted, and goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.bench.arms import MAIN, Arm, parse_arm, parse_arms, random_partner
from langchain_glimprouter.bench.engines import Engines
from langchain_glimprouter.bench.journal import Journal
from langchain_glimprouter.bench.results import results_of
from langchain_glimprouter.bench.study import OutOfTimeError, Study
from langchain_glimprouter.engines.scripted import Fault
from langchain_glimprouter.errors import ConfigurationError, EngineDeadError, EngineRequestError
from langchain_glimprouter.routing.target_rate import TargetRate
from langchain_glimprouter.trace_files import read_traces
from unit_tests.studies import (
    SETTINGS,
    STEPS,
    Log,
    Sums,
    largest_file,
    made_up,
    plan,
    scripted,
    study,
    turn,
)

BASELINES = ["always small", "always large", "glimprouter threshold=1.0"]


def comparable(journal: Journal) -> list[dict[str, Any]]:
    """All turns without what clocks say, in an order of their own."""
    rows = []
    for key in sorted(journal.turns):
        row = journal.turns[key].model_dump(exclude={"seconds", "began", "steps"})
        for role in ("small", "large"):
            row[role].pop("seconds")
        row["steps"] = [step[:4] for step in journal.turns[key].steps]
        rows.append(row)
    return rows


# -- a whole run -------------------------------------------------------------------------------


async def test_each_arm_answers_each_question(tmp_path: Path) -> None:
    log = Log()
    what = plan(BASELINES, questions=6)
    journal = await study(tmp_path, what, log=log)
    (partner,) = {match.random for match in journal.matches.values()}
    assert {arm for arm, _ in journal.turns} == {*BASELINES[:2], "glimprouter τ=1", partner}
    assert len(journal.turns) == 4 * 6
    right = {
        arm: [journal.turns[arm, f"test-{number}"].correct for number in range(6)]
        for arm in ("always small", "always large", "glimprouter τ=1")
    }
    assert right["always small"] == [number % 3 == 0 for number in range(6)]
    assert right["always large"] == [number % 5 != 4 for number in range(6)]
    assert right["glimprouter τ=1"] == right["always large"]  # the large model answers
    assert log.plans[-1][1] == 24
    assert log.plans[-1][0] == 24


async def test_a_row_says_what_the_turn_did(tmp_path: Path) -> None:
    traces = tmp_path / "traces.jsonl"
    what = plan(["glimprouter threshold=1.0"], 3, matched_random=False, traces=traces)
    journal = await study(tmp_path, what)
    kept = [trace for _, trace in read_traces(traces)]
    assert len(kept) == 3
    for row, trace in zip(journal.turns.values(), kept, strict=True):
        assert row.threshold == 1.0
        assert row.routed == len(trace.routed_steps) == STEPS
        assert row.interventions / row.routed == trace.intervention_rate
        assert row.answer == trace.answer
        assert [step[1] for step in row.steps] == [step.tokens.decode for step in trace.steps]
        for step, written in zip(trace.routed_steps, row.steps, strict=False):
            assert step.probe is not None
            assert written[2] == pytest.approx(step.probe.entropy, abs=1e-5)
        assert row.steps[-1][0] == "L"  # the answer: not routed
        assert row.small.decode == trace.usage.small.decode
        assert row.seconds >= trace.seconds > 0.0
    assert max(map(len, (tmp_path / "study.jsonl").read_text().splitlines())) < 2500
    rate = journal.rate("glimprouter τ=1")
    assert rate == sum(t.interventions for t in journal.turns.values()) / (3 * STEPS)


async def test_arms_take_turns_and_questions_run_at_once(tmp_path: Path) -> None:
    log = Log()
    running: list[int] = []

    class Watched(Sums):
        async def grade(self, question: Any, answer: str) -> Any:
            running.append(small.running + large.running)  # graded behind the block, not during
            return await super().grade(question, answer)

    small, large = scripted("small", delay=0.0005), scripted("large", delay=0.0005)
    what = plan(BASELINES, 5, concurrency=2, matched_random=False, task=Watched())
    await study(tmp_path, what, small=small, large={MAIN: large}, log=log)
    small_, large_, routed = BASELINES[0], BASELINES[1], "glimprouter τ=1"
    blocks = [(small_, large_, routed), (large_, routed, small_), (routed, small_, large_)]
    sizes = [(0, 1), (2, 3), (4,)]
    wanted = [
        (arm, f"test-{number}")
        for arms, numbers in zip(blocks, sizes, strict=True)
        for arm in arms
        for number in numbers
    ]
    assert [(line.arm, line.question) for line in log.lines] == wanted  # type: ignore[union-attr]
    rows = Journal(tmp_path / "study.jsonl").turns
    one, two = rows[large_, "test-0"], rows[large_, "test-1"]
    assert two.began < one.began + one.seconds  # both ran at once
    assert set(running) == {0}


async def test_engines_of_variants_follow_one_another(tmp_path: Path) -> None:
    alive: set[str] = set()
    history: list[frozenset[str]] = []

    def large(name: str) -> Any:
        made = scripted("large")
        start, close = made.start, made.aclose

        async def starting() -> None:
            alive.add(name)
            history.append(frozenset(alive))
            await start()

        async def closing() -> None:
            alive.discard(name)
            await close()

        made.start, made.aclose = starting, closing  # type: ignore[method-assign]
        return made

    variants = {MAIN: large(MAIN), "draft": large("draft"), "ngram": large("ngram")}
    arms = ["always large @draft", "always large", "always large @ngram"]
    what = plan(arms, 2, variants=variants)
    journal = await study(tmp_path, what, large=variants)
    assert set(history) == {frozenset({name}) for name in variants}
    assert alive == set()
    assert list(dict.fromkeys(arm for arm, _ in journal.turns)) == [
        "always large",  # the engine's own set-up comes first
        "always large @draft",
        "always large @ngram",
    ]


async def test_no_arm_profits_from_the_one_before(tmp_path: Path) -> None:
    emptied: list[tuple[str, int]] = []
    log = Log()

    def cold(role: str) -> Any:
        made = scripted(role)

        async def empty() -> None:
            emptied.append((role, len(log.lines)))

        made.empty_cache = empty  # type: ignore[attr-defined]
        return made

    engines = Engines(cold("small"), {MAIN: cold("large")})
    assert engines.cools
    assert not Engines(cold("small"), {MAIN: scripted("large")}).cools
    journal = Journal(tmp_path / "study.jsonl")
    journal.begin(SETTINGS)
    what = plan(BASELINES, 4, concurrency=2, matched_random=False)
    await Study(what, engines, journal, log).run()
    assert emptied == [(role, done) for done in range(0, 12, 2) for role in ("small", "large")]


async def test_what_all_prompts_begin_with_is_computed_before_they_are_asked(
    tmp_path: Path,
) -> None:
    computed: list[tuple[str, list[int], int]] = []
    log = Log()

    def watched(role: str) -> Any:
        made = scripted(role)

        async def prefill(token_ids: Sequence[int]) -> None:
            computed.append((role, list(token_ids), len(log.lines)))

        made.prefill = prefill  # type: ignore[method-assign]
        return made

    small, large = watched("small"), watched("large")
    engines = Engines(small, {MAIN: large})
    journal = Journal(tmp_path / "study.jsonl")
    journal.begin(SETTINGS)
    what = plan(["always large"], 4, concurrency=2)
    await Study(what, engines, journal, log).run()
    assert [(role, done) for role, _, done in computed] == [
        (role, done) for done in (0, 2) for role in ("small", "large")
    ]
    for engine in (small, large):
        vocabulary = await engine.vocabulary()
        for _, ids, _ in computed:
            assert ids
            for question in what.questions:
                text = vocabulary.render([{"role": "user", "content": question.prompt}])
                assert vocabulary.encode(text, special=True)[: len(ids)] == ids


# -- going on ----------------------------------------------------------------------------------


async def test_a_threshold_that_sets_itself_goes_on_learning(tmp_path: Path) -> None:
    arms = ["glimprouter rate=0.4", "step entropy rate=0.4"]
    journal = await study(tmp_path, plan(arms, 20, matched_random=False))
    assert set(journal.thresholds) == set()
    file = tmp_path / "rate-glimprouter-0.4-main.json"
    (before,) = TargetRate.load(file).states
    journal = await study(tmp_path, plan(arms, 40, matched_random=False))
    (after,) = TargetRate.load(file).states
    assert after.steps > before.steps > 0
    for label in ("glimprouter ρ=0.4", "step entropy ρ=0.4"):
        assert journal.rate(label) == pytest.approx(0.4, abs=0.03)
    (result, _) = results_of(journal).arms
    assert (result.threshold, result.calibrated) == (None, False)


@pytest.mark.parametrize("after", [1, 7, 13, 20])
async def test_an_interrupted_study_goes_on(tmp_path: Path, after: int) -> None:
    whole = await study(tmp_path, plan(BASELINES, 6))
    part = tmp_path / "part"
    part.mkdir()
    with pytest.raises(KeyboardInterrupt):
        await study(part, plan(BASELINES, 6), log=Log(stop_after=after))
    assert len(Journal(part / "study.jsonl").turns) == after
    log = Log()
    journal = await study(part, plan(BASELINES, 6), log=log)
    assert len(log.lines) == 24 - after  # nothing twice
    assert comparable(journal) == comparable(whole)
    assert len((part / "study.jsonl").read_text().splitlines()) == 1 + 24 + 1  # header, match
    again = Log()
    await study(part, plan(BASELINES, 6), log=again)
    assert again.lines == []


async def test_more_questions_extend_a_study(tmp_path: Path) -> None:
    await study(tmp_path, plan(BASELINES[:2], 3))
    log = Log()
    journal = await study(tmp_path, plan(BASELINES[:2], 5), log=log)
    assert len(log.lines) == 4
    assert len(journal.turns) == 10


async def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    await study(tmp_path, plan(BASELINES[:2], 3))
    file = tmp_path / "study.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])  # as after a power cut
    assert len(Journal(file).turns) == 5
    log = Log()
    journal = await study(tmp_path, plan(BASELINES[:2], 3), log=log)
    assert len(log.lines) == 1
    assert len(journal.turns) == 6
    assert all(json.loads(line) for line in file.read_text().splitlines())


async def test_time_that_is_over_stops_before_the_next_block(tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        await study(tmp_path, plan(BASELINES, 6, seconds=0.0))
    assert Journal(tmp_path / "study.jsonl").turns == {}
    small, large = scripted("small", delay=0.002), scripted("large", delay=0.002)
    with pytest.raises(OutOfTimeError):
        await study(tmp_path, plan(BASELINES, 6, seconds=0.3), small=small, large={MAIN: large})
    done = len(Journal(tmp_path / "study.jsonl").turns)
    assert 0 < done < 18
    assert len((await study(tmp_path, plan(BASELINES, 6))).turns) == 24


# -- trouble -----------------------------------------------------------------------------------


async def test_a_broken_turn_is_recorded_and_tried_again(tmp_path: Path) -> None:
    fault = Fault(60, EngineRequestError("scripted trouble"), dead=False)
    large = scripted("large", fault=fault)
    log = Log()
    journal = await study(tmp_path, plan(BASELINES[:2], 4), large={MAIN: large}, log=log)
    assert len(journal.turns) == 7  # the others went on
    (failure,) = journal.failures.values()
    assert failure.arm == "always large"
    assert "scripted trouble" in failure.error
    assert len(log.lines) == 8
    again = Log()
    journal = await study(tmp_path, plan(BASELINES[:2], 4), log=again)
    assert [line.question for line in again.lines] == [failure.question]
    assert journal.failures == {}
    assert len(journal.turns) == 8


async def test_a_dead_engine_ends_the_run_and_keeps_the_rows(tmp_path: Path) -> None:
    large = scripted("large", fault=Fault(60))
    with pytest.raises(EngineDeadError, match="large"):
        await study(tmp_path, plan(BASELINES[:2], 4), large={MAIN: large})
    journal = Journal(tmp_path / "study.jsonl")
    assert len(journal.failures) == 1
    assert 0 < len(journal.turns) < 7
    assert len((await study(tmp_path, plan(BASELINES[:2], 4))).turns) == 8


async def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    with largest_file(4000), pytest.raises(OSError, match=r"too large|No space"):
        await study(tmp_path, plan(BASELINES, 6))
    text = (tmp_path / "study.jsonl").read_text()
    assert text.endswith("\n")
    done = len(Journal(tmp_path / "study.jsonl").turns)
    assert 0 < done < 18
    log = Log()
    assert len((await study(tmp_path, plan(BASELINES, 6), log=log)).turns) == 24
    assert len(log.lines) == 24 - done


async def test_an_unknown_policy_is_refused_before_an_engine_starts(tmp_path: Path) -> None:
    small = scripted("small", fault=Fault(0))
    with pytest.raises(ConfigurationError, match="always small"):
        await study(tmp_path, plan(["allways small"], 2), small=small)
    assert small.requests == []


# -- the record --------------------------------------------------------------------------------


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "study.jsonl")
    journal.begin(SETTINGS)
    journal = Journal(tmp_path / "study.jsonl")
    journal.begin(SETTINGS)
    other = {**SETTINGS, "concurrency": 4, "chat": {**SETTINGS["chat"], "temperature": 0.6}}
    with pytest.raises(ConfigurationError) as caught:
        journal.begin(other)
    assert "chat.temperature: 0.0 there, 0.6 now" in str(caught.value)
    assert "concurrency: 1 there, 4 now" in str(caught.value)
    assert "max_tokens" not in str(caught.value)
    journal.add_variant("draft", {"speculative_config": {"num_speculative_tokens": 3}})
    with pytest.raises(ConfigurationError, match=r"draft\.speculative_config.*3 there, 5 now"):
        journal.add_variant("draft", {"speculative_config": {"num_speculative_tokens": 5}})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"kind": "turn"}'], "line 1"),
        (["{}"], "line 1: no record"),
        ([1, "not json"], "line 2: no record"),
        ([1, 1], "line 2: a study's record has one header"),
        ([1, '{"kind": "error", "arm": "x"}'], "line 2"),
        ([2, 1], "line 1: a study's record has one header"),
    ],
)
def test_what_is_no_record_is_told_by_its_line(
    tmp_path: Path, lines: list[object], said: str
) -> None:
    made_up(tmp_path, {"always large": "+"})
    header, row = (tmp_path / "study.jsonl").read_text().splitlines()
    file = tmp_path / "other.jsonl"
    file.write_text("".join(f"{ {1: header, 2: row}.get(line, line) }\n" for line in lines))  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match=said):
        Journal(file)


def test_a_later_success_takes_a_failures_place(tmp_path: Path) -> None:
    journal = made_up(tmp_path, {"always large": "+!-"})
    assert len(journal.failures) == 1
    journal.append(turn("always large", "1", correct=True))
    again = Journal(tmp_path / "study.jsonl")
    assert again.failures == {}
    assert len(again.turns) == 3


# -- arms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arm", "label"),
    [
        ("glimprouter", Arm("glimprouter"), "glimprouter"),
        ("  Step_Entropy ", Arm("step entropy"), "step entropy"),
        ("always large @draft", Arm("always large", None, "draft"), "always large @draft"),
        ("glimprouter threshold=0.80", Arm("glimprouter", 0.8), "glimprouter τ=0.8"),
        ("glimprouter τ=0.8@draft", Arm("glimprouter", 0.8, "draft"), "glimprouter τ=0.8 @draft"),
        ("glimprouter rate=0.30", Arm("glimprouter", rate=0.3), "glimprouter ρ=0.3"),
        (
            "step entropy ρ=0.3 @draft",
            Arm("step entropy", None, "draft", 0.3),
            "step entropy ρ=0.3 @draft",
        ),
        ("random(0.3)", Arm("random(0.3)"), "random(0.3)"),
        ("two sided(0.9)", Arm("two sided(0.9)"), "two sided(0.9)"),
    ],
)
def test_arms_are_read(text: str, arm: Arm, label: str) -> None:
    read = parse_arm(text, {MAIN, "draft"})
    assert read == arm
    assert read.label == label
    assert parse_arm(label, {MAIN, "draft"}) == arm  # as records hold it
    assert parse_arms([text, label], {MAIN, "draft"}) == [arm]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("@draft", "cannot be read"),
        ("glimprouter threshold=low", "'low'"),
        ("glimprouter threshold=-1", "'-1'"),
        ("glimprouter threshold=nan", "'nan'"),
        ("glimprouter rate=nan", "give a share between 0 and 1"),
        ("glimprouter rate=1", "give a share between 0 and 1"),
        ("always large rate=0.3", "has no threshold"),
        ("always large @drafts", "did you mean 'draft'"),
    ],
)
def test_what_is_no_arm_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_arm(text, {MAIN, "draft"})


@given(st.floats(0.0, 1.0))
def test_the_random_partner_is_the_nearest_on_a_grid(rate: float) -> None:
    policy = random_partner(rate).policy
    chosen = float(policy.removeprefix("random(").removesuffix(")"))
    assert round(chosen * 20, 9) == round(chosen * 20)
    assert 0.05 <= chosen <= 0.95
    assert abs(chosen - min(max(rate, 0.05), 0.95)) <= 0.025 + 1e-9
