"""The chat model: every way to call it, per-call options, and what LangChain asks of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda

from langchain_glimprouter import Always, GlimpRouter, Random, trace_of
from langchain_glimprouter.engines.base import Sampling
from langchain_glimprouter.routing.events import TurnFinished
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.models import ANSWER, THOUGHT, engine, router

QUESTION = "What is 3 + 4?"


def writers(message: AIMessage) -> str:
    trace = trace_of(message)
    assert trace is not None
    return "".join(step.writer[0] for step in trace.steps)


def merged(chunks: list[Any]) -> AIMessageChunk:
    result = chunks[0]
    for chunk in chunks[1:]:
        result += chunk
    assert isinstance(result, AIMessageChunk)
    return result


async def every_way(model: Any, config: Any = None, /, **options: Any) -> dict[str, AIMessage]:
    """The same call by every door."""
    return {
        "invoke": await asyncio.to_thread(model.invoke, QUESTION, config, **options),
        "ainvoke": await model.ainvoke(QUESTION, config, **options),
        "stream": merged(
            await asyncio.to_thread(lambda: list(model.stream(QUESTION, config, **options)))
        ),
        "astream": merged([chunk async for chunk in model.astream(QUESTION, config, **options)]),
        "batch": (await asyncio.to_thread(model.batch, [QUESTION] * 2, config, **options))[1],
        "abatch": (await model.abatch([QUESTION] * 2, config, **options))[1],
        "astream_events": [
            event["data"]["output"]
            async for event in model.astream_events(QUESTION, config, version="v2", **options)
            if event["event"] == "on_chat_model_end"
        ][-1],
    }


# -- calls ---------------------------------------------------------------------------------------


async def test_every_way_gives_the_same_message() -> None:
    for way, message in (await every_way(router())).items():
        assert message.content == ANSWER, way
        assert message.additional_kwargs["reasoning_content"] == THOUGHT, way
        assert writers(message) == "slssl", way
        assert message.usage_metadata is not None, way
        assert message.usage_metadata["input_tokens"] > 0, way
        metadata = message.response_metadata
        assert metadata["model_provider"] == "glimprouter", way
        assert metadata["model_name"] == "tiny + huge", way
        assert metadata["finish_reason"] == "stop", way
        assert metadata["glimprouter"]["intervention_rate"] == 0.25, way


async def test_events_by_both_doors() -> None:
    model = router()
    sync = await asyncio.to_thread(lambda: list(model.events(QUESTION)))
    other = [event async for event in model.aevents([HumanMessage(QUESTION)])]
    assert [type(event) for event in sync] == [type(event) for event in other]
    assert isinstance(sync[-1], TurnFinished)
    assert sync[-1].trace.text == THOUGHT + ANSWER


def test_in_a_chain() -> None:
    prompt = ChatPromptTemplate([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | router() | StrOutputParser()
    assert chain.invoke({"question": QUESTION}) == ANSWER
    assert "".join(chain.stream({"question": QUESTION})) == ANSWER


def test_the_scripts_see_the_conversation() -> None:
    def script(prompt: str) -> list[str]:
        return [f"{prompt.count('<|user|>')} questions.\n\n"]

    model = router(engine(script), engine(script, name="huge"))
    turns: list[Any] = [SystemMessage("Be brief."), HumanMessage("One?")]
    for count in (1, 2, 3):
        message = model.invoke(turns)
        assert message.additional_kwargs["reasoning_content"] == f"{count} questions.\n\n"
        turns += [message, HumanMessage("And?")]


def test_usage_counts_what_is_in_the_message_once() -> None:
    message = router(thinks=True).invoke(QUESTION)
    usage = message.usage_metadata
    assert usage is not None
    trace = trace_of(message)
    assert trace is not None
    decoded = trace.usage.small.decode + trace.usage.large.decode
    assert usage["output_tokens"] == decoded
    assert usage["output_token_details"]["reasoning"] == trace.usage.thinking_tokens
    assert usage["total_tokens"] == usage["input_tokens"] + decoded
    assert router(stream_usage=False).invoke(QUESTION).usage_metadata is None
    assert router().invoke(QUESTION, stream_usage=False).usage_metadata is None


# -- options per call ----------------------------------------------------------------------------

OVERRIDES: list[tuple[dict[str, Any], str]] = [
    ({}, "slssl"),
    ({"threshold": 2.9}, "ssssl"),
    ({"threshold": Fixed(0.0)}, "lllll"),
    ({"policy": "always small"}, "sssss"),
    ({"policy": "always large"}, "lllll"),
    ({"policy": Random(0.0)}, "ssssl"),
    ({"model": "small"}, "sssss"),
    ({"model": "large"}, "lllll"),
]


@pytest.mark.parametrize(("options", "expected"), OVERRIDES)
async def test_options_by_keyword_bind_and_config(options: dict[str, Any], expected: str) -> None:
    model = router()
    for way, message in (await every_way(model, **options)).items():
        assert writers(message) == expected, f"keyword, {way}"
    for way, message in (await every_way(model.bind(**options))).items():
        assert writers(message) == expected, f"bind, {way}"
    config: Any = {"configurable": options}
    for way, message in (await every_way(model, config)).items():
        assert writers(message) == expected, f"config, {way}"
    assert writers(model.with_config(config).invoke(QUESTION)) == expected
    assert writers(model.invoke(QUESTION)) == "slssl"  # nothing stuck


async def test_a_config_reaches_the_model_from_around_it() -> None:
    """As in a graph's node, which calls the model without handing its config on."""
    model = router()
    node: Any = RunnableLambda(lambda question: model.invoke(question))
    config: Any = {"configurable": {"threshold": 2.9}}
    assert writers(await asyncio.to_thread(node.invoke, QUESTION, config)) == "ssssl"
    assert writers((model | RunnableLambda(lambda x: x)).invoke(QUESTION, config)) == "ssssl"


