"""Several continuations in one request: scripted, refused, and as a server streams them."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.engines.base import (
    FinishReason,
    GenerationDelta,
    GenerationRequest,
    Sampling,
    TopLogprobs,
)
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.scripted import Fault, ScriptedEngine, ScriptedStep
from langchain_glimprouter.engines.scripted_vocabulary import ScriptedVocabulary
from langchain_glimprouter.engines.vllm_local import VLLMEngine
from langchain_glimprouter.engines.vllm_protocol import (
    CompletionsEndpoint,
    Endpoint,
    TokensEndpoint,
)
from langchain_glimprouter.engines.vllm_server import VLLMServer
from langchain_glimprouter.errors import ConfigurationError, EngineDeadError, EngineRequestError

RECORDED = Path(__file__).parent / "recorded"
VOCABULARY = ScriptedVocabulary()
PROMPT = VOCABULARY.encode("<|user|>Go.<|end|><|assistant|><think>\n", special=True)

DRAFTS = ("b.\n\n", ScriptedStep("c c c.\n\n", 1.5))
STEP = ScriptedStep("a a.\n\n", 0.5, drafts=DRAFTS)


def ask(**more: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {"token_ids": PROMPT, "max_tokens": 50, "n": 3}
    return GenerationRequest(**(defaults | more))


class Continuations:
    """What came, sorted by continuation."""

    def __init__(self, deltas: Sequence[GenerationDelta], count: int) -> None:
        self.deltas = deltas
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.tops: list[list[TopLogprobs]] = [[] for _ in range(count)]
        self.finish: list[FinishReason | None] = [None] * count
        for delta in deltas:
            assert self.finish[delta.index] is None, "nothing comes behind the end"
            self.ids[delta.index] += delta.token_ids
            self.tops[delta.index] += delta.top_logprobs or ()
            self.finish[delta.index] = delta.finish_reason

    @property
    def texts(self) -> list[str]:
        return [VOCABULARY.decode(ids) for ids in self.ids]


async def run(engine: ScriptedEngine, request: GenerationRequest) -> Continuations:
    return Continuations([delta async for delta in engine.generate(request)], request.n)


# Scripted


async def test_each_continuation_writes_its_own_draft() -> None:
    engine = ScriptedEngine([STEP])
    stop = [VOCABULARY.token(text) for text in (" a.\n\n", "b.\n\n", " c.\n\n")]
    got = await run(engine, ask(stop_token_ids=stop, top_logprobs=5))
    assert got.texts == ["a a.\n\n", "b.\n\n", "c c c.\n\n"]
    assert got.finish == ["stop"] * 3
    assert [len(tops) for tops in got.tops] == [2, 1, 3]
    entropies = [-sum(math.exp(value) * value for value in tops[0].logprobs) for tops in got.tops]
    assert entropies == pytest.approx([0.5, 0.05, 1.5], abs=1e-6)
    assert [delta.cached_tokens for delta in got.deltas] == [0] + [None] * (len(got.deltas) - 1)
    # Side by side: a token of each in turn, as long as it goes on.
    assert [delta.index for delta in got.deltas] == [0, 1, 2, 0, 2, 2]


async def test_further_continuations_take_the_drafts_in_turn() -> None:
    got = await run(ScriptedEngine([STEP]), ask(n=5, stop=["\n\n"]))
    assert got.texts == ["a a.\n\n", "b.\n\n", "c c c.\n\n", "b.\n\n", "c c c.\n\n"]
    assert (await run(ScriptedEngine(["x.\n\n"]), ask(n=2, stop=["\n\n"]))).texts == ["x.\n\n"] * 2


async def test_every_step_of_a_continuation_has_its_drafts() -> None:
    steps: list[str | ScriptedStep] = [STEP, "y.\n\n", ScriptedStep("z.\n\n", drafts=("w.\n\n",))]
    got = await run(ScriptedEngine(steps, "Done."), ask(n=2))
    assert got.texts == [
        "a a.\n\ny.\n\nz.\n\n</think>Done.<|end|>",
        "b.\n\ny.\n\nw.\n\n</think>Done.<|end|>",
    ]


@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 4),
    st.lists(st.sampled_from(["a b c.\n\n", "d.\n\n", "e f.\n\n"]), min_size=1, max_size=3),
)
def test_several_are_what_each_would_be_alone(
    count: int, most: int, per_delta: int, drafts: list[str]
) -> None:
    def engine(step: str | ScriptedStep) -> ScriptedEngine:
        return ScriptedEngine([step], "x y.", tokens_per_delta=per_delta)

    step = ScriptedStep("s t.\n\n", drafts=tuple(drafts))
    request = ask(n=count, max_tokens=most)
    together = asyncio.run(run(engine(step), request))
    for index in range(count):
        text = drafts[(index - 1) % len(drafts)] if index else step.text
        alone = asyncio.run(run(engine(text), replace(request, n=1)))
        assert together.ids[index] == alone.ids[0]
        assert together.finish[index] == alone.finish[0]
    assert together.deltas == asyncio.run(run(engine(step), request)).deltas


async def test_a_fault_ends_all_and_closing_leaves_none() -> None:
    engine = ScriptedEngine([STEP], fault=Fault(4))
    seen = []
    with pytest.raises(EngineDeadError):
        async for delta in engine.generate(ask()):
            seen += [delta.index]
    assert seen == [0, 1, 2, 0]
    assert engine.running == 0
    engine.close()
    async with aclosing(engine.generate(ask())) as deltas:
        await anext(deltas)
        assert engine.running == 1
    assert engine.running == 0


async def test_side_by_side_takes_no_longer() -> None:
    engine = ScriptedEngine(["a b c d.\n\n"], delay=0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await run(engine, ask(n=8, max_tokens=4))
    assert 0.2 <= loop.time() - began < 1.0  # one after the other: 1.6


# Refused


def generate(engine: Any, request: GenerationRequest) -> list[GenerationDelta]:
    return list(get_runtime().iterate(lambda: engine.generate(request)))


def engines() -> list[Any]:
    made: list[Any] = [ScriptedEngine([STEP]), VLLMServer("http://127.0.0.1:9")]
    if importlib.util.find_spec("vllm") is not None:
        made.append(VLLMEngine("some/model"))
    return made


@pytest.mark.parametrize("engine", engines(), ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("count", [0, -2, 2.5, "3"])
def test_no_number_of_continuations(engine: Any, count: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"n=.* is no number of continuations"):
        generate(engine, ask(n=count))


@pytest.mark.parametrize("engine", engines(), ids=lambda engine: type(engine).__name__)
def test_greedy_continuations_would_all_be_the_same(engine: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"n=3 .* temperature=0 .* above 0"):
        generate(engine, ask(sampling=Sampling(temperature=0.0)))


async def test_one_greedy_continuation_is_fine() -> None:
    got = await run(
        ScriptedEngine([STEP]), ask(n=1, sampling=Sampling(temperature=0.0), stop=["\n\n"])
    )
    assert (got.texts, got.finish) == (["a a.\n\n"], ["stop"])


# Behind a server


def sse(content: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)


class Server:
    """Streams what was recorded from vLLM, and keeps what it was asked."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/models":
            card = {"id": "smol", "owned_by": "vllm", "max_model_len": 2048}
            return httpx.Response(200, json={"data": [card]})
        if path != "/v1/completions":
            return httpx.Response(403)
        body = json.loads(request.content)
        if body["prompt"] == [1]:
            return sse((RECORDED / "completions_check.sse").read_bytes())
        self.bodies.append(body)
        return sse(self.stream)


