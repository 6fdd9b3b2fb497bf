"""Tool calls of models that forget the tags: an answer that is nothing but a call's JSON.

Some models that were trained on `<tool_call>` (Qwen2.5-Coder) often write the JSON alone, or in a
code fence. Read as text it would end an agent's work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from langchain_glimprouter.messages.hermes import END, START, HermesReader, read_hermes

if TYPE_CHECKING:
    from langchain_glimprouter.messages.tool_format import CallDelta, Reading, ToolReader

_FENCE = re.compile(r"^\s*```(?:json)?\s*(?=\{)")
_FENCES = ("```json{", "```{")


def read_bare_call(text: str, names: Sequence[str]) -> Reading | None:
    """Return the call that an answer is, or `None` if it is something else.

    Args:
        text: A whole answer.
        names: Names of the bound tools.
    """
    if _verdict(text, names) != "call":
        return None
    return read_hermes(f"{START}{_body(text)}{END}")


class BareCallReader:
    """Holds the beginning of an answer back until it is clear whether it is a bare call.

    Args:
        inner: Reads every other answer.
        names: Names of the bound tools.
    """

    def __init__(self, inner: ToolReader, names: Sequence[str]) -> None:
        self._reader = inner
        self._names = names
        self._held: str | None = ""

    def push(self, text: str) -> Sequence[str | CallDelta]:
        """Take text; see `ToolReader.push`."""
        if self._held is None:
            return self._reader.push(text)
        self._held += text
        verdict = _verdict(self._held, self._names)
        if verdict == "perhaps":
            return ()
        held, self._held = self._held, None
        if verdict == "call":
            self._reader = HermesReader()
            held = START + _body(held, whole=False)
        return self._reader.push(held)

    def finish(self) -> Sequence[str | CallDelta]:
        """Return what was held back."""
        held, self._held = self._held, None
        return [*(self._reader.push(held) if held else ()), *self._reader.finish()]


def _body(text: str, *, whole: bool = True) -> str:
    """Return a call's JSON without its fence."""
    fence = _FENCE.match(text)
    if fence is None:
        return text
    body = text[fence.end() :]
    return body.rstrip().removesuffix("```") if whole else body


def _verdict(text: str, names: Sequence[str]) -> Literal["call", "perhaps", "no"]:
    seen = "".join(text.split())  # where blanks stand does not matter
    for fence in _FENCES:
        if fence.startswith(seen):
            return "perhaps"
        if seen.startswith(fence):
            seen = seen[len(fence) - 1 :]
            break
    for name in names:
        for key in ("arguments", "parameters"):
            head = f'{{"name":"{name}","{key}":{{'
            if seen.startswith(head):
                return "call"
            if head.startswith(seen):
                return "perhaps"
    return "no"
