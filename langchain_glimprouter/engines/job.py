"""A task on one event loop, started, awaited and given up from another thread or loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from langchain_glimprouter.errors import EngineError

GRACE_SECONDS = 5.0
"""How long a caller who gives up waits for the clean-up of what it started."""


class RuntimeClosedError(EngineError):
    """The engines were closed while a call was under way."""


class Job:
    """A task on the runtime's loop, seen from another thread. Dropping it cancels the task.

    Args:
        loop: The loop that it runs on, in a copy of the caller's context.
        coroutine: What it does.

    Attributes:
        finished: Its result.

    Raises:
        RuntimeClosedError: If the loop is closed.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]
    ) -> None:
        self._loop = loop
        self.finished: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._task: list[asyncio.Task[Any]] = []
        # The task must not hold this object, or dropping it would go unnoticed.
        start = _Start(loop, coroutine, self.finished, self._task)
        try:
            loop.call_soon_threadsafe(start, context=contextvars.copy_context())
        except RuntimeError as error:
            coroutine.close()
            raise RuntimeClosedError("The engines' event loop is closed.") from error

    def cancel(self) -> None:
        """Cancel the task, if it has not ended."""
        if not self.finished.done():
            with suppress(RuntimeError):  # a closed loop has cancelled its tasks
                self._loop.call_soon_threadsafe(_cancel_all, self._task)

    __del__ = cancel

    def abandon(self) -> None:
        """Cancel, and wait a while for the clean-up."""
        self.cancel()
        # The garbage collector may bring us here on the loop's own thread, which must not wait.
        if running_loop() is not self._loop:
            concurrent.futures.wait([self.finished], timeout=GRACE_SECONDS)

    async def aabandon(self) -> None:
        """Cancel, and wait a while for the clean-up."""
        self.cancel()
        if running_loop() is None:
            return  # a generator whose loop is gone: nothing left that could wait
        with suppress(TimeoutError):
            await asyncio.wait_for(self.settled(), GRACE_SECONDS)

    async def settled(self) -> None:
        """Wait on any loop until the task has ended, however that was."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.finished.add_done_callback(lambda _: wake(loop, future))
        await future


class _Start:
    """Starts a coroutine on the loop and reports its end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        finished: concurrent.futures.Future[Any],
        task: list[asyncio.Task[Any]],
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._finished = finished
        self._task = task

    def __call__(self) -> None:
        task = self._loop.create_task(self._coroutine)
        task.add_done_callback(self._report)
        self._task.append(task)

    def _report(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._finished.set_exception(RuntimeClosedError("The call was cancelled."))
        elif (error := task.exception()) is not None:
            self._finished.set_exception(error)
        else:
            self._finished.set_result(task.result())


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Resolve a future of `loop` from any thread."""
    with suppress(RuntimeError):  # a closed loop has nobody waiting
        loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _cancel_all(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
