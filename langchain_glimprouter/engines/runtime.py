"""The one background event loop that owns the engines, and the ways to it from anywhere else.

vLLM's `AsyncLLM` belongs to the loop that first runs it; from another loop it loses wake-ups. So
all engines live on one loop in a daemon thread, and callers on other threads and loops come here.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import multiprocessing.util  # noqa: F401  its exit handler joins children: ours must run before it
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from langchain_glimprouter.engines.channel import Channel
from langchain_glimprouter.engines.job import GRACE_SECONDS, Job, RuntimeClosedError, wake

T = TypeVar("T")


class Closable(Protocol):
    """Something that must be closed on the runtime's loop before that ends."""

    async def aclose(self) -> None:
        """Release everything."""
        ...


class Runtime:
    """A background event loop, and ways to run things on it from any thread and any loop."""

    def __init__(self) -> None:
        self._closables: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._waited_for: set[concurrent.futures.Future[Any]] = set()
        self._closing = threading.Lock()
        self._closed = False
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="glimprouter-runtime", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    @property
    def closed(self) -> bool:
        """Whether the runtime has ended, or is about to."""
        return self._closed

    @property
    def here(self) -> bool:
        """Whether the caller runs on the runtime's own thread."""
        return threading.current_thread() is self._thread

    def register(self, closable: Closable) -> None:
        """Have `closable` closed when the runtime ends."""
        self._closables.add(closable)
        # Register again, since exit handlers run last in, first out: ours goes before vLLM's own.
        atexit.unregister(close_runtime)
        atexit.register(close_runtime)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the runtime's loop and wait for it.

        If waiting is interrupted (Ctrl-C), the coroutine is cancelled and has a few seconds to
        clean up.

        Raises:
            RuntimeError: If called on the runtime's own thread, where it would wait for itself.
        """
        if self.here:
            coroutine.close()
            raise RuntimeError("A sync call on the engines' own event loop would wait for itself.")
        job = self._job(coroutine)
        try:
            result: T = job.finished.result()
            return result
        finally:
            if not job.finished.done():
                job.abandon()

    async def bridge(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the runtime's loop from any event loop; cancelling goes through."""
        if self.here:
            return await coroutine
        job = self._job(coroutine)
        try:
            await job.settled()
        finally:
            if not job.finished.done():
                await job.aabandon()
        result: T = job.finished.result()
        return result

    def iterate(self, make: Callable[[], AsyncGenerator[T]]) -> Generator[T]:
        """Iterate over an async generator that runs on the runtime's loop.

        Args:
            make: Makes the generator; called on the loop at the first `next()`. Closing the
                iterator closes it and waits, a few seconds at most, until that is done.

        Raises:
            RuntimeError: If called on the runtime's own thread.
        """
        if self.here:
            raise RuntimeError("A sync call on the engines' own event loop would wait for itself.")
        return self._iterate(make)

    def _iterate(self, make: Callable[[], AsyncGenerator[T]]) -> Generator[T]:
        channel: Channel[T] = Channel()
        awake = threading.Event()
        job = self._pump(channel, make)
        try:
            while True:
                done = channel.done  # read first: what came before the end is in `items` then
                while channel.items:
                    yield channel.take()
                if done:
                    break
                awake.clear()
                channel.waiter = awake.set
                if not channel.items and not channel.done:
                    awake.wait()
        finally:
            if not job.finished.done():
                job.abandon()
        _raise_error(channel)

    def aiterate(self, make: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
        """Iterate, on any event loop, over an async generator that runs on the runtime's loop.

        Args:
            make: Makes the generator; called on the loop at the first `anext()`. Closing or
                cancelling the iterator closes it and waits, a few seconds at most, until that
                is done.
        """
        return make() if self.here else self._aiterate(make)

    async def _aiterate(self, make: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
        channel: Channel[T] = Channel()
        loop = asyncio.get_running_loop()
        job = self._pump(channel, make)
        try:
            while True:
                done = channel.done
                while channel.items:
                    yield channel.take()
                if done:
                    break
                future = loop.create_future()
                channel.waiter = lambda future=future: wake(loop, future)
                if not channel.items and not channel.done:
                    await future
        finally:
            if not job.finished.done():
                await job.aabandon()
        _raise_error(channel)

    def _pump(self, channel: Channel[T], make: Callable[[], AsyncGenerator[T]]) -> Job:
        job = self._job(channel.pump(make))
        # Also when the task is cancelled before its first step, where the pump itself cannot tell.
        job.finished.add_done_callback(lambda _: channel.finish())
        return job

    def _job(self, coroutine: Coroutine[Any, Any, Any]) -> Job:
        job = Job(self.loop, coroutine)
        self._waited_for.add(job.finished)
        job.finished.add_done_callback(self._waited_for.discard)
        return job

    def close(self, timeout: float = 2 * GRACE_SECONDS) -> None:
        """Close what is registered, cancel what runs, and end the loop. Safe to call again."""
        if self.here:
            raise RuntimeError("The engines' event loop cannot wait for its own end.")
        with self._closing:
            if self._closed:
                return
            self._closed = True
        with suppress(RuntimeClosedError, TimeoutError):
            job = Job(self.loop, self._shut_down(timeout))
            job.finished.result(timeout + 2)
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GRACE_SECONDS)
        for finished in list(self._waited_for):
            # A task that would not end, or never began: its caller must not wait for ever.
            with suppress(concurrent.futures.InvalidStateError):
                finished.set_exception(RuntimeClosedError("The engines were closed."))

    async def _shut_down(self, timeout: float) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        closing = [asyncio.ensure_future(closable.aclose()) for closable in self._closables]
        if closing:
            await asyncio.wait(closing, timeout=timeout)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        await self.loop.shutdown_asyncgens()


_runtime: Runtime | None = None
_creating = threading.Lock()
_left_behind: list[Runtime] = []


def get_runtime() -> Runtime:
    """Return this process's runtime, made at first use."""
    global _runtime
    with _creating:
        if _runtime is None or _runtime.closed:
            _runtime = Runtime()
        return _runtime


def close_runtime() -> None:
    """Close this process's runtime with all its engines, if there is one."""
    if _runtime is not None:
        _runtime.close()


def _after_fork() -> None:
    """Start afresh in a forked child: the loop's thread stayed behind in the parent."""
    global _runtime, _creating
    if _runtime is not None:
        _left_behind.append(_runtime)  # its engines belong to the parent: never finalize them here
    _runtime = None
    _creating = threading.Lock()
    atexit.unregister(close_runtime)


os.register_at_fork(after_in_child=_after_fork)


def _raise_error(channel: Channel[Any]) -> None:
    error, channel.error = channel.error, None
    try:
        if isinstance(error, asyncio.CancelledError):
            raise RuntimeClosedError("The engines were closed while this call ran.") from error
        if error is not None:
            raise error
    finally:
        del error  # an error holds its frames: no cycle with this one
