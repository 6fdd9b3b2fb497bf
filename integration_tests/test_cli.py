"""The command `glimprouter ask`, as a user runs it; `test_hosts` presses Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from langchain_glimprouter import RoutingTrace
from langchain_glimprouter.bench.servers import Server

COMMAND = [sys.executable, "-m", "langchain_glimprouter"]


def test_json_is_a_trace_and_nothing_else(smollm_server: Server, tmp_path: Path) -> None:
    url = smollm_server.url
    command = [*COMMAND, "ask", "--small", url, "--large", url, "--temperature", "0"]
    command += ["--max-tokens", "24", "-t", "1.5", "--json", "What is a cat?"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    trace = RoutingTrace.model_validate_json(done.stdout)
    assert trace.usage.answer_tokens == 24
    assert "Traceback" not in done.stderr
    file = tmp_path / "trace.json"
    file.write_text(done.stdout)
    shown = subprocess.run(
        [*COMMAND, "trace", str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    assert trace.text.split()[0] in shown.stdout
    assert "hand-offs" in shown.stdout
