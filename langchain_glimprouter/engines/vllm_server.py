"""The engine behind a URL: a vLLM server, asked with token ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from urllib.parse import quote

from pydantic import SecretStr

from langchain_glimprouter.engines.base import (
    MAX_TOP_LOGPROBS,
    GenerationDelta,
    GenerationRequest,
    Vocabulary,
)
from langchain_glimprouter.engines.continuations import check_continuations
from langchain_glimprouter.engines.vllm_check import (
    ServedModel,
    check_constraints,
    check_server,
)
from langchain_glimprouter.engines.vllm_connection import VLLMConnection
from langchain_glimprouter.engines.vllm_protocol import (
    NoTokenIdsError,
    ServerRefusalError,
    cached_tokens,
)
from langchain_glimprouter.engines.vllm_remote import VLLMRemote
from langchain_glimprouter.engines.vllm_requests import unenforceable
from langchain_glimprouter.errors import EngineError, EngineRequestError


class VLLMServer(VLLMRemote[ServedModel]):
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
        super().__init__(
            base_url,
            model,
            api_key=api_key,
            tokenizer=tokenizer,
            timeout=timeout,
            max_retries=max_retries,
            headers=headers,
            verify=verify,
        )
        self._chat_template = chat_template

    def _forget(self) -> None:
        super()._forget()
        self._constrains = False

    async def _check(self, connection: VLLMConnection) -> ServedModel:
        return await check_server(connection, self._model)

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
        return await self._load_vocabulary(self._chat_template)

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
        if request.n != 1:
            check_continuations(request)
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
        unfinished = request.n
        last: GenerationDelta | None = None
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    for choice in chunk.get("choices", ()):
                        delta = served.endpoint.delta(choice, request.top_logprobs)
                        ends = delta.finish_reason is not None
                        unfinished -= ends
                        if ends and not unfinished:
                            # Held until the stream's end: the connection is free for reuse then.
                            last = delta
                        elif ends or delta.token_ids:
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
            missing = "a finish reason"
            if request.n > 1:
                missing = f"{unfinished} of {request.n} finish reasons"
            raise EngineRequestError(f"{self.base_url} ended the stream without {missing}")
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
