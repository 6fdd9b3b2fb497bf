"""Budgets of the large model in agents: `GlimpRouterMiddleware` in `create_agent`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

import langchain_glimprouter
from langchain_glimprouter import (
    BudgetExceededError,
    ChatGlimpRouter,
    Fixed,
    GlimpRouter,
    GlimpRouterMiddleware,
    Limit,
    ScriptedStep,
    trace_of,
)
from unit_tests import brain
from unit_tests.agents import HARD, agent, hard, interventions, requests, run, threshold_of
from unit_tests.models import engine, router

# -- budgets between calls -------------------------------------------------------------------------


@pytest.mark.parametrize("saver", [None, InMemorySaver()])
def test_a_run_limit_holds_for_each_run(saver: Any) -> None:
    middleware = GlimpRouterMiddleware(run_limit=Limit(interventions=2))
    routed = agent(middleware, calls=4, checkpointer=saver)
    for _ in range(2):
        messages = run(routed)
        assert interventions(messages) == [1, 1, 0, 0]
        assert requests(messages) == [2, 2, 0, 0]  # not even the answer


def test_a_thread_limit_holds_across_runs_and_agents() -> None:
    saver = InMemorySaver()
    found = []
    for thread in ("1", "1", "2", "1"):
        middleware = GlimpRouterMiddleware(thread_limit=Limit(interventions=3))
        routed = agent(middleware, calls=2, checkpointer=saver)
        found.append(interventions(run(routed, thread)))
    assert found == [[1, 1], [1, 0], [1, 1], [0, 0]]


def test_state_is_plain_and_private() -> None:
    routed = agent(
        GlimpRouterMiddleware(thread_limit=Limit(large_tokens=900), run_limit=Limit(seconds=9)),
        calls=3,
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    assert set(routed.invoke({"messages": "Go."}, config)) == {"messages"}
    kept = routed.get_state(config).values
    assert "run_large_model" not in kept  # never checkpointed
    spent = kept["thread_large_model"]
    assert {type(value) for value in spent.values()} <= {int, float}
    assert (spent["large_tokens"], spent["interventions"]) == (3 * 8, 3)
    assert spent["seconds"] > 0


@pytest.mark.parametrize("name", ["large_tokens", "interventions", "seconds"])
@pytest.mark.parametrize("scope", ["run", "thread"])
def test_an_agent_ends_with_a_message(name: str, scope: str) -> None:
    limit = Limit(**{name: 1e-9 if name == "seconds" else 1})  # type: ignore[arg-type]
    options: Any = {f"{scope}_limit": limit, "exit_behavior": "end"}
    messages = run(agent(GlimpRouterMiddleware(**options), calls=3))
    assert interventions(messages) == [1, None]
    text = messages[-1].text
    assert text.startswith("The large model's budget is spent: ")
    assert f"used in this {scope} ({scope}_limit)" in text
    words = {"large_tokens": "8 of 1 tokens", "seconds": " of 1e-09 seconds"}
    assert words.get(name, "1 of 1 interventions") in text


def test_the_message_names_every_limit_that_is_reached() -> None:
    middleware = GlimpRouterMiddleware(
        run_limit=Limit(interventions=1, large_tokens=100),
        thread_limit=Limit(large_tokens=8),
        exit_behavior="end",
    )
    assert run(agent(middleware, calls=2))[-1].text == (
        "The large model's budget is spent: 1 of 1 interventions used in this run (run_limit), "
        "8 of 8 tokens of the large model used in this thread (thread_limit)."
    )


def test_an_agent_fails_with_what_was_spent() -> None:
    middleware = GlimpRouterMiddleware(run_limit=Limit(interventions=1), exit_behavior="error")
    with pytest.raises(BudgetExceededError, match=r"1 of 1 interventions .*raise the limit") as one:
        run(agent(middleware, calls=2))
    assert one.value.spent["run"]["interventions"] == 1
    assert one.value.spent["thread"]["large_tokens"] == 8
    assert not isinstance(one.value, langchain_glimprouter.EngineError)


@pytest.mark.parametrize("exit_behavior", ["small", "end", "error"])
def test_async_runs_are_the_same(exit_behavior: Any) -> None:
    middleware = GlimpRouterMiddleware(
        run_limit=Limit(interventions=1), exit_behavior=exit_behavior
    )
    routed = agent(middleware, calls=2)

    async def play() -> list[AIMessage]:
        state = await routed.ainvoke({"messages": "Go."})
        return [message for message in state["messages"] if message.type == "ai"]

    if exit_behavior == "error":
        with pytest.raises(BudgetExceededError):
            asyncio.run(play())
    else:
        assert interventions(asyncio.run(play())) == [1, {"small": 0, "end": None}[exit_behavior]]


def test_streamed_runs_are_counted_once() -> None:
    routed = agent(
        GlimpRouterMiddleware(run_limit=Limit(interventions=2)),
        calls=3,
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    chunks = list(routed.stream({"messages": "Go."}, config, stream_mode="messages"))
    assert len(chunks) > 30
    assert routed.get_state(config).values["thread_large_model"]["interventions"] == 2


# -- budgets within a call -------------------------------------------------------------------------


def test_a_budget_ends_in_the_middle_of_a_call() -> None:
    messages = run(
        agent(GlimpRouterMiddleware(run_limit=Limit(interventions=8)), calls=3, model=hard())
    )
    assert interventions(messages) == [6, 2, 0]


@given(
    limit=st.builds(Limit, large_tokens=st.none() | st.integers(1, 60)),
    thread=st.builds(Limit, interventions=st.none() | st.integers(1, 20)),
)
def test_no_run_exceeds_a_limit_by_more_than_a_step_and_an_answer(
    limit: Limit, thread: Limit
) -> None:
    routed = agent(
        GlimpRouterMiddleware(run_limit=limit, thread_limit=thread), calls=4, model=hard()
    )
    messages = run(routed)
    usages = [m.response_metadata["glimprouter"]["tokens"]["large"] for m in messages]
    tokens = sum(usage["decode"] + usage["discarded"] for usage in usages)
    steps = sum(filter(None, interventions(messages)))
    assert tokens <= (limit.large_tokens or 99) + 3 + 2
    assert steps <= (thread.interventions or 99)
    if limit == thread == Limit():
        assert steps == 4 * 6


def test_seconds_end_in_the_middle_of_a_call() -> None:
    model = router(
        engine(HARD, "No.", delay=0.002), engine(["l y.\n\n"] * 6, "Yes.", delay=0.02), threshold=1
    )
    routed = agent(GlimpRouterMiddleware(run_limit=Limit(seconds=0.07)), model=model)
    assert interventions(run(routed))[0] in (1, 2)


def test_a_policys_own_threshold_stays_in_force_under_a_budget() -> None:
    model = hard(policy=GlimpRouter(Fixed(0.4)))
    (message,) = run(agent(GlimpRouterMiddleware(run_limit=Limit(interventions=2)), model=model))
    trace = trace_of(message)
    assert trace is not None
    found = [step.probe.threshold for step in trace.steps if step.probe]
    assert found == [0.4, 0.4] + [None] * (len(found) - 2)


@pytest.mark.parametrize("policy", ["always large", "random(1.0)"])
def test_policies_without_a_threshold_are_held_between_calls(policy: str) -> None:
    middleware = GlimpRouterMiddleware(run_limit=Limit(large_tokens=5))
    messages = run(agent(middleware, calls=2, model=hard(policy=policy)))
    assert requests(messages)[0] > 0
    assert requests(messages)[1] == 0


def test_a_model_that_is_pinned_to_the_large_one_is_held_too() -> None:
    middleware = GlimpRouterMiddleware(run_limit=Limit(large_tokens=5))
    assert requests(run(agent(middleware, calls=2, model=hard(model="large")))) == [2, 0]


# -- agents with tools -----------------------------------------------------------------------------


def weather(city: str) -> str:
    """Tell the weather."""
    return f"Rain in {city}."


class Answer(BaseModel):
    city: str
    rain: bool


def thoughtful(**options: Any) -> ChatGlimpRouter:
    """A model that calls its first tool, and then answers; one intervention a call."""
    steps: list[str | ScriptedStep] = ["I look.\n\n", ScriptedStep("Hm so.\n\n", 2.0)]
    engines = [engine(steps, brain.answer, name=name) for name in ("tiny", "huge")]
    return router(*engines, **options)


def with_tools(limit: Limit, **options: Any) -> Any:
    middleware = GlimpRouterMiddleware(run_limit=limit, **options)
    return agent(middleware, model=thoughtful(), tools=[weather])


@pytest.mark.parametrize(("limit", "expected"), [(9, [1, 1]), (1, [1, 0])])
def test_a_budget_leaves_tools_alone(limit: int, expected: list[int]) -> None:
    messages = run(with_tools(Limit(interventions=limit)))
    assert interventions(messages) == expected
    assert [call["name"] for call in messages[0].tool_calls] == ["weather"]
    assert messages[1].text.startswith("It is as you say")


def test_an_agent_ends_behind_a_tools_result() -> None:
    routed = with_tools(Limit(large_tokens=1), exit_behavior="end")
    messages = routed.invoke({"messages": "Go."})["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].text.startswith("The large model's budget is spent")


@pytest.mark.parametrize("limit", [None, Limit(large_tokens=1)])
@pytest.mark.parametrize("shape", [Answer, ToolStrategy(Answer)])
def test_a_budget_leaves_the_answers_shape_alone(shape: Any, limit: Limit | None) -> None:
    middleware = GlimpRouterMiddleware(threshold=0.5, run_limit=limit)
    routed = agent(middleware, model=thoughtful(), response_format=shape)
    state = routed.invoke({"messages": "Go."})
    assert state["structured_response"] == Answer(city="text", rain=True)
    assert threshold_of(state["messages"][1]) == 0.5


def test_a_run_that_a_person_resumes_is_a_new_run() -> None:
    both = Limit(interventions=1)
    person = HumanInTheLoopMiddleware(interrupt_on={"weather": True})
    config: Any = {"configurable": {"thread_id": "1"}}
    for scope, expected in (("run_limit", [1, 1]), ("thread_limit", [1, 0])):
        limits: Any = {scope: both}
        routed = agent(
            GlimpRouterMiddleware(**limits),
            person,
            model=thoughtful(),
            tools=[weather],
            checkpointer=InMemorySaver(),
        )
        assert "__interrupt__" in routed.invoke({"messages": "Go."}, config)
        approval: Any = Command(resume={"decisions": [{"type": "approve"}]})
        messages = routed.invoke(approval, config)["messages"]
        assert interventions([m for m in messages if m.type == "ai"]) == expected
