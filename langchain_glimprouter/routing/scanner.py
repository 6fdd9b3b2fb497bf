"""Finds marker strings in a stream of text without ever showing part of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Scanner:
    """Passes text on until a marker appears.

    Text that may be the beginning of a marker is held back until the next text decides.

    Attributes:
        held: Text held back so far.
        found: The marker that appeared, or `None`.
        after: Text behind the marker.
    """

    __slots__ = ("_firsts", "_longest", "_markers", "after", "found", "held")

    def __init__(self, markers: Sequence[str]) -> None:
        self._markers = tuple(markers)
        self._longest = max(map(len, self._markers), default=1) - 1
        self._firsts = frozenset(marker[0] for marker in self._markers)
        self.held = ""
        self.found: str | None = None
        self.after = ""

    def push(self, text: str) -> str:
        """Take text; return what is safe to show."""
        if self.found is not None:
            self.after += text
            return ""
        window = self.held + text if self.held else text
        first, last, marker = len(window), len(window) + 1, None
        for candidate in self._markers:  # the one that is complete first, however text comes in
            position = window.find(candidate)
            if position >= 0 and (position + len(candidate), position) < (last, first):
                first, last, marker = position, position + len(candidate), candidate
        if marker is not None:
            self.found, self.held = marker, ""
            self.after = window[last:]
            return window[:first]
        hold = self._hold(window)
        self.held = window[len(window) - hold :]
        return window[: len(window) - hold] if hold else window

    def flush(self) -> str:
        """Return the held text: no more will come."""
        held, self.held = self.held, ""
        return held

    def _hold(self, window: str) -> int:
        """Length of the longest end of `window` that begins a marker."""
        if self._firsts.isdisjoint(window[-self._longest :]):
            return 0
        for length in range(min(self._longest, len(window)), 0, -1):
            end = window[-length:]
            for marker in self._markers:
                if marker.startswith(end):
                    return length
        return 0
