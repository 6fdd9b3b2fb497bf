"""Policies that draft and judge, over real models: same and different vocabularies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from langchain_glimprouter import (
    RSD,
    ChatGlimpRouter,
    Fixed,
    Judge,
    RoutingTrace,
    SpecCoT,
    SpecReason,
    StepEntropy,
    StepPerplexity,
    TargetRate,
    TwoSided,
    VLLMEngine,
    trace_of,
)
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.routing.trace import StepTrace

QUESTIONS = ("What is 15 plus 27?", "Ann is 7, Bob is twice as old. How old are both together?")
POLICIES = {
    "step entropy": StepEntropy(Fixed(0.5)),
    "step perplexity": StepPerplexity(Fixed(1.4)),
    "two sided": TwoSided(Fixed(1.5), overconfidence=0.8),
    "specreason": SpecReason(5, Judge(mode="average")),
    "rsd": RSD(0.7, scorer=lambda problem, text, step: float(len(text) % 2)),
    "speccot": SpecCoT(2),
}


def checked(trace: RoutingTrace | None) -> RoutingTrace:
    """What holds for every turn, whatever the models wrote."""
    assert trace is not None
    assert "".join(map(trace.step_text, trace.steps)) == trace.text
    assert "\ufffd" not in trace.text
    for step in trace.steps:
        if step.draft is not None:
            assert step.writer == ("small" if step.draft.accepted else "large")
            assert step.tokens.rejected == sum_rejected(step)
    total = sum(step.tokens.rejected for step in trace.steps)
    assert total == trace.usage.small.rejected
    assert trace.usage.large.rejected == 0
    return trace


def sum_rejected(step: StepTrace) -> int:
    """Tokens of a step's drafts that are not in it."""
    assert step.draft is not None
    kept = step.tokens.decode if step.draft.accepted else 0
    return step.draft.tokens - kept


@pytest.mark.parametrize("name", POLICIES)
def test_a_thought_is_drafted_and_judged_across_vocabularies(
    name: str, smollm_engine: VLLMEngine, small_engine: VLLMEngine, thinking_template: Path
) -> None:
    model = ChatGlimpRouter(
        small=smollm_engine,
        large=small_engine,
        policy=POLICIES[name],
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=30,
        max_step_tokens=10,
        max_tokens=2,
    )
    traces = [checked(trace_of(model.invoke(QUESTIONS[0])))]
    drafted = [step for trace in traces for step in trace.steps if step.draft is not None]
    assert drafted
    for step in drafted:
        draft = step.draft
        assert draft is not None
        if name in ("step entropy", "step perplexity"):
            assert draft.value is not None
            assert draft.threshold is not None
            assert draft.accepted == (draft.value <= draft.threshold)
            assert 0.0 <= (draft.entropy or 0.0) <= math.log(20)
            assert (draft.perplexity or 0.0) >= 1.0
        if name == "specreason" and draft.value is not None:
            assert 0.0 <= draft.value <= 9.0
            assert draft.judge_seconds > 0.0
        if name == "speccot":
            assert draft.drafts == 2
    if name == "rsd":
        assert {step.draft.value for step in drafted if step.draft} <= {None, 0.0, 1.0}


def test_a_judge_that_knows_the_answer_rates_the_right_step_higher(
    small_engine: VLLMEngine, large_engine: VLLMEngine, thinking_template: Path
) -> None:
    """The verdict depends on the draft: the judge reads it, behind the problem."""
    scores = {}
    for step in ("15 plus 27 is 42.\n\n", "15 plus 27 is 99999 bananas.\n\n"):
        trace = _judged(step, small_engine, large_engine, thinking_template)
        draft = trace.steps[0].draft
        assert draft is not None
        scores[step] = draft.value
    right, wrong = scores.values()
    assert right is not None
    assert wrong is not None
    assert right > wrong


