"""Work that is done in guarded processes of their own, asked over pipes.

math-verify times out by signals, which only a main thread can take, and may hang; some data sets
of reasoning-gym pass an answer to `eval`; others make other questions in every process, since
they depend on the hashes of strings, which only a process's start can fix.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langchain_glimprouter.errors import ConfigurationError, GlimpRouterError

_WORKER = Path(__file__).parent / "sandbox" / "worker.py"
_START_SECONDS = 300.0  # some 3 on an idle machine; imports only
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


class WorkerGoneError(GlimpRouterError):
    """A worker took too long or died; the next request starts another."""


class Worker:
    """One guarded process; it starts at first use and is started again when it dies.

    Thread-safe; one request at a time.

    Args:
        kind: What it does, see `sandbox/worker.py`.
        seconds: How long one request may take.
    """

    def __init__(self, kind: Literal["maths", "gym", "questions"], seconds: float) -> None:
        self._kind = kind
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, *request: Any) -> Any:
        """Have a request done. Blocks, for `seconds` at most once the process runs.

        Args:
            *request: What the worker takes for this kind.

        Returns:
            What it says, as JSON says it.

        Raises:
            ConfigurationError: If the library that it needs is missing.
            WorkerGoneError: If it took too long, or died over it.
            GlimpRouterError: If it cannot be started.
        """
        data = pickle.dumps(request)
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(len(data).to_bytes(8, "big") + data)
                process.stdin.flush()
                return json.loads(_line(process, self._seconds))
            except TimeoutError:
                why = f"it took longer than {self._seconds:g} s"
            except (BrokenPipeError, EOFError):
                why = "it ended the process"
            self._stop()
        raise WorkerGoneError(why)

    def close(self) -> None:
        """End the process; the next use starts it again."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            # Not `-I`, which would have the hashes of strings differ from start to start.
            [sys.executable, "-P", "-s", "-B", "-X", "utf8", "-W", "ignore", _WORKER, self._kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_WORKER.parent,
            env=_ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        atexit.register(self.close)
        try:
            state = json.loads(_line(self._process, _START_SECONDS))
        except (EOFError, TimeoutError):
            self._stop()
            msg = f"the worker for {self._kind!r} does not start"
            raise GlimpRouterError(msg) from None
        if state is not True:
            self._stop()
            raise ConfigurationError(f"{state}: pip install 'langchain-glimprouter[bench]'")
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.close)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        process.wait()


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Read a line; unlike `readline`, not for ever."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    waiting = select.poll()  # not `select`, which fails on file descriptors above 1,023
    waiting.register(process.stdout, select.POLLIN)
    line = bytearray()
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            raise TimeoutError
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        if not chunk:
            raise EOFError
        line += chunk
    return bytes(line)


@dataclass(frozen=True, slots=True)
class Found:
    """What a grader found.

    Attributes:
        score: From 0 to 1.
        extracted: What it compared.
        error: Why it could not.
    """

    score: float
    extracted: str | None = None
    error: str | None = None


class Grader(Worker):
    """A worker that grades: `maths` by math-verify, `gym` by reasoning-gym."""

    def __init__(self, kind: Literal["maths", "gym"], seconds: float = 60.0) -> None:
        super().__init__(kind, seconds)

    def grade(self, *request: Any) -> Found:
        """Grade an answer; see `ask`. An answer that ends the worker is wrong, and says so."""
        try:
            return Found(**self.ask(*request))
        except WorkerGoneError as error:
            return Found(0.0, error=f"comparing: {error}")


MATHS = Grader("maths")
GYM = Grader("gym")
_QUESTIONS = Worker("questions", seconds=600.0)  # some data sets search for long


def gym_entries(name: str, config: dict[str, Any], start: int, count: int) -> list[dict[str, Any]]:
    """Return questions of a reasoning-gym data set; the same in every process.

    Args:
        name: The data set.
        config: What to make it with.
        start: Index of the first.
        count: How many; fewer come back where the set ends.
    """
    said = _QUESTIONS.ask(name, config, start, count)
    if "error" in said:
        raise GlimpRouterError(f"{name} made no questions: {said['error']}")
    # A pickle, for it holds tuples and more; safe, since this worker never sees an answer.
    entries: list[dict[str, Any]] = pickle.loads(base64.b64decode(said["entries"]))  # noqa: S301
    return entries
