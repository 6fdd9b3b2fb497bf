"""What is known of a call's answer before it is written: its tools, and their format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_glimprouter.messages.bare_calls import BareCallReader, read_bare_call
from langchain_glimprouter.messages.tool_format import Reading
from langchain_glimprouter.messages.tool_use import ToolUse

if TYPE_CHECKING:
    from langchain_glimprouter.messages.tool_format import ToolFormat, ToolReader


@dataclass(slots=True)
class AnswerFormat:
    """Reads a call's answer.

    Attributes:
        use: The call's tools.
        format: How the model that answers writes tool calls; found when the call begins.
    """

    use: ToolUse = field(default_factory=ToolUse)
    format: ToolFormat | None = None

    def reader(self) -> ToolReader | None:
        """Return what reads the answer as it streams; `None` if it is plain text."""
        if self.format is None or not self.use.shown:
            return None
        return BareCallReader(self.format.reader(self.use), self.use.names)

    def read(self, text: str) -> Reading:
        """Read a whole answer."""
        if self.format is None or not self.use.shown:
            return Reading(text, [], [])
        read = read_bare_call(text, self.use.names) or self.format.read(self.use, text)
        if self.use.parallel is False:
            keep = 1 if read.calls else 0
            read = read._replace(calls=read.calls[:1], invalid=read.invalid[: 1 - keep])
        if (read.calls or read.invalid) and not read.content.strip():
            return read._replace(content="")
        return read
