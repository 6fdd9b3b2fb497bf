"""vLLM inside this process: an `AsyncLLM`, started at first use."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from langchain_glimprouter.engines.base import (
    MAX_TOP_LOGPROBS,
    GenerationDelta,
    GenerationRequest,
    Sampling,
)
from langchain_glimprouter.engines.model_files import (
    local_model_path,
    read_chat_template,
    read_model_facts,
)
from langchain_glimprouter.engines.reaper import Brood
from langchain_glimprouter.engines.runtime import Runtime, get_runtime
from langchain_glimprouter.engines.vllm_boot import Boot, end, in_thread
from langchain_glimprouter.engines.vllm_options import check_engine_args, check_main_module
from langchain_glimprouter.engines.vllm_requests import stream
from langchain_glimprouter.engines.vocabulary import HFVocabulary, load_vocabulary
from langchain_glimprouter.errors import ConfigurationError, Role

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

_WARM_UP = GenerationRequest(
    token_ids=range(10, 20), max_tokens=2, sampling=Sampling(temperature=0), top_logprobs=1
)

_other_processes: list[_Live] = []


@dataclass(frozen=True, slots=True)
class _Live:
    """A started engine, and the runtime whose loop it belongs to."""

    llm: AsyncLLM
    runtime: Runtime
    brood: Brood
    defaults: dict[str, Any]


class VLLMEngine:
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
        check_engine_args(engine_args)
        self._model = model
        self._path = local_model_path(model)
        self._engine_args = engine_args
        read_chat_template(chat_template)
        self._chat_template = chat_template
        self.role_hint: Role | None = None
        self._reset()

    def _reset(self) -> None:
        self._live: _Live | None = None
        self._boot: Boot | None = None
        self._starting: asyncio.Task[_Live] | None = None
        self._window: int | None = None
        self._request_numbers = itertools.count()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine out: a copy starts its own."""
        kept = ("_model", "_path", "_engine_args", "_chat_template", "role_hint")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __repr__(self) -> str:
        args = "".join(f", {name}={value!r}" for name, value in self._engine_args.items())
        return f"VLLMEngine({self._model!r}{args})"

    @property
    def model(self) -> str:
        """Name of the model, as the user gave it."""
        return self._model

    @property
    def max_top_logprobs(self) -> int:
        """Most log-probabilities per position that a request may ask for."""
        most = int(self._engine_args.get("max_logprobs", MAX_TOP_LOGPROBS))
        return sys.maxsize if most == -1 else most

    # Life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the engine, if it does not run; see `Engine.start`."""
        await get_runtime().bridge(self._started())

    async def _started(self) -> _Live:
        """Return the running engine, started by whoever came first."""
        runtime = get_runtime()
        if self._live is not None:
            if self._live.runtime is runtime:
                return self._live
            # We are in a forked child. The engine is the parent's: never finalize it here.
            _other_processes.append(self._live)
            self._live = None
        if self._starting is None or self._starting.get_loop() is not runtime.loop:
            check_main_module()
            self._boot = Boot(self._path, self._engine_args, self.role_hint)
            runtime.register(self)
            self._starting = asyncio.create_task(self._start(runtime, self._boot))
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One caller's cancellation must not stop the start that others wait for.
        return await asyncio.shield(self._starting)

    async def _start(self, runtime: Runtime, boot: Boot) -> _Live:
        try:
            llm = await in_thread(boot)
            runtime.register(self)  # again: vLLM has registered exit handlers that must run later
            defaults = dict(llm.model_config.get_diff_sampling_param())
            assert boot.brood is not None
            live = _Live(llm, runtime, boot.brood, defaults)
            self._window = int(llm.model_config.max_model_len)
            try:
                await llm.get_supported_tasks()
                # The first request is slow (lazy initialization); it should not be the user's.
                async for _ in self._stream(live, _WARM_UP):
                    pass
            except BaseException:
                await self._end(live)
                raise
            self._live = live
            return live
        finally:
            self._starting = self._boot = None

    async def aclose(self) -> None:
        """End the engine and free its memory; the next use starts it afresh."""
        await get_runtime().bridge(self._close())

    async def _close(self) -> None:
        starting, boot = self._starting, self._boot
        if starting is not None and boot is not None:
            while not starting.done():
                await in_thread(boot.give_up)
                await asyncio.wait([starting], timeout=0.3)
        live, self._live = self._live, None
        if live is not None:
            await self._end(live)

    @staticmethod
    async def _end(live: _Live) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        # Its output loop ends with it, so nobody else would wake those who wait.
        live.llm.output_processor.propagate_error(EngineDeadError())
        if live.llm.output_handler is not None:
            live.llm.output_handler.cancel()  # or it reports the end as a failure
        await in_thread(partial(end, live.llm, live.brood))

    def close(self) -> None:
        """End the engine and free its memory; the next use starts it afresh."""
        if self._live is not None or self._starting is not None:
            get_runtime().run(self._close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # What it knows ------------------------------------------------------------------------------

    async def vocabulary(self) -> HFVocabulary:
        """Return the model's vocabulary; needs no running engine."""
        return await get_runtime().bridge(in_thread(self._load_vocabulary))

    def _load_vocabulary(self) -> HFVocabulary:
        args = self._engine_args
        return load_vocabulary(
            self._path,
            tokenizer=args.get("tokenizer"),
            revision=args.get("tokenizer_revision") or args.get("revision"),
            trust_remote_code=bool(args.get("trust_remote_code")),
            chat_template=self._chat_template,
        )

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

    async def running_requests(self) -> int:
        """Return how many requests run; 0 only if the model's own process is idle too."""
        return await get_runtime().bridge(self._running_requests())

    async def _running_requests(self) -> int:
        if self._live is None:
            return 0
        llm = self._live.llm
        known = int(llm.get_num_unfinished_requests())
        busy = await llm.engine_core.call_utility_async("has_work")
        return max(known, int(busy))

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
        token_ids = list(request.token_ids)  # the caller's list may grow from the first await on
        live = self._live
        if live is None or live.runtime is not get_runtime():
            live = await self._started()
        async with aclosing(self._stream(live, request, token_ids)) as deltas:
            async for delta in deltas:
                yield delta

    def _stream(
        self, live: _Live, request: GenerationRequest, token_ids: list[int] | None = None
    ) -> AsyncGenerator[GenerationDelta]:
        return stream(
            live.llm,
            request,
            list(request.token_ids) if token_ids is None else token_ids,
            model=self._model,
            request_id=f"glimprouter-{next(self._request_numbers)}",
            defaults=live.defaults,
        )

    async def prefill(self, token_ids: Sequence[int]) -> None:
        """Compute `token_ids` into the prefix cache."""
        request = GenerationRequest(token_ids=list(token_ids), max_tokens=1)
        async for _ in self.generate(request):
            pass
