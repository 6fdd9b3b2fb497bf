"""`VLLMServer` against real `vllm serve` processes."""

from __future__ import annotations

import asyncio
import copy
import http.server
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from integration_tests.engines import KEY
from langchain_glimprouter.bench.servers import Server
from langchain_glimprouter.engines.base import (
    GenerationDelta,
    GenerationRequest,
    Sampling,
    TopLogprobs,
)
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_check import ServedModel, _sampling_defaults
from langchain_glimprouter.engines.vllm_protocol import (
    CompletionsEndpoint,
    Endpoint,
    TokensEndpoint,
)
from langchain_glimprouter.engines.vllm_server import VLLMServer
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineDeadError,
    EngineRequestError,
)

GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def engine(smollm_server: Server) -> Iterator[VLLMServer]:
    with VLLMServer(f"{smollm_server.url}/v1") as engine:
        get_runtime().run(engine.start())
        yield engine


@pytest.fixture(scope="module")
def context(engine: VLLMServer) -> list[int]:
    vocabulary = get_runtime().run(engine.vocabulary())
    return vocabulary.encode(", ".join(f"{number}" for number in range(1, 40)))


def through(engine: VLLMServer, endpoint: Endpoint) -> VLLMServer:
    """Return a copy of an engine that asks another endpoint of its server."""
    get_runtime().run(engine.start())
    served = engine._served
    assert served is not None
    twin = copy.deepcopy(engine)
    twin._served = ServedModel(served.name, served.root, served.context_window, endpoint)
    return twin


@pytest.fixture(scope="module", params=["tokens", "completions"])
def either(request: pytest.FixtureRequest, engine: VLLMServer) -> Iterator[VLLMServer]:
    if request.param == "tokens":
        yield engine
    else:
        with through(engine, CompletionsEndpoint()) as twin:
            yield twin


def generate(engine: VLLMServer, request: GenerationRequest) -> list[GenerationDelta]:
    return list(get_runtime().iterate(lambda: engine.generate(request)))


def tokens(deltas: Sequence[GenerationDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def above_last(position: TopLogprobs) -> dict[int, float]:
    """Return the likeliest tokens but for those as likely as the last."""
    pairs = zip(position.token_ids, position.logprobs, strict=True)
    return {token: value for token, value in pairs if value > position.logprobs[-1]}


def assert_idle(server: Server) -> None:
    """Wait until the server has nothing to do: a step or two, but a loaded machine is slow."""
    deadline = time.monotonic() + 5.0
    while running := server.metric("vllm:num_requests_running"):
        assert time.monotonic() < deadline, f"{running} requests still run"
        time.sleep(0.02)
    assert server.metric("vllm:num_requests_waiting") == 0


def test_check_finds_the_model(engine: VLLMServer, smollm: Path) -> None:
    served = engine._served
    assert served is not None
    assert (served.root, served.context_window) == (str(smollm), 2048)
    assert isinstance(served.endpoint, TokensEndpoint)
    assert engine.model == str(smollm)


@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(temperature=1.3, top_k=0), Sampling()], ids=str
)
def test_both_endpoints_give_the_same(
    engine: VLLMServer, context: list[int], sampling: Sampling
) -> None:
    request = GenerationRequest(context, 40, sampling, seed=5, top_logprobs=20)
    generate(engine, request)  # so that both find the same prefix cached: last bits depend on it
    ours = generate(engine, request)
    with through(engine, CompletionsEndpoint()) as twin:
        theirs = generate(twin, request)
    assert tokens(ours) == tokens(theirs)
    assert len(tokens(ours)) > 10
    ours_top = [position for delta in ours for position in delta.top_logprobs or ()]
    theirs_top = [position for delta in theirs for position in delta.top_logprobs or ()]
    for token, mine, other in zip(tokens(ours), ours_top, theirs_top, strict=True):
        assert (mine.logprobs, mine.sampled) == (other.logprobs, other.sampled)
        # vLLM lists equally likely tokens in any order, also across the end of the list.
        assert above_last(mine) == above_last(other)
        assert len(set(mine.token_ids)) == len(mine.logprobs) == 20
        assert sorted(mine.logprobs, reverse=True) == mine.logprobs
        if mine.sampled != mine.logprobs[-1]:
            assert (token in mine.token_ids) == (mine.sampled > mine.logprobs[-1])
    assert ours[-1].finish_reason == theirs[-1].finish_reason is not None
    assert ours[-1].cached_tokens == theirs[-1].cached_tokens
    assert 0 < (ours[-1].cached_tokens or 0) < len(context)