def _judged(
    step: str, small: VLLMEngine, large: VLLMEngine, thinking_template: Path
) -> RoutingTrace:
    """Have the large model rate a given step: a small model that can only write that."""
    model = ChatGlimpRouter(
        small=_Says(small, step),
        large=large,
        policy=SpecReason(0, Judge(mode="average")),
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=16,
        max_tokens=1,
    )
    return checked(trace_of(model.invoke("What is 15 plus 27?")))


class _Says:
    """A real engine whose next words are given."""

    def __init__(self, engine: VLLMEngine, text: str) -> None:
        self._engine = engine
        self._text = text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, request: Any) -> Any:
        from langchain_glimprouter.engines.base import GenerationDelta

        vocabulary = await self._engine.vocabulary()
        yield GenerationDelta(vocabulary.encode(self._text), finish_reason="length")


async def test_drafts_stream_once_they_are_accepted(
    small_engine: VLLMEngine, large_engine: VLLMEngine, thinking_template: Path
) -> None:
    model = ChatGlimpRouter(
        small=small_engine,
        large=large_engine,
        policy="specreason(4)",
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=30,
        max_step_tokens=12,
        max_tokens=2,
    )
    shown, whole = "", None
    async for chunk in model.astream(QUESTIONS[1]):
        shown += chunk.additional_kwargs.get("reasoning_content", "") + str(chunk.content)
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    trace = checked(trace_of(whole))
    assert shown == trace.text
    judged = [step for step in trace.steps if step.draft is not None]
    assert judged
    assert trace.usage.large.probe >= sum(step.reason == "score" for step in judged)


async def test_steps_of_an_answer_are_drafted_too(
    small_engine: VLLMEngine, large_engine: VLLMEngine
) -> None:
    """Models that do not think: the policy decides about the answer's own steps."""
    model = ChatGlimpRouter(
        small=small_engine,
        large=large_engine,
        policy=SpecCoT(2),
        temperature=0.0,
        max_tokens=24,
        max_step_tokens=8,
        seed=1,
    )
    trace = checked(trace_of(await model.ainvoke("Count from 1 to 4, one number a paragraph.")))
    assert trace.thought_end is None
    assert trace.steps[0].reason == "first_steps"
    assert any(step.draft is not None and step.draft.drafts == 2 for step in trace.steps)


def test_leaving_a_draft_leaves_no_request(
    small_engine: VLLMEngine, large_engine: VLLMEngine, thinking_template: Path
) -> None:
    for policy in (SpecCoT(3, first_n_steps_large=1), StepEntropy(Fixed(math.inf))):
        model = ChatGlimpRouter(
            small=small_engine,
            large=large_engine,
            policy=policy,
            chat_template=str(thinking_template),
            temperature=0.0,
            max_thinking_tokens=200,
        )
        stream: Any = model.stream(QUESTIONS[1])
        next(stream)
        stream.close()
    for engine in (small_engine, large_engine):
        assert get_runtime().run(_running(engine)) == 0


async def _running(engine: VLLMEngine) -> int:
    import asyncio

    for _ in range(100):
        live: Any = engine._live
        count = live.llm.output_processor.get_num_unfinished_requests()
        if not count:
            break
        await asyncio.sleep(0.02)
    return int(count)


def test_a_target_rate_settles_on_real_entropies(
    smollm_engine: VLLMEngine, small_engine: VLLMEngine, thinking_template: Path
) -> None:
    """A threshold far off moves towards the target, turn by turn, and counts what it saw."""
    rate = TargetRate(0.5)
    model = ChatGlimpRouter(
        small=smollm_engine,
        large=small_engine,
        threshold=rate,
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=24,
        max_step_tokens=4,
        max_tokens=1,
    )
    questions: list[Any] = [f"What is {a} plus {a + 9}?" for a in range(3, 13)]
    traces = [checked(trace_of(message)) for message in model.batch(questions)]
    steps = [step for trace in traces for step in trace.steps if step.probe is not None]
    assert len(steps) >= 30
    late = steps[len(steps) // 2 :]
    share = sum(step.writer == "large" for step in late) / len(late)
    print(f"share of the later steps: {share:.2f} of {len(late)}")
    assert 0.25 <= share <= 0.75
