"""Finds tasks by their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from langchain_glimprouter.bench.tasks.gpqa import GpqaDiamond
from langchain_glimprouter.bench.tasks.livecodebench import LiveCodeBench
from langchain_glimprouter.bench.tasks.maths import AIME24, AIME25, MATH500, Maths
from langchain_glimprouter.bench.tasks.own import Own
from langchain_glimprouter.bench.tasks.reasoning_gym import ReasoningGym, gym_names
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from langchain_glimprouter.bench.tasks.base import Task

_SETS: Mapping[str, Callable[[Path | None, Mapping[str, str]], Task]] = {
    "aime24": lambda path, options: Maths(AIME24, path, options),
    "aime25": lambda path, options: Maths(AIME25, path, options),
    "math500": lambda path, options: Maths(MATH500, path, options),
    "gpqa-diamond": GpqaDiamond,
    "livecodebench": LiveCodeBench,
}
_OWN = "jsonl"
_FILE_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
NAMES = (*_SETS, _OWN)
"""Tasks beside the data sets of reasoning-gym."""


def find_task(
    name: str, *, path: Path | None = None, options: Mapping[str, str] = MappingProxyType({})
) -> Task:
    """Return a task by its name.

    Args:
        name: `aime24`, `aime25`, `math500`, `gpqa-diamond`, `livecodebench` (capitals, `-` and `_`
            count for nothing), `jsonl` for a file of one's own, that file itself, or a data set of
            reasoning-gym. Options may follow, as in `gsm_symbolic?difficulty=2.0`.
        path: A file with the questions, or a folder with the data set's files, instead of the
            Hugging Face hub.
        options: Options of the task; they win over those in the name.

    Raises:
        ConfigurationError: If there is no such task or option, or they do not go together.
    """
    base, _, query = name.strip().partition("?")
    options = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    sets = {_bare(one): make for one, make in _SETS.items()}
    sets["gpqa"] = _SETS["gpqa-diamond"]
    if base.lower().endswith(_FILE_ENDINGS):
        if path is not None:
            msg = f"--task {base} is a file, and --data {path} another: give one of them"
            raise ConfigurationError(msg)
        return Own(Path(base), options)
    if base.lower() == _OWN:
        if path is None:
            msg = f"--task {base} needs a file of questions: give it (--data)"
            raise ConfigurationError(msg)
        return Own(path, options)
    if _bare(base) in sets:
        return sets[_bare(base)](path, options)
    known = _gym(base)
    if base not in known:
        raise unknown("task", base, (*NAMES, *known))
    if path is not None:
        msg = f"--data {path}: the questions of {base!r} are made, not read: leave it out"
        raise ConfigurationError(msg)
    return ReasoningGym(base, options)


def _bare(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


def _gym(name: str) -> list[str]:
    """Return the data sets of reasoning-gym; none where a typing error is all that is wrong."""
    try:
        return gym_names()
    except ConfigurationError:
        if difflib.get_close_matches(name, NAMES, n=1):
            return []
        raise
