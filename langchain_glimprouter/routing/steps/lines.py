"""Steps that end at a line break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_glimprouter.routing.steps.base import Splitter

_FENCE = 3  # backticks


@dataclass(frozen=True, slots=True)
class BlankLines:
    r"""Steps end at a blank line: `"\n\n"`, the papers' rule, or other delimiters.

    A token that completes a delimiter is the step's last one, with whatever text it carries behind
    the delimiter. Blank lines before a step's first visible character end nothing, so that no step
    is empty.

    Attributes:
        delimiters: Texts that end a step.
        inside_code: Whether a delimiter inside a Markdown code fence ends a step too.
    """

    delimiters: tuple[str, ...] = ("\n\n",)
    inside_code: bool = True

    def __post_init__(self) -> None:
        """Refuse delimiters that could never, or always, match."""
        given: object = self.delimiters
        delimiters = (given,) if isinstance(given, str) else given
        if (
            not isinstance(delimiters, tuple | list)
            or not delimiters
            or not all(isinstance(text, str) and text for text in delimiters)
        ):
            msg = (
                f"steps: delimiters must be non-empty strings, for instance "
                f"BlankLines(('\\n\\n',)), not {given!r}"
            )
            raise ConfigurationError(msg)
        object.__setattr__(self, "delimiters", tuple(delimiters))

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _DelimiterSplitter(self)


@dataclass(frozen=True, slots=True)
class Newlines(BlankLines):
    r"""Steps end at every line break, for models that write no blank lines.

    Attributes:
        delimiters: Texts that end a step; a line break.
        inside_code: Whether a line break inside a Markdown code fence ends a step too.
    """

    delimiters: tuple[str, ...] = ("\n",)


class _DelimiterSplitter:
    """Searches for delimiters in the last few characters and the new ones."""

    __slots__ = ("_delimiters", "_fence", "_keep", "_tail")

    def __init__(self, rule: BlankLines) -> None:
        self._delimiters = rule.delimiters
        self._keep = max(map(len, rule.delimiters)) - 1
        self._fence = None if rule.inside_code else _Fence()
        self._tail: str | None = None  # None until the step shows a visible character

    def push(self, text: str) -> bool:
        if self._fence is None:
            found = self._search(text, in_code=False)
        else:  # a token may reach over the border of a code block
            found = False
            for piece, in_code in self._fence.pieces(text):
                found = self._search(piece, in_code=in_code) or found
        if found:
            self._tail = None
        return found

    def _search(self, text: str, *, in_code: bool) -> bool:
        if self._tail is None:
            text = text.lstrip()
            if not text:
                return False
            self._tail = ""
        window = self._tail + text
        if not in_code:
            known = len(self._tail)  # what ended there ended nothing
            for delimiter in self._delimiters:
                if window.find(delimiter, max(known - len(delimiter) + 1, 0)) >= 0:
                    return True
        self._tail = window[-self._keep :] if self._keep else ""
        return False

    def restart(self) -> None:
        self._tail = None


class _Fence:
    """Follows Markdown code fences: a line that starts with three backticks toggles."""

    __slots__ = ("_inside", "_ticks")

    def __init__(self) -> None:
        self._inside = False
        self._ticks = 0  # backticks at the line's start so far; negative once it shows other text

    def pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        """Cut text where code begins and ends; tell of each piece whether it is code."""
        start = 0
        for index, character in enumerate(text):
            if character == "\n":
                self._ticks = 0
            elif self._ticks < 0 or (self._ticks == 0 and character.isspace()):
                continue
            elif character != "`":
                self._ticks = -1
            else:
                self._ticks += 1
                if self._ticks == _FENCE:
                    yield text[start:index], self._inside
                    start, self._ticks, self._inside = index, -1, not self._inside
        yield text[start:], self._inside
