"""The engine behind a URL: a vLLM server, asked with token ids."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from pydantic import SecretStr

from langchain_glimprouter.engines.base import (
    MAX_TOP_LOGPROBS,
    GenerationDelta,
    GenerationRequest,
    Vocabulary,
)
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_check import (
    ServedModel,
    check_constraints,
    check_server,
)
from langchain_glimprouter.engines.vllm_connection import VLLMConnection, parse_base_url
from langchain_glimprouter.engines.vllm_protocol import (
    NoTokenIdsError,
    ServerRefusalError,
    cached_tokens,
)
from langchain_glimprouter.engines.vllm_requests import unenforceable
from langchain_glimprouter.engines.vocabulary import load_vocabulary
from langchain_glimprouter.errors import ConfigurationError, EngineError, EngineRequestError


class VLLMServer:
    """A running vLLM server (`vllm serve …`), or a load balancer in front of several alike.

    Nothing is sent before the first use, which looks whether the server will do.

    Args:
        base_url: Where the server listens, with or without `/v1`.
        model: Name of the model as the server serves it; by default its only one.
        api_key: The server's key; by default the environment's `VLLM_API_KEY`.
        tokenizer: Id or path of the model's tokenizer, where what the server loaded (its `root`)
            can't be found from here.
        chat_template: A template's text or the path of a `.jinja` file, in place of the
            tokenizer's own.
        timeout: Most seconds to wait for the next token, the wait in the server's queue
            included; `None` for no limit.
        max_retries: How often a request is sent again when the server is busy or the connection
            fails, as long as no token of it has come.
        headers: More headers of every request.
        verify: Whether to check TLS certificates, or the path of a CA bundle to check them with.

    Raises:
        ConfigurationError: If an option cannot work.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key: SecretStr | str | None = None,
        tokenizer: str | None = None,
        chat_template: str | None = None,
        timeout: float | None = 120.0,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"timeout: {timeout} is no time to wait; give seconds > 0, or None for no limit"
            )
        if max_retries < 0:
            raise ConfigurationError(f"max_retries: {max_retries} is below 0")
        if isinstance(verify, str) and not Path(verify).is_file():
            raise ConfigurationError(f"verify: there is no CA bundle at {verify!r}")
        if api_key is None:
            api_key = os.environ.get("VLLM_API_KEY") or None
        self._root = parse_base_url(base_url)
        self._model = model
        self._api_key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._timeout = timeout
        self._max_retries = max_retries
        self._headers = dict(headers or {})
        self._verify = verify
        self._forget()

    def _forget(self) -> None:
        self._connection: VLLMConnection | None = None
        self._starting: asyncio.Task[ServedModel] | None = None
        self._served: ServedModel | None = None
        self._constrains = False

    def __repr__(self) -> str:
        return f"VLLMServer({self.base_url!r}, model={self._model!r})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own connections.
        return self.__dict__ | {"_connection": None, "_starting": None, "_served": None}

    @property
    def base_url(self) -> str:
        """The server's root URL, without `/v1`."""
        return str(self._root)

    @property
    def model(self) -> str:
        """Name of the model; the URL as long as the server hasn't told its only one."""
        if self._served is not None:
            return self._served.name
        return self._model or self.base_url

    @property
    def max_top_logprobs(self) -> int:
        """Most log-probabilities per position that a request may ask for."""
        return MAX_TOP_LOGPROBS

    async def start(self) -> None:
        """Look once whether the server will do; safe to call again.

        Raises:
            EngineError: If nothing answers there.
            ConfigurationError: If the server, its model or an option cannot work.
        """
        await self._checked()

    async def vocabulary(self) -> Vocabulary:
        """Return the model's vocabulary; only without `tokenizer` is the server asked for it."""
        source = self._tokenizer or (await self._checked()).root
        try:
            return await asyncio.to_thread(
                load_vocabulary, source, chat_template=self._chat_template
            )
        except ConfigurationError as error:
            if self._tokenizer is not None:
                raise
            raise ConfigurationError(
                f"tokenizer: {self.base_url} loaded {source!r}, which can't be read from here "
                f"({error}); pass `tokenizer=` with a model id or path"
            ) from error

    async def context_window(self) -> int:
        """Return the most tokens of prompt and output together."""
        return (await self._checked()).context_window

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        """Continue `request.token_ids`; closing the generator aborts the request.

        `cached_tokens` comes on the last delta, and only from a server that runs with
        `--enable-prompt-tokens-details`.

        Raises:
            EngineError: If the server is gone or refuses the request.
        """
        # The list may grow while the request waits for its turn.
        return self._generate(replace(request, token_ids=list(request.token_ids)))

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        try:
            async with aclosing(self._deltas(request)) as deltas:
                async for delta in deltas:
                    yield delta
        except EngineError as error:
            error.model = self.model
            raise

    async def _deltas(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        served = await self._checked()
        room = served.context_window - len(request.token_ids)
        if room < 1:
            raise EngineRequestError(
                f"a context of {len(request.token_ids)} tokens leaves no room in the window of "
                f"{served.context_window} tokens"
            )
        request = replace(request, max_tokens=min(request.max_tokens, room))
        connection = self._connect()
        if request.constraint is not None and not self._constrains:
            await check_constraints(connection, served)
            self._constrains = True
        chunks = connection.stream(
            served.endpoint.path,
            served.endpoint.body(served.name, request.token_ids, request),
            # vLLM reads it, and so do the routers in front of it.
            {"X-Session-ID": quote(request.session_id)} if request.session_id else None,
        )
        last: GenerationDelta | None = None
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    for choice in chunk.get("choices", ()):
                        delta = served.endpoint.delta(choice, request.top_logprobs)
                        if delta.finish_reason is not None:
                            # Held until the stream's end: the connection is free for reuse then.
                            last = delta
                        elif delta.token_ids:
                            yield delta
                    if last is not None and (usage := chunk.get("usage")):
                        last.cached_tokens = cached_tokens(usage)
        except ServerRefusalError as refusal:
            if request.constraint is not None and refusal.status in {400, 422}:
                raise unenforceable(served.name, refusal.message) from refusal
            raise await connection.failure(refusal) from refusal
        except NoTokenIdsError as error:
            raise EngineRequestError(
                f"{self.base_url} left out token ids or log-probabilities"
            ) from error
        if last is None:
            raise EngineRequestError(f"{self.base_url} ended the stream without a finish reason")
        yield last

    async def prefill(self, token_ids: Sequence[int], *, session_id: str | None = None) -> None:
        """Compute `token_ids` into the prefix cache.

        Args:
            token_ids: The context to come.
            session_id: The conversation's name, to reach the same replica.
        """
        request = GenerationRequest(token_ids, max_tokens=1, session_id=session_id)
        async with aclosing(self.generate(request)) as deltas:
            async for _ in deltas:
                pass

    async def aclose(self) -> None:
        """Close all connections, which aborts what runs; the next use checks the server afresh."""
        connection, starting = self._connection, self._starting
        self._forget()
        if starting is not None:
            starting.cancel()
        if connection is not None:
            await connection.aclose()

    def close(self) -> None:
        """Do what `aclose()` does, from any thread."""
        get_runtime().run(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await get_runtime().bridge(self.aclose())

    def _connect(self) -> VLLMConnection:
        if self._connection is None:
            self._connection = VLLMConnection(
                self._root,
                api_key=self._api_key,
                timeout=self._timeout,
                max_retries=self._max_retries,
                headers=self._headers,
                verify=self._verify,
            )
            get_runtime().register(self)
        return self._connection

    async def _checked(self) -> ServedModel:
        """Return what the server serves; concurrent callers share one look."""
        if self._served is not None:
            return self._served
        task = self._starting
        if task is None:
            task = asyncio.create_task(check_server(self._connect(), self._model))
            task.add_done_callback(self._checking_done)
            self._starting = task
        try:
            # One caller that gives up must not stop the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise EngineError(f"{self.base_url} was closed during its check") from None

    def _checking_done(self, task: asyncio.Task[ServedModel]) -> None:
        if task is not self._starting:
            return
        self._starting = None
        if not task.cancelled() and task.exception() is None:
            self._served = task.result()
