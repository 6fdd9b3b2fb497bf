"""Starts and stops vLLM's `AsyncLLM` in threads, so that the engines' loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_glimprouter.engines import reaper
from langchain_glimprouter.engines.vllm_options import check_names, default_engine_args
from langchain_glimprouter.errors import ConfigurationError, EngineError, Role

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.engine.async_llm import AsyncLLM

T = TypeVar("T")

# Engines start one after the other: each measures the memory that is left, and marks its processes
# in an environment which all threads share.
_one_at_a_time = threading.Lock()

_GRACE_SECONDS = 1.0

_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


class Boot:
    """One start of an engine, which may be given up at any time.

    Args:
        model: A model id or a local folder.
        user_args: The user's engine arguments.
        role: The engine's place in a pair.
        pooling: Whether it scores texts instead of generating any.
        check: Looks at the engine's whole configuration before anything starts.
    """

    def __init__(
        self,
        model: str,
        user_args: Mapping[str, Any],
        role: Role | None,
        *,
        pooling: bool = False,
        check: Callable[[VllmConfig], None] | None = None,
    ) -> None:
        self.model = model
        self._user_args = dict(user_args)
        self._role = role
        self._pooling = pooling
        self._check_config = check
        self._given_up = threading.Event()
        self.brood: reaper.Brood | None = None

    def give_up(self) -> None:
        """Make a start that is under way fail soon."""
        self._given_up.set()
        if self.brood is not None:
            self.brood.kill()

    def __call__(self) -> AsyncLLM:
        """Start the engine; blocks until it can generate, which takes tens of seconds.

        Raises:
            ConfigurationError: If vLLM refuses an argument.
            EngineError: If the engine does not start.
        """
        with _one_at_a_time, _environment(), reaper.watched() as self.brood, _no_interrupts():
            self._check()
            config, log = self._engine_config()
            self._check()
            from vllm.v1.engine.async_llm import AsyncLLM

            class Ended(AsyncLLM):  # type: ignore[misc]
                """Ended by `end` alone: vLLM's own end fails in an interpreter that shuts down."""

                def __del__(self) -> None: ...

            try:
                llm = Ended.from_vllm_config(config, **log)
            except Exception as error:
                self._check()
                raise EngineError(
                    f"The engine of {self.model!r} did not start: {error} vLLM's own report is "
                    "above; `VLLM_LOGGING_LEVEL=INFO` makes it say more.",
                    model=self.model,
                ) from error
            if self._given_up.is_set():
                end(llm, self.brood)
                self._check()
            return llm

    def _check(self) -> None:
        if self._given_up.is_set():
            raise EngineError("The engine was closed while it started.", model=self.model)

    def _engine_config(self) -> tuple[Any, dict[str, Any]]:
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.usage.usage_lib import UsageContext
        except ImportError as error:
            raise ConfigurationError(
                f"vLLM is installed, but cannot be imported: {error}"
            ) from error
        check_names(self._user_args)
        on_cpu = current_platform.is_cpu()
        defaults = default_engine_args(
            "cpu" if on_cpu else "gpu",
            0 if on_cpu else current_platform.device_count(),
            self._role,
            self._user_args,
            pooling=self._pooling,
        )
        try:
            args = AsyncEngineArgs(**{**defaults, **self._user_args, "model": self.model})
            with _single_process_workers() if on_cpu else nullcontext():
                config = args.create_engine_config(UsageContext.ENGINE_CONTEXT)
        except Exception as error:
            raise ConfigurationError(
                f"vLLM refuses the engine arguments of {self.model!r}: {error}"
            ) from error
        if self._check_config is not None:
            self._check_config(config)
        log = {
            "enable_log_requests": args.enable_log_requests,
            "disable_log_stats": args.disable_log_stats,
        }
        return config, log


def end(llm: AsyncLLM, brood: reaper.Brood) -> None:
    """End an engine's processes; takes about three seconds."""
    ended = threading.Event()

    def hasten() -> None:
        # Their interpreters take seconds of CPU time to tear themselves down, one after the other.
        # The workers need not; the engine has freed its shared memory soon after they are gone.
        for seconds, whom in ((_GRACE_SECONDS, "VLLM::Worker"), (2 * _GRACE_SECONDS, "")):
            if ended.wait(seconds):
                return
            brood.kill(whom)

    threading.Thread(target=hasten, name="glimprouter-hasten", daemon=True).start()
    try:
        llm.shutdown(timeout=8 * _GRACE_SECONDS)
    finally:
        ended.set()
        brood.kill()  # what is left where the engine itself was killed


@contextmanager
def _environment() -> Iterator[None]:
    """Have engines start quietly and by `spawn`, where the user chose nothing else."""
    added: dict[str, str] = {}
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        added = {key: value for key, value in _QUIET.items() if key not in os.environ}
        # vLLM applies its level only after its first warnings.
        logging.getLogger("vllm").setLevel(_QUIET["VLLM_LOGGING_LEVEL"])
    if "VLLM_WORKER_MULTIPROC_METHOD" not in os.environ:
        # A forked engine would inherit threads' locks, and hide its host's end from the watchdog.
        added["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@contextmanager
def _single_process_workers() -> Iterator[None]:
    """Let the CPU back end keep the executor `uni`, which it else turns into `mp`."""
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"  # AsyncLLM has its engine in a process of its own all the same
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all processes, from ending the engines.

    A thread's blocked signals are inherited by the processes that it starts.
    """
    resource_tracker.ensure_running()  # else it starts with the first process, and unblocks
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function in a daemon thread.

    Unlike a pool's thread it does not hold up the interpreter's end, and it works while that ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def work() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (function(), None)
        except BaseException as error:  # noqa: BLE001  it is the waiting caller's
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            return  # the loop has ended, and its engines with it

    threading.Thread(target=work, name="glimprouter-engine", daemon=True).start()
    return await future
