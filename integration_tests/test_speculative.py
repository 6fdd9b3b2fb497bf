"""Routing over a large engine that decodes speculatively, several tokens at a time."""

from __future__ import annotations

from pathlib import Path

from langchain_glimprouter import ChatGlimpRouter, VLLMEngine, trace_of


def test_routing_over_speculative_decoding(
    small_engine: VLLMEngine, qwen_small: Path, qwen_large: Path, thinking_template: Path
) -> None:
    speculative = {
        "method": "draft_model",
        "model": str(qwen_small),
        "num_speculative_tokens": 3,
    }
    with VLLMEngine(
        str(qwen_large), max_model_len=2048, speculative_config=speculative
    ) as large_engine:
        model = ChatGlimpRouter(
            small=small_engine,
            large=large_engine,
            threshold=0.8,
            chat_template=str(thinking_template),
            temperature=0.0,
            max_thinking_tokens=160,
            max_tokens=60,
        )
        trace = trace_of(model.invoke("Sam has 40 marbles, loses 12 and finds 5. How many has he?"))
        swapped = ChatGlimpRouter(
            small=large_engine,  # its probes come in deltas of several tokens
            large=small_engine,
            threshold=0.8,
            chat_template=str(thinking_template),
            temperature=0.0,
            max_thinking_tokens=80,
            max_tokens=20,
        )
        probed = trace_of(swapped.invoke("What is 12 times 12?"))
    assert trace is not None
    assert probed is not None
    thinking = [step for step in trace.steps if step.phase == "thinking"]
    assert {step.writer for step in thinking} == {"small", "large"}
    for one in (trace, probed):
        assert "".join(one.step_text(step) for step in one.steps) == one.text
        assert one.answer.strip()
        for step in one.steps:
            if step.probe is not None:
                assert (step.writer == "large") == (step.probe.entropy > 0.8)
