"""Turns of a thinking pair of real models: the demo pair, made to think by a chat template."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from langchain_core.messages import AIMessageChunk

from langchain_glimprouter import (
    BlankLines,
    ChatGlimpRouter,
    RoutingTrace,
    VLLMEngine,
    trace_of,
)
from langchain_glimprouter.routing.events import StepFinished, StepStarted, TokenDelta, TurnFinished

QUESTIONS = [
    "A box holds 6 eggs. How many eggs are in 7 boxes?",
    "Sam has 40 marbles, loses 12 and finds 5. How many has he now?",
]


@pytest.fixture(scope="module")
def model(
    small_engine: VLLMEngine, large_engine: VLLMEngine, thinking_template: Path
) -> ChatGlimpRouter:
    return ChatGlimpRouter(
        small=small_engine,
        large=large_engine,
        threshold=1.0,
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=120,
        max_tokens=32,
    )


@pytest.fixture(scope="module")
def quick(smollm_engine: VLLMEngine, thinking_template: Path) -> ChatGlimpRouter:
    """The smallest model in both places: for what does not depend on the weights."""
    return ChatGlimpRouter(
        small=smollm_engine,
        large=smollm_engine,
        threshold=1.0,
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=48,
        max_step_tokens=16,
        max_tokens=8,
    )


def check(trace: RoutingTrace, threshold: float) -> None:
    """Check what holds of every turn."""
    assert [step.index for step in trace.steps] == list(range(len(trace.steps)))
    assert trace.steps[0].start == 0
    assert trace.steps[-1].end == len(trace.text)
    assert all(one.end == two.start for one, two in pairwise(trace.steps))
    thinking = [step for step in trace.steps if step.phase == "thinking"]
    for step in thinking:
        assert step.probe is not None
        assert (step.writer == "large") == (step.probe.entropy > threshold)
        assert 0 <= step.probe.lower <= step.probe.upper
        assert step.probe.seen_mass <= 1.0
        assert step.seconds > 0
    assert all(step.writer == "large" for step in trace.steps if step.phase == "answer")
    usage = trace.usage
    assert usage.thinking_tokens == sum(step.tokens.decode for step in thinking)
    for role in ("small", "large"):
        mine = [step.tokens.decode for step in trace.steps if step.writer == role]
        assert usage.of(role).decode == sum(mine)
    # A dropped probe for each step of the large model, and not one request more than needed.
    by_large = sum(step.writer == "large" for step in thinking)
    assert usage.small.probe == by_large
    assert usage.small.requests <= by_large + 1
    if usage.hand_offs > 1:
        assert usage.small.cached + usage.large.cached > 0


def test_thought_is_routed_and_answered(model: ChatGlimpRouter) -> None:
    writers: set[str] = set()
    ends: set[str | None] = set()
    for question in QUESTIONS:  # the second only where the first has not shown everything
        message = model.invoke(question)
        trace = trace_of(message)
        assert trace is not None
        check(trace, 1.0)
        assert trace.thought.strip()
        assert message.additional_kwargs["reasoning_content"] == trace.thought
        assert message.text == trace.answer
        assert message.text.strip()
        assert "<think>" not in trace.text
        assert "</think>" not in trace.text
        assert "42" in trace.answer or question != QUESTIONS[0]
        writers.update(step.writer for step in trace.steps if step.phase == "thinking")
        ends.add(trace.thought_end)
        if len(writers) == 2 and "closed" in ends:
            break
    assert writers == {"small", "large"}
    assert "closed" in ends


def test_events_blocks_and_chunks_say_the_same(quick: ChatGlimpRouter) -> None:
    events = list(quick.events(QUESTIONS[0]))
    last = events[-1]
    assert isinstance(last, TurnFinished)
    shown = "".join(event.text for event in events if isinstance(event, TokenDelta))
    assert shown == last.trace.text
    assert sum(isinstance(event, StepStarted) for event in events) == len(last.trace.steps)
    assert sum(isinstance(event, StepFinished) for event in events) == len(last.trace.steps)

    blocks = quick.model_copy(update={"output_version": "v1"})
    full: AIMessageChunk | None = None
    for chunk in blocks.stream(QUESTIONS[0]):
        full = chunk if full is None else full + chunk
    assert full is not None
    trace = trace_of(full)
    assert trace is not None
    reasoning = [block for block in full.content_blocks if block["type"] == "reasoning"]
    texts = [trace.step_text(step) for step in trace.steps if step.phase == "thinking"]
    assert [block["reasoning"] for block in reasoning] == [text for text in texts if text]
    writers = [
        step.writer for step in trace.steps if step.phase == "thinking" and step.end > step.start
    ]
    assert [block["extras"]["glimprouter"]["model"] for block in reasoning] == writers


def test_extremes_call_one_model_only(quick: ChatGlimpRouter) -> None:
    never = trace_of(quick.invoke(QUESTIONS[1], threshold=2.99))
    assert never is not None
    assert all(
        step.probe.entropy > 2.99 for step in never.steps if step.writer == "large" and step.probe
    )
    pinned = trace_of(quick.invoke(QUESTIONS[1], model="small"))
    assert pinned is not None
    assert pinned.usage.large.requests == 0
    assert pinned.usage.small.requests == 2  # thought and answer
    always = trace_of(quick.invoke(QUESTIONS[1], threshold=0.0))
    assert always is not None
    assert all(
        step.writer == "large" for step in always.steps if step.probe and step.probe.entropy > 0
    )


def test_published_protocol_pays_two_requests_a_step(quick: ChatGlimpRouter) -> None:
    trace = trace_of(quick.invoke(QUESTIONS[1], policy="reference", max_step_tokens=512))
    assert trace is not None
    thinking = [step for step in trace.steps if step.phase == "thinking"]
    requests = trace.usage.small.requests + trace.usage.large.requests
    assert requests == 2 * len(thinking) + 1
    assert trace.usage.small.probe == len(thinking)


def test_first_steps_go_to_the_large_model(quick: ChatGlimpRouter) -> None:
    trace = trace_of(quick.invoke(QUESTIONS[0], first_n_steps_large=2, threshold=2.9))
    assert trace is not None
    thinking = [step for step in trace.steps if step.phase == "thinking"]
    assert thinking
    for step in thinking[:2]:
        assert (step.writer, step.reason, step.probe) == ("large", "first_steps", None)
    assert all(step.reason == "entropy" for step in thinking[2:])


def test_budget_closes_the_thought(quick: ChatGlimpRouter) -> None:
    trace = trace_of(quick.invoke(QUESTIONS[1], max_thinking_tokens=12, max_tokens=16))
    assert trace is not None
    assert trace.thought_end == "max_thinking_tokens"
    assert trace.forced_close
    assert trace.usage.thinking_tokens == 12
    assert trace.answer.strip()


def test_models_that_do_not_think_have_their_answer_routed(smollm_engine: VLLMEngine) -> None:
    model = ChatGlimpRouter(
        small=smollm_engine,
        large=smollm_engine,
        threshold=1.0,
        steps=BlankLines((".", "\n\n")),
        temperature=0.0,
        max_tokens=48,
    )
    message = model.invoke("Describe the sea in six short sentences.")
    trace = trace_of(message)
    assert trace is not None
    assert trace.thought == ""
    assert trace.thought_end is None
    assert "reasoning_content" not in message.additional_kwargs
    assert message.text == trace.text
    assert len(trace.steps) > 1
    for step in trace.steps:
        assert step.phase == "answer"
        assert step.probe is not None
        assert (step.writer == "large") == (step.probe.entropy > 1.0)
