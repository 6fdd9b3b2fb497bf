"""Notices when a thought goes round in circles."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_CYCLE = 8
_SHORT = 40  # characters


class LoopGuard:
    """Watches for repeated steps, neighbouring or not.

    The published code ends a thought only at two equal neighbouring steps. Here a thought loops if
    its last steps repeat the steps just before them (a cycle of up to 8 steps; twice where the
    cycle is 40 characters or longer, else four times), or if one step of 40 characters or more
    appears for the third time anywhere. White space is ignored.
    """

    def __init__(self) -> None:
        self._recent: list[str] = []
        self._counts: Counter[str] = Counter()

    def remember(self, texts: Iterable[str]) -> None:
        """Take steps that were judged before, in a turn that goes on here."""
        for text in texts:
            step = " ".join(text.split())
            self._recent.append(step)
            if len(step) >= _SHORT:
                self._counts[step] += 1
        del self._recent[: -4 * _LONGEST_CYCLE]

    def push(self, text: str) -> bool:
        """Take a finished step's text; tell whether the thought loops."""
        step = " ".join(text.split())
        if not step:
            return self._cycles("")
        if len(step) >= _SHORT:
            self._counts[step] += 1
            if self._counts[step] >= 3:
                return True
        return self._cycles(step)

    def _cycles(self, step: str) -> bool:
        recent = self._recent
        recent.append(step)
        if len(recent) > 4 * _LONGEST_CYCLE:
            del recent[0]
        for period in range(1, _LONGEST_CYCLE + 1):
            cycle = recent[-period:]
            times = 2 if sum(map(len, cycle)) >= _SHORT else 4
            if len(recent) >= times * period and recent[-times * period :] == cycle * times:
                return True
        return False
