"""The command `glimprouter ask`, as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from langchain_glimprouter import RoutingTrace

COMMAND = [sys.executable, "-m", "langchain_glimprouter", "ask"]


def options(smollm: Path, *more: str) -> list[str]:
    return [*COMMAND, "--small", str(smollm), "--large", str(smollm), "--temperature", "0", *more]


def test_json_is_a_trace_and_nothing_else(smollm: Path, tmp_path: Path) -> None:
    command = options(smollm, "--max-tokens", "24", "-t", "1.5", "--json", "What is a cat?")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    trace = RoutingTrace.model_validate_json(done.stdout)
    assert trace.usage.answer_tokens == 24
    assert "Traceback" not in done.stderr
    file = tmp_path / "trace.json"
    file.write_text(done.stdout)
    shown = subprocess.run(
        [sys.executable, "-m", "langchain_glimprouter", "trace", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert trace.text.split()[0] in shown.stdout
    assert "hand-offs" in shown.stdout


def test_ctrl_c_leaves_no_engine_behind(smollm: Path) -> None:
    command = options(smollm, "--max-tokens", "1500", "Write a very long story.")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(200)  # it writes
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.stdout.read()
        assert process.wait(timeout=20) == 130
        assert time.monotonic() - began < 15
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
