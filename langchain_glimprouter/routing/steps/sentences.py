"""Steps that end with a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_glimprouter.routing.steps.base import Splitter

ABBREVIATIONS = (
    "a.m.",
    "al.",
    "approx.",
    "ca.",
    "cf.",
    "cor.",
    "def.",
    "dr.",
    "e.g.",
    "eq.",
    "eqs.",
    "etc.",
    "fig.",
    "figs.",
    "i.e.",
    "inc.",
    "jr.",
    "lem.",
    "ltd.",
    "mr.",
    "mrs.",
    "ms.",
    "ph.d.",
    "p.m.",
    "pp.",
    "prof.",
    "prop.",
    "resp.",
    "sec.",
    "sr.",
    "st.",
    "thm.",
    "viz.",
    "vol.",
    "vs.",
)
"""Words whose period ends no sentence. Not `no.` and the like, which often end one."""

_MARKS = ".!?…"
_WIDE = frozenset("。！？｡")  # no white space follows these
_OPENERS = "([{\"'“‘«*_`$#>-–—•"
_CLOSERS = ")]}\"'”’»*_`$"
_LABEL = re.compile(r"\d+(?:\.\d+)*|[^\W\d_]|[ivx]+", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_KEPT = 48  # characters of a word; no abbreviation is longer


@dataclass(frozen=True, slots=True)
class Sentences:
    """Steps end with a sentence, or with a blank line.

    A sentence ends where white space follows `.`, `!`, `?` or `…` (with quotation marks or brackets
    between), and with `。`, `！` or `？`. None of these ends one: the point of a number (3.14) or a
    list's number (`1.` at a line's beginning), an abbreviation, initials (U.S.), a factorial
    (`5!`), marks that stand alone (`1, 2, ...`).

    In most vocabularies the white space comes with the next word, which would so become part of
    the step before, and no probe. Hence a token that ends in the mark ends the step at once behind
    a word of two letters or more, or a small letter, with which no abbreviation begins. A
    vocabulary that cuts `numpy.array` into three (SmolLM2's does, Qwen's does not) lets a step end
    in the middle of such names; with `at_once=False` steps end at white space only, wherever tokens
    end.

    Attributes:
        abbreviations: Words whose period ends no sentence; case does not matter.
        at_once: Whether a step may end before the white space.

    Raises:
        ConfigurationError: If the abbreviations are not words that end in a period.
    """

    abbreviations: tuple[str, ...] = ABBREVIATIONS
    at_once: bool = True

    def __post_init__(self) -> None:
        """Refuse abbreviations that could never match."""
        given: object = self.abbreviations
        words = (given,) if isinstance(given, str) else given
        if not isinstance(words, tuple | list) or not all(map(_is_abbreviation, words)):
            msg = (
                f"steps: abbreviations must be words that end in a period, for instance "
                f"Sentences(('Dr.', 'e.g.')), not {given!r}"
            )
            raise ConfigurationError(msg)
        object.__setattr__(self, "abbreviations", tuple(words))

    @property
    def delimiters(self) -> tuple[str, ...]:
        """There is none that the last token must contain."""
        return ()

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _SentenceSplitter(self)


def _is_abbreviation(word: object) -> bool:
    return (
        isinstance(word, str)
        and 1 < len(word) < _KEPT
        and word[-1] == "."
        and len(word.split()) == 1
    )


class _SentenceSplitter:
    """Remembers the last word, and whether it is its line's first."""

    __slots__ = (
        "_abbreviations",
        "_at_once",
        "_ended",
        "_first",
        "_newline",
        "_visible",
        "_word",
    )

    def __init__(self, rule: Sentences) -> None:
        self._abbreviations = frozenset(word.casefold()[:-1] for word in rule.abbreviations)
        self._at_once = rule.at_once
        self._visible = False  # whether the step shows a character
        self._newline = False  # whether the last character was one
        self._first = True
        self._word = ""
        self._ended: str | None = None  # the word's text before the mark at which a step ended

    def push(self, text: str) -> bool:
        found = False
        for character in text:
            if character.isspace():
                found = self._space(character == "\n") or found
            else:
                self._word = (self._word + character)[-_KEPT:]
                self._newline, self._visible = False, True
                found = character in _WIDE or found
        if self._at_once and text:
            found = self._ends_at_once() or found
        return found

    def _space(self, newline: bool) -> bool:
        """Take a white space; tell whether a step may end with it."""
        found = False
        if self._word:
            found = self._visible and self._ends_sentence(self._before_mark())
            self._first = self._first and not self._word.strip(_OPENERS)
            self._word, self._ended = "", None
        if newline:
            found = found or (self._newline and self._visible)
            self._first = True
        self._newline = newline
        return found

    def _before_mark(self) -> str:
        return self._word.rstrip(_CLOSERS).rstrip(_MARKS)

    def _ends_at_once(self) -> bool:
        before = self._before_mark()
        name = before.lstrip(_OPENERS)
        if not name[-2:].isalpha() or (len(name) == 1 and not name.islower()):
            return False  # `3.` may go on to `3.14`, `U.` to `U.S.`
        begun = f"{name.casefold()}."
        if any(f"{known}.".startswith(begun) for known in self._abbreviations):
            return False  # nor is `Ph.` over, which may go on to `Ph.D.`
        if not self._ends_sentence(before):
            return False
        self._ended = before
        return True

    def _ends_sentence(self, before: str) -> bool:
        """Tell whether the word, over, ends a sentence."""
        if before == self._ended:
            return False
        marks = self._word.rstrip(_CLOSERS)[len(before) :]
        name = before.lstrip(_OPENERS)
        if not marks or not name:
            return False
        if marks == ".":
            return not (
                name.casefold() in self._abbreviations
                or _INITIALS.fullmatch(name)
                or (self._first and _LABEL.fullmatch(name))
            )
        if not marks.strip("!"):
            return len(name) > 1 and not name[-1].isdigit() and name[-1] not in ")]}"
        return True

    def restart(self) -> None:
        self._visible = False
