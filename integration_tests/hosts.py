"""Processes with engines of their own, and how each of them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from examples import demo_models
from integration_tests.ahead import Ahead
from integration_tests.engines import EXACT, SMOLLM, smollm_server
from integration_tests.processes import engine_processes, left_over

ROOT = Path(demo_models.__file__).parents[1]
# Of the time before this process's own engines, whose starts change it. With one thread, since two
# would wait for each other at every turn while something else runs.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

Host = subprocess.Popen[str]

THOUGHT: dict[str, Any] = {  # short steps, of which about every second one is handed over
    "threshold": 0.7,
    "max_step_tokens": 16,
    "max_thinking_tokens": 160,
    "max_tokens": 24,
    "loop_guard": False,
}

STARTS = """
    import asyncio, sys
    from langchain_glimprouter.engines.vllm_local import VLLMEngine

    if __name__ == "__main__":
        asyncio.run(VLLMEngine(sys.argv[1], max_model_len=4096).start())
"""
THINKS = f"""
    import sys
    from examples import durable_thought
    from langchain_glimprouter import VLLMEngine

    if __name__ == "__main__":
        with VLLMEngine(sys.argv[1], **{EXACT!r}) as engine:
            durable_thought.main(engine, engine, sys.argv[2], **{THOUGHT!r})
"""


@dataclass(frozen=True)
class Ended:
    """How a host ended.

    Attributes:
        code: Its exit code; minus the signal's number where a signal ended it.
        stdout: What it printed.
        stderr: What it printed there.
        seconds: From the signal that ended it to its end.
        family: Commands of its descendants.
        left: Commands of those that ran on.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    family: list[str]
    left: list[str]


@contextmanager
def host(ahead: Ahead, *command: str) -> Iterator[Host]:
    """Run Python in the project's folder, killed if the block leaves it running."""
    with subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    ) as process:
        ahead.hosts.add(process)
        try:
            yield process
        finally:
            ahead.hosts.discard(process)
            process.kill()


def script(ahead: Ahead, name: str, text: str) -> str:
    """Write a script; return its path."""
    path = ahead.folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)


def family_of(process: Host) -> dict[psutil.Process, str]:
    """Return a host's descendants and their commands."""
    family = {}
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                family[child] = " ".join(child.cmdline())
    return family


def end(process: Host, number: int, stdout: str, seconds: float = 5.0) -> Ended:
    """End a host by a signal, and see what is left of it.

    Args:
        process: The host.
        number: The signal's.
        stdout: What was read of it.
        seconds: How long its descendants may take to end, once it has.
    """
    family = family_of(process)
    process.send_signal(number)
    began = time.monotonic()
    process.wait(timeout=20)
    took = time.monotonic() - began
    left = left_over(family, seconds)
    for survivor in left:
        survivor.kill()  # or its open pipes never end
    assert process.stdout is not None
    assert process.stderr is not None
    stdout += process.stdout.read()
    return Ended(
        code=process.returncode,
        stdout=stdout,
        stderr=process.stderr.read(),
        seconds=took,
        family=list(family.values()),
        left=[family[survivor] for survivor in left],
    )


# Scenes -----------------------------------------------------------------------------------------


def smollm() -> str:
    """Return the smallest model's folder."""
    return str(demo_models.ensure(SMOLLM))


def killed_as_it_starts(ahead: Ahead) -> Ended:
    """Kill a host just after its engine's process has begun."""
    with host(ahead, script(ahead, "starts.py", STARTS), smollm()) as process:
        deadline = time.monotonic() + 120
        while not engine_processes(process.pid, named="spawn_main"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        return end(process, signal.SIGKILL, "")


def killed_in_mid_thought(ahead: Ahead) -> Ended:
    """Kill a host that has written some steps of a thought into `thought.sqlite`."""
    thought = str(ahead.folder / "thought.sqlite")
    with host(ahead, script(ahead, "thinks.py", THINKS), smollm(), thought) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if printed.count("step ") >= 4:
                break
        return end(process, signal.SIGKILL, printed)


def interrupted(ahead: Ahead) -> Ended:
    """Press Ctrl-C while the command line writes an endless answer."""
    ask = ["-m", "langchain_glimprouter", "ask", "Write a very long story."]
    ask += ["--small", smollm(), "--large", smollm(), "--policy", "always small"]
    ask += ["--temperature", "0", "--max-tokens", "1500"]
    with host(ahead, *ask) as process:
        assert process.stdout is not None
        return end(process, signal.SIGINT, process.stdout.read(200), 10)


def finished(ahead: Ahead) -> Ended:
    """Run an example that mixes the kinds of engines to its end."""
    url = ahead.get(smollm_server).url
    family: dict[psutil.Process, str] = {}

    def watch() -> None:
        while process.poll() is None:  # get to know them as they come and go
            family.update(family_of(process))
            time.sleep(0.2)

    with host(ahead, "examples/in_process.py", smollm(), url) as process:
        watcher = threading.Thread(target=watch)
        watcher.start()
        stdout, stderr = process.communicate(timeout=400)
        watcher.join()
    left = [family[survivor] for survivor in left_over(family)]
    return Ended(process.returncode, stdout, stderr, 0.0, list(family.values()), left)