def served(
    monkeypatch: pytest.MonkeyPatch, stream: bytes, request: GenerationRequest
) -> tuple[Server, Continuations]:
    server = Server(stream)
    client = functools.partial(httpx.AsyncClient, transport=httpx.MockTransport(server))
    monkeypatch.setattr("httpx.AsyncClient", client)
    with VLLMServer("http://gpu") as engine:
        return server, Continuations(generate(engine, request), request.n)


REQUEST = GenerationRequest([504, 2365], 6, Sampling(temperature=0.8), seed=5, top_logprobs=3, n=3)


def recorded(name: str) -> tuple[bytes, list[dict[str, Any]]]:
    content = (RECORDED / name).read_bytes()
    events = content.decode().split("\n\n")[:-2]
    return content, [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [(CompletionsEndpoint(), "completions_n_3.sse"), (TokensEndpoint(), "tokens_n_3.sse")],
)
def test_recorded_continuations(endpoint: Endpoint, name: str) -> None:
    _, chunks = recorded(name)
    got = Continuations(
        [endpoint.delta(choice, 3) for chunk in chunks for choice in chunk["choices"]], 3
    )
    assert len({tuple(ids) for ids in got.ids}) == 3, "a seed gives three drafts"
    assert got.finish == ["length"] * 3
    assert [len(ids) for ids in got.ids] == [6] * 3
    for ids, tops in zip(got.ids, got.tops, strict=True):
        for token_id, top in zip(ids, tops, strict=True):
            assert len(top.token_ids) == 3
            if token_id in top.token_ids:
                assert top.sampled == top.logprobs[top.token_ids.index(token_id)]
            else:
                assert top.sampled <= top.logprobs[-1]


