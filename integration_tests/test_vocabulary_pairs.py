"""Two real models that share no vocabulary: SmolLM2 and Qwen."""

from __future__ import annotations

from pathlib import Path

from langchain_glimprouter import ChatGlimpRouter, VLLMEngine, trace_of
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.routing.pair import EnginePair


def test_a_thought_crosses_vocabularies(
    smollm_engine: VLLMEngine, small_engine: VLLMEngine, thinking_template: Path
) -> None:
    model = ChatGlimpRouter(
        small=smollm_engine,
        large=small_engine,
        policy="random(0.5)",
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=64,
        max_step_tokens=16,
        max_tokens=16,
    )
    traces = [
        trace_of(model.invoke(question, seed=seed))
        for seed, question in enumerate(
            [
                "How many legs have 5 cats?",
                "What is 15 plus 27?",
                "Ann is 7 and Bob twice as old. Bob?",
            ]
        )
    ]
    steps = []
    for trace in traces:
        assert trace is not None
        assert "".join(trace.step_text(step) for step in trace.steps) == trace.text
        assert "\ufffd" not in trace.text
        steps += [step for step in trace.steps if step.phase == "thinking"]
    assert {step.writer for step in steps} == {"small", "large"}
    assert any(trace and trace.answer.strip() for trace in traces)


def test_probing_needs_no_shared_vocabulary(
    smollm_engine: VLLMEngine, small_engine: VLLMEngine, thinking_template: Path
) -> None:
    model = ChatGlimpRouter(
        small=smollm_engine,
        large=small_engine,
        threshold=1.5,
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=48,
        max_step_tokens=16,
        max_tokens=8,
    )
    trace = trace_of(model.invoke("What is 3 times 14?"))
    assert trace is not None
    for step in trace.steps:
        if step.probe is not None:
            assert (step.writer == "large") == (step.probe.entropy > 1.5)


def test_tokenizers_are_compared_not_names(
    smollm_engine: VLLMEngine, small_engine: VLLMEngine, large_engine: VLLMEngine
) -> None:
    open_pair = EnginePair.open
    run = get_runtime().run
    assert run(open_pair({"small": small_engine, "large": large_engine})).shared_vocabulary
    assert not run(open_pair({"small": smollm_engine, "large": large_engine})).shared_vocabulary
