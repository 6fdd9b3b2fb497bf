"""Questions with answers that can be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_glimprouter.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes:
        text: What the model is asked.
        answer: The right answer.
    """

    text: str
    answer: str


def reasoning_gym_questions(task: str, count: int, seed: int) -> list[Question]:
    """Return questions of a reasoning-gym data set; the same for the same seed.

    Raises:
        ConfigurationError: If reasoning-gym is missing, or has no such data set.
    """
    try:
        import reasoning_gym
    except ImportError:
        msg = "the bench needs reasoning-gym: pip install 'langchain-glimprouter[bench]'"
        raise ConfigurationError(msg) from None
    try:
        items: Any = reasoning_gym.create_dataset(task, size=count, seed=seed)
    except ValueError as error:
        msg = f"task={task!r}: {error}"
        raise ConfigurationError(msg) from None
    return [Question(item["question"], str(item["answer"])) for item in items]
