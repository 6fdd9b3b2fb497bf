"""Agents with thresholds and budgets: `GlimpRouterMiddleware` in `create_agent`."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

import langchain_glimprouter
from langchain_glimprouter import (
    Budget,
    BudgetExceededError,
    ChatGlimpRouter,
    ConfigurationError,
    Fault,
    Fixed,
    GlimpRouter,
    GlimpRouterMiddleware,
    Limit,
    ScriptedStep,
    trace_of,
)
from unit_tests import brain
from unit_tests.models import engine, router

HARD = [ScriptedStep(f"s{number} x.\n\n", 2.0) for number in range(6)]


class Again(AgentMiddleware):
    """Has the agent call its model several times in each run."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    @hook_config(can_jump_to=["model"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        messages = state["messages"]
        start = max(i for i, m in enumerate(messages) if m.type == "human" and m.text == "Go.")
        if sum(message.type == "ai" for message in messages[start:]) >= self.calls:
            return None
        return {"jump_to": "model", "messages": [HumanMessage("More.")]}


def agent(*middleware: Any, calls: int = 1, model: Any = None, **options: Any) -> Any:
    again = [Again(calls)] if calls > 1 else []
    return create_agent(model or router(), middleware=[*middleware, *again], **options)


def hard(**options: Any) -> ChatGlimpRouter:
    """A model whose every step of thought calls the large one, and is 3 tokens long there."""
    large = [f"l{number} y.\n\n" for number in range(6)]
    return router(engine(HARD, "No."), engine(large, "Yes.", name="huge"), **options)


def run(agent: Any, thread: str = "1", **options: Any) -> list[AIMessage]:
    """Run an agent; return what its models said in this run."""
    config = {"configurable": {"thread_id": thread, **options.pop("configurable", {})}}
    messages = agent.invoke({"messages": "Go."}, config, **options)["messages"]
    start = max(i for i, m in enumerate(messages) if m.type == "human" and m.text == "Go.")
    return [message for message in messages[start:] if message.type == "ai"]


def interventions(messages: list[AIMessage]) -> list[int | None]:
    """Steps by the large model, call by call; `None` for messages that no model wrote."""
    found = [message.response_metadata.get("glimprouter") for message in messages]
    return [one and one["steps"]["large"] for one in found]


def requests(messages: list[AIMessage]) -> list[int]:
    """Requests to the large model, call by call."""
    traces = [trace_of(message) for message in messages]
    return [trace.usage.large.requests for trace in traces if trace is not None]


def threshold_of(message: AIMessage) -> float | None:
    trace = trace_of(message)
    assert trace is not None
    probe = trace.steps[0].probe
    assert probe is not None
    return probe.threshold


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


# -- thresholds ------------------------------------------------------------------------------------


@dataclass
class Context:
    threshold: Any = None


