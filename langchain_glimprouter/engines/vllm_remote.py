"""A vLLM server behind a URL: checked at first use, asked over one pool of connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import SecretStr

from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_connection import VLLMConnection, parse_base_url
from langchain_glimprouter.engines.vocabulary import HFVocabulary, load_vocabulary
from langchain_glimprouter.errors import ConfigurationError, EngineError


class Named(Protocol):
    """What a check finds out about a server's model.

    Attributes:
        name: What requests call it.
        root: Id or path that the server loaded it from.
    """

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def root(self) -> str:
        """Id or path that the server loaded it from."""
        ...


Served = TypeVar("Served", bound=Named)


class VLLMRemote(Generic[Served]):
    """What the kinds of servers share.

    Args:
        base_url: Where the server listens, with or without `/v1`.
        model: Name of the model as the server serves it; by default its only one.
        api_key: The server's key; by default the environment's `VLLM_API_KEY`.
        tokenizer: Id or path of the model's tokenizer, where what the server loaded can't be found
            from here.
        timeout: Most seconds to wait for what is computed; `None` for no limit.
        max_retries: How often a request is sent again as long as nothing of its answer has come.
        headers: More headers of every request.
        verify: Whether to check TLS certificates, or the path of a CA bundle to check them with.

    Raises:
        ConfigurationError: If an option cannot work.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None,
        *,
        api_key: SecretStr | str | None,
        tokenizer: str | None,
        timeout: float | None,
        max_retries: int,
        headers: Mapping[str, str] | None,
        verify: bool | str,
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
        self._timeout = timeout
        self._max_retries = max_retries
        self._headers = dict(headers or {})
        self._verify = verify
        self._forget()

    def _forget(self) -> None:
        self._connection: VLLMConnection | None = None
        self._starting: asyncio.Task[Served] | None = None
        self._served: Served | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, model={self._model!r})"

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

    async def _check(self, connection: VLLMConnection) -> Served:
        """Look whether the server will do.

        Raises:
            EngineError: If nothing answers there.
            ConfigurationError: If the server, its model or an option cannot work.
        """
        raise NotImplementedError

    async def _checked(self) -> Served:
        """Return what the server serves; concurrent callers share one look."""
        if self._served is not None:
            return self._served
        task = self._starting
        if task is None:
            task = asyncio.create_task(self._check(self._connect()))
            task.add_done_callback(self._checking_done)
            self._starting = task
        try:
            # One caller that gives up must not stop the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise EngineError(f"{self.base_url} was closed during its check") from None

    def _checking_done(self, task: asyncio.Task[Served]) -> None:
        if task is not self._starting:
            return
        self._starting = None
        if not task.cancelled() and task.exception() is None:
            self._served = task.result()

    async def _load_vocabulary(self, chat_template: str | None = None) -> HFVocabulary:
        """Return the model's vocabulary; only without `tokenizer` is the server asked for it."""
        root = self._tokenizer or (await self._checked()).root
        return await self._read_vocabulary(root, chat_template)

    async def _read_vocabulary(self, root: str, chat_template: str | None = None) -> HFVocabulary:
        """Return the model's vocabulary, where the server loaded it from `root`."""
        source = self._tokenizer or root
        try:
            return await asyncio.to_thread(load_vocabulary, source, chat_template=chat_template)
        except ConfigurationError as error:
            if self._tokenizer is not None:
                raise
            raise ConfigurationError(
                f"tokenizer: {self.base_url} loaded {source!r}, which can't be read from here "
                f"({error}); pass `tokenizer=` with a model id or path"
            ) from error

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
