"""A model's tokenizer and chat template, as the router sees them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.engines.decoding import (
    ByteDecoder,
    WindowDecoder,
    byte_alphabet,
    token_bytes,
)
from langchain_glimprouter.engines.model_files import (
    ModelFacts,
    local_model_path,
    read_chat_template,
    read_model_facts,
    reading,
)
from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from langchain_glimprouter.engines.base import TokenDecoder

_loading = threading.Lock()
_MODEL = ',"model":'


def _split_state(backend: Tokenizer) -> tuple[dict[str, Any], str]:
    """Return a tokenizer's settings, and its model (megabytes of vocabulary) unparsed."""
    head, _, model = backend.to_str().partition(_MODEL)
    settings: dict[str, Any] = json.loads(head + "}")
    return settings, model


class HFVocabulary:
    """A `Vocabulary` over a tokenizer of `transformers`.

    Args:
        tokenizer: A loaded tokenizer; a fast one is quicker.
        size: Width of the model's distribution, which may be padded beyond the tokenizer's tokens.
        eos_ids: Ids that end a text.
        chat_template: A template's source to use in place of the tokenizer's own.
        name: What errors call the model.
    """

    def __init__(
        self,
        tokenizer: Any,
        size: int,
        eos_ids: frozenset[int],
        chat_template: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name or getattr(tokenizer, "name_or_path", None) or "the model"
        self._size = size
        self._eos_ids = frozenset(eos_ids)
        self._template = chat_template
        self._containing: dict[str, frozenset[int]] = {}
        self._lock = threading.RLock()
        backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            # Both are state of the loaded file and would cut or pad what we encode.
            if backend.truncation is not None:
                backend.no_truncation()
            if backend.padding is not None:
                backend.no_padding()
        self._backend = backend

    @property
    def size(self) -> int:
        """Width of the model's distribution, in tokens."""
        return self._size

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        return self._eos_ids

    @property
    def chat_template(self) -> str | None:
        """The template's source, or `None` if there is none."""
        if self._template is not None:
            return self._template
        own = getattr(self.tokenizer, "chat_template", None)
        if isinstance(own, dict):  # several named ones; rendering picks by whether tools are given
            own = own.get("default") or next(iter(own.values()), None)
        return own or None

    @property
    def fingerprint(self) -> str:
        """Equal for two vocabularies iff the same ids mean the same tokens."""
        with self._lock:
            return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        if self._backend is None:
            state: Any = {
                "vocab": sorted(self.tokenizer.get_vocab().items()),
                "added": {i: str(t) for i, t in self.tokenizer.added_tokens_decoder.items()},
            }
        else:
            state, model = _split_state(self._backend)
            # Not what ids mean: how a batch is cut, and what is put around a text.
            for key in ("truncation", "padding", "post_processor", "version"):
                state.pop(key, None)
            # Flags of added tokens (special or not) differ between exports of one tokenizer.
            state["added_tokens"] = [[t["id"], t["content"]] for t in state["added_tokens"]]
            state["model"] = hashlib.sha256(model.encode()).hexdigest()
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Encode plain text, adding nothing; see `Vocabulary.encode`."""
        if self._backend is None:
            ids = self.tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=not special
            )
            return list(ids)
        backend = self._backend if special else self._plain_backend
        return list(backend.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _plain_backend(self) -> Tokenizer:
        """A copy that does not know the tokens which text must not forge.

        `encode_special_tokens` does not do: `</think>` is an added token, yet often no special
        one. White space stays, which some vocabularies (Gemma, Phi) keep among the added tokens.
        """
        from tokenizers import Tokenizer

        assert self._backend is not None
        with self._lock:
            state, model = _split_state(self._backend)
            state["added_tokens"] = [
                token
                for token in state["added_tokens"]
                if not token["special"] and not token["content"].strip()
            ]
            return Tokenizer.from_str(f"{json.dumps(state)[:-1]}{_MODEL}{model}")

    def encode_whole(self, text: str, *, bos: bool = True) -> list[int]:
        """Encode a whole text with all that the tokenizer puts around it.

        Special tokens spelled out in it become those tokens.

        Args:
            text: What to encode.
            bos: Whether it begins with the BOS token, where there is one; some tokenizers have one
                and leave it to their users.
        """
        encode = self.tokenizer.encode if self._backend is None else self._backend.encode
        encoded: Any = encode(text, add_special_tokens=True)
        ids = list(encoded if self._backend is None else encoded.ids)
        first = self.tokenizer.bos_token_id
        return [first, *ids] if bos and first is not None and ids[:1] != [first] else ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode ids, special tokens included."""
        ids = list(token_ids)
        if self._backend is not None:
            return self._backend.decode(ids, skip_special_tokens=False)
        return str(
            self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def decoder(self, context: Sequence[int] = ()) -> TokenDecoder:
        """Return a new incremental decoder that stands behind `context`."""
        table = self._byte_table
        if table is not None:
            return ByteDecoder(table, context)
        return WindowDecoder(self.decode, context)

    @cached_property
    def _byte_table(self) -> tuple[bytes, ...] | None:
        """Every token's bytes, if the vocabulary is a byte-level one."""
        from tokenizers.decoders import ByteLevel

        if self._backend is None or not isinstance(self._backend.decoder, ByteLevel):
            return None
        with self._lock:
            alphabet = byte_alphabet()
            vocabulary = self._backend.get_vocab(with_added_tokens=True)
            table = [b""] * (max(vocabulary.values(), default=-1) + 1)
            for token, token_id in vocabulary.items():
                table[token_id] = token_bytes(token, alphabet)
            return tuple(table)

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        """Every token's text behind other text."""
        if self._byte_table is not None:
            return tuple(token.decode("utf-8", "replace") for token in self._byte_table)
        # Behind a letter, since SentencePiece drops the leading space of a first token.
        anchor = self.encode("a")[-1:]
        skip = len(self.decode(anchor))
        ids = range(len(self.tokenizer))
        if self._backend is None:
            return tuple(self.decode([*anchor, token_id])[skip:] for token_id in ids)
        batch = [[*anchor, token_id] for token_id in ids]
        texts = self._backend.decode_batch(batch, skip_special_tokens=False)
        return tuple(text[skip:] for text in texts)

    def ids_containing(self, text: str) -> frozenset[int]:
        """Return every id whose text contains `text`."""
        with self._lock:
            if text not in self._containing:
                found = (i for i, token in enumerate(self._texts) if text in token)
                self._containing[text] = frozenset(found)
            return self._containing[text]

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **template_kwargs: Any,
    ) -> str:
        """Render a conversation with this model's own chat template; see `Vocabulary.render`."""
        from jinja2 import TemplateError

        template = template_kwargs.pop("chat_template", None)  # a template for this one call
        if template is None and self.chat_template is None:
            raise ConfigurationError(
                f"The tokenizer of {self.name!r} has no chat template. Give the engine one: "
                "`chat_template=` takes the template's text or the path of a .jinja file."
            )
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tools=[dict(tool) for tool in tools] if tools else None,
                    chat_template=template or self._template,
                    add_generation_prompt=True,
                    tokenize=False,
                    **template_kwargs,
                )
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ConfigurationError(
                f"The chat template of {self.name!r} refuses these messages: {error}. Change the "
                "messages, or give the engine another template with `chat_template=`."
            ) from error


