"""Limits on what a turn costs."""

from __future__ import annotations

import asyncio
import copy
import math
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter import GlimpRouterContext, GlimpRouterMiddleware, ScriptedStep, trace_of
from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.budget import Budget, Limit, Spent
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.policies import GlimpRouter, Reference
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.prices import Prices
from langchain_glimprouter.routing.thresholds import Fixed, Threshold
from langchain_glimprouter.routing.trace import ModelUsage, TurnUsage
from unit_tests.agents import agent, hard, interventions, run
from unit_tests.graphs import QUESTION, thinking, thread
from unit_tests.models import router
from unit_tests.test_graph_steering import writers, zigzag
from unit_tests.turns import pair, play

MILLION = 1_000_000
PRICE = st.sampled_from([0.0, 0.1, 0.5, 3.0])
PRICES = st.builds(Prices, st.sampled_from([0.1, 1.0, 5.0]), PRICE, PRICE, PRICE, PRICE, PRICE)
COUNT = st.integers(0, 10_000)
USAGE = st.builds(
    ModelUsage,
    decode=COUNT,
    probe=COUNT,
    rejected=COUNT,
    discarded=COUNT,
    prefill=COUNT,
    cached=COUNT,
)


# -- prices ----------------------------------------------------------------------------------------


def test_each_kind_of_token_has_its_price() -> None:
    """In the order of the fields, so that none is taken for another."""
    prices = Prices(1e6, 1e5, 1e4, 1e3, 1e2, 1e1)
    large = ModelUsage(decode=1, probe=1, rejected=1, discarded=1, prefill=2, cached=3)
    small = ModelUsage(decode=1, probe=2, rejected=1, discarded=1, prefill=6, cached=7)
    cost = prices.cost(TurnUsage(small=small, large=large))
    assert cost == pytest.approx(4.23567)


@given(USAGE, USAGE, PRICES)
def test_a_cost_adds_up_over_models_and_tokens(
    small: ModelUsage, large: ModelUsage, prices: Prices
) -> None:
    expected = 0.0
    for role, share in (("small", small), ("large", large)):
        output = share.decode + share.probe + share.rejected + share.discarded
        expected += output * getattr(prices, f"{role}_output")
        expected += share.prefill * getattr(prices, f"{role}_input")
        expected += share.cached * getattr(prices, f"{role}_cached")
    usage = TurnUsage(small=small, large=large)
    assert prices.cost(usage) == pytest.approx(expected / MILLION)
    assert Spent.of(usage, prices).cost == prices.cost(usage)
    assert Spent.of(usage).cost == 0.0


@pytest.mark.parametrize("name", [option.name for option in fields(Prices)])
@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "1", True, None])
def test_what_is_no_price_is_refused_by_name(name: str, bad: object) -> None:
    prices: dict[str, Any] = {"large_output": 1.0, name: bad}
    with pytest.raises(ConfigurationError, match=rf"{name}=.* is no price: give 0 or more"):
        Prices(**prices)


def test_a_cost_needs_prices_and_prices_a_cost() -> None:
    prices = Prices(1.0)
    makers: list[Any] = [Limit, lambda **limits: Budget(Fixed(1.0), **limits)]
    for make in makers:
        with pytest.raises(ConfigurationError, match=r"cost=0\.5 needs prices: .*Prices\(large_ou"):
            make(cost=0.5)
        with pytest.raises(ConfigurationError, match="give cost= as well"):
            make(prices=prices)
        with pytest.raises(ConfigurationError, match=r"prices=0\.5 are none"):
            make(cost=1.0, prices=0.5)
    with pytest.raises(ConfigurationError, match="prices are all 0"):
        Prices(0.0)
    assert Prices(0.0, small_input=1.0).cost(TurnUsage()) == 0.0


def test_it_is_a_plain_threshold() -> None:
    budget = Budget(Fixed(1.0), cost=0.02, prices=Prices(1.0))
    assert isinstance(budget, Threshold)
    assert copy.deepcopy(budget) == budget
    assert hash(budget) == hash(Budget(Fixed(1.0), None, None, None, 0.02, Prices(1.0)))


# -- whole turns -----------------------------------------------------------------------------------


@dataclass
class Watch:
    """Another threshold, and what its turn's engines had done whenever it was asked."""

    inner: Threshold
    engines: tuple[Any, Any]
    seen: list[tuple[float, Role]] = field(default_factory=list)
    prices: Prices = field(default_factory=lambda: Prices(1.0))

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        decided = self.inner.decide(entropy, usage)
        self.seen.append((self.large_cost(), decided[0]))
        return decided

    def large_cost(self) -> float:
        """The cost by the engine's own record."""
        calls = self.engines[1].calls
        written = sum(len(call.produced) for call in calls)
        read = sum(len(call.context) for call in calls)
        return (written * self.prices.large_output + read * self.prices.large_input) / MILLION


STEP = st.tuples(st.integers(1, 6), st.sampled_from([0.1, 2.0]))


