"""Tasks whose questions stand in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from langchain_glimprouter.bench.tasks.base import Grade, Question, Split
from langchain_glimprouter.bench.tasks.hub import HubFiles
from langchain_glimprouter.bench.tasks.records import Record, records
from langchain_glimprouter.bench.tasks.splits import mark, parted
from langchain_glimprouter.bench.tasks.task_options import TaskOptions, labelled
from langchain_glimprouter.errors import ConfigurationError

_CALIBRATION = 0.2  # of the questions: with AIME's 30, a few hundred steps


class FileTask(ABC):
    """A task whose questions stand in files, of the user's or from the Hugging Face hub.

    Args:
        name: The task's name.
        path: The file, or a folder with those of the hub; `None` gets them from the hub.
        hub: Where they are on the hub; `None` if they are not.
        options: What the user wrote; every task takes `instruction` (what is asked for below the
            question; may be empty) and `calibration` (the share of the questions that is kept for
            calibration), those from the hub `revision` (branch, tag or commit).

    Raises:
        ConfigurationError: If an option does not exist, or cannot work.
    """

    own_options: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        name: str,
        path: Path | None,
        options: Mapping[str, str],
        hub: HubFiles | None = None,
    ) -> None:
        known = ["instruction", "calibration", *self.own_options]
        if path is None:
            known.append("revision")
        self._options = TaskOptions(name, options, known)
        self._label = labelled(name, options)
        self._path, self._hub = path, hub
        self._share = self._options.number("calibration", _CALIBRATION, 0.0, 0.9)
        self._paths: list[Path] | None = None
        self._marks: list[tuple[int, str]] | None = None

    @property
    def name(self) -> str:
        """The task's name, with its options."""
        return self._label

    @abstractmethod
    def text(self, record: Record) -> str:
        """Return what a row asks, without options or instructions; it decides the split.

        Raises:
            ConfigurationError: If it is missing.
        """

    @abstractmethod
    def question(self, record: Record) -> Question:
        """Return the question of a row.

        Raises:
            ConfigurationError: If something is missing in it.
        """

    @abstractmethod
    async def grade(self, question: Question, answer: str) -> Grade:
        """Grade an answer; see `Task`."""

    def instruction(self, default: str) -> str:
        """Return what stands below a question, with the blank line before it."""
        text = self._options.text("instruction", default).strip()
        return f"\n\n{text}" if text else ""

    def questions(self, count: int | None, seed: int, split: Split = "test") -> list[Question]:
        """Return questions of one split, in an order that the seed decides; see `Task`."""
        wanted = parted(self._checked(), self._share, split, seed)
        _check_count(self.name, split, count, len(wanted), len(self._checked()))
        order = {number: place for place, number in enumerate(wanted[:count])}
        found = {
            order[number]: self.question(record)
            for number, record in enumerate(self._records())
            if number in order
        }
        return [found[place] for place in range(len(order))]

    def _records(self) -> Iterator[Record]:
        if self._paths is None:
            self._paths = self._find()
        for path in self._paths:
            yield from records(path)

    def _find(self) -> list[Path]:
        if self._path is None:
            assert self._hub is not None
            return self._hub.paths()
        if self._hub is not None and self._path.is_dir():
            return self._hub.within(self._path)
        return [self._path]

    def _checked(self) -> list[tuple[int, str]]:
        """Return each row's number and mark, after a look at all of them.

        The questions themselves are read again when they are chosen: some sets are larger than
        memory.
        """
        if self._marks is None:
            marks: list[tuple[int, str]] = []
            places: dict[str, str] = {}
            for number, record in enumerate(self._records()):
                question = self.question(record)
                before = places.setdefault(question.id, record.place)
                if before is not record.place:
                    msg = (
                        f"{record.place}: the id {question.id!r} is already that of {before}; "
                        f"give every question an id of its own"
                    )
                    raise ConfigurationError(msg)
                marks.append((number, mark(self.text(record))))
            if not marks:
                where = ", ".join(str(path) for path in self._paths or ())
                msg = f"{where} holds no questions: give at least one"
                raise ConfigurationError(msg)
            self._marks = marks
        return self._marks


def _check_count(name: str, split: Split, count: int | None, there: int, whole: int) -> None:
    if count is not None and count < 1:
        msg = f"count={count} cannot work: ask for 1 question or more"
        raise ConfigurationError(msg)
    if there < (count or 1):
        msg = (
            f"{count or 'some'} questions are asked for, but {name} has {there} in its {split} "
            f"split, of {whole} in all: ask for fewer, or move the border (--task-option "
            f"calibration=SHARE)"
        )
        raise ConfigurationError(msg)
