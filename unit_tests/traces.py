"""Traces: made up by hand, and of turns that were played."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

from langchain_glimprouter import ChatGlimpRouter, ScriptedStep, trace_of
from langchain_glimprouter.engines.base import GenerationRequest
from langchain_glimprouter.routing.trace import (
    DraftTrace,
    ModelUsage,
    ProbeTrace,
    RoutingTrace,
    StepTokens,
    StepTrace,
    TurnUsage,
)
from unit_tests.models import engine


def trace(
    entropies: Sequence[float | None],
    threshold: float | None = 1.0,
    *,
    texts: Sequence[str] | None = None,
    answer: str = "Seven.",
    candidates: Sequence[tuple[str, float]] = ((" So", 0.6), ("Wait", 0.3)),
    spread: float = 0.1,
    **options: Any,
) -> RoutingTrace:
    """A thought of one step an entropy (`None`: no probe), and an answer."""
    small, large = options.pop("small", "tiny"), options.pop("large", "huge")
    usage = TurnUsage(small=ModelUsage(model=small), large=ModelUsage(model=large))
    steps: list[StepTrace] = []
    written = list(texts or (f"Step {number}.\n\n" for number in range(len(entropies))))
    place = 0
    for number, (entropy, text) in enumerate(zip(entropies, written, strict=True)):
        tau = float("inf") if threshold is None else threshold
        writer: Any = "large" if entropy is None or entropy > tau else "small"
        probe = None
        if entropy is not None:
            lower, upper = max(entropy - spread, 0.0), entropy + spread
            probe = ProbeTrace(
                entropy=entropy,
                lower=lower,
                upper=upper,
                seen_mass=0.95,
                threshold=threshold,
                straddles=lower <= tau < upper,
                candidates=list(candidates),
            )
        steps.append(
            StepTrace(
                index=number,
                phase="thinking",
                start=place,
                end=place + len(text),
                writer=writer,
                reason="first_steps" if entropy is None else "entropy",
                probe=probe,
                tokens=StepTokens(decode=4, probe=int(writer == "large")),
                seconds=0.25,
                ended_by="delimiter",
            )
        )
        place += len(text)
        share = usage.of(writer)
        share.steps += 1
        share.decode += 4
        share.seconds += 0.25
    steps.append(
        StepTrace(
            index=len(steps),
            phase="answer",
            start=place,
            end=place + len(answer),
            writer="large",
            reason="answer",
            tokens=StepTokens(decode=2),
            seconds=0.5,
            ended_by="end_of_text",
        )
    )
    usage.large.decode += 2
    usage.large.seconds += 0.5
    usage.thinking_tokens, usage.answer_tokens = 4 * len(entropies), 2
    fields: dict[str, Any] = {
        "policy": "glimprouter",
        "small": small,
        "large": large,
        "text": "".join(written) + answer,
        "steps": steps,
        "usage": usage,
        "prompt_tokens": 9,
        "seconds": 0.5 + 0.25 * len(entropies),
        "stop_reason": "end_of_text",
        "thought_end": "closed",
    }
    return RoutingTrace(**{**fields, **options})


def drafted(*drafts: DraftTrace) -> RoutingTrace:
    """A thought of one step a draft; whatever was dropped had five tokens."""
    made = trace([None] * len(drafts), policy="drafting")
    for step, draft in zip(made.steps, drafts, strict=False):
        step.draft, step.reason = draft, draft.signal
        step.writer = "small" if draft.accepted else "large"
        step.tokens.rejected = 5 * len(draft.rejected)
        made.usage.small.rejected += step.tokens.rejected
    for role in ("small", "large"):
        made.usage.of(role).steps = sum(step.writer == role for step in made.routed_steps)
    return made


def traces(turns: int, steps: int, seed: int = 0, **options: Any) -> list[RoutingTrace]:
    """Turns of which some are harder than others."""
    source = random.Random(seed)
    made = []
    for _ in range(turns):
        scale = source.uniform(0.5, 1.5)
        made.append(trace([scale * source.expovariate(1.5) for _ in range(steps)], **options))
    return made


# -- turns that were really played ---------------------------------------------------------------

_THOUGHTS = (
    "First I write down what is given: Anna has 24 apples and gives a third of them to Ben.",
    "A third of 24 is 24 / 3 = 8, so 24 − 8 = 16 apples are left.",
    "Wait, is the third taken before or after she eats two? The text says: *then* she eats.",
    "So 16 − 2 = 14, and twice as many as she has left is 2 · 14 = 28.",
    "```python\nleft = 24 - 24 // 3 - 2\ntotal = left + 2 * left  # 42\n```",
    "Let me check that with x for what is left: x + 2x = 3x = 42, hence x = 14. ✓",
    "Alternatively, count backwards: 42 / 3 = 14, 14 + 2 = 16, and 16 is two thirds of 24.",
    (
        "Hmm, a name without any blank: "
        "https_example_invalid_a_very_long_path_that_no_line_can_hold_as_it_has_no_place_to_break."
    ),
)


def played(policy: str, count: int, *, seed: int = 0, **options: Any) -> RoutingTrace:
    """A turn of `count` steps that scripted engines played under a policy of a name.

    The large model is hard to please: as a judge it rates by a digest of the step.
    """
    source = random.Random(seed)
    thoughts = [f"{_THOUGHTS[n % len(_THOUGHTS)]} ({n})\n\n" for n in range(count)]
    entropies = [min(source.expovariate(1.5), 2.9) for _ in thoughts]
    small = [ScriptedStep(text, nats) for text, nats in zip(thoughts, entropies, strict=True)]
    large = [f"Carefully now. {text}" for text in thoughts]

    def write(prompt: str) -> Sequence[str]:
        judged = "Rate its factual" in prompt
        return [str(zlib.crc32(prompt.encode()) % 6 + 4)] if judged else large

    def answer(prompt: str, request: GenerationRequest) -> str:
        if request.constraint is not None:  # which draft
            return str(zlib.crc32(prompt.encode()) % 4)
        return "Anna has **42** apples now."

    delay = options.pop("delay", 0.0)
    model = ChatGlimpRouter(
        small=engine(small, name="Qwen2.5-0.5B", delay=delay),
        large=engine(write, answer, name="Qwen2.5-7B", delay=3 * delay),
        policy=policy,
        loop_guard=False,
        max_thinking_tokens=1_000_000,
        **options,
    )
    found = trace_of(model.invoke("How many apples?"))
    assert found is not None
    return found
