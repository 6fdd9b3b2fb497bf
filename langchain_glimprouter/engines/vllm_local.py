"""vLLM inside this process: an `AsyncLLM` that generates."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from langchain_glimprouter.engines.base import (
    MAX_TOP_LOGPROBS,
    GenerationDelta,
    GenerationRequest,
    Sampling,
)
from langchain_glimprouter.engines.continuations import check_continuations
from langchain_glimprouter.engines.model_files import read_chat_template, read_model_facts
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_boot import Boot, in_thread
from langchain_glimprouter.engines.vllm_process import Live, VLLMProcess
from langchain_glimprouter.engines.vllm_requests import stream
from langchain_glimprouter.engines.vocabulary import HFVocabulary
from langchain_glimprouter.errors import ConfigurationError, EngineRequestError, Role

_WARM_UP = GenerationRequest(
    token_ids=range(10, 20), max_tokens=2, sampling=Sampling(temperature=0), top_logprobs=1
)
_EMPTYING_TRIES = 100


class VLLMEngine(VLLMProcess):
    """An engine in this process (its model runs in processes of its own, as vLLM has it).

    It starts at first use, and can serve many chat models. Its methods may be awaited on any event
    loop. Use it as a context manager, or `close()` it, to free its memory before the program ends.

    Args:
        model: A Hugging Face model id or a local folder.
        chat_template: A chat template's text, or the path of a .jinja file, in place of the
            tokenizer's own.
        **engine_args: Arguments of vLLM's `AsyncEngineArgs`, untouched: `max_model_len`, `dtype`,
            `quantization`, `tensor_parallel_size`, `device_ids`, `speculative_config`, ...

    Attributes:
        role_hint: The engine's place in a pair, which decides on its default share of a GPU; set
            before it starts.

    Raises:
        ConfigurationError: If vLLM is not installed, the model's path does not exist, or an
            argument cannot work.
    """

    def __init__(self, model: str, *, chat_template: str | None = None, **engine_args: Any) -> None:
        super().__init__(model, engine_args)
        read_chat_template(chat_template)
        self._chat_template = chat_template
        self.role_hint: Role | None = None

    def _reset(self) -> None:
        super()._reset()
        self._window: int | None = None
        self._defaults: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "_chat_template": self._chat_template,
            "role_hint": self.role_hint,
        }

    @property
    def max_top_logprobs(self) -> int:
        """Most log-probabilities per position that a request may ask for."""
        most = int(self._engine_args.get("max_logprobs", MAX_TOP_LOGPROBS))
        return sys.maxsize if most == -1 else most

    def _new_boot(self) -> Boot:
        return Boot(self._path, self._engine_args, self.role_hint)

    async def _prepare(self, live: Live) -> None:
        config = live.llm.model_config
        self._defaults = dict(config.get_diff_sampling_param())
        self._window = int(config.max_model_len)
        await live.llm.get_supported_tasks()
        # The first request is slow (lazy initialization); it should not be the user's.
        async for _ in self._stream(live, _WARM_UP):
            pass

    # What it knows ------------------------------------------------------------------------------

    async def vocabulary(self) -> HFVocabulary:
        """Return the model's vocabulary; needs no running engine."""
        load = partial(self._load_vocabulary, self._chat_template)
        return await get_runtime().bridge(in_thread(load))

    async def context_window(self) -> int:
        """Return the most tokens of prompt and output together.

        Before the engine has started this is the user's `max_model_len` or what the model was
        built for; a running engine knows its own, which may be smaller where memory is short.
        """
        asked = self._engine_args.get("max_model_len")
        if self._window is None and isinstance(asked, int) and asked > 0:
            return asked
        if self._window is None:
            known = await get_runtime().bridge(in_thread(self._read_window))
            if known is not None:
                return known
            await self.start()
        assert self._window is not None
        return self._window

    def _read_window(self) -> int | None:
        revision = self._engine_args.get("revision")
        return read_model_facts(self._path, revision=revision).context_window

    # Generating ---------------------------------------------------------------------------------

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        """Continue `request.token_ids`; see `Engine.generate`."""
        return get_runtime().aiterate(lambda: self._generate(request))

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        if request.top_logprobs > self.max_top_logprobs:
            raise ConfigurationError(
                f"{request.top_logprobs} log-probabilities per position are more than "
                f"{self._model!r} gives: raise `max_logprobs` ({self.max_top_logprobs}), as in "
                f"VLLMEngine(..., max_logprobs={request.top_logprobs})."
            )
        if request.n != 1:
            check_continuations(request)
        token_ids = list(request.token_ids)  # the caller's list may grow from the first await on
        live = await self._at_work()
        async with aclosing(self._stream(live, request, token_ids)) as deltas:
            async for delta in deltas:
                yield delta

    def _stream(
        self, live: Live, request: GenerationRequest, token_ids: list[int] | None = None
    ) -> AsyncGenerator[GenerationDelta]:
        return stream(
            live.llm,
            request,
            list(request.token_ids) if token_ids is None else token_ids,
            model=self._model,
            request_id=f"glimprouter-{next(self._request_numbers)}",
            defaults=self._defaults,
        )

    async def prefill(self, token_ids: Sequence[int]) -> None:
        """Compute `token_ids` into the prefix cache."""
        request = GenerationRequest(token_ids=list(token_ids), max_tokens=1)
        async for _ in self.generate(request):
            pass

    async def empty_cache(self) -> None:
        """Forget every computed prefix, so that a measurement profits from none before it.

        Raises:
            EngineError: If requests still run a few seconds later.
        """
        await get_runtime().bridge(self._empty_cache())

    async def _empty_cache(self) -> None:
        live = self._live
        for _ in range(_EMPTYING_TRIES):
            if live is None or await live.llm.reset_prefix_cache():
                return
            await asyncio.sleep(0.05)  # a request that was just aborted still holds its blocks
        msg = "the prefix cache cannot be emptied while requests run"
        raise EngineRequestError(msg, model=self._model)
