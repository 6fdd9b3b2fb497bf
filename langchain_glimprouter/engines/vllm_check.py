"""The look at a vLLM server before its first use: what it serves, and whether that will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from langchain_glimprouter.engines.base import (
    MAX_TOP_LOGPROBS,
    GenerationRequest,
    Sampling,
)
from langchain_glimprouter.engines.vllm_connection import VLLMConnection, error_message
from langchain_glimprouter.engines.vllm_protocol import (
    CompletionsEndpoint,
    Endpoint,
    NoTokenIdsError,
    ServerRefusalError,
    TokensEndpoint,
)
from langchain_glimprouter.errors import ConfigurationError, EngineDeadError

_SAMPLING_DEFAULTS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop_token_ids",
)


@dataclass(frozen=True)
class ServedModel:
    """A model as its server serves it.

    Attributes:
        name: What requests call it.
        root: Id or path that the server loaded the model, or an adapter's base, from.
        context_window: Most tokens of prompt and output together.
        endpoint: How to ask for it.
    """

    name: str
    root: str
    context_window: int
    endpoint: Endpoint


async def check_server(connection: VLLMConnection, model: str | None) -> ServedModel:
    """Find `model` on a server, or its only model, and try one token of it.

    Raises:
        ConfigurationError: If this is no vLLM server, the key or the model is wrong, or token ids
            or log-probabilities don't come back.
        EngineDeadError: If nothing answers.
    """
    name, root, window = await find_model(connection, model)
    endpoint: Endpoint | None = await _tokens_endpoint(connection, name)
    if endpoint is None:
        endpoint = CompletionsEndpoint()
        await _try_completions(connection, endpoint, name)
    return ServedModel(name, root, window, endpoint)


async def find_model(connection: VLLMConnection, model: str | None) -> tuple[str, str, int]:
    """Return the name, the root and the context window of `model`, or of a server's only model.

    Raises:
        ConfigurationError: If this is no vLLM server, or the key or the model is wrong.
        EngineDeadError: If nothing answers.
    """
    cards = await _model_cards(connection)
    card = _choose(cards, model, connection.root)
    base = next((other for other in cards if other["id"] == card.get("parent")), card)
    # Adapters don't tell their window.
    window = int(card.get("max_model_len") or base["max_model_len"])
    return str(card["id"]), str(base.get("root") or base["id"]), window


async def check_constraints(connection: VLLMConnection, served: ServedModel) -> None:
    """Find out whether a server knows structured outputs; older ones ignore what they don't.

    Raises:
        ConfigurationError: If it does not.
    """
    request = GenerationRequest(
        token_ids=[1],
        max_tokens=1,
        constraint={"regex": "a", "choice": ["a"]},  # two at once: whoever reads it refuses
    )
    body = served.endpoint.body(served.name, request.token_ids, request)
    try:
        async with aclosing(connection.stream(served.endpoint.path, body)) as chunks:
            async for _ in chunks:
                pass
    except ServerRefusalError as refusal:
        if refusal.status < 500:
            return
        raise await connection.failure(refusal) from refusal
    raise ConfigurationError(
        f"{connection.root} knows no structured outputs, so neither response_format, "
        f"with_structured_output nor an enforced tool_choice works with it: run vLLM 0.11 or later "
        f"there, or bind tools with tool_choice='auto'"
    )


async def _model_cards(connection: VLLMConnection) -> Sequence[Mapping[str, Any]]:
    response = await connection.get("/v1/models")
    if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise ConfigurationError(
            f"{connection.root} answered {response.status_code} ({error_message(response)}): pass "
            "the server's key as `api_key=`, or set VLLM_API_KEY"
        )
    if response.is_server_error:
        raise EngineDeadError(
            f"{connection.root} answered {response.status_code}: {error_message(response)}"
        )
    try:
        cards: list[dict[str, Any]] = response.json()["data"]
        ours = [card for card in cards if card["owned_by"] == "vllm" and card["id"]]
    except (ValueError, KeyError, TypeError):
        ours = []
    if not ours:
        raise ConfigurationError(
            f"base_url: {connection.root} is not a vLLM server (/v1/models: "
            f"{response.status_code} {response.reason_phrase}, no model that is owned by vLLM); "
            "routing needs token ids and log-probabilities: start one with `vllm serve`"
        )
    return ours


def _choose(
    cards: Sequence[Mapping[str, Any]], model: str | None, root: httpx.URL
) -> Mapping[str, Any]:
    served = ", ".join(repr(card["id"]) for card in cards)
    if model is None:
        # One model may go by several names.
        if len({card.get("root") for card in cards}) > 1:
            raise ConfigurationError(
                f"model: {root} serves several models; choose one with `model=`: {served}"
            )
        return cards[0]
    for card in cards:
        if card["id"] == model:
            return card
    raise ConfigurationError(f"model: {root} does not serve {model!r}; it serves {served}")


async def _tokens_endpoint(connection: VLLMConnection, name: str) -> TokensEndpoint | None:
    """Return the token-level endpoint, if the server offers it and it tells the same."""
    try:
        endpoint = TokensEndpoint(defaults=await _sampling_defaults(connection, name))
        await _try_token(connection, endpoint, name)
    except (ServerRefusalError, NoTokenIdsError):
        return None
    return endpoint


async def _sampling_defaults(connection: VLLMConnection, name: str) -> dict[str, Any]:
    response = await connection.post(
        "/v1/completions/render", {"model": name, "prompt": [1], "max_tokens": 1}
    )
    if response.is_error:
        raise ServerRefusalError(response.status_code, error_message(response))
    sampling = response.json()[0]["sampling_params"]
    return {key: sampling[key] for key in _SAMPLING_DEFAULTS if sampling.get(key) is not None}


async def _try_completions(
    connection: VLLMConnection, endpoint: CompletionsEndpoint, name: str
) -> None:
    try:
        await _try_token(connection, endpoint, name)
    except NoTokenIdsError:
        raise ConfigurationError(
            f"base_url: {connection.root} returns no token ids or not {MAX_TOP_LOGPROBS} "
            "log-probabilities a token, which routing needs; connect to the vLLM server itself, "
            f"run with `--max-logprobs {MAX_TOP_LOGPROBS}` or more"
        ) from None
    except ServerRefusalError as refusal:
        if "logprobs" in refusal.message:
            raise ConfigurationError(
                f"{connection.root} gives fewer than {MAX_TOP_LOGPROBS} log-probabilities a token "
                f"({refusal.message}); start it with `--max-logprobs {MAX_TOP_LOGPROBS}` or more"
            ) from refusal
        raise await connection.failure(refusal) from refusal


async def _try_token(connection: VLLMConnection, endpoint: Endpoint, name: str) -> None:
    request = GenerationRequest(
        token_ids=[1],
        max_tokens=1,
        sampling=Sampling(temperature=0.0),
        top_logprobs=MAX_TOP_LOGPROBS,
    )
    body = endpoint.body(name, request.token_ids, request)
    seen = 0
    async with aclosing(connection.stream(endpoint.path, body)) as chunks:
        async for chunk in chunks:
            for choice in chunk.get("choices", ()):
                delta = endpoint.delta(choice, MAX_TOP_LOGPROBS)
                for position in delta.top_logprobs or ():
                    if len(position.logprobs) == MAX_TOP_LOGPROBS:
                        seen += 1
    if seen != 1:
        raise NoTokenIdsError
