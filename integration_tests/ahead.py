"""What takes long to start begins with the first test, in two lanes.

An engine's start is mostly one core's work, as imports are: on two cores, two start in the time of
one. So engines, servers, and whole lives of processes that tests judge afterwards, come to pass in
threads; tests in which an engine writes wait until that is over: each of them wants all cores.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Ahead:
    """Has scenes come to pass, each once, and keeps what they return.

    Args:
        folder: Where scenes may write.
        lanes: Scenes that begin when this is entered; those of one lane one after the other.

    Attributes:
        folder: As given.
        hosts: Processes that scenes wait for; killed if the tests end first.
    """

    def __init__(self, folder: Path, lanes: Iterable[Sequence[Scene[Any]]] = ()) -> None:
        self.folder = folder
        self.hosts: set[subprocess.Popen[str]] = set()
        self._stack = ExitStack()
        self._results: dict[Scene[Any], tuple[threading.RLock, Future[Any]]] = {}
        self._closed = False
        self._threads = [
            threading.Thread(target=self._follow, args=(list(lane),), name="ahead")
            for lane in lanes
        ]

    def _follow(self, lane: Sequence[Scene[Any]]) -> None:
        for scene in lane:
            if self._closed:
                return
            self._past(scene)

    def _past(self, scene: Scene[T]) -> Future[T]:
        lock, result = self._results.setdefault(scene, (threading.RLock(), Future()))
        with lock:
            if not result.done():
                try:
                    result.set_result(scene(self))
                except BaseException as error:  # noqa: BLE001  it is the test's
                    result.set_exception(error)
        return result

    def get(self, scene: Scene[T]) -> T:
        """Return what a scene returned, or raise what it raised; it begins now if it has not."""
        return self._past(scene).result()

    def keep(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context that lasts to the end of all tests."""
        return self._stack.enter_context(manager)

    def wait(self, *scenes: Scene[Any]) -> None:
        """Wait until these scenes are past, however they went."""
        for scene in scenes:
            self._past(scene)

    def wait_for_all(self) -> None:
        """Wait until the lanes have come to their ends."""
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        for host in list(self.hosts):
            host.kill()
        self.wait_for_all()
        self._stack.close()


Scene = Callable[[Ahead], T]
