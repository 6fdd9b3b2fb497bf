"""A threshold that sets itself: it keeps the rate, whatever the entropies are and do."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import math
import pickle
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from langchain_glimprouter import create_glimprouter
from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.budget import Budget
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.policies import GlimpRouter
from langchain_glimprouter.routing.rate_state import MEMORY
from langchain_glimprouter.routing.target_rate import TargetRate
from langchain_glimprouter.routing.thresholds import Threshold
from langchain_glimprouter.routing.trace import ModelUsage, TurnUsage
from unit_tests.models import engine, router
from unit_tests.turns import pair, play

Draw = Callable[[random.Random], float]

DRAWS: dict[str, Draw] = {
    "exponential": lambda r: r.expovariate(2.0),
    "piled up at zero, long tail": lambda r: math.exp(r.gauss(-2.0, 2.0)),
    "uniform": lambda r: r.uniform(0.0, 3.0),
    "two humps": lambda r: abs(r.gauss(0.0, 0.01)) if r.random() < 0.85 else r.gauss(1.5, 0.1),
    "narrow": lambda r: 2.0 + 1e-6 * r.random(),
    "all equal": lambda r: 1.5,
    "three values": lambda r: r.choice([0.1, 0.1, 0.1, 1.0, 2.0]),
}
RATES = (0.05, 0.25, 0.5, 0.8)


def wandering(seed: int) -> Draw:
    """Entropies that depend on the ones before, as those of one question do."""
    state = random.Random(seed).gauss(0.0, 1.0)

    def draw(r: random.Random) -> float:
        nonlocal state
        state = 0.8 * state + r.gauss(0.0, 0.6)
        return math.exp(state - 1.0)

    return draw


def measured(estimate: float) -> Entropy:
    return Entropy(estimate, estimate, estimate, 1.0)


def using(small: str = "tiny", large: str = "huge") -> TurnUsage:
    return TurnUsage(small=ModelUsage(model=small), large=ModelUsage(model=large))


def writers(target: TargetRate, entropies: Iterable[float]) -> list[bool]:
    """Which steps the large model writes; a decision always agrees with its threshold."""
    usage, chosen = using(), []
    for entropy in entropies:
        role, tau = target.decide(measured(entropy), usage)
        assert (role == "large") == (entropy > tau >= 0.0)
        chosen.append(role == "large")
    return chosen


def share(chosen: list[bool]) -> float:
    return sum(chosen) / len(chosen)


# -- the rate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", DRAWS)
def test_it_keeps_the_rate_within_300_steps(name: str, rate: float) -> None:
    for seed in range(2):
        source = random.Random(seed)
        chosen = writers(TargetRate(rate), (DRAWS[name](source) for _ in range(600)))
        assert share(chosen[:300]) == pytest.approx(rate, abs=0.03)
        assert share(chosen[300:]) == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize("rate", RATES)
def test_it_keeps_the_rate_where_one_step_depends_on_the_last(rate: float) -> None:
    for seed in range(3):
        source, draw = random.Random(seed), wandering(seed)
        chosen = writers(TargetRate(rate), (draw(source) for _ in range(600)))
        assert share(chosen[:300]) == pytest.approx(rate, abs=0.05)
        assert share(chosen) == pytest.approx(rate, abs=0.03)


SHIFTS: dict[str, Draw] = {
    "far up": lambda r: 5.0 + 4.0 * r.expovariate(1.0),
    "far down": lambda r: 0.01 * r.random(),
    "another shape": DRAWS["two humps"],
}


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", DRAWS)
def test_it_finds_the_rate_again_behind_a_shift(name: str, shift: str, rate: float) -> None:
    source = random.Random(1)
    target = TargetRate(rate)
    writers(target, (DRAWS[name](source) for _ in range(300)))
    chosen = writers(target, (SHIFTS[shift](source) for _ in range(600)))
    assert share(chosen[:300]) == pytest.approx(rate, abs=0.05)  # the gap itself included
    assert share(chosen[300:]) == pytest.approx(rate, abs=0.03)


@given(
    st.lists(st.floats(1e-9, 20.0), min_size=400, max_size=400),
    st.sampled_from([0.1, 0.25, 0.5, 0.75]),
)
def test_no_sequence_whatever_can_move_the_rate_further_than_the_level(
    entropies: list[float], rate: float
) -> None:
    target = TargetRate(rate)
    chosen = writers(target, entropies)
    (state,) = target.states
    gain = target._gain
    assert -gain <= state.level <= 1.0 + gain
    debt = abs(state.level - rate) / (gain * len(chosen))
    assert abs(share(chosen) - rate) <= debt + 1e-9


def test_it_is_the_entropy_that_decides() -> None:
    source = random.Random(3)
    entropies = [DRAWS["exponential"](source) for _ in range(2000)]
    chosen = writers(TargetRate(0.25), entropies)
    best = sorted(entropies)[-500]
    agreeing = sum(big == (entropy >= best) for big, entropy in zip(chosen, entropies, strict=True))
    assert agreeing / 2000 > 0.92


def test_a_step_without_entropy_never_goes_to_the_large_model() -> None:
    assert not any(writers(TargetRate(0.5, start=0.0), [0.0] * 400))
    target = TargetRate(0.5)
    writers(target, [0.0] * 400)
    source = random.Random(0)
    after = writers(target, (source.uniform(0.5, 1.0) for _ in range(300)))
    assert share(after) == pytest.approx(0.5, abs=0.05)  # nothing had piled up


def test_the_first_steps_have_the_paper_s_threshold() -> None:
    assert TargetRate(0.25).decide(measured(1.1), using()) == ("large", 1.0)
    assert TargetRate(0.25, start=2.0).decide(measured(1.1), using()) == ("small", 2.0)


# -- the cap -------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.sampled_from([0.25, 0.3, 0.5, 0.9]), st.integers(0, 9))
def test_no_turn_goes_beyond_the_cap_by_a_whole_step(cap: float, seed: int) -> None:
    source = random.Random(seed)
    target = TargetRate(0.25, cap=cap)
    for hard in itertools.islice(itertools.cycle([False, False, True]), 24):
        usage = using()
        for _ in range(30):
            entropy = source.uniform(2.0, 3.0) if hard else source.uniform(0.0, 1.0)
            role, _ = target.decide(measured(entropy), usage)
            usage.of(role).steps += 1
            routed = usage.small.steps + usage.large.steps
            assert usage.large.steps < cap * routed + 1.0


def test_hard_turns_get_more_than_the_target_and_all_together_get_it() -> None:
    source = random.Random(1)
    target = TargetRate(0.25, cap=0.6)
    shares: dict[bool, list[float]] = {False: [], True: []}
    for number in range(60):
        hard, usage = number % 5 == 4, using()
        for _ in range(20):
            entropy = source.uniform(1.0, 3.0) if hard else source.uniform(0.0, 1.2)
            role, _ = target.decide(measured(entropy), usage)
            usage.of(role).steps += 1
        shares[hard].append(usage.large.steps / 20)
    (state,) = target.states
    assert state.share == pytest.approx(0.25, abs=0.02)
    assert max(shares[True]) <= 0.65
    assert sum(shares[True]) / 12 > 1.4 * sum(shares[False]) / 48


# -- the state -----------------------------------------------------------------------------------


def test_every_pair_and_domain_has_its_own_state() -> None:
    target = TargetRate(0.5)
    algebra = target.for_domain("algebra")
    for number in range(40):
        target.decide(measured(1.0 + number / 100), using())
        algebra.decide(measured(0.1 + number / 1000), using("/models/tiny"))
        target.decide(measured(2.0 + number / 100), using(large="/elsewhere/giant/"))
    keys = {(state.small, state.large, state.domain): state for state in target.states}
    assert set(keys) == {
        ("tiny", "huge", None),
        ("tiny", "huge", "algebra"),
        ("tiny", "giant", None),
    }
    assert algebra.states == target.states
    assert [state.steps for state in target.states] == [40, 40, 40]
    assert max(keys["tiny", "huge", "algebra"].recent) < 0.2


@pytest.mark.parametrize("clone", ["file", "pickle", "deepcopy"])
def test_it_goes_on_where_it_stopped(clone: str, tmp_path: Path) -> None:
    source = random.Random(5)
    first, then = ([source.expovariate(1.0) for _ in range(250)] for _ in range(2))
    target = TargetRate(0.25)
    writers(target, first)
    match clone:
        case "file":
            target.save(tmp_path / "rate.json")
            twin = TargetRate.load(tmp_path / "rate.json")
        case "pickle":
            twin = pickle.loads(pickle.dumps(target))
        case _:
            twin = copy.deepcopy(target)
    assert twin.states == target.states
    assert writers(twin, then) == writers(target, then)
    assert len(target.states[0].recent) == MEMORY
    assert repr(twin) == repr(target) == "TargetRate(0.25, cap=None, domain=None, start=1.0)"


def test_another_rate_keeps_the_entropies_and_drops_the_debt(tmp_path: Path) -> None:
    source = random.Random(5)
    target = TargetRate(0.25)
    writers(target, (source.random() for _ in range(100)))
    target.save(tmp_path / "rate.json")
    half = TargetRate.load(tmp_path / "rate.json", rate=0.5, domain="x", cap=0.7)
    assert (half.rate, half.domain, half.cap) == (0.5, "x", 0.7)
    assert half.states[0].level == 0.5
    assert half.states[0].recent == target.states[0].recent
    plain = half.for_domain(None)
    assert share(writers(plain, (source.random() for _ in range(300)))) == pytest.approx(
        0.5, abs=0.03
    )


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"kind": "glimprouter calibration"}', '{"rate": 0.2, "states": [{}]}', "\xff"],
)
def test_a_file_that_is_no_state_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rate.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        ConfigurationError, match=r"rate\.json holds no target rate's state: .*save"
    ):
        TargetRate.load(file)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rate.json"
    target = TargetRate(0.25)
    target.save(file)
    before = file.read_text()
    writers(target, [1.0, 2.0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        target.save(file)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]
    assert json.loads(before)["rate"] == 0.25


def test_threads_share_one_state(tmp_path: Path) -> None:
    target = TargetRate(0.25)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        source = random.Random(seed)
        try:
            for number in range(300):
                target.decide(measured(source.expovariate(1.0)), using())
                if number % 50 == 0:
                    target.save(tmp_path / "rate.json")
                    assert TargetRate.load(tmp_path / "rate.json").rate == 0.25
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    (state,) = target.states
    assert state.steps == 2400
    assert len(state.recent) == MEMORY
    assert sorted(state.recent) == next(iter(target._store.trackers.values()))._sorted
    assert state.share == pytest.approx(0.25, abs=0.03)


# -- in turns ------------------------------------------------------------------------------------


def script(seed: int, steps: int) -> list[ScriptedStep]:
    source = random.Random(seed)
    return [
        ScriptedStep(f"Step {number}.\n\n", min(2.9, source.expovariate(1.5)))
        for number in range(steps)
    ]


@pytest.mark.parametrize("around", [None, "budget"])
async def test_turns_keep_the_rate_together(around: str | None) -> None:
    target = TargetRate(0.25, cap=0.7)
    threshold: Any = Budget(target, interventions=1000) if around else target
    large = [f"Large {number}.\n\n" for number in range(30)]
    routed = written = 0
    for seed in range(12):
        trace = (await play(*pair(script(seed, 30), large), GlimpRouter(threshold))).trace
        routed += len(trace.routed_steps)
        written += trace.usage.large.steps
    (state,) = target.states
    assert (state.small, state.large) == ("tiny", "huge")
    assert (state.steps, state.large_steps) == (routed, written)
    assert routed >= 300
    assert written / routed == pytest.approx(0.25, abs=0.03)


def test_chat_models_share_it_over_threads_and_calls() -> None:
    target = TargetRate(0.25)
    model = router(engine(script(1, 20), name="/models/tiny"), threshold=target)
    model.batch(["What is 3 + 4?"] * 12)
    model.invoke("What is 3 + 4?", threshold=target.for_domain("sums"))
    assert isinstance(target, Threshold)
    assert [(state.small, state.large, state.domain) for state in target.states] == [
        ("tiny", "huge", None),
        ("tiny", "huge", "sums"),
    ]
    assert target.states[0].share == pytest.approx(0.25, abs=0.06)


def test_a_graph_that_asks_again_behind_each_checkpoint_counts_once() -> None:
    target = TargetRate(0.25)
    model = router(
        engine(script(2, 40)),
        engine([f"Large {number}.\n\n" for number in range(40)], name="huge"),
        threshold=target,
    )
    graph = create_glimprouter(model).compile(checkpointer=InMemorySaver())
    routed = large = 0
    for number in range(3):
        config: Any = {"configurable": {"thread_id": str(number)}, "recursion_limit": 500}
        said = asyncio.run(graph.ainvoke({"messages": [("human", "What is 3 + 4?")]}, config))
        steps = said["messages"][-1].response_metadata["glimprouter"]["steps"]
        routed += steps["small"] + steps["large"]
        large += steps["large"]
    (state,) = target.states
    assert large > 10
    assert (state.steps, state.large_steps) == (routed, large)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 25, math.nan, "0.25", None, True])
def test_a_rate_that_is_no_target_is_refused(rate: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^rate=.* give a share between 0 and 1"):
        TargetRate(rate)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cap": 0.1}, r"cap=0.1 cannot bound a rate of 0.25: give a share between 0.25 and 1"),
        ({"cap": 1.5}, "cap=1.5"),
        ({"cap": "all"}, "cap='all'"),
        ({"domain": ""}, "domain='' is no name"),
        ({"domain": 3}, "domain=3 is no name"),
        ({"start": -1.0}, "start=-1.0 cannot work: give an entropy in nats"),
        ({"start": math.nan}, "start=nan"),
    ],
)
def test_what_cannot_work_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TargetRate(0.25, **options)
