"""The thought as a graph: the same turn as a plain call's, one writer's turn a super-step."""

from __future__ import annotations

import asyncio
import json
import operator
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from langchain_glimprouter import (
    Always,
    ConfigurationError,
    GlimpRouterState,
    Random,
    Reference,
    ScriptedStep,
    TurnTimeoutError,
    create_glimprouter,
    trace_of,
)
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.graphs import QUESTION, answer_of, both_ways, merged, thinking, thread
from unit_tests.models import ANSWER, LARGE, SMALL, THOUGHT, engine, router, running, settles
from unit_tests.test_router import Scripts, scripts
from unit_tests.test_thought import timeless


def told(message: AIMessage) -> dict[str, Any]:
    """What a message says of its turn, without times."""
    trace = trace_of(message)
    assert trace is not None
    return timeless(trace)


# -- the same turn -------------------------------------------------------------------------------

TURNS: list[dict[str, Any]] = [
    {},
    {"threshold": 0.0},
    {"threshold": 2.9},
    {"answer_by": "route"},
    {"answer_by": "small"},
    {"thinks": False},
    {"output_version": "v1"},
    {"thinks": False, "output_version": "v1"},
    {"policy": Reference(Fixed(1.0))},
    {"policy": Random(0.5, 3)},
    {"policy": Always("large")},
    {"model": "small"},
    {"first_n_steps_large": 2},
    {"max_thinking_tokens": 4},
    {"large": engine(LARGE, thinks=True, name="huge", unit="characters")},
]


@pytest.mark.parametrize("options", TURNS, ids=range(len(TURNS)))
async def test_the_message_is_a_plain_calls(options: dict[str, Any]) -> None:
    """Content, usage, metadata and record; sync and async."""
    model = router(**options)
    await model.ainvoke("Warm up.")
    plain = await model.ainvoke(QUESTION["messages"])
    graph = thinking(model)
    for state in await both_ways(graph, QUESTION, thread()):
        message = answer_of(state)
        assert message.content == plain.content
        assert message.additional_kwargs == plain.additional_kwargs
        assert message.usage_metadata == plain.usage_metadata
        assert told(message) == told(plain)
        for name in ("model_name", "model_provider", "finish_reason"):
            assert message.response_metadata[name] == plain.response_metadata[name]
        assert len(state["messages"]) == 2
        assert state["thought"] is None
        assert state["pending"] is None
        assert len(state["routing"]) == len(told(plain)["steps"])


@settings(max_examples=25)
@given(scripts(), st.sampled_from([0.0, 0.5, 1.0, 2.5]), st.booleans())
def test_whatever_the_models_write(scripts: Scripts, threshold: float, thinks: bool) -> None:
    def model() -> Any:
        return router(
            engine(scripts.small, scripts.answer, thinks=thinks),
            engine(scripts.large, scripts.answer, thinks=thinks, name="huge"),
            threshold=threshold,
            loop_guard=False,
        )

    model().invoke(QUESTION["messages"])
    plain = model().invoke(QUESTION["messages"])
    message = answer_of(thinking(model()).invoke(QUESTION, thread()))
    assert (message.content, message.additional_kwargs) == (plain.content, plain.additional_kwargs)
    assert told(message) == told(plain)


def test_a_super_step_is_one_writers_turn() -> None:
    small = [ScriptedStep(f"s{i}.\n\n", 2.0 * (i in (2, 3))) for i in range(6)]
    large = [f"l{i}.\n\n" for i in range(6)]
    model = router(engine(small), engine(large, name="huge"))
    graph = thinking(model)
    nodes = [
        (name, [decision["step"] for decision in update["routing"]])
        for update in graph.stream(QUESTION, thread(), stream_mode="updates")
        for name, update in update.items()
    ]
    assert nodes == [
        ("small", [0, 1]),
        ("large", [2]),
        ("small", []),  # it was probed, and called the large model again
        ("large", [3]),
        ("small", [4, 5, 6]),
        ("answer", [7]),
    ]


