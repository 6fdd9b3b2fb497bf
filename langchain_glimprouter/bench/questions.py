"""Questions of reasoning-gym as they are, without instructions."""

from __future__ import annotations

from itertools import islice

from langchain_glimprouter.bench.tasks.base import Question
from langchain_glimprouter.bench.tasks.reasoning_gym import ReasoningGym

__all__ = ["Question", "reasoning_gym_questions"]


def reasoning_gym_questions(task: str, count: int, seed: int) -> list[Question]:
    """Return the first questions of a data set; the same for the same seed.

    For timings only: they are of both splits.

    Raises:
        ConfigurationError: If reasoning-gym is missing, or has no such data set.
    """
    return list(islice(ReasoningGym(task, {"instruction": ""}).stream(seed), count))
