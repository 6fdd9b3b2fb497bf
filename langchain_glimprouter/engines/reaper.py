"""No engine process outlives its host, however the host ends.

vLLM's engine processes do not watch their parent: a host that is killed with SIGKILL leaves them
behind with all their memory. So a tiny watchdog process, which notices the host's end by the end of
a pipe, kills them. It gets to know them by looking at the host's descendants while an engine
starts; a mark in their environment tells those that started just before the host's end. (The mark
alone would not do: vLLM writes its processes' titles over their environment.)

This file is also the watchdog's program: run by its path, it imports nothing of this package.
"""

from __future__ import annotations

import atexit
import os
import select
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MARK = "GLIMPROUTER_HOST"

_POLL_SECONDS = 0.3
_STARTING, _STARTED = b"+", b"-"

_lock = threading.Lock()
_watchdog: subprocess.Popen[bytes] | None = None
_host = uuid.uuid4().hex


class Brood:
    """The processes of one engine: this process's new children since this was made, and theirs.

    Engines of other hosts, which this process may have started meanwhile, are not among them.
    """

    def __init__(self) -> None:
        self._before = set(_children(os.getpid()))
        self._found: set[psutil.Process] = set()

    def look(self) -> None:
        """Remember the engine's processes; later ones count no more."""
        self._found.update(self._new())

    def kill(self, of: str = "") -> None:
        """Kill what runs of it.

        Args:
            of: Part of the command of the processes that are meant.
        """
        _kill(process for process in self._found or self._new() if of in _command(process))

    def _new(self) -> list[psutil.Process]:
        new = [p for p in _children(os.getpid()) if p not in self._before]
        engines = [process for process in new if _is_engine(_command(process))]
        workers = [child for process in engines for child in _descendants(process.pid)]
        return engines + [process for process in workers if _is_engine(_command(process))]


@contextmanager
def watched() -> Iterator[Brood]:
    """Have the watchdog look after the engine that starts meanwhile; one at a time, please."""
    _tell(_STARTING)
    before = os.environ.get(MARK)
    os.environ[MARK] = _host
    brood = Brood()
    try:
        yield brood
        brood.look()
    finally:
        if before is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = before
        _tell(_STARTED)


def _is_engine(command: str) -> bool:
    """Tell vLLM's processes from others of the same host.

    The resource tracker is left alone: it frees shared memory once the others are gone.
    """
    if "resource_tracker" in command:
        return False
    return "VLLM::" in command or "multiprocessing" in command


def _command(process: psutil.Process) -> str:
    import psutil

    try:
        return " ".join(process.cmdline())
    except (psutil.Error, OSError):
        return ""


def _descendants(pid: int) -> list[psutil.Process]:
    return _children(pid, recursive=True)


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    import psutil

    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.Error:
        return []


def _is_marked(process: psutil.Process, host: str) -> bool:
    import psutil

    mark = f"{MARK}={host}"
    try:
        # The bytes themselves where they can be had: psutil stops at a part written over.
        environment = Path(f"/proc/{process.pid}/environ")
        if environment.exists():
            return mark.encode() in environment.read_bytes()
        return process.environ().get(MARK) == host
    except (psutil.Error, OSError):
        return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    import psutil

    doomed = [process for process in processes if process.pid != os.getpid()]
    for process in doomed:
        with suppress(psutil.Error):
            process.kill()
    end = time.monotonic() + 1
    # Only looked at, not waited for: their exit status is for whoever started them.
    while any(_runs(process) for process in doomed) and time.monotonic() < end:
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _tell(word: bytes) -> None:
    """Tell the watchdog, started if there is none."""
    global _watchdog
    with _lock:
        if _watchdog is None or _watchdog.poll() is not None:
            # Its own session, so that Ctrl-C and a terminal's end pass it by.
            _watchdog = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).resolve()), _host, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                bufsize=0,
            )
            atexit.register(_let_go)
        if _watchdog.stdin is not None:
            with suppress(OSError):
                _watchdog.stdin.write(word)


def _let_go() -> None:
    """Close the pipe without waiting for the watchdog, which has a look and ends."""
    global _watchdog
    if _watchdog is not None and _watchdog.stdin is not None:
        _watchdog.stdin.close()
        _watchdog.returncode = 0  # whoever adopts it waits for it
    _watchdog = None


def _after_fork() -> None:
    """Be another host. The parent's pipe, kept open here, would hide the parent's end."""
    global _lock, _host
    _lock = threading.Lock()
    _host = uuid.uuid4().hex
    _let_go()


def _watch(host: str, pid: int) -> None:
    """Be the watchdog."""
    import psutil

    known: set[psutil.Process] = set()
    starting = True
    while True:
        ready, _, _ = select.select([0], [], [], _POLL_SECONDS if starting else None)
        words = os.read(0, 64) if ready else b""
        for process in _descendants(pid):
            command = _command(process)
            if _is_engine(command) and ("VLLM::" in command or _is_marked(process, host)):
                known.add(process)
        if ready and not words:
            break
        if words:
            starting = words.endswith(_STARTING)
    for _ in range(10):  # again, since a dying process may just have started another
        known.update(child for process in set(known) for child in _descendants(process.pid))
        for process in psutil.process_iter():
            if _is_engine(_command(process)) and _is_marked(process, host):
                known.add(process)
        known = {process for process in known if _runs(process)}
        if not known:
            return
        _kill(known)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
else:
    os.register_at_fork(after_in_child=_after_fork)
