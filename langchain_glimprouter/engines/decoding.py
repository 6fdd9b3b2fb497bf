"""Token ids to text, a token at a time, at a cost that does not grow with the length."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

CONTEXT_TOKENS = 8
"""How many ids of a context decide on the text that follows (leading spaces, open characters)."""

_REPLACEMENT = "\ufffd"
_MOST_PENDING = 16  # a character has at most 4 bytes; beyond that the bytes are just invalid


def byte_alphabet() -> dict[int, int]:
    """Return what turns a byte-level token into its bytes, as Latin-1, by `str.translate`."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    foreign = dict.fromkeys(others, 0x100)  # no Latin-1, so `token_bytes` notices
    return foreign | {256 + n: byte for n, byte in enumerate(others)}


def token_bytes(token: str, alphabet: dict[int, int]) -> bytes:
    """Return the bytes of a byte-level token; an added token stands for itself."""
    try:
        return token.translate(alphabet).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


class ByteDecoder:
    """Decodes byte-level vocabularies (GPT-2, Qwen, Llama 3) exactly as a whole decode does.

    Bytes that cannot become a character turn into U+FFFD as soon as that is certain; bytes that
    still can stay pending until the token that completes them.
    """

    def __init__(self, table: Sequence[bytes], context: Sequence[int] = ()) -> None:
        self._table = table
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        for token_id in context[-CONTEXT_TOKENS:]:
            self.push(token_id)

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; empty inside a character."""
        # A padded vocabulary has ids without a token; they decode to nothing.
        return self._decode(self._table[token_id]) if token_id < len(self._table) else ""


class WindowDecoder:
    """Decodes any other vocabulary by decoding a few trailing ids again for each token.

    Needed where a token's text depends on its neighbours: SentencePiece drops the first token's
    leading space and writes rare characters as several byte tokens.
    """

    def __init__(self, decode: Callable[[list[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window = list(context[-CONTEXT_TOKENS:])
        while len(self._window) > 1 and decode(self._window).startswith(_REPLACEMENT):
            del self._window[0]  # the cut went through a character
        # An unfinished character at the end stays open, for the coming bytes to complete.
        known = len(self._window)
        while len(self._window) - known < 4 and decode(self._window[:known]).endswith(_REPLACEMENT):
            known -= 1
        self._known = decode(self._window[:known])
        self._settled = known

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; empty inside a character."""
        self._window.append(token_id)
        text = self._decode(self._window)
        pending = len(self._window) - self._settled
        if text.endswith(_REPLACEMENT) and pending < _MOST_PENDING:
            return ""
        new = text[len(self._known) :]
        if new:
            # What came last is all the context that the next token needs.
            del self._window[: self._settled]
            self._known = self._decode(self._window)
        elif len(self._window) > _MOST_PENDING:
            self._window.pop()
        self._settled = len(self._window)
        return new
