"""Text that is not cut into steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_glimprouter.routing.steps.base import Splitter


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
