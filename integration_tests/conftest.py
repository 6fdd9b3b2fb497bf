"""The demo models; one that is missing is made first, never skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import demo_models
from langchain_glimprouter import VLLMEngine
from langchain_glimprouter.bench.servers import Server, serve


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the test with the largest engine first: later the shared ones hold the memory."""
    items.sort(key=lambda item: "test_speculative" not in item.nodeid)


@pytest.fixture(scope="session")
def smollm() -> Path:
    """Folder of the smallest model, for tests that need any model."""
    return demo_models.ensure("SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def qwen_small() -> Path:
    """Folder of the demo pair's small model."""
    return demo_models.ensure("Qwen2.5-Coder-0.5B-Instruct")


@pytest.fixture(scope="session")
def qwen_large() -> Path:
    """Folder of the demo pair's large model, with the small one's vocabulary."""
    return demo_models.ensure("Qwen2.5-Coder-1.5B-Instruct")


@pytest.fixture(scope="session")
def thinking_template() -> Path:
    """Chat template that makes the demo pair think."""
    return Path(demo_models.__file__).with_name("thinking_chat_template.jinja")


@pytest.fixture(scope="session")
def small_engine(qwen_small: Path) -> Iterator[VLLMEngine]:
    """The demo pair's small model, running in-process."""
    with VLLMEngine(str(qwen_small), max_model_len=4096) as engine:
        yield engine


@pytest.fixture(scope="session")
def large_engine(qwen_large: Path) -> Iterator[VLLMEngine]:
    """The demo pair's large model, running in-process."""
    with VLLMEngine(str(qwen_large), max_model_len=4096) as engine:
        yield engine


@pytest.fixture(scope="session")
def smollm_engine(smollm: Path) -> Iterator[VLLMEngine]:
    """The smallest model, running in-process, with a vocabulary of its own."""
    with VLLMEngine(str(smollm), max_model_len=4096, kv_cache_memory_bytes=1 << 28) as engine:
        yield engine


@pytest.fixture(scope="session")
def smollm_server(smollm: Path) -> Iterator[Server]:
    """The smallest model behind a server with both of vLLM's endpoints for token ids."""
    options = ("--enable-scale-out", "--max-logprobs", "21", "--enable-prompt-tokens-details")
    with serve(smollm, *options) as server:
        yield server
