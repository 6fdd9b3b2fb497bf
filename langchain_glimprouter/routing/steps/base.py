"""What a rule of steps is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Splitter(Protocol):
    """Finds the step ends of one turn.

    Drafts are followed with copies (`copy.deepcopy`), which must go their own ways. A turn that was
    saved goes on with a new splitter, which is given each earlier step's text in one piece, so what
    it remembers across steps must not depend on how they were cut into tokens.
    """

    def push(self, text: str) -> bool:
        """Take a token's text; tell whether the step ends with this token.

        Called once per token. The text is empty where a token does not complete a character.
        """
        ...

    def restart(self) -> None:
        """Begin a new step, whatever the text so far.

        Follows every step end. Where a step goes on in spite of `push`, it is not called.
        """
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