def test_keywords_win_over_the_config() -> None:
    config: Any = {"configurable": {"threshold": 2.9, "model": "gpt-5", "thread_id": "1"}}
    assert writers(router().invoke(QUESTION, config)) == "ssssl"
    assert writers(router().invoke(QUESTION, config, threshold=0.0)) == "lllll"


def test_a_policy_object_takes_a_threshold_per_call() -> None:
    model = router(policy=GlimpRouter(Fixed(2.9)))
    assert writers(model.invoke(QUESTION)) == "ssssl"
    assert writers(model.invoke(QUESTION, threshold=1.0)) == "slssl"
    with pytest.raises(ValueError, match="no meaning for the policy 'always small'"):
        router(policy=Always("small")).invoke(QUESTION, threshold=1.0)


def test_configurable_fields() -> None:
    model = router().configurable_fields(threshold=ConfigurableField("tau"))
    config: Any = {"configurable": {"tau": 2.9}}
    assert writers(model.invoke(QUESTION)) == "slssl"
    assert writers(model.invoke(QUESTION, config)) == "ssssl"


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({"stop": ["**"]}, "The answer\n\nis "),
        ({"stop": "is"}, "The answer\n\n"),
        ({"max_tokens": 2}, "The answer\n\n"),
        ({"stop": []}, ANSWER),
    ],
)
async def test_the_answer_stops(options: dict[str, Any], content: str) -> None:
    model = router(stop=["answer"])
    assert model.invoke(QUESTION).content == "The "  # the field
    for way, message in (await every_way(model, **{"stop": [], **options})).items():
        assert message.content == content, way
        reason = "length" if "max_tokens" in options else "stop"
        assert message.response_metadata["finish_reason"] == reason


def test_other_options_reach_the_engines() -> None:
    model = router(temperature=0.3, top_p=0.9, top_k=7, min_p=0.1, seed=5)
    model.invoke(QUESTION, temperature=0.0, session_id="mine")
    small: Any = model.small
    requests = small.requests
    sampling = requests[0].sampling
    assert sampling == Sampling(temperature=0.0, top_p=0.9, top_k=7, min_p=0.1)
    seeds = [request.seed for request in requests]
    assert None not in seeds
    assert len(set(seeds)) == len(seeds)  # no two requests of a turn draw alike
    assert {request.session_id for request in requests} == {"mine"}
    model.invoke(QUESTION, temperature=0.0, session_id="mine")
    assert [request.seed for request in requests[len(seeds) :]] == seeds  # but two turns do


def test_thinking_on_and_off() -> None:
    script = ["Short.\n\n"]
    model = router(engine(script, thinks=False), engine(script, thinks=False))
    assert model.invoke(QUESTION).content == "Short.\n\n"
    assert model.invoke(QUESTION, thinking=True).content == ANSWER
    thinker = router(engine(script), engine(script))
    assert thinker.invoke(QUESTION, thinking=False).content == "Short.\n\n"
    assert thinker.invoke(QUESTION, thinking=False).additional_kwargs == {}


def test_traces_go_where_they_are_wanted() -> None:
    seen: list[Any] = []
    model = router(on_trace=seen.append, include_trace=False)
    message = model.invoke(QUESTION)
    assert trace_of(message) is None
    assert message.response_metadata["glimprouter"]["steps"] == {"small": 3, "large": 1}
    assert [trace.text for trace in seen] == [THOUGHT + ANSWER]
