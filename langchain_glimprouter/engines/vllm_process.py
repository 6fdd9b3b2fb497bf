"""An `AsyncLLM` of this process: started at first use, shared by all callers, ended in time."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from langchain_glimprouter.engines.model_files import local_model_path
from langchain_glimprouter.engines.reaper import Brood
from langchain_glimprouter.engines.runtime import Runtime, get_runtime
from langchain_glimprouter.engines.vllm_boot import Boot, end, in_thread
from langchain_glimprouter.engines.vllm_options import check_engine_args, check_main_module
from langchain_glimprouter.engines.vocabulary import HFVocabulary, load_vocabulary

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

_other_processes: list[Live] = []


@dataclass(frozen=True, slots=True)
class Live:
    """A started engine, and the runtime whose loop it belongs to."""

    llm: AsyncLLM
    runtime: Runtime
    brood: Brood


class VLLMProcess:
    """What engines in this process share (a model runs in processes of its own, as vLLM has it).

    Args:
        model: A Hugging Face model id or a local folder.
        engine_args: Arguments of vLLM's `AsyncEngineArgs`.

    Raises:
        ConfigurationError: If vLLM is not installed, the model's path does not exist, or an
            argument cannot work.
    """

    def __init__(self, model: str, engine_args: dict[str, Any]) -> None:
        check_engine_args(engine_args)
        self._model = model
        self._path = local_model_path(model)
        self._engine_args = engine_args
        self._reset()

    def _reset(self) -> None:
        self._live: Live | None = None
        self._boot: Boot | None = None
        self._starting: asyncio.Task[Live] | None = None
        self._request_numbers = itertools.count()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine out: a copy starts its own."""
        return {name: self.__dict__[name] for name in ("_model", "_path", "_engine_args")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __repr__(self) -> str:
        args = "".join(f", {name}={value!r}" for name, value in self._engine_args.items())
        return f"{type(self).__name__}({self._model!r}{args})"

    @property
    def model(self) -> str:
        """Name of the model, as the user gave it."""
        return self._model

    # For the kinds of engines ---------------------------------------------------------------------

    def _new_boot(self) -> Boot:
        """Return what starts the engine."""
        raise NotImplementedError

    async def _prepare(self, live: Live) -> None:
        """Look at the engine that has just started, and let it do its first, slow request."""
        raise NotImplementedError

    # Life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the engine, if it does not run; safe to call again.

        Raises:
            EngineError: If it does not start.
            ConfigurationError: If an option cannot work.
        """
        await get_runtime().bridge(self._started())

    async def _started(self) -> Live:
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
            self._boot = self._new_boot()
            runtime.register(self)
            self._starting = asyncio.create_task(self._start(runtime, self._boot))
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One caller's cancellation must not stop the start that others wait for.
        return await asyncio.shield(self._starting)

    async def _start(self, runtime: Runtime, boot: Boot) -> Live:
        try:
            llm = await in_thread(boot)
            runtime.register(self)  # again: vLLM has registered exit handlers that must run later
            assert boot.brood is not None
            live = Live(llm, runtime, boot.brood)
            try:
                await self._prepare(live)
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
    async def _end(live: Live) -> None:
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

    # What it knows --------------------------------------------------------------------------------

    def _load_vocabulary(self, chat_template: str | None = None) -> HFVocabulary:
        args = self._engine_args
        return load_vocabulary(
            self._path,
            tokenizer=args.get("tokenizer"),
            revision=args.get("tokenizer_revision") or args.get("revision"),
            trust_remote_code=bool(args.get("trust_remote_code")),
            chat_template=chat_template,
        )

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

    async def _at_work(self) -> Live:
        """Return the running engine, as quickly as can be where it runs."""
        live = self._live
        if live is None or live.runtime is not get_runtime():
            live = await self._started()
        return live