@given(
    st.lists(STEP, min_size=1, max_size=10),
    st.sampled_from([GlimpRouter, Reference]),
    st.sampled_from([0.0, 0.2, 2.0]),
    st.floats(1e-6, 3e-4),
    st.integers(1, 4),
)
def test_no_turn_exceeds_its_cost_by_more_than_a_step(
    steps: list[tuple[int, float]],
    kind: type[GlimpRouter],
    price: float,
    most: float,
    per_delta: int,
) -> None:
    """Steps go to the large model as long as it has cost less, and none from there on."""
    prices = Prices(large_output=3.0, large_input=price)
    small = [ScriptedStep(f"s{n} x.\n\n", entropy) for n, (_, entropy) in enumerate(steps)]
    large = [f"l{n}{' y' * size}.\n\n" for n, (size, _) in enumerate(steps)]
    engines = pair(small, large, tokens_per_delta=per_delta)
    watch = Watch(Budget(Fixed(1.0), cost=most, prices=prices), engines, prices=prices)
    policy: Policy = kind(watch)
    trace = asyncio.run(play(*engines, policy, loop_guard=False)).trace

    probed = [step for step in trace.steps if step.probe is not None]
    assert len(probed) == len(watch.seen)
    for step, (cost, writer) in zip(probed, watch.seen, strict=True):
        assert step.writer == writer
        assert step.probe is not None
        if cost < most * (1 - 1e-9):
            assert step.probe.threshold == 1.0
        elif cost > most * (1 + 1e-9):
            assert (step.writer, step.probe.threshold) == ("small", None)
    costs = [cost for cost, _ in watch.seen]
    assert costs == sorted(costs)
    exceeding = [cost for cost in costs if cost >= most * (1 + 1e-9)]
    assert len(set(exceeding)) <= 1  # only the step that reached it


def test_what_the_small_model_costs_counts_where_it_has_a_price() -> None:
    small = [ScriptedStep(f"s{n} x.\n\n", 0.1 if n < 5 else 2.0) for n in range(8)]
    large = [f"l{n} y.\n\n" for n in range(8)]
    for price, by_large in [(0.0, 3), (1.0, 0)]:  # five steps of two tokens come first
        budget = Budget(Fixed(1.0), cost=9 / MILLION, prices=Prices(1.0, small_output=price))
        trace = asyncio.run(play(*pair(small, large), GlimpRouter(budget))).trace
        assert trace.usage.large.steps == by_large


# -- faces -----------------------------------------------------------------------------------------

ONE = Prices(large_output=MILLION)  # one a token


def test_a_chat_model_takes_a_cost_for_one_call() -> None:
    model = router()
    budget = Budget(Fixed(0.01), cost=1, prices=ONE)
    message = model.invoke("What is 3 + 4?", threshold=budget)
    assert message.response_metadata["glimprouter"]["steps"]["large"] == 1


@pytest.mark.parametrize("scope", ["run", "thread"])
def test_an_agent_is_held_to_a_cost(scope: str) -> None:
    limits: Any = {f"{scope}_limit": Limit(cost=1.0, prices=ONE)}
    messages = run(agent(GlimpRouterMiddleware(**limits), calls=3))
    assert interventions(messages) == [1, 0, 0]
    messages = run(agent(GlimpRouterMiddleware(**limits, exit_behavior="end"), calls=3))
    assert interventions(messages) == [1, None]
    assert messages[-1].text == (
        f"The large model's budget is spent: 8 of 1 in token cost used in this {scope} "
        f"({scope}_limit)."
    )


def test_a_cost_ends_in_the_middle_of_a_call() -> None:
    limit = Limit(cost=1.0, prices=ONE)
    (message,) = run(agent(GlimpRouterMiddleware(run_limit=limit), model=hard()))
    trace = trace_of(message)
    assert trace is not None
    steps = [step for step in trace.steps if step.phase == "thinking"]
    assert [step.writer for step in steps][:3] == ["large", "small", "small"]


def test_a_run_and_a_thread_may_have_prices_of_their_own() -> None:
    middleware = GlimpRouterMiddleware(
        run_limit=Limit(cost=100.0, prices=ONE),
        thread_limit=Limit(cost=1.0, prices=Prices(large_output=1.0, large_input=MILLION)),
        exit_behavior="end",
    )
    text = run(agent(middleware, calls=2))[-1].text
    assert "in token cost used in this thread (thread_limit)" in text
    assert "this run" not in text


def test_a_graph_takes_a_cost_from_its_context() -> None:
    with pytest.raises(ConfigurationError, match="max_cost=0 is no budget"):
        GlimpRouterContext(max_cost=0, prices=ONE)
    with pytest.raises(ConfigurationError, match=r"max_cost=0\.5 needs prices"):
        GlimpRouterContext(max_cost=0.5)
    with pytest.raises(ConfigurationError, match=r"^prices=3 are none"):
        GlimpRouterContext(max_cost=0.5, prices=3)  # type: ignore[arg-type]
    context = GlimpRouterContext(max_cost=1, prices=ONE)
    assert (
        writers(thinking(zigzag()).invoke(QUESTION, thread(), context=context)) == "slsssss" + "l"
    )
