"""What each model has before it: its prompt and the thought, in its own token ids."""

from __future__ import annotations

import functools
import re
import zlib
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.engines.base import TokenDecoder
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.options import Prompt
    from langchain_glimprouter.routing.pair import EnginePair

_SEED_TOKENS = 8

Owner = Literal["small", "large", "router"]
"""Who wrote something; the router writes a `</think>` that no model did."""


class Span(TypedDict):
    """Tokens that belong together: a step, what opened the thought, or what closed it by force.

    Attributes:
        owner: Who wrote them.
        tokens: How many, in the owner's vocabulary; in the small model's for the router.
        text: Their text as it was written, with tags.
    """

    owner: Owner
    tokens: int
    text: str


class Contexts:
    """Token ids per model; grows only at the end, so that prefix caches stay warm.

    With one vocabulary, an id goes to both models as it is. With two, a finished step's text is
    encoded once for the model that did not write it. Nothing is ever encoded twice.

    Attributes:
        token_ids: Live lists by role.
        eos_ids: Ids that end a text, by role.
        prompts: As they were rendered, by role.
        prompt_tokens: Length of the prompt: the large model's, or the only one's.
        spans: Who wrote what behind the prompt, up to the last finished step.
    """

    def __init__(
        self, pair: EnginePair, prompts: Mapping[Role, Prompt], tags: tuple[str, str]
    ) -> None:
        self._vocabularies = pair.vocabularies
        self._shared = pair.shared_vocabulary
        self.prompts = prompts
        self._tags = re.compile(f"({'|'.join(map(re.escape, tags))})")
        self.token_ids: dict[Role, list[int]] = {
            role: list(prompts[role].token_ids) for role in pair.engines
        }
        self.eos_ids = {role: pair.vocabularies[role].eos_ids for role in pair.engines}
        main = self.token_ids.get("large") or self.token_ids["small"]
        self.prompt_tokens = len(main)
        self._decoder: TokenDecoder | None = None
        self._writer: Role | None = None
        self._raw: list[str] = []
        self._synced = 0
        self.spans: list[Span] = []
        self._spanned = 0  # of `_raw`
        self._open_tokens = 0  # behind the last span

    @functools.cached_property
    def prompt_key(self) -> int:
        """A number that tells prompts apart."""
        return zlib.crc32("\0".join(prompt.text for prompt in self.prompts.values()).encode())

    def decoder(self, role: Role) -> TokenDecoder:
        """Return a new decoder that stands at the end of a model's context."""
        return self._vocabularies[role].decoder(self.token_ids[role][-_SEED_TOKENS:])

    def append(self, role: Role, token_id: int) -> str:
        """Append a model's token; return the text that it completes."""
        if self._decoder is None or (self._writer != role and not self._shared):
            self.sync()
            self._decoder = self.decoder(role)
        self._writer = role
        if self._shared:
            for ids in self.token_ids.values():
                ids.append(token_id)
        else:
            self.token_ids[role].append(token_id)
        self._open_tokens += 1
        text = self._decoder.push(token_id)
        if text:
            self._raw.append(text)
        return text

    def insert(self, text: str) -> None:
        """Append text that no model wrote, with special tokens in it."""
        self.sync()
        for role, ids in self.token_ids.items():
            encoded = self._vocabularies[role].encode(text, special=True)
            ids.extend(encoded)
            self._open_tokens = self._open_tokens or len(encoded)
        self._raw.append(text)
        self._synced = len(self._raw)
        self._decoder = None
        self.close_span("router")

    def close_span(self, owner: Owner) -> None:
        """Note who wrote what came since the last span."""
        text = "".join(self._raw[self._spanned :])
        self._spanned = len(self._raw)
        self.spans.append(Span(owner=owner, tokens=self._open_tokens, text=text))
        self._open_tokens = 0

    def resume(self, token_ids: Mapping[Role, Sequence[int]], spans: Sequence[Span]) -> None:
        """Go on behind what was written before, given what follows each prompt."""
        for role, ids in self.token_ids.items():
            ids.extend(token_ids[role])
        self.spans = list(spans)
        self._raw = [span["text"] for span in spans]
        self._synced = self._spanned = len(self._raw)

    def written(self, role: Role) -> list[int]:
        """Return a model's token ids behind its prompt."""
        self.sync()
        return self.token_ids[role][len(self.prompts[role].token_ids) :]

    def sync(self) -> None:
        """Encode what one model wrote since the last call for one that reads differently."""
        if self._shared or self._writer is None or self._synced == len(self._raw):
            return
        text = "".join(self._raw[self._synced :])
        self._synced = len(self._raw)
        for role, ids in self.token_ids.items():
            if role != self._writer:
                vocabulary = self._vocabularies[role]
                for index, piece in enumerate(self._tags.split(text)):
                    ids.extend(vocabulary.encode(piece, special=index % 2 == 1))

    def text(self, role: Role) -> str:
        """Return the whole context as text, as this model's template rendered it."""
        return self.prompts[role].text + "".join(self._raw)