def test_both_endpoints_tell_the_same_continuations() -> None:
    ids = []
    for endpoint, name in (
        (CompletionsEndpoint(), "completions_n_3.sse"),
        (TokensEndpoint(), "tokens_n_3.sse"),
    ):
        deltas = [endpoint.delta(c, 3) for chunk in recorded(name)[1] for c in chunk["choices"]]
        ids.append(Continuations(deltas, 3).ids)
    assert ids[0] == ids[1]


def test_continuations_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, chunks = recorded("completions_n_3.sse")
    server, got = served(monkeypatch, stream, REQUEST)
    (body,) = server.bodies
    assert (body["n"], body["seed"], body["temperature"]) == (3, 5, 0.8)
    assert got.finish == ["length"] * 3
    expected: list[list[int]] = [[], [], []]
    for chunk in chunks:
        for choice in chunk["choices"]:
            names = choice["logprobs"]["tokens"]
            expected[choice["index"]] += [int(name.removeprefix("token_id:")) for name in names]
    assert got.ids == expected
    assert got.deltas[-1].cached_tokens is not None


def test_one_continuation_is_asked_for_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = (RECORDED / "completions_interval_1.sse").read_bytes()
    server, got = served(monkeypatch, stream, replace(REQUEST, n=1))
    assert "n" not in server.bodies[0]
    assert {delta.index for delta in got.deltas} == {0}
    body = TokensEndpoint().body("smol", [1], replace(REQUEST, n=1))
    assert "n" not in body["sampling_params"]
    assert TokensEndpoint().body("smol", [1], REQUEST)["sampling_params"]["n"] == 3


def test_a_server_that_gives_fewer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = (RECORDED / "completions_interval_1.sse").read_bytes()  # a single one
    with pytest.raises(EngineRequestError, match="without 2 of 3 finish reasons") as caught:
        served(monkeypatch, stream, REQUEST)
    assert caught.value.model == "smol"


def test_every_delta_of_a_closed_stream_was_given_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends come one by one; only the very last waits for the stream's end."""
    stream, _ = recorded("completions_n_3.sse")
    _, got = served(monkeypatch, stream, REQUEST)
    ends = [at for at, delta in enumerate(got.deltas) if delta.finish_reason is not None]
    assert len(ends) == 3
    assert ends[-1] == len(got.deltas) - 1
