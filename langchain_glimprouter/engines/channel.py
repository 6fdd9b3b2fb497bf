"""Hands what an async generator yields on one thread over to a consumer on another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

T = TypeVar("T")

CAPACITY = 1024
"""Items that may wait for a slow consumer before the generator is held back."""

BATCH = 64
"""Items after which a generator that never suspends lets the others on its loop run."""


class Channel(Generic[T]):
    """A one-way, one-to-one channel between two threads.

    It needs no lock: each end reads what the other writes in the reverse order, and operations on a
    deque are atomic. (A lock could be taken twice by one thread, when the garbage collector closes
    a generator while another holds it.)

    Attributes:
        items: What waits for the consumer.
        done: Whether nothing more will come.
        error: What ended the generator, if not its own end.
        waiter: Wakes the consumer; set by it before it sleeps.
    """

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.done = False
        self.error: BaseException | None = None
        self.waiter: Callable[[], None] | None = None
        self._batch: list[T] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room: asyncio.Event | None = None

    async def pump(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        """Run the generator to its end on this loop; cancelling closes it."""
        self._loop = asyncio.get_running_loop()
        try:
            async with aclosing(make()) as source:
                async for item in source:
                    if not self._batch:
                        # One wake-up for all that comes before the generator next suspends.
                        self._loop.call_soon(self._flush)
                    self._batch.append(item)
                    if len(self._batch) >= BATCH:
                        await self._yield()
        except BaseException as error:
            self.error = error
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _yield(self) -> None:
        await asyncio.sleep(0)
        if len(self.items) < CAPACITY:
            return
        self._room = asyncio.Event()
        if len(self.items) >= CAPACITY:
            await self._room.wait()
        self._room = None

    def _flush(self) -> None:
        self.items.extend(self._batch)
        self._batch.clear()
        self._wake()

    def finish(self) -> None:
        """Tell the consumer that nothing more comes; runs on the pump's loop."""
        self._flush()
        self.done = True
        self._wake()

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter()

    def take(self) -> T:
        """Return the next item, and let a held-back generator go on."""
        item = self.items.popleft()
        room = self._room
        if room is not None and self._loop is not None and len(self.items) < CAPACITY // 2:
            try:
                self._loop.call_soon_threadsafe(room.set)
            except RuntimeError:  # the loop is closed, so nobody waits there
                self._room = None
        return item
