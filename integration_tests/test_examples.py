"""Every example runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from examples import batch_progress, in_process, servers, streaming_colors
from langchain_glimprouter import VLLMEngine
from langchain_glimprouter.bench.servers import serve

EXAMPLES = Path(in_process.__file__).parent


def test_in_process_as_a_script(smollm: Path) -> None:
    command = [sys.executable, "examples/in_process.py", str(smollm), str(smollm)]
    done = subprocess.run(
        command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "H=" in done.stdout
    assert "answer:" in done.stdout
    assert "Traceback" not in done.stderr


def test_batch_progress(small_engine: VLLMEngine, large_engine: VLLMEngine) -> None:
    answers = batch_progress.main(small_engine, large_engine, count=4)
    assert len(answers) == 4
    assert all(answer.strip() for answer in answers)


def test_streaming_colors(small_engine: VLLMEngine, large_engine: VLLMEngine) -> None:
    assert asyncio.run(streaming_colors.main(small_engine, large_engine)).strip()


def test_servers(smollm: Path) -> None:
    with serve(smollm) as server:
        template = str(EXAMPLES / "thinking_chat_template.jinja")
        answer = asyncio.run(servers.main(server.url, server.url, chat_template=template))
    assert answer.strip()
