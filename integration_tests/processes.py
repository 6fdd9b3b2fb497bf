"""Which processes an engine has, in a process that may host others too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

import psutil

Processes = Collection[psutil.Process]


def engine_processes(
    pid: int | None = None, *, named: str = "VLLM::", besides: Processes = ()
) -> list[psutil.Process]:
    """Return the engine processes of a host.

    Args:
        pid: The host; this process by default.
        named: Part of their command.
        besides: Those of other engines, which are not meant.
    """
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # a zombie has no command
            if named in " ".join(process.cmdline()) and process not in besides:
                found.append(process)
    return found


def left_over(processes: Iterable[psutil.Process], seconds: float = 5.0) -> list[psutil.Process]:
    """Return those that still run after a while."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
