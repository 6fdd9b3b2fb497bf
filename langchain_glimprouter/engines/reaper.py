"""No engine process outlives its host, however the host ends.

vLLM's engine processes do not watch their parent: a host that is killed with SIGKILL leaves them
behind with all their memory. So processes that start while an engine starts carry marks in their
environment, and a tiny watchdog process, which notices the host's end by the end of a pipe, kills
what still carries the host's mark. This file is also the watchdog's program: run by its path, it
imports nothing of this package.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST_MARK = "GLIMPROUTER_HOST"
ENGINE_MARK = "GLIMPROUTER_ENGINE"

_lock = threading.Lock()
_watchdog: subprocess.Popen[bytes] | None = None
_host = uuid.uuid4().hex


@contextmanager
def marked(engine: str) -> Iterator[None]:
    """Mark the processes that start meanwhile as `engine`'s, with a watchdog over them.

    The environment is the whole process's: at most one engine may start at a time.
    """
    _watch()
    before = {mark: os.environ.get(mark) for mark in (HOST_MARK, ENGINE_MARK)}
    os.environ.update({HOST_MARK: _host, ENGINE_MARK: engine})
    try:
        yield
    finally:
        for mark, value in before.items():
            if value is None:
                os.environ.pop(mark, None)
            else:
                os.environ[mark] = value


def kill_engine(engine: str) -> None:
    """Kill the processes of one engine."""
    kill(ENGINE_MARK, engine)


def kill_workers(engine: str) -> None:
    """Kill the workers of one engine, which itself lives on."""
    kill(ENGINE_MARK, engine, of="VLLM::Worker")


def kill(mark: str, value: str, *, of: str = "") -> None:
    """Kill every engine process that carries a mark; the caller itself never.

    Args:
        mark: The environment variable.
        value: Its value.
        of: Part of the command of the processes that are meant.
    """
    import psutil

    for _ in range(10):  # again, since a dying process may just have started another
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(mark) == value:
                    command = " ".join(process.cmdline())
                    if _is_engine(command) and of in command:
                        found.append(process)
            except (psutil.Error, OSError):
                continue  # gone, or another user's
        if not found:
            return
        for process in found:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(found, timeout=1)


def _is_engine(command: str) -> bool:
    """Tell vLLM's processes from others that the user started at the same time.

    The resource tracker is left alone: it frees shared memory once the others are gone.
    """
    if "resource_tracker" in command:
        return False
    return "multiprocessing" in command or "VLLM::" in command


def _watch() -> None:
    global _watchdog
    with _lock:
        if _watchdog is None or _watchdog.poll() is not None:
            # Its own session, so that Ctrl-C and a terminal's end pass it by.
            _watchdog = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).resolve()), _host],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
            atexit.register(_let_go)


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


def _main(host: str) -> None:
    while sys.stdin.buffer.read(1):
        pass
    kill(HOST_MARK, host)


if __name__ == "__main__":
    _main(sys.argv[1])
else:
    os.register_at_fork(after_in_child=_after_fork)
