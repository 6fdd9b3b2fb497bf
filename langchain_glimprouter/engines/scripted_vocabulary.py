"""A vocabulary without a model, for tests: words or characters, numbered as they appear."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any, Literal

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Unit = Literal["words", "characters"]

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
_SPECIAL = (USER, ASSISTANT, END, "<|system|>", "<|tool|>", "<think>", "</think>")
FILLERS = range(len(_SPECIAL), len(_SPECIAL) + 128)
"""Ids of tokens that no text has: the unlikely rest of a distribution."""

_SPECIAL_PATTERN = re.compile("(" + "|".join(map(re.escape, _SPECIAL)) + ")")
_WORD = re.compile(r"[^\S\n]*[^\s]+\n*|\s+")


class _Table:
    """Ids of one unit, shared by the process, so that equal text has equal ids everywhere."""

    def __init__(self) -> None:
        self.texts: list[str] = [*_SPECIAL, *(f"<filler {index}>" for index in FILLERS)]
        self.ids: dict[str, int] = {}
        self._lock = threading.Lock()

    def id(self, text: str) -> int:
        found = self.ids.get(text)
        if found is None:
            with self._lock:
                found = self.ids.get(text)
                if found is None:
                    found = len(self.texts)
                    self.texts.append(text)
                    self.ids[text] = found
        return found


_TABLES: dict[Unit, _Table] = {"words": _Table(), "characters": _Table()}


class ScriptedVocabulary:
    """Cuts text into words (with the blank before and the newlines behind) or characters.

    Special tokens (`<think>`, `<|end|>` …) have ids of their own, which plain text never gets.

    Args:
        unit: What a token is. Two units make two different vocabularies.
        size: Width of the pretended distribution, in tokens.
        opens_thought: Whether the chat template opens `<think>` itself.
    """

    def __init__(
        self, unit: Unit = "words", size: int = 50_000, *, opens_thought: bool = False
    ) -> None:
        self.unit = unit
        self.size = size
        self.opens_thought = opens_thought
        self._table = _TABLES[unit]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the table out: it belongs to the process."""
        return {name: value for name, value in vars(self).items() if name != "_table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take this process's table."""
        vars(self).update(state, _table=_TABLES[state["unit"]])

    @property
    def fingerprint(self) -> str:
        """Equal for equal units."""
        return f"scripted-{self.unit}"

    @property
    def eos_ids(self) -> frozenset[int]:
        """The id of `<|end|>`."""
        return frozenset((_SPECIAL.index(END),))

    @property
    def chat_template(self) -> str:
        """A description; rendering is done in Python."""
        return "<|role|>content<tool_call>{…}</tool_call><|end|>"

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Encode text; see `Vocabulary.encode`."""
        if not special:
            return [self._table.id(piece) for piece in self.pieces(text)]
        ids: list[int] = []
        for piece in _SPECIAL_PATTERN.split(text):
            if piece in _SPECIAL:
                ids.append(_SPECIAL.index(piece))
            else:
                ids.extend(self._table.id(part) for part in self.pieces(piece))
        return ids

    def token(self, text: str) -> int:
        """Return the id of one token spelled `text`, whatever the unit."""
        return _SPECIAL.index(text) if text in _SPECIAL else self._table.id(text)

    def pieces(self, text: str) -> list[str]:
        """Cut plain text into the texts of its tokens."""
        return list(text) if self.unit == "characters" else _WORD.findall(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode ids."""
        texts = self._table.texts
        return "".join([texts[token_id] for token_id in token_ids])

    def decoder(self, context: Sequence[int] = ()) -> _Decoder:
        """Return an incremental decoder."""
        del context
        return _Decoder(self._table.texts)

    def ids_containing(self, text: str) -> frozenset[int]:
        """Return every id known so far whose text contains `text`."""
        return frozenset(index for index, known in enumerate(self._table.texts) if text in known)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **template_kwargs: Any,
    ) -> str:
        """Render a conversation as `<|role|>content<|end|>…<|assistant|>`."""
        if not messages:
            msg = "messages must not be empty: give at least one message"
            raise ConfigurationError(msg)
        parts = [f"<|system|>tools: {json.dumps(tools)}{END}"] if tools else []
        for message in messages:
            calls = "".join(
                f"<tool_call>{json.dumps(call['function'])}</tool_call>"
                for call in message.get("tool_calls", ())
            )
            parts.append(f"<|{message['role']}|>{message.get('content') or ''}{calls}{END}")
        thinks = template_kwargs.get("enable_thinking", self.opens_thought)
        return "".join(parts) + ASSISTANT + ("<think>\n" if thinks else "")


class _Decoder:
    __slots__ = ("_texts",)

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def push(self, token_id: int) -> str:
        return self._texts[token_id]
