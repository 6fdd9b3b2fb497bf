"""Which processes an engine has, in a process that may host others too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

import psutil

Processes = Collection[psutil.Process]

_OF_ENGINES = ("VLLM::", "multiprocessing")


def engine_processes(
    pid: int | None = None, *, named: str = "VLLM::", besides: Processes = ()
) -> list[psutil.Process]:
    """Return the engine processes of a host, without those of other hosts that it started.

    Args:
        pid: The host; this process by default.
        named: Part of their command.
        besides: Those of other engines, which are not meant.
    """
    found = []
    for child in psutil.Process(pid).children():
        if any(sign in _command(child) for sign in _OF_ENGINES):
            family = [child]
            with suppress(psutil.Error):
                family += child.children(recursive=True)
            found += [one for one in family if named in _command(one) and one not in besides]
    return found


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):  # a zombie has no command
        return " ".join(process.cmdline())
    return ""


def left_over(processes: Iterable[psutil.Process], seconds: float = 5.0) -> list[psutil.Process]:
    """Return those that still run after a while."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
