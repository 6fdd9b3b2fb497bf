"""Before the first step: did a model open its thought itself?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from langchain_glimprouter.routing.options import Opening

Verdict = Literal["wait", "keep", "release"]
"""`wait`: undecided; `keep`: the tokens belong to the opening; `release`: they are a step's."""

_MOST_TOKENS = 16


class ThoughtOpening:
    """Separates `<think>` and its newline from the first step's first token.

    A model that opens its thought itself would otherwise have the tag probed, whose entropy says
    nothing about the step.

    Attributes:
        opened: Whether the tag was seen, by the prompt or in the model's text.
        spare: Visible text that stood behind the tag in its last token.
    """

    __slots__ = ("_tag", "_text", "_tokens", "opened", "spare")

    def __init__(self, tag: str, *, opened: bool) -> None:
        self._tag = tag
        self.opened = opened
        self.spare = ""
        self.restart()

    @classmethod
    def of(cls, opening: Opening, tag: str) -> ThoughtOpening | None:
        """Return the state for a prompt, or `None` where steps begin at once."""
        if opening in ("opened", "none"):
            return None
        return cls(tag, opened=opening == "tag")

    def restart(self) -> None:
        """Forget a model's attempt that was dropped."""
        self._text = ""
        self._tokens = 0

    def push(self, text: str) -> Verdict:
        """Take the next token's text and judge all tokens since the last verdict."""
        if self.opened:
            return "keep" if text.isspace() and not self.spare else "release"
        self._text += text
        self._tokens += 1
        seen = self._text.lstrip()
        if seen.startswith(self._tag):
            self.opened = True
            self.spare = seen[len(self._tag) :].lstrip()
            return "keep"
        if self._tag.startswith(seen) and self._tokens < _MOST_TOKENS:
            return "wait"
        self.restart()
        return "release"
