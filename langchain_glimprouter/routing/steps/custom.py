"""Steps by a function of one's own."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_glimprouter.routing.steps.base import Splitter

_EXAMPLE = "for instance lambda text: text.endswith(';')"


@dataclass(frozen=True, slots=True)
class EndsWhen:
    r"""A step ends where a function of its text says so.

    The function is called behind every token that brings text, with the text of the step so far,
    leading white space and all, and returns whether the step ends there. A token often brings more
    than one character, so that `"; " in text` finds what `text.endswith(";")` misses. The function
    must depend on nothing but the text, since drafts, and turns that go on elsewhere, call it
    again; what it raises ends the turn.

    Attributes:
        ends: The function.

    Raises:
        ConfigurationError: If it is no function of one text, or a coroutine function.
    """

    ends: Callable[[str], bool]

    def __post_init__(self) -> None:
        """Refuse what could not be called."""
        function: object = self.ends
        if isinstance(function, type) or not callable(function):
            msg = f"steps: {function!r} is no function of a step's text: give {_EXAMPLE}"
            raise ConfigurationError(msg)
        if inspect.iscoroutinefunction(function):
            msg = f"steps: {function!r} is a coroutine function: give a plain one, {_EXAMPLE}"
            raise ConfigurationError(msg)
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none
            return
        try:
            signature.bind("")
        except TypeError as error:
            msg = (
                f"steps: {function!r} does not take a step's text alone ({error}): give {_EXAMPLE}"
            )
            raise ConfigurationError(msg) from None

    @property
    def delimiters(self) -> tuple[str, ...]:
        """None is known."""
        return ()

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _AskingSplitter(self.ends)


class _AskingSplitter:
    __slots__ = ("_ends", "_text")

    def __init__(self, ends: Callable[[str], bool], text: str = "") -> None:
        self._ends = ends
        self._text = text

    def push(self, text: str) -> bool:
        if not text:
            return False  # inside a character
        self._text += text
        ends: object = self._ends(self._text)
        if ends is None:
            msg = (
                f"steps: {self._ends!r} returned None: return True where the step ends, else False"
            )
            raise ConfigurationError(msg)
        return bool(ends)

    def restart(self) -> None:
        self._text = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> _AskingSplitter:
        """Share the function: whatever it is bound to is not ours to copy."""
        return _AskingSplitter(self._ends, self._text)