def test_nothing_more_is_asked_of_the_engines() -> None:
    """No request, no token and no rendering beyond a plain call's."""
    plain: Any = router()
    graphed: Any = router()
    plain.invoke(QUESTION["messages"])
    plain.small.requests.clear()
    plain.large.requests.clear()
    plain.invoke(QUESTION["messages"])
    rendered: list[int] = []

    def counting(render: Any) -> Any:
        def count(*arguments: Any, **options: Any) -> Any:
            if len(arguments[0]) == 1:  # not the template's own ways, found out once
                rendered.append(1)
            return render(*arguments, **options)

        return count

    for one in (graphed.small, graphed.large):
        one._vocabulary.render = counting(one._vocabulary.render)
    thinking(graphed).invoke(QUESTION, thread())
    for role in ("small", "large"):
        requests, others = getattr(plain, role).requests, getattr(graphed, role).requests
        assert [one.max_tokens for one in requests] == [one.max_tokens for one in others]
        assert [one.seed for one in requests] == [one.seed for one in others]
        assert getattr(graphed, role).made * 2 == getattr(plain, role).made
    assert len(rendered) == 2


def test_every_checkpoint_is_plain_data() -> None:
    graph = thinking(router(first_n_steps_large=1))
    graph.invoke(QUESTION, thread())
    serializer = JsonPlusSerializer()
    seen = 0
    for snapshot in graph.get_state_history(thread()):
        saved = snapshot.values.get("thought")
        if saved is not None:
            seen += 1
            json.dumps(saved, allow_nan=False)
            assert serializer.loads_typed(serializer.dumps_typed(saved)) == saved
            text = saved["thought"]["text"]
            owners = [span["owner"] for span in saved["thought"]["spans"]]
            assert text.startswith("One.") or not text
            assert set(owners) <= {"small", "large", "router"}
    assert seen >= 3


# -- streams -------------------------------------------------------------------------------------


async def stream_of(graph: Any, config: Any, given: Any = QUESTION) -> list[list[tuple[str, Any]]]:
    """What both kinds of stream say, on two threads."""
    modes = ["messages", "custom"]
    sync = await asyncio.to_thread(
        lambda: list(graph.stream(given, {**config, **thread("sync")}, stream_mode=modes))
    )
    other = [
        part
        async for part in graph.astream(given, {**config, **thread("async")}, stream_mode=modes)
    ]
    return [sync, other]


@pytest.mark.parametrize("options", TURNS, ids=range(len(TURNS)))
async def test_tokens_stream_from_every_node_as_one_message(options: dict[str, Any]) -> None:
    model = router(**options)
    graph = thinking(model)
    for way, parts in zip(("sync", "async"), await stream_of(graph, {}), strict=True):
        message = answer_of(graph.get_state(thread(way)).values)
        chunks = [part[0] for kind, part in parts if kind == "messages"]
        assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
        assert {chunk.id for chunk in chunks} == {message.id}
        whole = merged(chunks)
        assert whole.content == message.content
        assert whole.additional_kwargs == message.additional_kwargs
        assert whole.usage_metadata == message.usage_metadata
        assert whole.response_metadata == message.response_metadata
        assert [chunk.usage_metadata is not None for chunk in chunks].count(True) == 1
        assert chunks[-1].usage_metadata is not None
        texts = [chunk for chunk in chunks if chunk.content or chunk.additional_kwargs]
        assert len(texts) > 3


async def test_decisions_stream_as_they_are_taken() -> None:
    graph = thinking(router())
    for way, parts in zip(("sync", "async"), await stream_of(graph, {}), strict=True):
        told = [part for kind, part in parts if kind == "custom"]
        kinds = [part.pop("type") for part in told]
        assert kinds == ["glimprouter.decision", "glimprouter.step"] * 5
        routing = graph.get_state(thread(way)).values["routing"]
        assert told[::2] == routing
        assert [part["ended_by"] for part in told[1::2]] == [
            *["delimiter"] * 3,
            "closed",
            "end_of_text",
        ]
        assert [part["tokens"] for part in told[1::2]] == [3, 3, 3, 1, 5]


async def test_a_decision_is_told_before_its_steps_text_and_its_end_behind_it() -> None:
    for parts in await stream_of(thinking(router()), {}):
        order = ""
        for kind, part in parts:
            if kind == "custom":
                order += "[" if part["type"].endswith("decision") else "]"
            elif part[0].content or part[0].additional_kwargs:
                order += "."
        assert order == "[...][...][...][][....]"


