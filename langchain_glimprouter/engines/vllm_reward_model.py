"""A reward model on vLLM inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.engines.model_files import read_model_facts
from langchain_glimprouter.engines.reward import check_labels, encode, reward_of, step_token_id
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.value_heads import check_no_value_head
from langchain_glimprouter.engines.vllm_boot import Boot, in_thread
from langchain_glimprouter.engines.vllm_process import Live, VLLMProcess
from langchain_glimprouter.engines.vllm_requests import dead, score
from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_TASKS = ("classify", "token_classify")
"""What vLLM calls a score of the whole text, and one of each token."""


class VLLMRewardModel(VLLMProcess):
    """A reward model in this process; implements `RewardModel`.

    It starts at first use, and its methods may be awaited on any event loop. Use it as a context
    manager, or `close()` it, to free its memory before the program ends.

    Any model will do that vLLM's pooling runner loads as a classifier with one label (or two:
    wrong, right) of texts or of tokens: `…ForSequenceClassification`, `Qwen2ForRewardModel`,
    `Qwen2ForProcessRewardModel`, … Classifiers of texts are the fastest here: they take what two
    texts have in common from the prefix cache.

    Args:
        model: A Hugging Face model id or a local folder.
        bos: Whether texts begin with the tokenizer's BOS token, where it has one.
        step_token: What is put behind a text that does not end with it, for models that judge
            there; by default the one that vLLM knows for the model (`<extra_0>` of
            Qwen2.5-Math-PRM), if any.
        **engine_args: Arguments of vLLM's `AsyncEngineArgs`, untouched: `max_model_len`, `dtype`,
            `device_ids`, `gpu_memory_utilization`, ...

    Raises:
        ConfigurationError: If vLLM is not installed, the model's path does not exist, or an
            argument cannot work.
    """

    def __init__(
        self, model: str, *, bos: bool = True, step_token: str | None = None, **engine_args: Any
    ) -> None:
        super().__init__(model, engine_args)
        self._bos = bos
        self._step_token = step_token

    def _reset(self) -> None:
        super()._reset()
        self._task: Any = None
        self._step_token_id: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_bos": self._bos, "_step_token": self._step_token}

    def _new_boot(self) -> Boot:
        return Boot(self._path, self._engine_args, None, pooling=True, check=self._check_config)

    def _check_config(self, config: VllmConfig) -> None:
        chosen = config.model_config
        if chosen.runner_type != "pooling":
            raise ConfigurationError("`runner`: leave it out, a reward model generates nothing.")
        if chosen.convert_type == "embed":
            raise self._no_reward_model()

    def _no_reward_model(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self._model!r} is no reward model: vLLM finds no head in it that scores a text. "
            f"Give a sequence or token classifier with one label or two, or a reward model."
        )

    async def _prepare(self, live: Live) -> None:
        config = live.llm.model_config
        self._task = config.get_pooling_task(await live.llm.get_supported_tasks())
        if self._task not in _TASKS:
            raise self._no_reward_model()
        self._step_token_id = config.pooler_config.step_tag_id
        if self._step_token is not None:
            vocabulary = await in_thread(self._load_vocabulary)
            self._step_token_id = step_token_id(self._step_token, vocabulary)
        # The first request is slow (lazy initialization); it should not be the user's.
        token = 1 if self._step_token_id is None else self._step_token_id
        logits = await self._score(live, [token])
        check_labels(len(logits), self._model)
        reward_of(logits, self._model)

    async def _started(self) -> Live:
        if self._live is None:
            check_no_value_head(self._model, await in_thread(self._architectures))
        return await super()._started()

    def _architectures(self) -> Sequence[str]:
        revision = self._engine_args.get("revision")
        return read_model_facts(self._path, revision=revision).architectures

    async def rewards(self, texts: Sequence[str]) -> list[float]:
        """Return a reward for each text; see `RewardModel.rewards`."""
        return await get_runtime().bridge(self._rewards(list(texts)))

    async def _rewards(self, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        live = await self._at_work()
        if live.llm.errored:
            raise dead(self._model)
        prompts = await in_thread(partial(self._encode, texts))
        scores = [asyncio.create_task(self._score(live, prompt)) for prompt in prompts]
        try:
            rows = await asyncio.gather(*scores)
        finally:
            for one in scores:
                one.cancel()  # the others of one that failed; all, if nobody waits any more
            await asyncio.wait(scores)
        return [reward_of(row, self._model) for row in rows]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        vocabulary = self._load_vocabulary()
        return encode(vocabulary, texts, bos=self._bos, step_token=self._step_token_id)

    async def _score(self, live: Live, token_ids: list[int]) -> list[float]:
        return await score(
            live.llm,
            token_ids,
            self._task,
            model=self._model,
            request_id=f"glimprouter-{next(self._request_numbers)}",
        )