def test_stop_token_is_delivered(either: VLLMServer, context: list[int]) -> None:
    free = tokens(generate(either, GenerationRequest(context, 12, GREEDY)))
    stop = free[6]
    deltas = generate(either, GenerationRequest(context, 12, GREEDY, stop_token_ids=[stop]))
    assert tokens(deltas) == free[: free.index(stop) + 1]
    assert deltas[-1].finish_reason == "stop"
    assert all(delta.finish_reason is None for delta in deltas[:-1])


def test_stop_string_loses_no_token(either: VLLMServer, context: list[int]) -> None:
    vocabulary = get_runtime().run(either.vocabulary())
    free = tokens(generate(either, GenerationRequest(context, 30, GREEDY)))
    text = vocabulary.decode(free)
    stop = text[20:23]
    deltas = generate(either, GenerationRequest(context, 30, GREEDY, stop=[stop], top_logprobs=2))
    written = vocabulary.decode(tokens(deltas))
    assert stop in written
    assert text.startswith(written)
    assert stop not in vocabulary.decode(tokens(deltas)[:-1])
    assert deltas[-1].finish_reason == "stop"
    assert all(len(delta.top_logprobs or ()) == len(delta.token_ids) for delta in deltas)


def test_output_ends_at_the_window(either: VLLMServer) -> None:
    deltas = generate(either, GenerationRequest([504] * 2040, 100, GREEDY))
    assert len(tokens(deltas)) == 8
    assert deltas[-1].finish_reason == "length"


def test_prefill_warms_the_cache(either: VLLMServer, context: list[int]) -> None:
    fresh = [7 + random.randrange(40_000) for _ in range(128)]
    get_runtime().run(either.prefill(fresh, session_id="chat"))
    deltas = generate(either, GenerationRequest(fresh, 1, GREEDY, session_id="chat"))
    assert deltas[-1].cached_tokens in {96, 128}


def test_seeds_hold_behind_prompts_that_are_computed_in_parts(engine: VLLMServer) -> None:
    """Together they are longer than the 2048 tokens of one step."""
    prompts = [[start + i % 997 for i in range(1500)] for start in (1000, 2000, 3000)]
    hot = Sampling(temperature=1.0)

    async def written(prompt: list[int]) -> list[int]:
        request = GenerationRequest(prompt, 4, hot, seed=7)
        async with aclosing(engine.generate(request)) as deltas:
            return [token async for delta in deltas for token in delta.token_ids]

    async def all_at_once() -> list[list[int]]:
        return await asyncio.gather(*map(written, prompts))

    assert [len(tokens) for tokens in get_runtime().run(all_at_once())] == [4, 4, 4]
    assert get_runtime().run(written(prompts[0]))  # it still answers


def test_bad_request_says_what_the_server_said(either: VLLMServer) -> None:
    with pytest.raises(EngineRequestError, match=r"400.*10000000"):
        generate(either, GenerationRequest([10_000_000], 1))
    with pytest.raises(EngineRequestError, match="logprobs"):
        generate(either, GenerationRequest([1], 1, top_logprobs=100))


def test_cancelled_requests_leave_the_server(
    either: VLLMServer, context: list[int], smollm_server: Server
) -> None:
    chance = random.Random(0)

    async def consume(seen: list[int], count: int) -> None:
        request = GenerationRequest(context, 1000, GREEDY, top_logprobs=20)
        async with aclosing(either.generate(request)) as deltas:
            async for delta in deltas:
                seen.extend(delta.token_ids)
                if len(seen) >= count:
                    return

    async def scenario() -> None:
        for _ in range(15):
            # Closed after some tokens, and cancelled at any moment.
            await consume([], chance.randrange(1, 4))
            task = asyncio.create_task(consume([], 1000))
            await asyncio.sleep(chance.uniform(0.0, 0.2))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        crowd = [asyncio.create_task(consume([], 1000)) for _ in range(20)]
        await asyncio.sleep(0.5)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)

    get_runtime().run(scenario())
    assert_idle(smollm_server)


