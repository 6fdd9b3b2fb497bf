"""A node in somebody's own graph."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.errors import NodeTimeoutError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy
from pydantic import BaseModel

from langchain_glimprouter import (
    ConfigurationError,
    EngineRequestError,
    Fault,
    GlimpRouterContext,
    ScriptedStep,
    glimprouter_node,
    trace_of,
)
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.graphs import QUESTION, answer_of, both_ways, merged, thread
from unit_tests.models import ANSWER, engine, router, running, settles


def graph_of(node: Any, schema: Any = MessagesState, **options: Any) -> Any:
    builder: Any = StateGraph(schema, context_schema=options.pop("context_schema", None))
    return builder.add_node("think", node, **options).add_edge(START, "think").compile()


def writers(state: Any) -> str:
    trace = trace_of(answer_of(state))
    assert trace is not None
    return "".join(step.writer[0] for step in trace.steps)


async def test_it_answers() -> None:
    for state in await both_ways(graph_of(glimprouter_node(router())), QUESTION, thread()):
        assert answer_of(state).content == ANSWER
        assert writers(state) == "slssl"
        assert len(state["messages"]) == 2


class Pydantic(BaseModel):
    messages: list[AnyMessage]


@dataclass
class Plain:
    messages: list[AnyMessage] = field(default_factory=list)


class Untied(TypedDict):
    messages: list[AnyMessage]


@pytest.mark.parametrize("schema", [Pydantic, Plain, Untied])
def test_any_state_with_messages(schema: Any) -> None:
    assert answer_of(graph_of(glimprouter_node(router()), schema).invoke(QUESTION)).text == ANSWER


class Other(TypedDict):
    question: str


@dataclass
class OtherPlain:
    question: str = ""


@pytest.mark.parametrize("schema", [Other, OtherPlain])
def test_a_state_without_messages_is_refused_by_name(schema: Any) -> None:
    graph = graph_of(glimprouter_node(router()), schema)
    with pytest.raises(ConfigurationError, match="no 'messages' to answer .*(question|OtherPlain)"):
        graph.invoke({"question": "?"})


@pytest.mark.parametrize("model", [None, "tiny", router() | (lambda message: message)])
def test_other_models_are_refused(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a ChatGlimpRouter"):
        glimprouter_node(model)


async def test_tokens_and_decisions_stream() -> None:
    graph = graph_of(glimprouter_node(router()))
    modes = ["messages", "custom"]
    sync = await asyncio.to_thread(lambda: list(graph.stream(QUESTION, stream_mode=modes)))
    other = [part async for part in graph.astream(QUESTION, stream_mode=modes)]
    for parts in (sync, other):
        chunks = [part[0] for kind, part in parts if kind == "messages"]
        assert merged(chunks).content == ANSWER
        assert len(chunks) > 8
        told = [part["type"].rpartition(".")[2] for kind, part in parts if kind == "custom"]
        assert told == ["decision", "step"] * 5


async def test_usage_is_counted_once() -> None:
    graph = graph_of(glimprouter_node(router()))
    usage = UsageMetadataCallbackHandler()
    state = await graph.ainvoke(QUESTION, {"callbacks": [usage]})
    assert usage.usage_metadata == {"tiny + huge": answer_of(state).usage_metadata}


async def test_options_and_bindings() -> None:
    assert writers(graph_of(glimprouter_node(router(), model="small")).invoke(QUESTION)) == "sssss"
    bound = router().bind(threshold=2.9).with_config(tags=["t"])
    assert writers(graph_of(glimprouter_node(bound)).invoke(QUESTION)) == "ssssl"
    assert writers(graph_of(glimprouter_node(bound, threshold=0.0)).invoke(QUESTION)) == "lllll"


# -- the run's context ---------------------------------------------------------------------------


@dataclass
class Mine:
    """Somebody's own context, with one of ours in it."""

    user: str
    threshold: float | None = None


CONTEXTS: list[tuple[Any, Any, str]] = [
    (GlimpRouterContext, GlimpRouterContext(threshold=2.9), "ssssl"),
    (GlimpRouterContext, {"threshold": 0.0}, "lllll"),
    (GlimpRouterContext, GlimpRouterContext(threshold=Fixed(0.0), max_interventions=2), "llssl"),
    (GlimpRouterContext, GlimpRouterContext(max_large_tokens=1, threshold=0.0), "lsssl"),
    (GlimpRouterContext, None, "slssl"),
    (Mine, Mine("me", 2.9), "ssssl"),
    (Mine, Mine("me"), "slssl"),
    (None, {"threshold": 2.9, "user": "me"}, "ssssl"),
]


@pytest.mark.parametrize(("schema", "context", "expected"), CONTEXTS)
async def test_the_context_steers(schema: Any, context: Any, expected: str) -> None:
    graph = graph_of(glimprouter_node(router()), context_schema=schema)
    for state in await both_ways(graph, QUESTION, thread(), context=context):
        assert writers(state) == expected


@pytest.mark.parametrize("name", ["max_large_tokens", "max_seconds", "max_interventions"])
def test_budgets_of_nothing_are_refused(name: str) -> None:
    graph = graph_of(glimprouter_node(router()))
    with pytest.raises(ConfigurationError, match=f"{name}=0 is no budget"):
        graph.invoke(QUESTION, context={name: 0})
    with pytest.raises(ConfigurationError, match="threshold='high' cannot work"):
        graph.invoke(QUESTION, context={"threshold": "high"})


# -- the node's policies -------------------------------------------------------------------------


async def test_after_a_nodes_timeout_no_request_runs() -> None:
    model: Any = router(delay=0.05)
    graph = graph_of(glimprouter_node(model), timeout=0.12)
    with pytest.raises(NodeTimeoutError):
        await graph.ainvoke(QUESTION)
    assert await asyncio.to_thread(settles, lambda: running(model) == 0)
    assert model.small.made + model.large.made < 8


async def test_a_nodes_retry_policy_tries_again() -> None:
    model: Any = router()
    model.large.fault = Fault(0, EngineRequestError("busy"), dead=False)
    policy = RetryPolicy(initial_interval=0.01, retry_on=EngineRequestError)
    graph = graph_of(glimprouter_node(model), retry_policy=policy)
    state = await graph.ainvoke(QUESTION)
    assert writers(state) == "slssl"
    assert len(state["messages"]) == 2


async def test_a_timed_out_node_may_be_tried_again() -> None:
    slow = engine([ScriptedStep("Slow.\n\n")], delay=0.0, fault=Fault(1, None))
    model = router(slow, engine(["Slow.\n\n"], name="huge"))
    graph = graph_of(
        glimprouter_node(model),
        timeout=0.2,
        retry_policy=RetryPolicy(initial_interval=0.01, retry_on=NodeTimeoutError),
    )
    state = await graph.ainvoke({"messages": [HumanMessage("Go.")]})
    assert answer_of(state).content == ANSWER
    assert running(model) == 0
