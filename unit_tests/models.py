"""Chat models over scripted engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from langchain_glimprouter import ChatGlimpRouter, ScriptedEngine, ScriptedStep
from langchain_glimprouter.engines.base import GenerationRequest
from langchain_glimprouter.engines.scripted_vocabulary import ScriptedVocabulary

SMALL: Sequence[str | ScriptedStep] = (
    "Three and four.\n\n",
    ScriptedStep("Is that hard?\n\n", 2.0),
    "It is done.\n\n",
)
LARGE: Sequence[str | ScriptedStep] = ("One.\n\n", "It makes seven.\n\n", "Three.\n\n")
ANSWER = "The answer\n\nis **seven**."
THOUGHT = "Three and four.\n\nIt makes seven.\n\nIt is done.\n\n"


def engine(
    steps: Sequence[str | ScriptedStep] | Callable[[str], Sequence[str | ScriptedStep]] = SMALL,
    answer: str | Callable[[str, GenerationRequest], str] = ANSWER,
    *,
    thinks: bool = True,
    unit: str = "words",
    name: str = "tiny",
    **options: Any,
) -> ScriptedEngine:
    vocabulary = ScriptedVocabulary(unit, opens_thought=thinks)  # type: ignore[arg-type]
    return ScriptedEngine(steps, answer, name=name, vocabulary=vocabulary, **options)


def router(
    small: Any = None,
    large: Any = None,
    *,
    thinks: Any = True,
    delay: Any = 0.0,
    **options: Any,
) -> ChatGlimpRouter:
    """A chat model that thinks three steps, the second by the large model, and answers."""
    return ChatGlimpRouter(
        small=small or engine(SMALL, thinks=thinks, name="tiny", delay=delay),
        large=large or engine(LARGE, thinks=thinks, name="huge", delay=delay),
        **options,
    )


def running(model: Any) -> int:
    """Requests in progress."""
    return int(model.small.running + model.large.running)


def settles(condition: Callable[[], bool], seconds: float = 2.0) -> bool:
    """Whether something comes true within a moment."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
