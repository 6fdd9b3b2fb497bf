"""Sets of maths questions with one answer each: AIME 2024, AIME 2025, MATH-500."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_glimprouter.bench.tasks.base import Grade, Question
from langchain_glimprouter.bench.tasks.file_task import FileTask
from langchain_glimprouter.bench.tasks.grading import grade_maths
from langchain_glimprouter.bench.tasks.hub import HubFiles
from langchain_glimprouter.bench.tasks.splits import mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.bench.tasks.records import Record

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


@dataclass(frozen=True, slots=True)
class MathsSet:
    """A set of maths questions.

    Attributes:
        name: The task's name.
        repo: The data set on the hub.
        files: Its files.
        problem: Names of the field with the question; the first that is there counts.
        id: Names of the field with the id.
        metadata: Fields to keep beside.
    """

    name: str
    repo: str
    files: tuple[str, ...]
    problem: tuple[str, ...]
    id: tuple[str, ...]
    metadata: tuple[str, ...] = ()


AIME24 = MathsSet(
    "aime24",
    "HuggingFaceH4/aime_2024",
    ("data/train-00000-of-00001.parquet",),
    problem=("problem",),
    id=("id",),
    metadata=("year", "url"),
)
AIME25 = MathsSet(  # opencompass/AIME2025 has `question` and no ids, math-ai/aime25 both
    "aime25",
    "math-ai/aime25",
    ("test.jsonl",),
    problem=("problem", "question"),
    id=("id",),
)
MATH500 = MathsSet(
    "math500",
    "HuggingFaceH4/MATH-500",
    ("test.jsonl",),
    problem=("problem",),
    id=("unique_id",),
    metadata=("subject", "level"),
)


class Maths(FileTask):
    """Maths questions, graded by math-verify."""

    def __init__(self, kind: MathsSet, path: Path | None, options: Mapping[str, str]) -> None:
        hub = HubFiles(kind.repo, kind.files, options.get("revision"))
        super().__init__(kind.name, path, options, hub)
        self._kind = kind
        self._instruction = self.instruction(INSTRUCTION)

    def text(self, record: Record) -> str:
        """Return what a row asks; see `FileTask`."""
        return record.text(*self._kind.problem)

    def question(self, record: Record) -> Question:
        """Return the question of a row; see `FileTask`."""
        kind, problem = self._kind, self.text(record)
        named = next((name for name in kind.id if name in record.fields), None)
        key = record.text(named) if named else mark(problem)[:12]
        return Question(
            id=f"{kind.name}/{key}",
            prompt=problem + self._instruction,
            answer=record.text("answer"),
            metadata=record.pick(*kind.metadata),
        )

    async def grade(self, question: Question, answer: str) -> Grade:
        """Grade an answer by math-verify; see `Task`."""
        return await grade_maths(question.answer, answer)
