"""Data sets of reasoning-gym: questions made by programs, as many as one wants."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.tasks.base import Grade, Question, Split
from langchain_glimprouter.bench.tasks.grading import grade_gym
from langchain_glimprouter.bench.tasks.splits import half, mark
from langchain_glimprouter.bench.tasks.task_options import labelled
from langchain_glimprouter.bench.tasks.workers import gym_entries
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INSTRUCTION = r"Put the final answer, and nothing else, within \boxed{}."
_SIZE = 20_000  # the most that every data set takes; some of them give other questions for others
_TRIAL = 10  # to see whether one can be made, and to grade by, which needs no questions
_OURS = ("seed", "size")  # of the fields of a data set's configuration


def gym_names() -> list[str]:
    """Return the names of all data sets.

    Raises:
        ConfigurationError: If reasoning-gym is missing.
    """
    try:
        import reasoning_gym  # registers them
        from reasoning_gym.factory import DATASETS
    except ImportError:
        msg = "reasoning-gym is missing: pip install 'langchain-glimprouter[bench]'"
        raise ConfigurationError(msg) from None
    del reasoning_gym
    return [str(name) for name in DATASETS if name != "composite"]  # which needs a list of others


class ReasoningGym:
    """One data set.

    Args:
        name: Its name.
        options: Fields of its configuration, as JSON or plain text, and `instruction` (what is
            asked for below the question; may be empty).

    Raises:
        ConfigurationError: If reasoning-gym is missing, or an option does not exist or fit.
    """

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        if name not in gym_names():
            raise unknown("data set of reasoning-gym", name, gym_names())
        self._set = name
        self._options = options
        given = {key: text for key, text in options.items() if key != "instruction"}
        known = [*_config_fields(name), "instruction"]
        for key in given:
            if key not in known:
                raise unknown(f"option of the task {name!r}:", key, known)
        self._config = {key: _value(text) for key, text in given.items()}
        self._try()

    @property
    def name(self) -> str:
        """The data set's name, with its options."""
        return labelled(self._set, self._options)

    def questions(self, count: int | None, seed: int, split: Split = "test") -> list[Question]:
        """Return questions of one split; see `Task`.

        A question's text decides its split, and no text comes twice.
        """
        if count is None or count < 1:
            msg = f"count={count} cannot work: {self._set} has no end, so ask for 1 or more"
            raise ConfigurationError(msg)
        found: list[Question] = []
        seen = set()
        for question in self.stream(seed):
            asked = str(question.reference[1]["question"])  # without what an option puts below
            key = mark(asked)
            if half(asked) != split or key in seen:
                continue
            seen.add(key)
            found.append(question)
            if len(found) == count:
                return found
        msg = (
            f"{count} questions are asked for, but {self.name} has only {len(found)} that differ "
            f"in its {split} split: ask for fewer, or for harder ones"
        )
        raise ConfigurationError(msg)

    def stream(self, seed: int) -> Iterator[Question]:
        """Yield all questions in the data set's own order, of both splits, equal ones included."""
        text = self._options.get("instruction", INSTRUCTION).strip()
        instruction = f"\n\n{text}" if text else ""
        config = {**self._config, "seed": seed, "size": _SIZE}
        start, batch = 0, 8  # some data sets take a second for each question
        while start < _SIZE:
            entries = gym_entries(self._set, config, start, min(batch, _SIZE - start))
            for index, entry in enumerate(entries, start):
                answer = entry.get("answer")
                yield Question(
                    id=f"{self._set}/{seed}-{index}",
                    prompt=str(entry["question"]) + instruction,
                    answer="" if answer is None else str(answer),
                    metadata={"seed": seed, "index": index},
                    reference=(seed, entry),
                )
            if not entries:  # a set with an end
                return
            start, batch = start + len(entries), min(2 * batch, 256)

    async def grade(self, question: Question, answer: str) -> Grade:
        """Grade an answer by the data set's own `score_answer`; see `Task`."""
        seed, entry = question.reference
        config = {**self._config, "seed": seed, "size": _TRIAL}
        return await grade_gym(self._set, config, entry, answer)

    def _try(self) -> None:
        import reasoning_gym

        try:
            reasoning_gym.create_dataset(self._set, **self._config, seed=0, size=_TRIAL)
        except (AssertionError, TypeError, ValueError) as error:
            written = labelled(self._set, self._options)
            msg = f"the task {written!r} cannot be made: {str(error) or type(error).__name__}"
            raise ConfigurationError(msg) from None


def _config_fields(name: str) -> list[str]:
    from reasoning_gym.factory import DATASETS

    config = DATASETS[name][1]
    assert is_dataclass(config)
    return [field.name for field in fields(config) if field.name not in _OURS]


def _value(text: str) -> Any:
    """Read a value as JSON, or else as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
