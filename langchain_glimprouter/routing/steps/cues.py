"""Steps that end behind a cue word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_glimprouter.routing.steps.base import Splitter

CUES = (
    "Actually",
    "Again",
    "Ah",
    "Also",
    "Alternatively",
    "Another",
    "But",
    "Finally",
    "First",
    "Hence",
    "Hmm",
    "However",
    "Maybe",
    "Next",
    "Now",
    "Oh",
    "Second",
    "Similarly",
    "So",
    "Specifically",
    "Then",
    "Therefore",
    "Third",
    "Thus",
    "Wait",
)
"""Most are the candidates of arXiv 2602.06454, whose code picks among them by model."""

_MARKUP = frozenset("*_#>-–—•\"'“‘(")  # may stand before a line's first word
_JOINTS = frozenset("_-'’")  # `So-called` begins with no cue


@dataclass(frozen=True, slots=True)
class CueWords:
    """Steps end behind a cue word that begins a line (Wait, So, Therefore, First …).

    A step's end is told by its last token, so a step cannot end *before* a cue that is not written
    yet. As in RelayGen (arXiv 2602.06454), whose models switch behind the cue, the cue is the last
    of the step before, and the probe is the first token of what it leads up to. A word is over with
    the character behind it, so the token that brings that character ends the step: the comma of
    `Wait,`, but in `So the` the whole token ` the`. A cue that ends in another character than a
    letter or digit, such as `"Wait,"`, ends the step by itself.

    A cue before which the step shows nothing ends nothing, so that no step is only a cue. Case does
    not matter; Markdown's marks and quotation marks may stand before a cue.

    Attributes:
        cues: The words; they may hold blanks (`"On the other hand"`).

    Raises:
        ConfigurationError: If a cue could never, or always, match.
    """

    cues: tuple[str, ...] = CUES

    def __post_init__(self) -> None:
        """Refuse cues that could never, or always, match."""
        given: object = self.cues
        cues = (given,) if isinstance(given, str) else given
        if not isinstance(cues, tuple | list) or not cues or not all(map(_can_begin, cues)):
            msg = (
                f"steps: cues must be words of one line that begin with a letter or a digit, for "
                f"instance CueWords(('Wait', 'So')), not {given!r}"
            )
            raise ConfigurationError(msg)
        object.__setattr__(self, "cues", tuple(cues))

    @property
    def delimiters(self) -> tuple[str, ...]:
        """There is none that a token must contain."""
        return ()

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _CueSplitter(tuple(cue.casefold() for cue in self.cues))


def _can_begin(cue: object) -> bool:
    return isinstance(cue, str) and cue[:1].isalnum() and "\n" not in cue


class _CueSplitter:
    """Reads the beginning of each line up to where it is clear whether it is a cue."""

    __slots__ = ("_begun", "_cues", "_line", "_shown")

    def __init__(self, cues: tuple[str, ...]) -> None:
        self._cues = cues
        self._line: str | None = ""  # as far as it may begin with a cue; None behind that
        self._begun = False  # whether the step holds some of that
        self._shown = False  # whether the step shows text before it

    def push(self, text: str) -> bool:
        found = False
        for character in text:
            if self._line is not None:
                found = self._read(character, self._line) or found
            elif not character.isspace():
                self._shown = True
            if character == "\n":
                self._line = ""
        return found

    def _read(self, character: str, line: str) -> bool:
        """Take a character at a line's beginning; tell whether a cue is complete with it."""
        if not line and (character.isspace() or character in _MARKUP):
            return False
        longer = line + character.casefold()
        word = character.isalnum()
        over = not word and character not in _JOINTS
        cue = (over and line in self._cues) or (not word and longer in self._cues)
        if not cue and any(known.startswith(longer) for known in self._cues):
            self._line, self._begun = longer, True
            return False
        found = cue and self._shown
        self._shown = self._shown or self._begun or not character.isspace()
        self._line, self._begun = None, False
        return found

    def restart(self) -> None:
        self._begun = self._shown = False
