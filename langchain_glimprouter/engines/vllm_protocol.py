"""The two endpoints of a vLLM server that take and give token ids: bodies out, chunks in.

Both are asked so that the same tokens with the same log-probabilities come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from langchain_glimprouter.engines.base import (
    FinishReason,
    GenerationDelta,
    GenerationRequest,
    TopLogprobs,
)

_PREFIX = "token_id:"  # how vLLM spells a token by its id
_SKIP = len(_PREFIX)
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "repetition": "stop",
    "length": "length",
}


class ServerRefusalError(Exception):
    """The server answered with an error, at once or in mid-stream.

    Attributes:
        status: HTTP status, or the one that the error in the stream names.
        message: What the server said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class NoTokenIdsError(Exception):
    """The server's chunk does not tell its tokens' ids or log-probabilities."""


class Endpoint(Protocol):
    """How to ask one endpoint, and how to read what it streams."""

    @property
    def path(self) -> str:
        """Path below the server's root."""
        ...

    def body(
        self, model: str, token_ids: Sequence[int], request: GenerationRequest
    ) -> dict[str, Any]:
        """Return the JSON body that asks for `request`, continuing `token_ids`."""
        ...

    def delta(self, choice: Mapping[str, Any], top_logprobs: int) -> GenerationDelta:
        """Read one choice of a streamed chunk.

        Raises:
            NoTokenIdsError: If ids or log-probabilities are missing.
        """
        ...


@dataclass(frozen=True)
class CompletionsEndpoint:
    """`/v1/completions`, which every vLLM server has."""

    path: str = "/v1/completions"

    def body(
        self, model: str, token_ids: Sequence[int], request: GenerationRequest
    ) -> dict[str, Any]:
        """Return the JSON body that asks for `request`, continuing `token_ids`."""
        return {
            "model": model,
            "prompt": token_ids,
            "stream": True,
            "stream_options": {"include_usage": True},
            # Names tokens by id, where texts collide. With it, `logprobs` tells the ids too, and
            # `return_token_ids`, which echoes the whole prompt, isn't needed.
            "return_tokens_as_token_ids": True,
            "logprobs": request.top_logprobs,
            **_common(request),
            **_sampling(request),
        }

    def delta(self, choice: Mapping[str, Any], top_logprobs: int) -> GenerationDelta:
        """Read one choice of a streamed chunk."""
        logprobs = choice.get("logprobs") or {}
        tokens = logprobs.get("tokens", ())
        if (not logprobs and choice.get("text")) or (tokens and not tokens[0].startswith(_PREFIX)):
            raise NoTokenIdsError
        token_ids = [int(token[_SKIP:]) for token in tokens]
        delta = GenerationDelta(
            token_ids, finish_reason=_finish_reason(choice), index=choice.get("index") or 0
        )
        if top_logprobs:
            positions = zip(
                token_ids,
                logprobs.get("token_logprobs", ()),
                logprobs.get("top_logprobs", ()),
                strict=True,
            )
            delta.top_logprobs = [
                _ranked(
                    token_id,
                    sampled,
                    [int(token[_SKIP:]) for token in top],
                    list(top.values()),
                    # One more than asked for: the sampled token is none of the likeliest.
                    outside=len(top) > top_logprobs,
                )
                for token_id, sampled, top in positions
            ]
        return delta


@dataclass(frozen=True)
class TokensEndpoint:
    """`/inference/v1/generate`, token ids only; the server needs `--enable-scale-out`.

    Attributes:
        defaults: The server's own sampling defaults (from the model's `generation_config.json`),
            which this endpoint, unlike the other, leaves to the client.
    """

    path: str = "/inference/v1/generate"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def body(
        self, model: str, token_ids: Sequence[int], request: GenerationRequest
    ) -> dict[str, Any]:
        """Return the JSON body that asks for `request`, continuing `token_ids`."""
        sampling = {
            **self.defaults,
            **_common(request),
            **_sampling(request),
            "detokenize": bool(request.stop),
            "flat_logprobs": True,
        }
        if own := self.defaults.get("stop_token_ids"):
            sampling["stop_token_ids"] = [*own, *request.stop_token_ids]
        if request.top_logprobs:
            # The list is cut at what was asked for *with* the sampled token, so ask for one more.
            sampling["logprobs"] = request.top_logprobs + 1
        body = {
            "model": model,
            "token_ids": token_ids,
            "stream": True,
            "stream_options": {"include_usage": True},
            "sampling_params": sampling,
        }
        if request.constraint is not None:
            # It begins at the first token, whatever the prompt says about a thought.
            body["reasoning_ended"] = True
        return body

    def delta(self, choice: Mapping[str, Any], top_logprobs: int) -> GenerationDelta:
        """Read one choice of a streamed chunk."""
        delta = GenerationDelta(
            choice["token_ids"] or [],
            finish_reason=_finish_reason(choice),
            index=choice.get("index") or 0,
        )
        if top_logprobs:
            if delta.token_ids and not choice["logprobs"]:
                raise NoTokenIdsError
            delta.top_logprobs = [
                _ranked(
                    position["token_id"],
                    position["logprob"],
                    [top["token_id"] for top in position["top_logprobs"]],
                    [top["logprob"] for top in position["top_logprobs"]],
                    outside=(position["rank"] or 0) > top_logprobs,
                    limit=top_logprobs,
                )
                for position in (choice["logprobs"] or {}).get("content") or ()
            ]
        return delta


def cached_tokens(usage: Mapping[str, Any]) -> int | None:
    """Return how many prompt tokens came from the prefix cache, if the server tells."""
    value = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return None if value is None else int(value)


def _common(request: GenerationRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"max_tokens": request.max_tokens, "skip_special_tokens": False}
    if request.stop_token_ids:
        body["stop_token_ids"] = list(request.stop_token_ids)
    if request.stop:
        body["stop"] = list(request.stop)
        body["include_stop_str_in_output"] = True
    if request.seed is not None:
        body["seed"] = request.seed
    if request.constraint is not None:
        body["structured_outputs"] = dict(request.constraint)
    if request.n != 1:
        body["n"] = request.n
    return body


def _sampling(request: GenerationRequest) -> dict[str, Any]:
    # What is left out follows the server's `generation_config`.
    return {name: value for name, value in asdict(request.sampling).items() if value is not None}


def _finish_reason(choice: Mapping[str, Any]) -> FinishReason | None:
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    if reason not in _FINISH_REASONS:
        raise ServerRefusalError(500, f"the server broke the request off ({reason})")
    return _FINISH_REASONS[reason]


def _ranked(
    token_id: int,
    sampled: float,
    ids: list[int],
    logprobs: list[float],
    *,
    outside: bool,
    limit: int | None = None,
) -> TopLogprobs:
    """Put the sampled token, which vLLM lists first, where it ranks, or drop it.

    Args:
        token_id: The sampled token.
        sampled: Its log-probability.
        ids: The sampled token, then the likeliest without it.
        logprobs: Their log-probabilities.
        outside: Whether the sampled token is none of the likeliest.
        limit: How many to keep.
    """
    if outside:
        del ids[0], logprobs[0]
    elif len(ids) > 1 and logprobs[1] > sampled:
        del ids[0], logprobs[0]
        place = next((i for i, value in enumerate(logprobs) if value <= sampled), len(ids))
        ids.insert(place, token_id)
        logprobs.insert(place, sampled)
    return TopLogprobs(ids[:limit], logprobs[:limit], sampled)
