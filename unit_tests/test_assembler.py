"""Chunks: their sum is the message, whoever adds them up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message

from langchain_glimprouter import ScriptedStep
from langchain_glimprouter.messages.assembler import Assembler
from unit_tests.models import ANSWER, LARGE, SMALL, engine, router
from unit_tests.test_router import ENTROPIES, UNITS, Scripts, scripts, wild_script
from unit_tests.turns import Played, pair, play

QUESTION = "What is 3 + 4?"


def both(played: Played, **options: Any) -> tuple[AIMessage, AIMessageChunk]:
    """The message of a turn, whole and as the sum of its chunks."""
    whole = Assembler(model_name="m", include_trace=True, **options).message(played.trace)
    pusher = Assembler(model_name="m", include_trace=True, **options)
    chunks = [chunk for event in played.events if (chunk := pusher.push(event)) is not None]
    total: Any = chunks[0].message
    for chunk in chunks[1:]:
        total = total + chunk.message
    return whole, total


def same(whole: AIMessage, total: AIMessageChunk) -> None:
    summed = message_chunk_to_message(total)
    assert summed.content == whole.content
    assert summed.additional_kwargs == whole.additional_kwargs
    assert summed.response_metadata == whole.response_metadata
    assert getattr(summed, "usage_metadata", None) == whole.usage_metadata
    assert summed.content_blocks == whole.content_blocks
    assert summed.text == whole.text
    assert total.chunk_position == "last"


@given(scripts(), UNITS, st.booleans(), st.booleans())
def test_the_sum_of_the_chunks_is_the_message(
    scripts: Scripts, units: tuple[str, str], blocks: bool, usage: bool
) -> None:
    engines = pair(scripts.small, scripts.large, scripts.answer, units=units)
    played = asyncio.run(play(*engines, loop_guard=False))
    same(*both(played, blocks=blocks, usage=usage))


@given(
    wild_script(),
    wild_script(),
    st.sampled_from(["opened", "tag", "unknown", "none"]),
    st.sampled_from(["large", "route"]),
    ENTROPIES,
    st.booleans(),
)
def test_also_for_wild_turns(
    small: list[ScriptedStep],
    large: list[ScriptedStep],
    opening: str,
    answer_by: str,
    threshold: float,
    blocks: bool,
) -> None:
    engines = pair(small, large, "So.\n\nIt be.")
    options: Any = {"opening": opening, "answer_by": answer_by, "threshold": threshold}
    played = asyncio.run(play(*engines, max_thinking_tokens=40, max_tokens=40, **options))
    whole, total = both(played, blocks=blocks)
    same(whole, total)
    assert whole.text == played.trace.answer
    if blocks:
        reasoning = [block for block in whole.content_blocks if block["type"] == "reasoning"]
        thought = [step for step in played.trace.steps if step.phase == "thinking"]
        texts = [played.trace.step_text(step) for step in thought]
        assert [block["reasoning"] for block in reasoning] == [text for text in texts if text]


# -- through LangChain ---------------------------------------------------------------------------


def blocks_of(message: Any) -> list[tuple[str, str, str | None]]:
    """Type, text and writer of each content block."""
    return [
        (
            block["type"],
            block.get("reasoning", block.get("text")),
            block.get("extras", {}).get("glimprouter", {}).get("model"),
        )
        for block in message.content
    ]


EXPECTED = [
    ("reasoning", "Three and four.\n\n", "small"),
    ("reasoning", "It makes seven.\n\n", "large"),
    ("reasoning", "It is done.\n\n", "small"),
    ("text", ANSWER, None),
]


def total(chunks: list[Any]) -> Any:
    result = chunks[0]
    for chunk in chunks[1:]:
        result += chunk
    return result


@pytest.mark.parametrize("per_call", [False, True])
async def test_one_block_a_step(per_call: bool) -> None:
    model: Any = router() if per_call else router(output_version="v1")
    options = {"output_version": "v1"} if per_call else {}
    assert blocks_of(model.invoke(QUESTION, **options)) == EXPECTED
    assert blocks_of(await model.ainvoke(QUESTION, **options)) == EXPECTED
    assert blocks_of(total(list(model.stream(QUESTION, **options)))) == EXPECTED
    chunks = [chunk async for chunk in model.astream(QUESTION, **options)]
    assert blocks_of(total(chunks)) == EXPECTED


async def test_streams_of_every_version_agree() -> None:
    """The v3 stream makes blocks of both forms; the others make what was asked for."""
    for version in ("v0", "v1"):
        model: Any = router(output_version=version)
        whole = model.invoke(QUESTION)
        stream = model.stream_events(QUESTION, version="v3")
        assert stream.output.text == ANSWER
        assert "".join(stream.text) == ANSWER
        streams = await model.astream_events(QUESTION, version="v3")
        output = await streams.output
        for message in (stream.output, output):
            kinds = [block["type"] for block in message.content]
            assert kinds == (["reasoning"] * 3 if version == "v1" else ["reasoning"]) + ["text"]
            assert message.usage_metadata == whole.usage_metadata
        events = [event async for event in model.astream_events(QUESTION, version="v2")]
        chunks = [
            event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"
        ]
        end = events[-1]["data"]["output"]
        assert total(chunks).content == end.content == whole.content
        assert end.usage_metadata == whole.usage_metadata
        assert end.additional_kwargs == whole.additional_kwargs


def stable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata without what no two turns share: seconds."""
    routing = dict(metadata["glimprouter"])
    del routing["seconds"], routing["trace"]
    return {**metadata, "glimprouter": routing}


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_metadata_comes_once_and_unchanged(version: str) -> None:
    """LangChain concatenates or sums what comes twice."""
    model: Any = router(output_version=version)
    whole = model.invoke(QUESTION).response_metadata
    chunks = list(model.stream(QUESTION))
    assert stable(total(chunks).response_metadata) == stable(whole)
    with_routing = [chunk for chunk in chunks if "glimprouter" in chunk.response_metadata]
    assert len(with_routing) == 1
    assert [chunk.chunk_position for chunk in chunks].count("last") == 1
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize(
    ("options", "finish_reason"),
    [
        ({}, "stop"),
        ({"stop": ["seven"]}, "stop"),
        ({"max_tokens": 1}, "length"),
        ({"max_thinking_tokens": 3}, "stop"),
    ],
)
def test_finish_reasons(options: dict[str, Any], finish_reason: str) -> None:
    for version in ("v0", "v1"):
        message = router(output_version=version, **options).invoke(QUESTION)
        assert message.response_metadata["finish_reason"] == finish_reason


def test_a_looping_answer_says_so() -> None:
    script = ["Say it once more, say it once more, say it.\n\n"] * 5
    model = router(engine(script, thinks=False), engine(LARGE, thinks=False))
    assert model.invoke(QUESTION).response_metadata["finish_reason"] == "repetition"


def test_empty_steps_and_empty_answers_make_no_blocks() -> None:
    model = router(engine([], ""), engine([], ""), output_version="v1")
    message: Any = model.invoke(QUESTION)
    assert message.content == []
    assert message.text == ""
    summed = total(list(model.stream(QUESTION)))
    assert summed.content == []
    small = engine([SMALL[0]], "")
    assert blocks_of(router(small, small, output_version="v1").invoke(QUESTION)) == EXPECTED[:1]