async def test_usage_is_counted_once() -> None:
    for options in ({}, {"thinks": False}, {"answer_by": "route"}):
        graph = thinking(router(**options))
        for stream in (False, True):
            usage = UsageMetadataCallbackHandler()
            config = {**thread(f"{stream}"), "callbacks": [usage]}
            if stream:
                _ = [part async for part in graph.astream(QUESTION, config, stream_mode="messages")]
            else:
                await graph.ainvoke(QUESTION, config)
            message = answer_of(graph.get_state(config).values)
            assert usage.usage_metadata == {"tiny + huge": message.usage_metadata}


async def test_events_and_traces_see_each_writers_turn() -> None:
    graph = thinking(router(tags=["mine"], metadata={"team": "maths"}))
    starts = [
        event
        async for event in graph.astream_events(QUESTION, thread(), version="v2")
        if event["event"] == "on_chat_model_start"
    ]
    assert [event["metadata"]["langgraph_node"] for event in starts] == [
        *("small", "large", "small", "answer")
    ]
    assert all(event["metadata"]["ls_provider"] == "glimprouter" for event in starts)
    assert all("mine" in event["tags"] for event in starts)
    assert all(event["metadata"]["team"] == "maths" for event in starts)


async def test_event_streams_of_version_3_repeat_nothing() -> None:
    graph = thinking(router())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a beta
        run = await graph.astream_events(QUESTION, thread(), version="v3")
        texts, thoughts = [], []
        async for message in run.messages:
            texts.append(str(await message.text))
            thoughts.append(str(await message.reasoning))
    assert "".join(texts) == ANSWER
    assert "".join(thoughts) == THOUGHT


def test_a_global_cache_does_not_mix_up_super_steps() -> None:
    set_llm_cache(InMemoryCache())
    try:
        graph = thinking(router())
        for name in (1, 2):
            message = answer_of(graph.invoke(QUESTION, thread(name)))
            assert message.additional_kwargs["reasoning_content"] == THOUGHT
            assert message.content == ANSWER
    finally:
        set_llm_cache(None)


# -- threads and graphs around it ----------------------------------------------------------------


def test_two_turns_on_one_thread() -> None:
    def script(prompt: str) -> list[str]:
        return [f"{prompt.count('<|user|>')} questions.\n\n"]

    graph = thinking(router(engine(script), engine(script, name="huge")))
    graph.invoke(QUESTION, thread())
    state = graph.invoke({"messages": [HumanMessage("And?")]}, thread())
    assert [message.type for message in state["messages"]] == ["human", "ai", "human", "ai"]
    first, second = state["messages"][1], state["messages"][3]
    assert first.additional_kwargs["reasoning_content"] == "1 questions.\n\n"
    assert second.additional_kwargs["reasoning_content"] == "2 questions.\n\n"
    assert first.id != second.id
    assert [decision["step"] for decision in state["routing"]] == [0, 1, 2, 0, 1, 2]


def test_a_new_question_leaves_an_unfinished_thought_behind() -> None:
    graph = thinking(router(), interrupt_before=["large"])
    graph.invoke(QUESTION, thread())
    graph.invoke({"messages": [HumanMessage("Never mind. Two and two?")]}, thread())
    saved = graph.get_state(thread()).values["thought"]
    assert "Two and two" in saved["thought"]["prompts"]["shared"]["text"]
    assert len(saved["thought"]["steps"]) == 1
    state = graph.invoke(None, thread())
    assert [message.type for message in state["messages"]] == ["human", "human", "ai"]


def test_no_checkpointer_is_needed() -> None:
    graph = create_glimprouter(router()).compile()
    assert answer_of(graph.invoke(QUESTION)).content == ANSWER


class ParentState(MessagesState):
    seen: Annotated[list[str], operator.add]


