"""Where a step of a thought ends. Works on decoded text, so it sees across token borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from langchain_glimprouter.errors import ConfigurationError

_FENCE = "```"


class Splitter(Protocol):
    """Finds the step ends of one turn."""

    def push(self, text: str) -> bool:
        """Take a token's text; tell whether the step ends with this token."""
        ...

    def restart(self) -> None:
        """Begin a new step, whatever the text so far."""
        ...


@runtime_checkable
class Steps(Protocol):
    """A rule that cuts thoughts into steps; makes a fresh splitter for every turn."""

    @property
    def delimiters(self) -> tuple[str, ...]:
        """Texts without which no step ends; empty if the rule has none.

        The router lets an engine stop by itself at a token that contains one.
        """
        ...

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        ...


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
        if not self.delimiters or not all(self.delimiters):
            msg = "steps: delimiters must be non-empty strings, for instance BlankLines(('\\n\\n',))"
            raise ConfigurationError(msg)

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _DelimiterSplitter(self)


class _DelimiterSplitter:
    """Searches for delimiters in the last few characters and the new ones."""

    __slots__ = ("_delimiters", "_fence", "_keep", "_tail")

    def __init__(self, rule: BlankLines) -> None:
        self._delimiters = rule.delimiters
        self._keep = max(map(len, rule.delimiters)) - 1
        self._fence = None if rule.inside_code else _Fence()
        self._tail: str | None = None  # None until the step shows a visible character

    def push(self, text: str) -> bool:
        in_code = self._fence is not None and self._fence.push(text)
        if self._tail is None:
            text = text.lstrip()
            if not text:
                return False
            self._tail = ""
        window = self._tail + text
        if not in_code:
            for delimiter in self._delimiters:
                if delimiter in window:
                    self._tail = None
                    return True
        self._tail = window[-self._keep :] if self._keep else ""
        return False

    def restart(self) -> None:
        self._tail = None


class _Fence:
    """Follows Markdown code fences: a line that starts with three backticks toggles."""

    __slots__ = ("_inside", "_line")

    def __init__(self) -> None:
        self._inside = False
        self._line = ""

    def push(self, text: str) -> bool:
        """Take text; tell whether it ends inside a fence."""
        for piece in text.splitlines(keepends=True):
            before = self._line.lstrip().startswith(_FENCE)
            self._line = (self._line + piece)[: 64 if before else None]
            if not before and self._line.lstrip().startswith(_FENCE):
                self._inside = not self._inside
            if piece.endswith("\n"):
                self._line = ""
        return self._inside


@dataclass(frozen=True, slots=True)
class Whole:
    """No step ends before the text does: one model writes it in one go."""

    @property
    def delimiters(self) -> tuple[str, ...]:
        """There is none."""
        return ()

    def splitter(self) -> Splitter:
        """Return a splitter that never splits."""
        return _NeverSplitter()


class _NeverSplitter:
    __slots__ = ()

    def push(self, text: str) -> bool:
        del text
        return False

    def restart(self) -> None:
        pass