def test_closing_the_engine_ends_its_requests(
    engine: VLLMServer, context: list[int], smollm_server: Server
) -> None:
    twin = copy.deepcopy(engine)

    async def scenario() -> None:
        deltas = twin.generate(GenerationRequest(context, 1000, GREEDY))
        await anext(deltas)
        await twin.aclose()
        with pytest.raises(EngineDeadError):
            async for _ in deltas:
                pass
        # The next use starts afresh.
        assert tokens([delta async for delta in twin.generate(GenerationRequest(context, 1))])

    with twin:
        get_runtime().run(scenario())
    assert_idle(smollm_server)


def test_connections_are_reused(engine: VLLMServer, context: list[int]) -> None:
    twin = copy.deepcopy(engine)
    with twin:
        for _ in range(5):
            generate(twin, GenerationRequest(context, 3, GREEDY))
        assert twin._connection is not None
        pool: Any = twin._connection._client._transport
        assert len(pool._pool.connections) == 1


def test_model_that_is_not_served(smollm_server: Server, smollm: Path) -> None:
    with (
        VLLMServer(smollm_server.url, "nope") as engine,
        pytest.raises(ConfigurationError, match=f"does not serve 'nope'; it serves '{smollm}'"),
    ):
        get_runtime().run(engine.start())


def test_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        before = time.monotonic()
        with VLLMServer(url) as engine, pytest.raises(EngineDeadError, match=f"answers at {url}"):
            get_runtime().run(engine.start())
        assert time.monotonic() - before < 1.0


def test_server_that_is_not_vllm(tmp_path: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{plain.server_port}"
        with (
            VLLMServer(url) as engine,
            pytest.raises(ConfigurationError, match=r"base_url.*not a vLLM server"),
        ):
            get_runtime().run(engine.start())
        plain.shutdown()


# A server with options that get in the way. It dies in the last test.


def unchecked(server: Server, smollm: Path, endpoint: Endpoint) -> VLLMServer:
    """Return an engine that skips the check, which this server fails."""
    engine = VLLMServer(server.url, api_key=KEY)
    engine._served = ServedModel(str(smollm), str(smollm), 2048, endpoint)
    return engine


def test_wrong_key(strict_server: Server) -> None:
    for key in (None, "wrong"):
        with (
            VLLMServer(strict_server.url, api_key=key) as engine,
            pytest.raises(ConfigurationError, match=r"401 .*api_key.*VLLM_API_KEY"),
        ):
            get_runtime().run(engine.start())


def test_too_few_logprobs(strict_server: Server) -> None:
    with (
        VLLMServer(strict_server.url, api_key=KEY) as engine,
        pytest.raises(ConfigurationError, match="start it with `--max-logprobs 20` or more"),
    ):
        get_runtime().run(engine.start())


def test_servers_sampling_defaults_hold_on_both_endpoints(
    strict_server: Server, smollm: Path, context: list[int]
) -> None:
    async def defaults(engine: VLLMServer) -> dict[str, Any]:
        return await _sampling_defaults(engine._connect(), str(smollm))

    with unchecked(strict_server, smollm, CompletionsEndpoint()) as engine:
        get_runtime().run(engine.prefill(context))  # so that all find the same prefix cached
        ours = tokens(generate(engine, GenerationRequest(context, 20, GREEDY)))
        plain = Sampling(temperature=0.0, repetition_penalty=1.0)
        without = tokens(generate(engine, GenerationRequest(context, 20, plain)))
        found = get_runtime().run(defaults(engine))
    assert found["repetition_penalty"] == 1.4
    with unchecked(strict_server, smollm, TokensEndpoint(defaults=found)) as engine:
        theirs = tokens(generate(engine, GenerationRequest(context, 20, GREEDY)))
    assert ours == theirs != without


def test_killed_server_is_told_within_a_second(
    strict_server: Server, smollm: Path, context: list[int]
) -> None:
    killed = 0.0

    async def scenario(engine: VLLMServer) -> None:
        nonlocal killed
        deltas = engine.generate(GenerationRequest(context, 1500, GREEDY))
        await anext(deltas)
        os.kill(strict_server.pid, signal.SIGKILL)
        killed = time.monotonic()
        async for _ in deltas:
            pass

    with unchecked(strict_server, smollm, CompletionsEndpoint()) as engine:
        with pytest.raises(EngineDeadError, match=strict_server.url) as caught:
            get_runtime().run(scenario(engine))
        assert time.monotonic() - killed < 1.0
        assert caught.value.model == str(smollm)
        # So are new requests.
        for _ in range(2):
            before = time.monotonic()
            with pytest.raises(EngineDeadError):
                generate(engine, GenerationRequest(context, 1))
            assert time.monotonic() - before < 1.0
