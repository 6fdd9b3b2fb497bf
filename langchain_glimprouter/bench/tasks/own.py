"""Questions of the user's own, in a file."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_glimprouter.bench.tasks import gpqa, maths
from langchain_glimprouter.bench.tasks.base import Grade, Question
from langchain_glimprouter.bench.tasks.file_task import FileTask
from langchain_glimprouter.bench.tasks.grading import grade_choice, grade_exact, grade_maths
from langchain_glimprouter.bench.tasks.splits import mark
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.bench.tasks.records import Record

_INSTRUCTIONS = {
    "math": maths.INSTRUCTION,
    "exact": r"Put the final answer, and nothing else, within \boxed{}.",
    "choice": gpqa.INSTRUCTION,
}
"""By the name of the grader."""


class Own(FileTask):
    """A file of one's own: `{"id"?, "question", "answer", "grader"?}` in each row.

    The grader is `math` (the default), `exact`, or `choice`; for the last, the question lists its
    options by letters and the answer is a letter.
    """

    def __init__(self, path: Path, options: Mapping[str, str]) -> None:
        super().__init__(path.stem, path, options)

    def text(self, record: Record) -> str:
        """Return what a row asks; see `FileTask`."""
        return record.text("question")

    def question(self, record: Record) -> Question:
        """Return the question of a row; see `FileTask`."""
        text, answer = self.text(record), record.text("answer")
        grader = record.text("grader") if record.fields.get("grader") is not None else "math"
        if grader not in _INSTRUCTIONS:
            raise unknown(f"grader in {record.place}:", grader, _INSTRUCTIONS)
        if grader == "choice" and answer not in tuple(string.ascii_uppercase):
            msg = f"{record.place}: 'answer' must be a capital letter for a choice, not {answer!r}"
            raise ConfigurationError(msg)
        given = record.fields.get("id") is not None
        return Question(
            id=record.text("id") if given else mark(text)[:12],
            prompt=text + self.instruction(_INSTRUCTIONS[grader]),
            answer=answer,
            reference=grader,
        )

    async def grade(self, question: Question, answer: str) -> Grade:
        """Grade an answer as its question says; see `Task`."""
        match question.reference:
            case "choice":
                return grade_choice(question.answer, answer, string.ascii_uppercase)
            case "exact":
                return grade_exact(question.answer, answer)
            case _:
                return await grade_maths(question.answer, answer)
