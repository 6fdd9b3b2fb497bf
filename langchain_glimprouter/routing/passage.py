"""A phase's text as it comes: what of it may be shown, and where its steps end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from langchain_glimprouter.routing.scanner import Scanner
from langchain_glimprouter.routing.steps import Steps, Whole

if TYPE_CHECKING:
    from langchain_glimprouter.routing.options import TurnOptions
    from langchain_glimprouter.routing.trace import Phase

PassageEnd = Literal["marker", "limit", "delimiter", "length"]
"""What ends with a token: the passage by a marker or its limit, or a step of it."""

CHARACTER_TOKENS = 8
"""No character takes more tokens; a step may grow by so many to end on a whole character or tag."""


class Passage:
    """The text of a thought or of an answer.

    Attributes:
        tokens: Its tokens so far.
        carried: Text that came before its first token, to be shown with it.
        trim: Whether leading white space is still to be dropped.
        scanner: Finds the thought's end tag or the answer's stop strings.
        splitter: Finds the ends of steps.
        markers: Finds what must not be split, as long as it may still come.
        unsplit: Whether it came: the rest is one step.
        step_limit: Most tokens of a step.
    """

    __slots__ = (
        "_grace",
        "carried",
        "markers",
        "scanner",
        "splitter",
        "step_limit",
        "tokens",
        "trim",
        "unsplit",
    )

    def __init__(
        self,
        phase: Phase,
        options: TurnOptions,
        steps: Steps,
        *,
        carried: str = "",
        trim: bool = False,
    ) -> None:
        thinking = phase == "thinking"
        self.tokens = 0
        self.carried = carried
        self.trim = trim
        self.scanner = Scanner(options.think_tags[1:] if thinking else options.stop)
        self.splitter = steps.splitter()
        self.step_limit = math.inf if isinstance(steps, Whole) else options.max_step_tokens
        marks = () if thinking else options.unsplit
        self.unsplit = False
        self.markers = Scanner(marks) if marks and all(marks) else None
        self._grace = max(map(len, marks), default=0)
        if not all(marks):  # the empty marker is there at once
            self.keep_whole()
        elif marks:
            self._look_for_markers(carried)

    def keep_whole(self) -> None:
        """Let no step end from here on."""
        self.unsplit = True
        self.markers = None
        self.splitter = Whole().splitter()
        self.step_limit = math.inf

    def show(self, text: str, *, last: bool = False) -> str:
        """Take text; return what is safe to show."""
        if self.carried:
            text, self.carried = self.carried + text, ""
        shown = self.scanner.push(text)
        if last:
            shown += self.scanner.flush()
        if self.trim:
            shown = shown.lstrip()
            self.trim = not shown
        return shown

    def ending(self, text: str, tokens: int, limit: int) -> PassageEnd | None:
        """Tell what ends with a token that was just shown and counted.

        Args:
            text: Its text.
            tokens: Tokens of its step so far.
            limit: Most tokens of the passage.
        """
        if self.scanner.found is not None:
            return "marker"
        if self.tokens >= limit:
            return "limit"
        if self.ends_step(text):
            return "delimiter"
        return "length" if self.must_cut(text, tokens) else None

    def ends_step(self, text: str) -> bool:
        """Take a token's text; tell whether a delimiter ends the step with it."""
        ends = self.splitter.push(text)
        if self.markers is None:
            return ends
        # A delimiter that brings the beginning of a marker along must not cut it off.
        return not self._look_for_markers(text) and ends

    def _look_for_markers(self, text: str) -> bool:
        """Take text; tell whether it holds a marker, or may be the beginning of one."""
        assert self.markers is not None
        self.markers.push(text)
        if self.markers.found is not None:
            self.keep_whole()
            return True
        return bool(self.markers.held)

    def must_cut(self, text: str, tokens: int) -> bool:
        """Tell whether a step of so many tokens ends for its length.

        It ends neither in mid-character nor in mid-tag nor in mid-marker.
        """
        if tokens < self.step_limit:
            return False
        grace = CHARACTER_TOKENS
        if self.markers is not None and self.markers.held:
            grace += self._grace
        elif text and not self.scanner.held:
            return True
        return tokens >= self.step_limit + grace
