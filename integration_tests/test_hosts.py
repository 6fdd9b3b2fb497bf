"""No engine outlives its host, however that ends.

Each host is a fresh process with an engine of its own, which takes most of a minute to import and
start on one core. So hosts start two at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from examples import in_process
from integration_tests.processes import engine_processes, left_over
from langchain_glimprouter.bench.servers import Server

ROOT = Path(in_process.__file__).parents[1]

Host = subprocess.Popen[str]

HOST = """
    import asyncio, sys
    from langchain_glimprouter.engines.base import GenerationRequest
    from langchain_glimprouter.engines.vllm_local import VLLMEngine

    async def main(model, phase):
        engine = VLLMEngine(model, kv_cache_memory_bytes=1 << 28, max_model_len=4096)
        if phase == "starting":
            print("ready", flush=True)
        await engine.start()
        async for _ in engine.generate(GenerationRequest(range(100, 150), 4000)):
            if phase == "generating":
                print("ready", flush=True)
                phase = "told"

    if __name__ == "__main__":
        asyncio.run(main(*sys.argv[1:]))
"""


def started(commands: Sequence[Sequence[str]]) -> Iterator[list[Host]]:
    with ExitStack() as stack:
        hosts = []
        for command in commands:
            host = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            stack.enter_context(host)
            stack.callback(host.kill)
            hosts.append(host)
        yield hosts


@pytest.fixture(scope="module")
def doomed(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    script = tmp_path_factory.mktemp("hosts") / "host.py"
    script.write_text(textwrap.dedent(HOST))
    phases = ("starting", "generating")
    yield from started([[str(script), str(smollm), phase] for phase in phases])


@pytest.mark.parametrize("phase", ["starting", "generating"])
def test_no_process_outlives_a_killed_host(doomed: list[Host], phase: str) -> None:
    host = doomed[phase == "generating"]
    assert host.stdout is not None
    assert host.stdout.readline().strip() == "ready"
    if phase == "starting":
        end = time.monotonic() + 120
        while not engine_processes(host.pid, named="spawn_main"):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(1)
    family = psutil.Process(host.pid).children(recursive=True)
    assert any("reaper" in " ".join(process.cmdline()) for process in family)
    assert len(family) >= 3
    host.kill()
    host.wait()
    assert left_over(family) == []


def watch(host: Host, family: set[psutil.Process]) -> None:
    """Get to know a process's descendants for as long as it runs."""
    while host.poll() is None:
        with suppress(psutil.Error):
            family.update(psutil.Process(host.pid).children(recursive=True))
        time.sleep(0.2)


@pytest.fixture(scope="module")
def families() -> list[set[psutil.Process]]:
    """Descendants of the users' processes, known as they come and go."""
    return [set(), set()]


@pytest.fixture(scope="module")
def users(
    smollm: Path, smollm_server: Server, families: list[set[psutil.Process]]
) -> Iterator[list[Host]]:
    """The command line with an endless answer, and an example that mixes the kinds of engines."""
    ask = ["-m", "langchain_glimprouter", "ask", "Write a very long story."]
    ask += ["--small", str(smollm), "--large", str(smollm), "--policy", "always small"]
    ask += ["--temperature", "0", "--max-tokens", "1500"]
    example = ["examples/in_process.py", str(smollm), smollm_server.url]
    for hosts in started([ask, example]):
        watchers = [
            threading.Thread(target=watch, args=pair) for pair in zip(hosts, families, strict=True)
        ]
        for watcher in watchers:
            watcher.start()
        yield hosts
        for host, watcher in zip(hosts, watchers, strict=True):
            host.kill()
            watcher.join()


def test_ctrl_c_leaves_no_engine_behind(users: list[Host]) -> None:
    host, _ = users
    assert host.stdout is not None
    assert host.stdout.read(200)  # it writes
    family = psutil.Process(host.pid).children(recursive=True)
    assert family
    host.send_signal(signal.SIGINT)
    began = time.monotonic()
    host.stdout.read()
    assert host.wait(timeout=20) == 130
    assert time.monotonic() - began < 15
    assert left_over(family, 10) == []


def test_a_script_that_ends_leaves_no_engine_behind(
    users: list[Host], families: list[set[psutil.Process]]
) -> None:
    host, family = users[1], families[1]
    stdout, stderr = host.communicate()
    assert host.returncode == 0, stderr
    assert "H=" in stdout
    assert "answer:" in stdout
    assert "Traceback" not in stderr
    assert len(family) >= 3
    assert left_over(list(family)) == []
