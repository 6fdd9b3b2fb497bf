"""The engines in this process that tests share, and the servers."""

from __future__ import annotations

import os
from typing import Any

from examples import demo_models
from integration_tests.ahead import Ahead
from langchain_glimprouter import VLLMEngine
from langchain_glimprouter.bench.servers import Server, serve
from langchain_glimprouter.engines.runtime import get_runtime

SMOLLM = "SmolLM2-135M-Instruct"
QWEN_SMALL = "Qwen2.5-Coder-0.5B-Instruct"
QWEN_LARGE = "Qwen2.5-Coder-1.5B-Instruct"

# A KV cache as large as the tests need: a larger one is filled with zeros all the same.
ROOM: dict[str, Any] = {"max_model_len": 4096, "kv_cache_memory_bytes": 1 << 28}
# What a model writes behind a context does not depend on how it read that context, token by token
# or all at once; in bfloat16 it does. But a token takes twice as long.
EXACT: dict[str, Any] = {**ROOM, "dtype": "float32"}

DRAFTED_TOKENS = 3

KEY = "s3cr3t-k3y"

# A server's model runs in its engine's process, as it does in an engine in this process, and not in
# a third one, which would import everything once more.
_ENVIRONMENT = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_TOGETHER = ("--distributed-executor-backend", "uni")


def smollm_engine(ahead: Ahead) -> VLLMEngine:
    """Start the smallest model."""
    return _started(ahead, SMOLLM, ROOM)


def exact_engine(ahead: Ahead) -> VLLMEngine:
    """Start the smallest model in float32."""
    return _started(ahead, SMOLLM, EXACT)


def small_engine(ahead: Ahead) -> VLLMEngine:
    """Start the demo pair's small model."""
    return _started(ahead, QWEN_SMALL, ROOM)


def large_engine(ahead: Ahead) -> VLLMEngine:
    """Start the demo pair's large model, which the small one drafts for."""
    drafts = {
        "method": "draft_model",
        "model": str(demo_models.ensure(QWEN_SMALL)),
        "num_speculative_tokens": DRAFTED_TOKENS,
    }
    room = {**ROOM, "kv_cache_memory_bytes": 1 << 29}  # the drafts need theirs
    return _started(ahead, QWEN_LARGE, {**room, "speculative_config": drafts})


def _started(ahead: Ahead, name: str, options: dict[str, Any]) -> VLLMEngine:
    engine = ahead.keep(VLLMEngine(str(demo_models.ensure(name)), **options))
    get_runtime().run(engine.start())
    return engine


def smollm_server(ahead: Ahead) -> Server:
    """Start a server with both of vLLM's endpoints for token ids."""
    return _served(ahead, "--max-logprobs", "21", "--enable-prompt-tokens-details")


def strict_server(ahead: Ahead) -> Server:
    """Start a server with options that get in the way."""
    penalty = '{"repetition_penalty": 1.4}'
    options = ("--api-key", KEY, "--max-logprobs", "0", "--override-generation-config", penalty)
    return _served(ahead, *options)


def _served(ahead: Ahead, *options: str) -> Server:
    model = demo_models.ensure(SMOLLM)
    return ahead.keep(serve(model, *_TOGETHER, "--enable-scale-out", *options, env=_ENVIRONMENT))
