"""Keeps graders in processes of their own: what compares answers may hang, and evaluates them.

math-verify times out by signals, which only a main thread can take, and some data sets of
reasoning-gym pass an answer to `eval`. So both work in guarded processes, asked over pipes.
"""

from __future__ import annotations

import atexit
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

_WORKER = Path(__file__).parent / "sandbox" / "grader_worker.py"
_START_SECONDS = 300.0  # some 3 on an idle machine; imports only


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


class Grader:
    """One guarded process that grades; it starts at first use and is started again when it dies.

    Thread-safe; one question at a time.

    Args:
        kind: What it grades by.
        seconds: How long one answer may take.
    """

    def __init__(self, kind: Literal["maths", "gym"], seconds: float = 60.0) -> None:
        self._kind = kind
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def grade(self, *request: Any) -> Found:
        """Grade an answer. Blocks, for `seconds` at most once the process runs.

        Args:
            *request: What `grader_worker` takes for this kind.

        Raises:
            ConfigurationError: If the library that grades is missing.
            GlimpRouterError: If the process cannot be started.
        """
        with self._lock:
            process = self._running()
            try:
                data = pickle.dumps(request)
                assert process.stdin is not None
                process.stdin.write(len(data).to_bytes(8, "big") + data)
                process.stdin.flush()
                reply = _line(process, self._seconds)
            except TimeoutError:
                self._stop()
                return Found(0.0, error=f"comparing took longer than {self._seconds:g} s")
            except (BrokenPipeError, EOFError):
                status = self._stop()
                return Found(0.0, error=f"comparing ended the grader (status {status})")
            return Found(**json.loads(reply))

    def close(self) -> None:
        """End the process; the next use starts it again."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-X", "utf8", "-W", "ignore", str(_WORKER), self._kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_WORKER.parent,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        atexit.register(self.close)
        try:
            state = json.loads(_line(self._process, _START_SECONDS))
        except (EOFError, TimeoutError):
            status = self._stop()
            msg = f"the grader for {self._kind} did not start (status {status})"
            raise GlimpRouterError(msg) from None
        if state is not True:
            self._stop()
            raise ConfigurationError(f"{state}: pip install 'langchain-glimprouter[bench]'")
        return self._process

    def _stop(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        atexit.unregister(self.close)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        return process.wait()


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Read a line; unlike `readline`, not for ever."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    waiting = select.poll()  # not `select`, which fails on file descriptors above 1,023
    waiting.register(process.stdout, select.POLLIN)
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            raise TimeoutError
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        if not chunk:
            raise EOFError
        line += chunk
    return line


MATHS = Grader("maths")
GYM = Grader("gym")