async def test_as_a_subgraph() -> None:
    """Its tokens and decisions stream through, and its checkpoints are the parent's."""
    builder: Any = StateGraph(ParentState)
    builder.add_node("before", lambda _: {"seen": ["before"]})
    builder.add_node(create_glimprouter(router(), name="ponder").compile())
    builder.add_node("after", lambda state: {"seen": [state["messages"][-1].text]})
    for edge in ((START, "before"), ("before", "ponder"), ("ponder", "after"), ("after", END)):
        builder.add_edge(*edge)
    graph = builder.compile(checkpointer=InMemorySaver())
    for state in await both_ways(graph, QUESTION, thread()):
        assert state["seen"] == ["before", ANSWER]
        assert set(state) == {"messages", "seen"}
    parts = list(
        graph.stream(QUESTION, thread(3), stream_mode=["messages", "custom"], subgraphs=True)
    )
    text = [part[0].text for _, kind, part in parts if kind == "messages"]
    assert "".join(text) == ANSWER
    assert any(kind == "custom" and part["writer"] == "large" for _, kind, part in parts)


def test_tools_come_along() -> None:
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 3,\n\n"b": 4}}\n</tool_call>'
    tool = {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds.",
            "parameters": {"type": "object", "properties": {"a": {}, "b": {}}},
        },
    }
    for thinks in (True, False):
        steps = SMALL if thinks else [*SMALL, call]
        model = router(
            engine(steps, call, thinks=thinks),
            engine([*LARGE, call], call, thinks=thinks, name="huge"),
            tool_parser="hermes",
        )
        bound = model.bind_tools([tool])
        plain = bound.invoke(QUESTION["messages"])
        graph = thinking(bound)
        message = answer_of(graph.invoke(QUESTION, thread()))
        assert [one["args"] for one in message.tool_calls] == [{"a": 3, "b": 4}]
        assert message.content == plain.content
        assert message.response_metadata["finish_reason"] == "tool_calls"
        chunks = [part[0] for part in graph.stream(QUESTION, thread(2), stream_mode="messages")]
        streamed, final = merged(chunks), answer_of(graph.get_state(thread(2)).values)
        assert streamed.tool_calls == final.tool_calls
        assert streamed.content == final.content
        assert final.response_metadata["finish_reason"] == "tool_calls"


# -- schemas -------------------------------------------------------------------------------------


class Pydantic(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]
    other: int = 1


@dataclass
class Plain:
    messages: Annotated[list[AnyMessage], add_messages]


class Wide(GlimpRouterState):
    other: int


@pytest.mark.parametrize("schema", [Pydantic, Plain, Wide, MessagesState])
def test_other_states(schema: type) -> None:
    graph = create_glimprouter(router(), state_schema=schema).compile()
    assert answer_of(graph.invoke(QUESTION)).content == ANSWER


class Other(TypedDict):
    question: str


def test_a_state_without_messages_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"state_schema=Other has no 'messages'.*question"):
        create_glimprouter(router(), state_schema=Other)
    with pytest.raises(ConfigurationError, match="messages is empty"):
        thinking().invoke({"messages": []}, thread())


@pytest.mark.parametrize("model", ["a string", 3, router() | (lambda message: message)])
def test_other_models_are_refused(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a ChatGlimpRouter"):
        create_glimprouter(model)


# -- trouble -------------------------------------------------------------------------------------


async def test_a_turns_timeout_spans_its_super_steps() -> None:
    """A person's time to think is not counted."""
    model = router(delay=0.02, timeout=0.2)
    graph = thinking(model, interrupt_before=["large"])
    await graph.ainvoke(QUESTION, thread())
    await asyncio.sleep(0.2)
    with pytest.raises(TurnTimeoutError, match=r"timeout=0\.2"):
        await graph.ainvoke(None, thread())
    assert settles(lambda: running(model) == 0)
    spent = graph.get_state(thread()).values["thought"]["thought"]["seconds"]
    assert spent < 0.2


async def test_cancelling_the_graph_ends_the_request() -> None:
    model = router(delay=0.05)
    task = asyncio.create_task(thinking(model).ainvoke(QUESTION, thread()))
    assert await asyncio.to_thread(settles, lambda: running(model) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(settles, lambda: running(model) == 0)


def test_its_picture_shows_who_may_follow_whom() -> None:
    drawn = thinking().get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    assert {
        ("small", "large"),
        ("large", "small"),
        ("small", "answer"),
        ("large", "answer"),
    } < edges
