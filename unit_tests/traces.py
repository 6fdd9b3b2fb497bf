"""Traces made up by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from langchain_glimprouter.routing.trace import (
    ModelUsage,
    ProbeTrace,
    RoutingTrace,
    StepTokens,
    StepTrace,
    TurnUsage,
)


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


def traces(turns: int, steps: int, seed: int = 0, **options: Any) -> list[RoutingTrace]:
    """Turns of which some are harder than others."""
    source = random.Random(seed)
    made = []
    for _ in range(turns):
        scale = source.uniform(0.5, 1.5)
        made.append(trace([scale * source.expovariate(1.5) for _ in range(steps)], **options))
    return made
