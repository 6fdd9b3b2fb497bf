"""One HTTP connection pool to a vLLM server: retries, streams, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import SecretStr
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from langchain_glimprouter.engines.vllm_protocol import ServerRefusalError
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
)

CONNECT_SECONDS = 5.0
CHECK_SECONDS = 10.0
"""Most seconds to wait for what a server answers without computing."""

# A server that is gone is told within a second; one that is busy is worth a wait.
_GONE_SECONDS = 0.2
_HEALTH_SECONDS = 0.5
_BUSY = frozenset(
    {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE}
)
_JSON = {"Content-Type": "application/json"}
_LOST = (httpx.NetworkError, httpx.RemoteProtocolError)


def parse_base_url(base_url: str) -> httpx.URL:
    """Return the server's root, for a URL with or without `/v1`.

    Raises:
        ConfigurationError: If this is no usable URL.
    """
    try:
        url = httpx.URL(base_url.strip())
    except (httpx.InvalidURL, AttributeError, TypeError) as error:
        raise ConfigurationError(f"base_url: not a URL ({error}); {_URL_HINT}") from None
    if url.userinfo:
        raise ConfigurationError(
            "base_url: takes no user name or password; pass `api_key=`, or an `Authorization` "
            "header in `headers=`"
        )
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"base_url: {base_url!r} is not an http(s) URL; {_URL_HINT}")
    if url.query or url.fragment:
        raise ConfigurationError(f"base_url: {base_url!r} has a query or fragment; {_URL_HINT}")
    return url.copy_with(path=url.path.rstrip("/").removesuffix("/v1").rstrip("/"))


_URL_HINT = "give the address that `vllm serve` listens on, such as 'http://localhost:8000'"


class VLLMConnection:
    """What goes over the wire to one server. It belongs to the event loop that first uses it.

    Args:
        root: The server's root URL.
        api_key: Sent as bearer token.
        timeout: Most seconds to wait for the next token; `None` for no limit.
        max_retries: How often a request is sent again, as long as no token of it has come.
        headers: More headers of every request.
        verify: Whether to check TLS certificates, or the path of a CA bundle to check them with.
    """

    def __init__(
        self,
        root: httpx.URL,
        *,
        api_key: SecretStr | None,
        timeout: float | None,
        max_retries: int,
        headers: Mapping[str, str],
        verify: bool | str,
    ) -> None:
        self.root = root
        self._max_retries = max_retries
        context: ssl.SSLContext | bool
        if root.scheme == "http":
            context = False  # nothing to check, and loading the certificates takes 0.1 s
        elif isinstance(verify, str):
            context = ssl.create_default_context(cafile=verify)
        else:
            context = verify
        self._client = httpx.AsyncClient(
            base_url=root,
            headers=dict(headers)
            | ({"Authorization": f"Bearer {api_key.get_secret_value()}"} if api_key else {}),
            verify=context,
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS, pool=None),
            # A turn holds one connection at a time. vLLM closes idle ones after 5 s; ours go first.
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=1000, keepalive_expiry=4.0
            ),
        )

    async def aclose(self) -> None:
        """Close every connection, which aborts the requests on them."""
        await self._client.aclose()

    async def get(self, path: str, *, timeout: float = CHECK_SECONDS) -> httpx.Response:
        """Get a small document, whatever its status.

        Raises:
            EngineDeadError: If nothing answers.
        """
        try:
            return await self._client.get(path, timeout=timeout)
        except httpx.TransportError as error:
            raise self._lost(error) from error

    async def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Post something that is answered without computing.

        Raises:
            EngineDeadError: If nothing answers.
        """
        try:
            return await self._client.post(path, json=body, timeout=CHECK_SECONDS)
        except httpx.TransportError as error:
            raise self._lost(error) from error

    async def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Post, and yield the chunks that the server streams. Closing it aborts the request.

        Raises:
            ServerRefusalError: If the server answers with an error.
            EngineDeadError: If the server is gone, or goes in mid-stream.
            EngineRequestError: If nothing came for too long.
        """
        # Encoded once for all attempts: the whole context is in it.
        content = _encoded(body)
        all_headers = _JSON | dict(headers or {})
        try:
            async for attempt in self._attempts():
                with attempt:
                    # A failed or cancelled attempt ends the generator, and so its request.
                    chunks = self._attempt(path, content, all_headers)
                    chunk = await anext(chunks)
            async with aclosing(chunks):
                yield chunk
                async for chunk in chunks:
                    yield chunk
        except httpx.TransportError as error:
            raise self._broken(error) from error

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post, and return the answer as soon as it is computed. Cancelling aborts the request.

        Raises:
            ServerRefusalError: If the server answers with an error, or no JSON.
            EngineDeadError: If the server is gone.
            EngineRequestError: If nothing came for too long.
        """
        content = _encoded(body)
        try:
            async for attempt in self._attempts():
                with attempt:
                    response = await self._client.post(path, content=content, headers=_JSON)
                    if response.is_error:
                        raise ServerRefusalError(response.status_code, error_message(response))
        except httpx.TransportError as error:
            raise self._broken(error) from error
        try:
            return response.json()
        except ValueError:
            text = response.text[:200]
            raise ServerRefusalError(httpx.codes.BAD_GATEWAY, f"no JSON: {text!r}") from None

    def _attempts(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(self._worth_a_retry),
            stop=lambda state: stop_after_attempt(self._max_retries + 1)(state) or _gone(state),
            wait=wait_exponential(multiplier=0.2, max=5.0) + wait_random(0.0, 0.1),
            reraise=True,
        )

    async def _attempt(
        self, path: str, content: bytes, headers: Mapping[str, str]
    ) -> AsyncGenerator[dict[str, Any]]:
        complete, empty = False, True
        try:
            async with self._client.stream(
                "POST", path, content=content, headers=headers
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise ServerRefusalError(response.status_code, error_message(response))
                # Read on after the last event: only a connection at rest is used again.
                async for event in EventSource(response).aiter_sse():
                    if event.data == "[DONE]":
                        complete = True
                    else:
                        empty = False
                        yield _chunk(event.data)
        except httpx.TransportError:
            if not complete:
                raise
        except SSEError as error:
            raise ServerRefusalError(
                httpx.codes.BAD_GATEWAY, f"no event stream: {error}"
            ) from error
        if not complete or empty:
            raise httpx.RemoteProtocolError("the stream ended before its last chunk")

    async def failure(self, refusal: ServerRefusalError) -> EngineError:
        """Return what a refused request means for its caller."""
        message = f"{self.root} answered {refusal.status}: {refusal.message}"
        if refusal.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return EngineRequestError(f"{message}; check `api_key`")
        # An engine that died behind a living front end answers 500 until the server ends itself.
        if refusal.status >= httpx.codes.INTERNAL_SERVER_ERROR and not await self.alive():
            return EngineDeadError(message)
        return EngineRequestError(message)

    async def alive(self) -> bool:
        """Whether the server and its engine still run, as far as a short look tells."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                response = await self._client.get("/health")
        except (TimeoutError, httpx.TransportError):
            return False
        return not response.is_server_error

    def _worth_a_retry(self, error: BaseException) -> bool:
        busy = isinstance(error, ServerRefusalError) and error.status in _BUSY
        # Whoever closes the client breaks its requests off.
        return (busy or isinstance(error, _LOST)) and not self._client.is_closed

    def _broken(self, error: httpx.TransportError) -> EngineError:
        """Return what a request that was broken off means for its caller."""
        if isinstance(error, httpx.ConnectTimeout) or not isinstance(error, httpx.TimeoutException):
            return self._lost(error)
        return EngineRequestError(
            f"{self.root} sent nothing for {self._client.timeout.read:g} s; raise `timeout` if "
            "the server is only busy"
        )

    def _lost(self, error: httpx.TransportError) -> EngineError:
        if isinstance(
            error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.ProxyError
        ):
            return EngineError(f"cannot ask {self.root}: {error}")
        return EngineDeadError(
            f"no vLLM server answers at {self.root} ({_cause(error)}); "
            "start it, or correct `base_url`"
        )


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def error_message(response: httpx.Response) -> str:
    """Return what an error response says, in the server's own words."""
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError):
        return response.text[:500]
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _chunk(data: str) -> dict[str, Any]:
    try:
        chunk: dict[str, Any] = json.loads(data)
        error = chunk.get("error")
    except (ValueError, AttributeError):
        raise ServerRefusalError(httpx.codes.BAD_GATEWAY, f"no chunk: {data[:200]!r}") from None
    if error:
        raise ServerRefusalError(int(error.get("code") or 500), str(error.get("message")))
    return chunk


def _gone(state: RetryCallState) -> bool:
    lost = state.outcome is not None and isinstance(state.outcome.exception(), _LOST)
    again = state.attempt_number > 1  # a busy machine may take that long to see one loss
    return lost and again and (state.seconds_since_start or 0) > _GONE_SECONDS


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
