"""Tools and structured output through the chat model, with scripted engines."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypedDict

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_glimprouter import ChatGlimpRouter, trace_of
from langchain_glimprouter.errors import ConfigurationError
from unit_tests import brain
from unit_tests.models import ANSWER, LARGE, SMALL, THOUGHT, engine


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def now() -> str:
    """Tell the time."""
    return "noon"


class Person(BaseModel):
    """A person."""

    name: str = Field(description="Their name")
    age: int


class Place(TypedDict):
    """A place."""

    town: str


def model(answer: Any = brain.answer, *, thinks: bool = True, **options: Any) -> ChatGlimpRouter:
    return ChatGlimpRouter(
        small=engine(SMALL, answer, thinks=thinks, name="tiny"),
        large=engine(LARGE, answer, thinks=thinks, name="huge"),
        **options,
    )


def streamed(runnable: Runnable[Any, Any], question: Any = "Add 2 and 3.") -> AIMessageChunk:
    full: AIMessageChunk | None = None
    for chunk in runnable.stream(question):
        full = chunk if full is None else full + chunk
    assert full is not None
    return full


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("thinks", [True, False])
def test_a_forced_call(version: str, thinks: bool) -> None:
    bound = model(thinks=thinks, output_version=version).bind_tools([add, now], tool_choice="any")
    for message in (bound.invoke("Add 2 and 3."), streamed(bound)):
        (call,) = message.tool_calls
        assert call["name"] == "add"
        assert call["args"] == {"a": 2, "b": 2}
        assert call["id"]
        assert str(message.text) == ""
        assert message.response_metadata["finish_reason"] == "tool_calls"
        kinds = [block["type"] for block in message.content_blocks]
        assert kinds == (["reasoning"] * (3 if version == "v1" else 1) if thinks else []) + [
            "tool_call"
        ]
        trace = trace_of(message)
        assert trace is not None
        assert trace.thought == (THOUGHT if thinks else "")
        assert "<tool_call>" in trace.answer
        (answer,) = [step for step in trace.steps if step.phase == "answer"]
        assert (answer.writer, answer.reason) == ("large", "answer")


def test_the_grammar_reaches_the_answering_engine_only() -> None:
    router = model()
    router.bind_tools([add], tool_choice="any").invoke("Add 2 and 3.")
    small, large = router.small, router.large
    assert all(request.constraint is None for request in small.requests)  # type: ignore[union-attr]
    constraints = [request.constraint for request in large.requests]  # type: ignore[union-attr]
    assert constraints[:-1] == [None] * (len(constraints) - 1)
    assert "structural_tag" in (constraints[-1] or {})


def test_tools_reach_both_prompts_and_history_comes_back() -> None:
    router = model("Five it is.")
    history = [
        HumanMessage("Add 2 and 3."),
        AIMessage("", tool_calls=[{"name": "add", "args": {"a": 2, "b": 3}, "id": "1"}]),
        ToolMessage("no such number", tool_call_id="1", status="error"),
    ]
    message = router.bind_tools([add]).invoke(history)
    assert message.text == "Five it is."
    assert message.response_metadata["finish_reason"] == "stop"
    for one in (router.small, router.large):
        ids = one.requests[-1].token_ids  # type: ignore[union-attr]
        prompt = asyncio.run(one.vocabulary()).decode(ids)  # type: ignore[union-attr]
        assert '"description": "Add two numbers."' in prompt
        assert '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>' in prompt
        assert "Error: no such number" in prompt


def test_auto_streams_text_then_calls() -> None:
    answer = f"Let me see.\n{brain.call('add', {'a': 1, 'b': 2})}\n{brain.call('now', {})}"
    bound = model(answer).bind_tools([add, now])
    message, full = bound.invoke("?"), streamed(bound)
    for one in (message, full):
        assert one.text.strip() == "Let me see."
        assert [(call["name"], call["args"]) for call in one.tool_calls] == [
            ("add", {"a": 1, "b": 2}),
            ("now", {}),
        ]
    assert [chunk["index"] for chunk in full.tool_call_chunks] == [0, 1]
    single = model(answer).bind_tools([add, now], parallel_tool_calls=False)
    for one in (single.invoke("?"), streamed(single)):
        assert [call["name"] for call in one.tool_calls] == ["add"]


def test_none_shows_no_tools_and_reads_no_calls() -> None:
    router = model(brain.call("add", {"a": 1}))
    message = router.bind_tools([add], tool_choice="none").invoke("?")
    assert message.tool_calls == []
    assert "<tool_call>" in message.text


def test_broken_calls_are_invalid_not_lost() -> None:
    bound = model("<tool_call>\nadd 1 and 2\n</tool_call>").bind_tools([add])
    for message in (bound.invoke("?"), streamed(bound)):
        assert message.tool_calls == []
        (call,) = message.invalid_tool_calls
        assert call["args"] == "add 1 and 2"
    again = model("Yes.").bind_tools([add]).invoke([HumanMessage("?"), message, HumanMessage("!")])
    assert again.text == "Yes."


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("schema", [Person, Place, "json"])
def test_structured_output(method: Any, schema: Any) -> None:
    if schema == "json":
        schema = Person.model_json_schema()
    elif method == "json_mode":
        schema = Person
    answer: Any = brain.answer
    if method == "json_mode":
        answer = json.dumps({"name": "Ann", "age": 7})
    runnable = model(answer).with_structured_output(schema, method=method)
    result: Any = runnable.invoke("Ann is 7.")
    if schema is Person:
        assert isinstance(result, Person)
        assert result.age == 7
    else:
        assert result in ({"town": "text"}, {"name": "text", "age": 7}, {"name": "Ann", "age": 7})
    raw: Any = (
        model("no")
        .with_structured_output(schema, method=method, include_raw=True)
        .invoke("Ann is 7.")
    )
    assert set(raw) == {"raw", "parsed", "parsing_error"}
    assert raw["parsed"] is None
    assert isinstance(raw["raw"], AIMessage)
    if method != "function_calling":
        assert raw["parsing_error"] is not None


async def test_response_format_and_tools_together() -> None:
    router = model()
    form = {
        "type": "json_schema",
        "json_schema": {"name": "Person", "schema": Person.model_json_schema(), "strict": True},
    }
    await router.bind_tools([add], response_format=form).ainvoke("Add 2 and 3.")
    constraint = router.large.requests[-1].constraint  # type: ignore[union-attr]
    kinds = [
        part["type"] for part in json.loads(constraint["structural_tag"])["format"]["elements"]
    ]
    assert kinds == ["tags_with_separator", "json_schema"]


def test_a_template_without_tools_gets_them_as_text() -> None:
    router = model()
    for one in (router.small, router.large):
        one._vocabulary.render = _plain  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="knows none"):
        message = router.bind_tools([add], tool_choice="add").invoke("Add 2 and 3.")
    assert message.tool_calls[0]["args"] == {"a": 2, "b": 2}


def _plain(messages: Any, *, tools: Any = None, **kwargs: Any) -> str:
    del tools, kwargs
    turns = "".join(f"<|{message['role']}|>{message['content']}<|end|>" for message in messages)
    return f"{turns}<|assistant|><think>\n"


def test_counting_and_metadata() -> None:
    router = model()
    plain = router.get_num_tokens_from_messages([HumanMessage("Hi.")])
    assert router.get_num_tokens_from_messages([HumanMessage("Hi.")], tools=[add]) > plain
    profile = router.profile
    assert profile is not None
    assert profile["tool_calling"]
    assert profile["structured_output"]
    params: Any = router._get_ls_params(threshold=0.5)
    assert params["glimprouter_threshold"] == 0.5
    assert (params["glimprouter_small"], params["glimprouter_large"]) == ("tiny", "huge")
    assert isinstance(router, BaseChatModel)


def test_bad_input_before_any_engine() -> None:
    router = model(ANSWER)
    with pytest.raises(ConfigurationError, match=r"tool_choice.*'add'"):
        router.bind_tools([add], tool_choice="ad")
    with pytest.raises(ConfigurationError, match="2 tools are named 'add'"):
        router.bind_tools([add, add]).invoke("?")
    with pytest.raises(ConfigurationError, match="without tools"):
        router.invoke("?", tool_choice="any")
    with pytest.raises(ConfigurationError, match="method"):
        router.with_structured_output(Person, method="json_shema")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is no schema"):
        router.with_structured_output(3)  # type: ignore[arg-type]
    assert router.small.requests == []  # type: ignore[union-attr]
