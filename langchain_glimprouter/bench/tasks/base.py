"""What every task has in common: questions in two splits, and grades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

Split = Literal["calibration", "test"]
"""Thresholds are chosen on `calibration` and reported on `test`; no question is in both."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it is put to a model.

    Attributes:
        id: Names it for good: the same in every run, whatever else is asked with it.
        prompt: The user's message, instructions included.
        answer: The right answer, for people to read; empty where there is no single one.
        metadata: What the data set says of it (level, subject, year …), as plain data.
        reference: What its task grades by.
    """

    id: str
    prompt: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    reference: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer is worth.

    Attributes:
        correct: Whether it counts as right.
        score: From 0 to 1; partial only where the data set itself gives partial scores.
        extracted: The final answer that was found in the text; `None` if none was.
        error: Why a wrong answer could not even be compared, such as a parse error or the way a
            program ended; `None` if it was simply wrong or right.
    """

    correct: bool
    score: float
    extracted: str | None
    error: str | None = None


class Task(Protocol):
    """A set of questions and its way of grading."""

    @property
    def name(self) -> str:
        """Its name, with all that changes its questions, for reports."""
        ...

    def questions(self, count: int | None, seed: int, split: Split = "test") -> list[Question]:
        """Return questions of one split, in an order that `seed` decides.

        The first n questions are the same whatever `count` is, and no question of one split is in
        the other, under any seeds.

        Args:
            count: How many; `None` takes all there are.
            seed: Of the order, and of the questions themselves where they are generated.
            split: Which part.

        Raises:
            ConfigurationError: If the data cannot be read, or hold fewer.
        """
        ...

    async def grade(self, question: Question, answer: str) -> Grade:
        """Grade the text that a model gave as its answer (without its thought).

        Args:
            question: One of this task's.
            answer: The whole text behind the thought.
        """
        ...
