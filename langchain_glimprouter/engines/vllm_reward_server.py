"""A reward model behind a URL: a vLLM server that scores texts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from langchain_glimprouter.engines.reward import encode, reward_of, step_token_id
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_check import find_model
from langchain_glimprouter.engines.vllm_connection import VLLMConnection
from langchain_glimprouter.engines.vllm_pooling import (
    PATH,
    ServedRewards,
    check_rewards,
    pooling_body,
    read_scores,
)
from langchain_glimprouter.engines.vllm_protocol import ServerRefusalError
from langchain_glimprouter.engines.vllm_remote import VLLMRemote
from langchain_glimprouter.engines.vocabulary import HFVocabulary
from langchain_glimprouter.errors import EngineError


class VLLMRewardServer(VLLMRemote[ServedRewards]):
    """A vLLM server with a reward model (`vllm serve … --runner pooling`).

    Implements `RewardModel`. Nothing is sent before the first use, which looks whether the server
    will do. Its methods may be awaited on any event loop.

    Args:
        base_url: Where the server listens, with or without `/v1`.
        model: Name of the model as the server serves it; by default its only one.
        api_key: The server's key; by default the environment's `VLLM_API_KEY`.
        tokenizer: Id or path of the model's tokenizer, where what the server loaded (its `root`)
            can't be found from here.
        bos: Whether texts begin with the tokenizer's BOS token, where it has one.
        step_token: What is put behind a text that does not end with it, for models that judge there
            (`<extra_0>` of Qwen2.5-Math-PRM).
        timeout: Most seconds to wait for the scores, the wait in the server's queue included;
            `None` for no limit.
        max_retries: How often a request is sent again when the server is busy or the connection
            fails.
        headers: More headers of every request.
        verify: Whether to check TLS certificates, or the path of a CA bundle to check them with.

    Raises:
        ConfigurationError: If an option cannot work.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: SecretStr | str | None = None,
        *,
        tokenizer: str | None = None,
        bos: bool = True,
        step_token: str | None = None,
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
        self._bos = bos
        self._step_token = step_token

    async def _check(self, connection: VLLMConnection) -> ServedRewards:
        name, root, _ = await find_model(connection, self._model)
        token: int | None = None
        if self._step_token is not None:
            token = step_token_id(self._step_token, await self._read_vocabulary(root))
        return ServedRewards(name, root, await check_rewards(connection, name, token), token)

    async def start(self) -> None:
        """Look once whether the server will do; safe to call again.

        Raises:
            EngineError: If nothing answers there.
            ConfigurationError: If the server, its model or an option cannot work.
        """
        await get_runtime().bridge(self._start())

    async def _start(self) -> tuple[ServedRewards, HFVocabulary]:
        return await self._checked(), await self._load_vocabulary()

    async def rewards(self, texts: Sequence[str]) -> list[float]:
        """Return a reward for each text; see `RewardModel.rewards`."""
        return await get_runtime().bridge(self._rewards(list(texts)))

    async def _rewards(self, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        try:
            served, vocabulary = await self._start()
            prompts = await asyncio.to_thread(
                encode, vocabulary, texts, bos=self._bos, step_token=served.step_token
            )
            body = pooling_body(served.name, prompts)
            scores = read_scores(await self._ask(body), len(texts), served.name)
        except EngineError as error:
            error.model = self.model
            raise
        # The scores of each token come one after the other: a step is judged at the last.
        return [reward_of(one[-served.labels :], served.name) for one in scores]

    async def _ask(self, body: Mapping[str, Any]) -> Any:
        connection = self._connect()
        try:
            return await connection.ask(PATH, body)
        except ServerRefusalError as refusal:
            raise await connection.failure(refusal) from refusal