class Setting(AgentMiddleware):
    """Another middleware, which chooses a threshold as well."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> ModelResponse[Any]:
        settings = {**request.model_settings, "threshold": 0.11}
        return handler(request.override(model_settings=settings))  # type: ignore[no-any-return]


CASES: list[tuple[Any, dict[str, Any], float]] = [
    (None, {}, 1.0),
    (0.5, {}, 0.5),
    (0, {}, 0.0),
    (Fixed(0.6), {}, 0.6),
    (Budget(Fixed(0.7), interventions=5), {}, 0.7),
    (0.5, {"context": {"threshold": 0.3}}, 0.3),
    (0.5, {"context": Context(0.3)}, 0.3),
    (0.5, {"context": Context(Fixed(0.3))}, 0.3),
    (0.5, {"context": Context()}, 0.5),
    (0.5, {"context": {"other": 1}}, 0.5),
    (None, {"context": Context(0)}, 0.0),
    (0.5, {"configurable": {"threshold": 0.4}}, 0.4),
    (None, {"configurable": {"threshold": 0.4}}, 0.4),
    (0.5, {"configurable": {"threshold": 0.4}, "context": Context(0.3)}, 0.3),
    (lambda _state, _runtime: 0.2, {"context": Context(0.3)}, 0.2),
    (lambda _state, _runtime: Fixed(0.2), {}, 0.2),
    (lambda _state, _runtime: None, {"context": Context(0.3)}, 0.3),
    (lambda _state, _runtime: None, {}, 1.0),
    (lambda _state, runtime: runtime.context.threshold / 2, {"context": Context(0.8)}, 0.4),
    (lambda state, _runtime: len(state["messages"]) / 8, {}, 0.125),
]


@pytest.mark.parametrize("limit", [None, Limit(large_tokens=500)])
@pytest.mark.parametrize(("threshold", "options", "expected"), CASES)
def test_the_nearest_threshold_wins(
    threshold: Any, options: dict[str, Any], expected: float, limit: Limit | None
) -> None:
    routed = agent(GlimpRouterMiddleware(threshold=threshold, run_limit=limit))
    (message,) = run(routed, **options)
    assert threshold_of(message) == expected


@pytest.mark.parametrize("limit", [None, Limit(large_tokens=500)])
def test_what_another_middleware_set_for_the_call_stays(limit: Limit | None) -> None:
    ours = GlimpRouterMiddleware(threshold=0.5, run_limit=limit)
    assert threshold_of(run(agent(Setting(), ours))[0]) == 0.11


def test_a_rule_sees_the_state_of_every_call() -> None:
    routed = agent(GlimpRouterMiddleware(threshold=lambda s, _: len(s["messages"]) / 10), calls=3)
    assert [threshold_of(message) for message in run(routed)] == [0.1, 0.3, 0.5]


@pytest.mark.parametrize("bad", [-0.1, float("nan"), "high", True])
def test_no_threshold_is_refused_wherever_it_comes_from(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="threshold="):
        GlimpRouterMiddleware(threshold=bad)
    with pytest.raises(ConfigurationError, match="threshold="):
        run(agent(GlimpRouterMiddleware()), context=Context(bad))
    with pytest.raises(ConfigurationError, match="threshold="):
        run(agent(GlimpRouterMiddleware(threshold=lambda _s, _r: bad)))


def test_a_threshold_for_a_policy_without_one_is_refused() -> None:
    routed = agent(GlimpRouterMiddleware(threshold=0.5), model=hard(policy="always large"))
    with pytest.raises(ConfigurationError, match="threshold has no meaning"):
        run(routed)


# -- options and other models ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run_limit", "thread_limit"])
@pytest.mark.parametrize("bad", [5, {"large_tokens": 5}, Limit])
def test_what_is_no_limit_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}=.*Limit\(large_tokens=2000\)"):
        GlimpRouterMiddleware(**{name: bad})


def test_exit_behaviors_have_names() -> None:
    with pytest.raises(ConfigurationError, match="exit_behavior 'ends'; did you mean 'end'"):
        GlimpRouterMiddleware(exit_behavior="ends")  # type: ignore[arg-type]


def test_other_models_are_left_alone() -> None:
    middleware = GlimpRouterMiddleware(threshold=0.5, run_limit=Limit(large_tokens=1))
    messages = run(agent(middleware, calls=3, model=FakeListChatModel(responses=["a", "b", "c"])))
    assert [message.text for message in messages] == ["a", "b", "c"]


@pytest.mark.parametrize("outer", [True, False])
def test_a_fallback_is_not_counted(outer: bool) -> None:
    model = router(engine(HARD, fault=Fault(0)))
    both = [
        ModelFallbackMiddleware(FakeListChatModel(responses=["fine"])),
        GlimpRouterMiddleware(run_limit=Limit(large_tokens=1)),
    ]
    routed = agent(*(both if outer else both[::-1]), model=model)
    # Within, the fallback gets our settings too; a chat model takes or ignores what it is sent.
    assert [message.text for message in run(routed)] == ["fine"]


def test_a_bound_model_keeps_what_is_bound() -> None:
    middleware: Any = GlimpRouterMiddleware(run_limit=Limit(interventions=2))
    seen: list[ModelRequest[Any]] = []

    def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
        seen.append(request)
        return ModelResponse([request.model.invoke("Go.", **request.model_settings)])

    bound: Any = hard().bind(policy=GlimpRouter(Fixed(0.4)))
    request = ModelRequest(model=bound, messages=[HumanMessage("Go.")])
    response = middleware.wrap_model_call(request, handler)
    assert seen[0].model_settings == {"threshold": Budget(Fixed(0.4), interventions=2)}
    assert response.command.update["run_large_model"]["interventions"] == 2


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


# -- the package langchain -------------------------------------------------------------------------


def test_without_langchain_the_error_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware.types", None)
    monkeypatch.delitem(sys.modules, "langchain_glimprouter.middleware")
    with pytest.raises(ImportError, match="pip install 'langchain"):
        importlib.import_module("langchain_glimprouter").GlimpRouterMiddleware  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'GlimpRouterMiddlewear'"):
        langchain_glimprouter.GlimpRouterMiddlewear  # noqa: B018


def test_langchain_is_imported_on_demand() -> None:
    code = "import langchain_glimprouter, sys; sys.exit('langchain' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
