"""GPQA Diamond (arXiv 2311.12022): multiple choice, four options each."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_glimprouter.bench.tasks.base import Grade, Question
from langchain_glimprouter.bench.tasks.file_task import FileTask
from langchain_glimprouter.bench.tasks.grading import grade_choice
from langchain_glimprouter.bench.tasks.hub import HubFiles
from langchain_glimprouter.bench.tasks.splits import mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.bench.tasks.records import Record

INSTRUCTION = (
    "Please reason step by step, and put the letter of the right answer, and nothing else, "
    r"within \boxed{}."
)
_LETTERS = "ABCD"
_WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class GpqaDiamond(FileTask):
    """Multiple choice; the order of the options is decided by the question alone."""

    def __init__(self, path: Path | None, options: Mapping[str, str]) -> None:
        hub = HubFiles("Idavidrein/gpqa", ("gpqa_diamond.csv",), options.get("revision"))
        super().__init__("gpqa-diamond", path, options, hub)
        self._instruction = self.instruction(INSTRUCTION)

    def text(self, record: Record) -> str:
        """Return what a row asks; see `FileTask`."""
        return record.text("Question")

    def question(self, record: Record) -> Question:
        """Return the question of a row; see `FileTask`."""
        text, right = self.text(record), record.text("Correct Answer")
        options = [right, *(record.text(name) for name in _WRONG)]
        order = list(range(len(options)))
        random.Random(mark(text)).shuffle(order)
        shuffled = [options[number] for number in order]
        listed = "\n".join(
            f"({letter}) {option}" for letter, option in zip(_LETTERS, shuffled, strict=True)
        )
        key = record.text("Record ID") if "Record ID" in record.fields else mark(text)[:12]
        return Question(
            id=f"gpqa-diamond/{key}",
            prompt=f"{text}\n\n{listed}{self._instruction}",
            answer=_LETTERS[order.index(0)],
            metadata=record.pick("High-level domain", "Subdomain"),
            reference=tuple(shuffled),
        )

    async def grade(self, question: Question, answer: str) -> Grade:
        """Grade the letter that an answer chooses; see `Task`."""
        return grade_choice(question.answer, answer, _LETTERS, question.reference)
