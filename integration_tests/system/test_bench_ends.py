"""The command `glimprouter bench`, ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from langchain_glimprouter.bench.journal import Journal

SCRIPT = """
import sys
from langchain_glimprouter.bench import engines, tasks
from unit_tests.studies import Sums, scripted
engines.open_engine = lambda model, _: scripted(model, delay=0.004)
tasks.find_task = lambda *_, **__: Sums()
from langchain_glimprouter.cli import app
app()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_control_c_keeps_the_rows(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    words = ["bench", "--small", "small", "--large", "large", "--out", str(tmp_path)]
    words += ["-p", "always large", "-n", "40", "--thinking"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    file, deadline = tmp_path / "study.jsonl", time.monotonic() + 60
    while not (file.exists() and file.read_text().count('"turn"') >= 3):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(sent)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert "the same command goes on" in " ".join(said.split())
    kept = len(Journal(file).turns)
    assert 3 <= kept < 40
    assert f"{kept} turns are kept" in said
