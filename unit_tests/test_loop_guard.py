"""Thoughts that go round in circles, and those that only look like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.routing.loop_guard import LoopGuard

LONG = "So the answer must be seven, unless I made a mistake."
STEPS = st.sampled_from(["a\n\n", "b\n\n", LONG, LONG[::-1], " ", "Wait, let me check.\n\n"])


def stopped_at(steps: list[str]) -> int | None:
    guard = LoopGuard()
    return next((index for index, step in enumerate(steps) if guard.push(step)), None)


def test_two_equal_neighbours_loop_if_long() -> None:
    """The one case that the published code knows."""
    assert stopped_at(["First.", LONG, LONG]) == 2
    assert stopped_at([LONG + "\n\n", " " + LONG.replace(" ", "\n")]) == 1


def test_short_steps_may_repeat_thrice() -> None:
    assert stopped_at(["Hmm.\n\n"] * 3 + ["So: 7.\n\n"]) is None
    assert stopped_at(["Hmm.\n\n"] * 4) == 3


@pytest.mark.parametrize("period", range(2, 9))
def test_cycles_of_long_steps_loop_at_their_second_turn(period: int) -> None:
    cycle = [f"{LONG} Part {index}." for index in range(period)]
    assert stopped_at(cycle * 3) == 2 * period - 1
    assert stopped_at(["Let me see.", *cycle, *cycle]) == 2 * period


@pytest.mark.parametrize("period", range(2, 9))
def test_cycles_of_short_steps_loop_at_their_fourth_turn(period: int) -> None:
    cycle = [f"{index}" for index in range(period)]
    assert stopped_at(cycle * 3) is None
    assert stopped_at(cycle * 5) == 4 * period - 1


def test_a_cycle_longer_than_eight_is_seen_by_its_third_long_step() -> None:
    cycle = [f"{LONG} Part {index}." for index in range(12)]
    assert stopped_at(cycle * 2) is None
    assert stopped_at(cycle * 3) == 24


def test_a_long_step_for_the_third_time_loops_wherever_it_stands() -> None:
    others = [f"Case {index}." for index in range(500)]
    assert stopped_at([LONG, *others[:100], LONG, *others[100:], LONG]) == 502
    assert stopped_at([LONG, *others, LONG]) is None


def test_short_steps_may_come_back_without_a_cycle() -> None:
    """`So:` or `Check:` stand all over a sound thought."""
    steps = [text for index in range(200) for text in ("Check:", f"Case {index} holds.")]
    assert stopped_at(steps) is None


def test_near_repetition_is_no_loop() -> None:
    assert stopped_at([f"{LONG} Try {index}." for index in range(300)]) is None


def test_empty_steps_count_as_a_cycle_but_soon_end() -> None:
    assert stopped_at(["\n\n"] * 3) is None
    assert stopped_at(["\n\n", " ", "", "\n"]) == 3


@given(st.lists(STEPS, max_size=30), st.lists(STEPS, min_size=1, max_size=8))
def test_every_thought_that_cycles_is_stopped(start: list[str], cycle: list[str]) -> None:
    steps = start + cycle * 5
    assert stopped_at(steps) is not None


@given(st.lists(st.text(min_size=1), unique_by=lambda text: " ".join(text.split()), max_size=50))
def test_different_steps_are_never_a_loop(steps: list[str]) -> None:
    assert stopped_at(steps) is None


@given(st.lists(STEPS, max_size=30))
def test_white_space_is_ignored(steps: list[str]) -> None:
    spaced = [step.replace(" ", " \n ") + "\n\n" for step in steps]
    assert stopped_at(spaced) == stopped_at(steps)


def test_memory_of_recent_steps_is_bounded() -> None:
    guard = LoopGuard()
    for index in range(5000):
        guard.push(str(index))
    assert len(guard._recent) <= 64
    assert not guard._counts  # short ones are not even counted