def load_vocabulary(
    model: str,
    *,
    tokenizer: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    size: int | None = None,
) -> HFVocabulary:
    """Load a model's vocabulary; the same arguments give the same object.

    Args:
        model: A Hugging Face model id or a local folder.
        tokenizer: Where the tokenizer is, if not with the model.
        revision: Branch, tag or commit of the model on the hub.
        trust_remote_code: Whether code that comes with the model may run.
        chat_template: A template's text, or the path of a .jinja file.
        size: Width of the model's distribution; from the model's config by default.

    Raises:
        ConfigurationError: If something is not there or cannot be read.
    """
    model = local_model_path(model)
    source = local_model_path(tokenizer, option="tokenizer") if tokenizer else model
    template = read_chat_template(chat_template)
    with _loading:
        return _load(model, source, revision, trust_remote_code, template, size)


@lru_cache(maxsize=16)
def _load(
    model: str,
    source: str,
    revision: str | None,
    trust_remote_code: bool,
    template: str | None,
    size: int | None,
) -> HFVocabulary:
    facts = ModelFacts()
    if size is None or Path(model).is_dir():
        facts = read_model_facts(model, revision=revision, trust_remote_code=trust_remote_code)
    with reading("tokenizer", source):
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(
            source,
            revision=revision if source == model else None,
            trust_remote_code=trust_remote_code,
        )
    eos_ids = set(facts.eos_ids)
    if loaded.eos_token_id is not None:
        eos_ids.add(int(loaded.eos_token_id))
    width = size or facts.vocab_size or len(loaded)
    return HFVocabulary(loaded, width, frozenset(eos_ids), template, name=model)
