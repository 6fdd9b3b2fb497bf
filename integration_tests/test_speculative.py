"""Routing over an engine that decodes speculatively, several tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_glimprouter import ChatGlimpRouter, VLLMEngine, trace_of
from langchain_glimprouter.errors import Role
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.trace import TurnUsage


@dataclass(frozen=True, slots=True)
class InTurns:
    """Whatever the entropy, both models write: the large one, the small one, and so on."""

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        writer: Role = "small" if usage.large.steps > usage.small.steps else "large"
        return writer, entropy.estimate


def test_routing_over_speculative_decoding(
    small_engine: VLLMEngine, qwen_small: Path, qwen_large: Path, thinking_template: Path
) -> None:
    speculative = {
        "method": "draft_model",
        "model": str(qwen_small),
        "num_speculative_tokens": 3,
    }
    options: dict[str, Any] = {
        "chat_template": str(thinking_template),
        "temperature": 0.0,
        "max_thinking_tokens": 48,
        "max_step_tokens": 12,
        "max_tokens": 8,
    }
    with VLLMEngine(
        str(qwen_large), max_model_len=2048, speculative_config=speculative
    ) as large_engine:
        model = ChatGlimpRouter(
            small=small_engine, large=large_engine, threshold=InTurns(), **options
        )
        trace = trace_of(model.invoke("Sam has 40 marbles, loses 12 and finds 5. How many has he?"))
        swapped = ChatGlimpRouter(  # its probes come in deltas of several tokens
            small=large_engine, large=small_engine, threshold=0.8, **options
        )
        probed = trace_of(swapped.invoke("What is 12 times 12?"))
    assert trace is not None
    assert probed is not None
    thinking = [step for step in trace.steps if step.phase == "thinking"]
    assert [step.writer for step in thinking[:3]] == ["large", "small", "large"]
    for one in (trace, probed):
        assert "".join(one.step_text(step) for step in one.steps) == one.text
        assert one.usage.answer_tokens > 0
    assert any(step.probe for step in probed.steps)
    for step in probed.steps:
        if step.probe is not None:
            assert (step.writer == "large") == (step.probe.entropy > 0.8)
