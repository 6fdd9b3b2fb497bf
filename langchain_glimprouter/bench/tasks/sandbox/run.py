"""Runs a program that a model wrote: within limits, without network, and without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.tasks.sandbox.guards import BROKEN, OUT_OF_TIME
from langchain_glimprouter.errors import GlimpRouterError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Collection, Sequence

GUARDS = ("namespaces", "landlock", "seccomp", "audit")
"""The layers beside the resource limits, see `guards`; what the machine has not is left out."""

_CHILD = Path(__file__).with_name("child.py")
_STDERR_BYTES = 1 << 16
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        cpu_seconds: Processor time; LiveCodeBench gives 6 s.
        wall_seconds: Time by the clock.
        memory_bytes: Address space; LiveCodeBench gives 4 GiB.
        output_bytes: What it may write to stdout.
    """

    cpu_seconds: int = 6
    wall_seconds: float = 20.0
    memory_bytes: int = 4 << 30
    output_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Attributes:
        output: What it wrote to stdout; of a function, its result as JSON.
        error: Why it did not end well; `None` if it did.
        seconds: By the clock, its start included.
    """

    output: str
    error: str | None
    seconds: float


async def run_program(
    code: str,
    *,
    stdin: str = "",
    function: str | None = None,
    arguments: Sequence[Any] = (),
    limits: Limits | None = None,
    guards: Collection[str] = GUARDS,
) -> Outcome:
    """Run Python code in a process of its own, in an empty folder.

    Whatever happens, also when the caller is cancelled, no process of it is left.

    Args:
        code: The program.
        stdin: What it reads.
        function: Call this function of it, or method of its class `Solution`, for the result.
        arguments: What the function is called with; plain data.
        limits: What it may use.
        guards: Which of `GUARDS` to put up; all but in tests.

    Raises:
        GlimpRouterError: If no program can be run here at all.
    """
    job = {"code": code, "input": stdin, "function": function, "arguments": arguments}
    return await _run({**job, "probe": False}, limits or Limits(), guards)


async def guards_in_force() -> tuple[str, ...]:
    """Return which of `GUARDS` this machine permits.

    Raises:
        GlimpRouterError: If no program can be run here at all.
    """
    job = {"code": "", "input": "", "function": None, "arguments": (), "probe": True}
    held = await _run(job, Limits(), GUARDS)
    if held.error is not None:
        raise GlimpRouterError(f"programs cannot be run here: it {held.error}")
    return tuple(json.loads(held.output))


async def _run(job: dict[str, Any], limits: Limits, guards: Collection[str]) -> Outcome:
    job |= {
        "guards": sorted(guards),
        "cpu_seconds": limits.cpu_seconds,
        "wall_seconds": limits.wall_seconds,
        "memory_bytes": limits.memory_bytes,
    }
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="glimprouter-") as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-X", "utf8", "-W", "ignore", str(_CHILD)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={**_ENVIRONMENT, "HOME": folder, "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limits.wall_seconds):
                output, errors, _ = await asyncio.gather(
                    _collect(process.stdout, limits.output_bytes, lambda: _kill(process)),
                    _collect(process.stderr, _STDERR_BYTES, lambda: None),
                    _feed(process, json.dumps(job).encode()),
                )
                status = await process.wait()
            if len(output) > limits.output_bytes:
                error: str | None = f"wrote more than {limits.output_bytes:,} bytes"
            else:
                error = _reason(status, errors, limits)
        except TimeoutError:
            output, error = bytearray(), f"ran longer than {limits.wall_seconds:g} s"
        finally:
            _kill(process)
            await _ended(process)
    return Outcome(output.decode(errors="replace"), error, time.perf_counter() - began)


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    with suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.drain()
    process.stdin.close()


async def _collect(
    stream: asyncio.StreamReader | None, limit: int, exceeded: Callable[[], None]
) -> bytearray:
    """Read to the end; keep one byte more than the limit at most."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(1 << 16):
        kept += chunk[: limit + 1 - len(kept)]
        if len(kept) > limit:
            exceeded()
    return kept


def _kill(process: Process) -> None:
    """Kill the process and what shares its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _ended(process: Process) -> None:
    """Wait for the end and for what is left in the pipes, so that nothing stays open."""
    await process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        while await stream.read(1 << 16):
            pass


def _reason(status: int, errors: bytearray, limits: Limits) -> str | None:
    if status == 0:
        return None
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:400] if lines else f"exit status {status}"
    if status == BROKEN:
        raise GlimpRouterError(f"programs cannot be run here: {last}")
    if status == OUT_OF_TIME:
        return f"used more than {limits.cpu_seconds} s of processor time"
    number = -status if status < 0 else status - 128
    if number in signal.valid_signals():
        return f"killed by {signal.Signals(number).name}"
    return last
