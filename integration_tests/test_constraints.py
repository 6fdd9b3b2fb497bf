"""Grammars that engines hold their output to: in-process, and both endpoints of a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from langchain_glimprouter import ConfigurationError, VLLMEngine, VLLMServer
from langchain_glimprouter.bench.servers import Server
from langchain_glimprouter.engines.base import Engine, GenerationRequest, Sampling
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_protocol import CompletionsEndpoint
from langchain_glimprouter.messages.hermes import Hermes, read_hermes
from langchain_glimprouter.messages.tool_format import answer_schema
from langchain_glimprouter.messages.tool_use import settle_tools
from unit_tests.test_tool_formats import NOW

NUMBERS = {
    "type": "object",
    "properties": {"digit": {"enum": [1, 2, 3]}, "yes": {"type": "boolean"}},
    "required": ["digit", "yes"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["in-process", "tokens", "completions"])
def engine(
    request: pytest.FixtureRequest, smollm_engine: VLLMEngine, smollm_server: Server
) -> Iterator[Engine]:
    if request.param == "in-process":
        yield smollm_engine
        return
    with VLLMServer(smollm_server.url) as server:
        if request.param == "completions":
            get_runtime().run(server.start())
            assert server._served is not None
            object.__setattr__(server._served, "endpoint", CompletionsEndpoint())
        yield server


def write(engine: Engine, constraint: dict[str, Any], seed: int = 1) -> str:
    runtime = get_runtime()
    vocabulary = runtime.run(engine.vocabulary())
    request = GenerationRequest(
        vocabulary.encode("Tell me about the sea. "),
        max_tokens=60,
        sampling=Sampling(temperature=1.5),
        seed=seed,
        constraint=constraint,
    )
    ids: list[int] = []
    with closing(runtime.iterate(lambda: engine.generate(request))) as deltas:
        for delta in deltas:
            ids += delta.token_ids
    return vocabulary.decode([token for token in ids if token not in vocabulary.eos_ids])


def test_nothing_else_can_be_written(engine: Engine) -> None:
    for seed in range(3):  # hot, so that the model alone would never write this
        value = json.loads(write(engine, answer_schema(NUMBERS), seed))
        assert value["digit"] in (1, 2, 3)
        assert value["yes"] in (True, False)
    assert re.fullmatch(r"[0-9]{3}-[ab]", write(engine, {"regex": "[0-9]{3}-[ab]"}))


def test_calls_are_enforced_in_their_own_format(engine: Engine) -> None:
    constraint = Hermes().constraint(settle_tools([NOW], "now"))
    assert constraint is not None
    (call,) = read_hermes(write(engine, dict(constraint))).calls
    assert (call["name"], call["args"]) == ("now", {})


def test_what_no_grammar_can_say_is_refused(engine: Engine) -> None:
    broken = {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}
    with pytest.raises(ConfigurationError, match=r"(?s)schema of response_format.*Leave out"):
        write(engine, answer_schema(broken))
    assert write(engine, {"choice": ["yes"]}) == "yes"  # and it works on
