"""Budgets of the large model: what a turn spends, and when the small model takes over."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.budget import Budget, Limit, Spent
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.policies import GlimpRouter
from langchain_glimprouter.routing.prices import Prices
from langchain_glimprouter.routing.thresholds import Fixed, Threshold
from langchain_glimprouter.routing.trace import ModelUsage, TurnUsage
from unit_tests.models import router
from unit_tests.turns import pair, play

HIGH = Entropy(2.0, 1.9, 2.1, 0.9)
LOW = Entropy(0.1, 0.1, 0.2, 0.9)

COUNTS = st.none() | st.integers(1, 12)
SECONDS = st.none() | st.floats(0.01, 9.0)
PRICES = Prices(large_output=1_000_000)  # one a token
LIMITS = st.builds(Limit, COUNTS, SECONDS, COUNTS) | st.builds(
    Limit, COUNTS, SECONDS, COUNTS, st.floats(0.5, 12.0), st.just(PRICES)
)
COUNT = st.integers(0, 15)
SPENT = st.builds(Spent, COUNT, st.floats(0.0, 10.0), COUNT, st.floats(0.0, 15.0))


def usage(spent: Spent) -> TurnUsage:
    tokens, seconds, steps, _ = spent
    return TurnUsage(large=ModelUsage(decode=tokens, seconds=seconds, steps=steps))


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Limit, lambda **limits: Budget(Fixed(1.0), **limits)])
@pytest.mark.parametrize("name", ["large_tokens", "seconds", "interventions", "cost"])
@pytest.mark.parametrize("bad", [0, -1, -0.5, math.nan, "5", True])
def test_what_is_no_budget_is_refused_by_name(make: Any, name: str, bad: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}=.* or None for no limit"):
        make(**{name: bad})


def test_whole_limits_take_no_fractions() -> None:
    with pytest.raises(ConfigurationError, match="interventions=1.5 is no budget: give a whole"):
        Limit(interventions=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("inner", [1.0, Fixed, None])
def test_a_budget_needs_a_threshold_within(inner: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give for instance Fixed\(1\.0\)"):
        Budget(inner, large_tokens=5)


@given(LIMITS, SPENT)
def test_what_is_left_and_what_is_reached_agree(limit: Limit, spent: Spent) -> None:
    reached = limit.reached(spent)
    for name, used in spent._asdict().items():
        most = getattr(limit, name)
        assert (name in reached) == (most is not None and used >= most)
    if not reached:
        left = limit.left(spent)
        for name, used in spent._asdict().items():
            most, rest = getattr(limit, name), getattr(left, name)
            assert rest == (None if most is None else most - used)


@given(LIMITS, LIMITS, SPENT)
def test_a_threshold_may_be_held_to_two_limits(one: Limit, two: Limit, spent: Spent) -> None:
    used = usage(spent)
    reached = [limit.reached(Spent.of(used, limit.prices)) for limit in (one, two)]
    writer, tau = two.over(one.over(Fixed(1.0))).decide(HIGH, used)
    assert (writer, tau) == (("small", math.inf) if any(reached) else ("large", 1.0))


def test_no_limit_is_no_budget() -> None:
    inner = Fixed(1.0)
    assert Limit().over(inner) is inner


@given(SPENT, SPENT)
def test_spending_adds_up(one: Spent, two: Spent) -> None:
    assert one.plus(two) == tuple(a + b for a, b in zip(one, two, strict=True))
    assert one.plus(Spent()) == one


@given(LIMITS, SPENT)
def test_prices_stay_with_what_is_left(limit: Limit, spent: Spent) -> None:
    if not limit.reached(spent):
        assert limit.left(spent).prices == limit.prices


def test_dropped_tokens_are_spent_too() -> None:
    large = ModelUsage(decode=7, probe=1, rejected=4, discarded=2, seconds=1.5, steps=3)
    assert Spent.of(TurnUsage(large=large)) == (14, 1.5, 3, 0.0)


# -- the threshold -------------------------------------------------------------------------------


@given(LIMITS, SPENT, st.sampled_from([HIGH, LOW]))
def test_the_inner_threshold_decides_while_there_is_budget(
    limit: Limit, spent: Spent, entropy: Entropy
) -> None:
    budget = limit.over(Fixed(1.0))
    decided = budget.decide(entropy, usage(spent))
    if limit.reached(Spent.of(usage(spent), limit.prices)):
        assert decided == ("small", math.inf)
    else:
        assert decided == Fixed(1.0).decide(entropy, usage(spent))


def test_it_is_a_plain_threshold() -> None:
    budget = Budget(Fixed(1.0), large_tokens=5)
    assert isinstance(budget, Threshold)
    assert budget == Budget(Fixed(1.0), 5)
    assert hash(budget) == hash(Budget(Fixed(1.0), 5))
    for twin in (copy.deepcopy(budget), pickle.loads(pickle.dumps(budget))):
        assert twin == budget
        assert twin.decide(HIGH, usage(Spent(5))) == ("small", math.inf)
    assert repr(budget).startswith("Budget(inner=Fixed(tau=1.0), large_tokens=5")


def test_budgets_nest() -> None:
    budget = Budget(Budget(Fixed(1.0), interventions=2), large_tokens=10)
    assert budget.decide(HIGH, usage(Spent(9, 0.0, 1)))[0] == "large"
    assert budget.decide(HIGH, usage(Spent(9, 0.0, 2))) == ("small", math.inf)
    assert budget.decide(HIGH, usage(Spent(10, 0.0, 1))) == ("small", math.inf)


# -- whole turns ---------------------------------------------------------------------------------

STEP = st.tuples(st.integers(1, 6), st.sampled_from([0.1, 2.0]))


@given(st.lists(STEP, min_size=1, max_size=8), LIMITS)
def test_no_turn_exceeds_a_limit_by_more_than_a_step(
    steps: list[tuple[int, float]], limit: Limit
) -> None:
    small = [ScriptedStep(f"s{n} x.\n\n", entropy) for n, (_, entropy) in enumerate(steps)]
    large = [f"l{n}{' y' * size}.\n\n" for n, (size, _) in enumerate(steps)]
    budget = limit.over(Fixed(1.0))
    played = asyncio.run(play(*pair(small, large), GlimpRouter(budget), loop_guard=False))

    spent = Spent()
    for step in played.trace.steps:
        if step.writer == "large" and step.reason == "entropy":
            assert not limit.reached(spent)  # so it is exceeded by this step at most
            tokens = step.tokens.decode + step.tokens.discarded
            spent = spent.plus(Spent(tokens, step.seconds, 1, float(tokens)))
        elif step.probe is not None and step.probe.threshold is None:
            assert limit.reached(spent)
        elif step.probe is not None:
            assert step.probe.entropy <= 1.0


@given(st.integers(1, 30))
def test_the_trace_tells_which_steps_the_budget_took(most: int) -> None:
    small = [ScriptedStep(f"s{n} x.\n\n", 2.0) for n in range(6)]
    budget = GlimpRouter(Budget(Fixed(1.0), large_tokens=most))
    trace = asyncio.run(play(*pair(small, [f"l{n} y z.\n\n" for n in range(6)]), budget)).trace
    steps = [step for step in trace.steps if step.probe is not None][:6]  # then the end tag
    writers = [step.writer for step in steps]
    assert writers == sorted(writers)  # large, and from the budget's end on small
    for step in steps:
        assert step.probe is not None
        assert step.probe.threshold == (1.0 if step.writer == "large" else None)
        assert not (step.writer == "small" and step.probe.straddles)
    sizes = [step.tokens.decode for step in steps if step.writer == "large"]
    assert sum(sizes[:-1]) < most
    assert most <= sum(sizes) or "small" not in writers


def test_a_chat_model_takes_a_budget_for_one_call() -> None:
    model = router()
    for threshold, by_large in [(0.01, 4), (Budget(Fixed(0.01), interventions=1), 1)]:
        message = model.invoke("What is 3 + 4?", threshold=threshold)
        assert message.response_metadata["glimprouter"]["steps"]["large"] == by_large
