"""Options of tasks, as users write them: `name=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown


class TaskOptions:
    """The options that a task was given; each is read once by who it is for.

    Args:
        task: The task's name.
        given: What the user wrote.
        known: The names that the task takes.

    Raises:
        ConfigurationError: If an option is none of them.
    """

    def __init__(self, task: str, given: Mapping[str, str], known: Sequence[str]) -> None:
        for name in given:
            if name not in known:
                raise unknown(f"option of the task {task!r}:", name, known)
        self._given = given

    def text(self, name: str, default: str) -> str:
        """Return an option that is text."""
        return self._given.get(name, default)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return an option that is a number.

        Raises:
            ConfigurationError: If it is none, or not between the two.
        """
        written = self._given.get(name)
        if written is None:
            return default
        try:
            value = float(written)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            msg = f"--task-option {name}={written} cannot work: give a number, {low:g} to {high:g}"
            raise ConfigurationError(msg)
        return value


def labelled(name: str, options: Mapping[str, str]) -> str:
    """Return a task's name with its options, as `find_task` reads it."""
    written = "&".join(f"{key}={value}" for key, value in sorted(options.items()))
    return f"{name}?{written}" if written else name
