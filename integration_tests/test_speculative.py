"""Routing over a large model that the small one drafts for: several tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration_tests.engines import DRAFTED_TOKENS
from langchain_glimprouter import ChatGlimpRouter, VLLMEngine, trace_of
from langchain_glimprouter.engines.base import GenerationRequest, Sampling
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.errors import Role
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.trace import RoutingTrace, TurnUsage


@dataclass(frozen=True, slots=True)
class InTurns:
    """Whatever the entropy, both models write: the large one, the small one, and so on."""

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        writer: Role = "small" if usage.large.steps > usage.small.steps else "large"
        return writer, entropy.estimate


@pytest.fixture
def options(thinking_template: Path) -> dict[str, Any]:
    return {
        "chat_template": str(thinking_template),
        "max_thinking_tokens": 48,
        "max_step_tokens": 12,
        "max_tokens": 8,
    }


def check(trace: RoutingTrace | None) -> RoutingTrace:
    assert trace is not None
    assert "".join(trace.step_text(step) for step in trace.steps) == trace.text
    assert trace.usage.answer_tokens > 0
    return trace


def test_tokens_come_several_at_a_time(large_engine: VLLMEngine) -> None:
    sizes = set()
    for temperature in (0.0, 1.0):
        sampling = Sampling(temperature=temperature)
        request = GenerationRequest(range(1000, 1100), 16, sampling, seed=1, top_logprobs=20)
        for delta in get_runtime().iterate(lambda: large_engine.generate(request)):  # noqa: B023
            sizes.add(len(delta.token_ids))
            assert delta.top_logprobs is not None
            assert len(delta.top_logprobs) == len(delta.token_ids)
    assert DRAFTED_TOKENS + 1 in sizes
    assert len(sizes) > 1  # some drafts were refused


def test_it_writes_steps(
    small_engine: VLLMEngine, large_engine: VLLMEngine, options: dict[str, Any]
) -> None:
    model = ChatGlimpRouter(
        small=small_engine, large=large_engine, threshold=InTurns(), temperature=0.0, **options
    )
    answer = model.invoke("Sam has 40 marbles, loses 12 and finds 5. How many has he?")
    thinking = [step for step in check(trace_of(answer)).steps if step.phase == "thinking"]
    assert [step.writer for step in thinking[:3]] == ["large", "small", "large"]


def test_it_is_probed(
    small_engine: VLLMEngine, large_engine: VLLMEngine, options: dict[str, Any]
) -> None:
    """A probe comes in a delta of several tokens, of which the first alone counts."""
    model = ChatGlimpRouter(
        small=large_engine,
        large=small_engine,
        threshold=0.8,
        temperature=1.0,
        **{**options, "max_thinking_tokens": 24},
    )
    trace = check(trace_of(model.invoke("What is 12 times 12?", seed=3)))
    assert any(step.probe for step in trace.steps)
    for step in trace.steps:
        if step.probe is not None:
            assert (step.writer == "large") == (step.probe.entropy > 0.8)
