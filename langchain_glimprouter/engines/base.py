"""The protocol between the router and whatever makes tokens.

An engine knows no routing: it continues token ids, tells log-probabilities, and stops when its
generator is closed. A vocabulary knows no engine: it turns messages and text into ids and back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

FinishReason = Literal["stop", "length"]
"""`stop`: a stop token, a stop string or the end of text; `length`: `max_tokens` or the window."""

MAX_TOP_LOGPROBS = 20
"""vLLM's default limit (`max_logprobs`) on log-probabilities per position."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `None` leaves a setting to the engine's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Continuations of a list of token ids; one unless `n` says more.

    Attributes:
        token_ids: The whole context. It is the caller's *live* list, which may grow while the
            request runs: an engine takes what it needs before its first `await`.
        max_tokens: Most tokens to generate, of each continuation.
        sampling: How tokens are drawn.
        seed: Seed of this request alone, or `None`; continuation i draws with `seed + i`.
        top_logprobs: How many of the likeliest tokens' log-probabilities come with each position,
            before temperature and penalties; 0 for none.
        stop_token_ids: Tokens that end the request; the token itself is delivered.
        stop: Strings that end the request once they appear in the decoded output. All generated
            tokens are delivered. Detection happens outside the model's own loop, so a router that
            can name the tokens prefers `stop_token_ids`.
        session_id: Stable name of the conversation, for prefix affinity behind a load balancer.
        constraint: A grammar that the output must follow from its first token on, as keywords of
            vLLM's `StructuredOutputsParams`: exactly one of `json` (a schema), `json_object`,
            `regex`, `choice`, `grammar`, `structural_tag`, plus its options.
        n: How many continuations to draw. They run side by side over one computed context, each
            with randomness of its own, so greedy sampling allows no more than one.
    """

    token_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    top_logprobs: int = 0
    stop_token_ids: Sequence[int] = ()
    stop: Sequence[str] = ()
    session_id: str | None = None
    constraint: Mapping[str, Any] | None = None
    n: int = 1


class TopLogprobs(NamedTuple):
    """The likeliest tokens at one position, likeliest first, in nats.

    A sampled token outside the top k is not among them; its value is `sampled`.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    sampled: float


@dataclass(slots=True)
class GenerationDelta:
    """What an engine generated since the delta before.

    Attributes:
        token_ids: New tokens, stop tokens and end-of-text included; may hold several.
        top_logprobs: One entry a token (it may be computed when read), or `None` if unasked.
        finish_reason: Set on the last delta of each continuation.
        cached_tokens: On the first delta, how many context tokens the prefix cache held;
            `None` where the engine does not tell.
        index: Which continuation these tokens belong to, from 0; those of several come in turns.
    """

    token_ids: Sequence[int]
    top_logprobs: Sequence[TopLogprobs] | None = None
    finish_reason: FinishReason | None = None
    cached_tokens: int | None = None
    index: int = 0


class TokenDecoder(Protocol):
    """Turns a stream of ids into text, a token at a time."""

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; empty inside a character."""
        ...


class Vocabulary(Protocol):
    """A tokenizer with its chat template."""

    @property
    def size(self) -> int:
        """Width of the model's distribution, in tokens."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for two vocabularies iff the same ids mean the same tokens."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The template's source, or `None` if the tokenizer carries none."""
        ...

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Encode plain text, adding nothing.

        Args:
            text: What to encode.
            special: Whether special tokens spelled out in `text` (`</think>`) become those
                tokens. Off for text that a model wrote, which must not forge a turn's end.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode ids, special tokens included."""
        ...

    def decoder(self, context: Sequence[int] = ()) -> TokenDecoder:
        """Return a new incremental decoder that stands behind `context`."""
        ...

    def ids_containing(self, text: str) -> frozenset[int]:
        """Return every id whose text contains `text`."""
        ...

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **template_kwargs: Any,
    ) -> str:
        """Render a conversation with this model's own chat template, up to where it answers.

        Args:
            messages: OpenAI-style messages.
            tools: OpenAI-style tool schemas.
            **template_kwargs: Further variables of the template (`enable_thinking`);
                `chat_template` takes the template's place.

        Raises:
            ConfigurationError: If there is no template, or it refuses the messages.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """Where tokens come from. All coroutines run on one event loop (`engines/runtime.py`)."""

    @property
    def model(self) -> str:
        """Name of the model, as its users know it."""
        ...

    @property
    def max_top_logprobs(self) -> int:
        """Most log-probabilities per position that a request may ask for."""
        ...

    async def start(self) -> None:
        """Get ready to generate; safe to call again.

        Raises:
            EngineError: If the engine cannot start.
            ConfigurationError: If an option cannot work.
        """
        ...

    async def vocabulary(self) -> Vocabulary:
        """Return the model's vocabulary, without starting the engine where that is possible."""
        ...

    async def context_window(self) -> int:
        """Return the most tokens of prompt and output together."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        """Continue `request.token_ids`; closing the generator aborts all of it.

        Raises:
            ConfigurationError: If the request asks for what cannot be.
            EngineError: If the engine dies or refuses the request.
        """
        ...

    async def prefill(self, token_ids: Sequence[int]) -> None:
        """Compute `token_ids` into the prefix cache, where there is one."""
        ...

    async def aclose(self) -> None:
        """Release everything; the next use starts afresh."""
        ...
