"""Every example runs; `test_hosts` runs one as a script."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from examples import batch_progress, servers, streaming_colors
from langchain_glimprouter import VLLMEngine
from langchain_glimprouter.bench.servers import Server

EXAMPLES = Path(servers.__file__).parent


def test_batch_progress(small_engine: VLLMEngine, large_engine: VLLMEngine) -> None:
    answers = batch_progress.main(small_engine, large_engine, count=2)
    assert len(answers) == 2
    assert all(answer.strip() for answer in answers)


def test_streaming_colors(small_engine: VLLMEngine) -> None:
    assert asyncio.run(streaming_colors.main(small_engine, small_engine)).strip()


def test_servers(smollm_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url, template = smollm_server.url, str(EXAMPLES / "thinking_chat_template.jinja")
    answer = asyncio.run(servers.main(url, url, chat_template=template))
    printed = capsys.readouterr().out
    assert printed.startswith(answer)
    assert "'large': {'decode'" in printed
