"""A real engine in this process, on SmolLM2; `test_cancellation` kills one."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest

from langchain_glimprouter.engines.base import GenerationDelta, GenerationRequest, Sampling
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_local import VLLMEngine
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineRequestError,
)

GREEDY = Sampling(temperature=0)
PROMPT = list(range(1000, 1100))


@pytest.fixture
def engine(smollm_engine: VLLMEngine) -> VLLMEngine:
    return smollm_engine


def request(**kwargs: Any) -> GenerationRequest:
    return GenerationRequest(
        **{"token_ids": PROMPT, "max_tokens": 16, "sampling": GREEDY, **kwargs}
    )


async def collect(engine: VLLMEngine, **kwargs: Any) -> list[GenerationDelta]:
    return [delta async for delta in engine.generate(request(**kwargs))]


def tokens(deltas: list[GenerationDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def idle(engine: VLLMEngine, seconds: float = 5) -> float:
    started = time.monotonic()
    while await engine.running_requests():
        assert time.monotonic() - started < seconds, "a request still runs"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_it_generates_what_was_asked_for(engine: VLLMEngine) -> None:
    deltas = await collect(engine, max_tokens=12)
    assert len(tokens(deltas)) == 12
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]
    assert deltas[0].cached_tokens is not None
    assert deltas[0].top_logprobs is None
    assert await engine.context_window() == 4096
    assert (await engine.vocabulary()).size == 49152
    assert tokens(await collect(engine, max_tokens=12)) == tokens(deltas)


async def test_logprobs_are_a_distribution(engine: VLLMEngine) -> None:
    for sampling in (GREEDY, Sampling(temperature=1.3)):
        deltas = await collect(engine, top_logprobs=20, max_tokens=24, sampling=sampling, seed=3)
        for delta in deltas:
            assert delta.top_logprobs is not None
            assert len(delta.top_logprobs) == len(delta.token_ids)
            for token, top in zip(delta.token_ids, delta.top_logprobs, strict=True):
                assert len(top.token_ids) == len(set(top.token_ids)) == 20
                assert list(top.logprobs) == sorted(top.logprobs, reverse=True)
                assert sum(map(math.exp, top.logprobs)) <= 1.0001
                if token in top.token_ids:
                    assert top.sampled == top.logprobs[list(top.token_ids).index(token)]
                else:
                    assert top.sampled <= top.logprobs[-1]
                if sampling is GREEDY:
                    assert top.sampled == top.logprobs[0]


async def test_logprobs_are_those_before_temperature(exact_engine: VLLMEngine) -> None:
    cold, hot = [
        (await collect(exact_engine, max_tokens=1, top_logprobs=5, sampling=sampling))[0]
        for sampling in (Sampling(temperature=0.0), Sampling(temperature=2.0))
    ]
    assert cold.top_logprobs is not None
    assert hot.top_logprobs is not None
    assert cold.top_logprobs[0].logprobs == pytest.approx(hot.top_logprobs[0].logprobs, abs=1e-3)


async def test_logprobs_agree_with_a_whole_recomputation(exact_engine: VLLMEngine) -> None:
    """What a step was written with, and what its own tokens as a prompt give."""
    deltas = await collect(exact_engine, top_logprobs=5, max_tokens=40)
    written = tokens(deltas)
    tops = [top for delta in deltas for top in delta.top_logprobs or ()]
    for position in (3, 17, 39):
        context = PROMPT + written[:position]
        again = await collect(exact_engine, token_ids=context, max_tokens=1, top_logprobs=5)
        assert again[0].top_logprobs is not None
        fresh = again[0].top_logprobs[0]
        # sums differ a little in other block shapes
        assert fresh.logprobs[0] == pytest.approx(tops[position].logprobs[0], abs=1e-3)


async def test_a_seed_holds_behind_a_prompt_that_is_computed_in_parts(engine: VLLMEngine) -> None:
    long = [1000 + i % 997 for i in range(2500)]  # of 2048 tokens a step
    options = {"token_ids": long, "sampling": Sampling(temperature=1.0), "max_tokens": 8}
    in_parts, at_once, other = [
        tokens(await collect(engine, seed=seed, **options)) for seed in (7, 7, 8)
    ]
    assert in_parts == at_once  # the second finds the prompt in the cache
    assert in_parts != other


async def test_an_emptied_cache_holds_nothing(engine: VLLMEngine) -> None:
    prompt = list(range(3000, 3100))
    cached = []
    for empty in (False, False, True):
        if empty:
            await engine.empty_cache()
        cached.append((await collect(engine, token_ids=prompt, max_tokens=1))[0].cached_tokens)
    assert cached == [0, 96, 0]


async def test_merged_deltas_lose_nothing(engine: VLLMEngine) -> None:
    """A consumer that lags gets several tokens at once."""
    whole = await collect(engine, top_logprobs=20, max_tokens=48)
    lagging: list[GenerationDelta] = []

    async def lag() -> None:
        # On the engines' own loop, where nothing buffers between vLLM and us.
        async with aclosing(engine.generate(request(top_logprobs=20, max_tokens=48))) as deltas:
            async for delta in deltas:
                lagging.append(delta)
                await asyncio.sleep(0.5)

    await get_runtime().bridge(lag())
    assert max(len(delta.token_ids) for delta in lagging) > 1
    assert tokens(lagging) == tokens(whole)
    for delta in lagging:
        assert delta.top_logprobs is not None
        for token, top in zip(delta.token_ids, delta.top_logprobs, strict=True):
            assert top.token_ids[0] == token
            assert len(top.token_ids) == 20
            assert list(top.logprobs) == sorted(top.logprobs, reverse=True)


async def test_an_aborted_request_leaves_its_blocks_in_the_prefix_cache(
    engine: VLLMEngine,
) -> None:
    prompt = list(range(5000, 5070))
    written: list[int] = []
    async with aclosing(engine.generate(request(token_ids=prompt, max_tokens=500))) as deltas:
        async for delta in deltas:
            written.extend(delta.token_ids)
            if len(written) >= 60:
                break
    again = await collect(engine, token_ids=prompt + written[:60], max_tokens=1)
    assert again[0].cached_tokens == (70 + 60 - 1) // 32 * 32  # full blocks of 32


async def test_prefill_warms_the_prefix_cache(engine: VLLMEngine) -> None:
    prompt = list(range(7000, 7100))
    await engine.prefill(prompt)
    assert (await collect(engine, token_ids=prompt, max_tokens=1))[0].cached_tokens == 96


async def test_nothing_runs_after_fifty_random_cancellations(engine: VLLMEngine) -> None:
    dice = random.Random(1)

    async def consume(start: int) -> None:
        await collect(engine, token_ids=range(start, start + 40), max_tokens=2000, top_logprobs=20)

    async def turn(start: int) -> None:
        task = asyncio.create_task(consume(start))
        await asyncio.sleep(dice.choice([0, 0.001, 0.01, 0.1, 0.5]) * dice.random() * 2)
        task.cancel()
        if dice.random() < 0.5:
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for round_ in range(10):
        await asyncio.gather(*(turn(100 * round_ + n) for n in range(5)))
    await idle(engine)
    assert len(tokens(await collect(engine, max_tokens=3))) == 3


async def test_closing_aborts_within_a_token(engine: VLLMEngine) -> None:
    async with aclosing(engine.generate(request(max_tokens=2000))) as deltas:
        times = [time.monotonic() async for _, _ in _first(deltas, 20)]
    per_token = (times[-1] - times[0]) / (len(times) - 1)
    assert await idle(engine) < 2 * per_token + 0.3


async def _first(deltas: Any, count: int) -> Any:
    for number in range(count):
        yield number, await anext(deltas)


async def counting(engine: VLLMEngine) -> list[int]:
    """A prompt that goes on with many different tokens, already in the prefix cache."""
    vocabulary = await engine.vocabulary()
    prompt = vocabulary.encode("One, two, three, four, five, six, seven, eight,")
    await engine.prefill(prompt)
    return prompt


async def test_stop_tokens_are_delivered_and_end_the_request(engine: VLLMEngine) -> None:
    prompt = await counting(engine)
    free = tokens(await collect(engine, token_ids=prompt, max_tokens=30))
    stop = next(token for token in free[3:] if token not in free[:3])
    cut = await collect(engine, token_ids=prompt, max_tokens=30, stop_token_ids=[stop])
    assert tokens(cut) == free[: free.index(stop) + 1]
    assert cut[-1].finish_reason == "stop"


async def test_stop_strings_end_the_request(engine: VLLMEngine) -> None:
    vocabulary, prompt = await engine.vocabulary(), await counting(engine)
    free = vocabulary.decode(tokens(await collect(engine, token_ids=prompt, max_tokens=20)))
    stop = free[4:8]
    cut = await collect(engine, token_ids=prompt, max_tokens=20, stop=[stop])
    text = vocabulary.decode(tokens(cut))
    assert stop in text
    assert free.startswith(text)
    assert cut[-1].finish_reason == "stop"


async def test_a_seed_makes_sampling_repeatable(engine: VLLMEngine) -> None:
    hot = Sampling(temperature=1.5, top_p=0.95)
    runs = [tokens(await collect(engine, sampling=hot, seed=seed)) for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]


def test_threads_and_loops_generate_at_once(engine: VLLMEngine) -> None:
    runtime = get_runtime()

    def sync(number: int) -> int:
        deltas = runtime.iterate(lambda: engine.generate(request(seed=number, max_tokens=20)))
        return len(tokens(list(deltas)))

    def own_loop(_: int) -> int:
        async def two() -> int:
            both = await asyncio.gather(
                collect(engine, max_tokens=20), collect(engine, max_tokens=20)
            )
            return sum(len(tokens(deltas)) for deltas in both)

        return asyncio.run(two())

    with ThreadPoolExecutor(8) as pool:
        lengths = [*pool.map(sync, range(4)), *pool.map(own_loop, range(4))]
    assert lengths == [20] * 4 + [40] * 4


async def test_refused_requests_say_why(engine: VLLMEngine) -> None:
    with pytest.raises(ConfigurationError, match="`max_logprobs`"):
        await collect(engine, top_logprobs=21)
    with pytest.raises(EngineRequestError, match="refused a request"):
        await collect(engine, token_ids=[5] * 5000)
    with pytest.raises(EngineRequestError, match="top_p"):
        await collect(engine, sampling=Sampling(top_p=7))
    with pytest.raises(EngineRequestError, match="refused a request"):
        await collect(engine, token_ids=[10**7])
    assert await engine.running_requests() == 0


async def test_unknown_arguments_get_the_nearest_name(engine: VLLMEngine, smollm: str) -> None:
    await engine.start()  # vLLM is imported, so the constructor knows its arguments
    with pytest.raises(ConfigurationError, match="Did you mean `max_model_len`"):
        VLLMEngine(str(smollm), max_modellen=5)


async def test_refused_arguments_are_a_configuration_error(smollm: str) -> None:
    engine = VLLMEngine(str(smollm), max_model_len=10**9)
    with pytest.raises(ConfigurationError, match="max_model_len"):
        await engine.start()


async def test_ctrl_c_in_the_terminal_does_not_reach_the_engine(engine: VLLMEngine) -> None:
    await engine.start()
    assert engine._live is not None
    assert engine._live.brood._found
    for process in engine._live.brood._found:
        process.send_signal(signal.SIGINT)
    await asyncio.sleep(0.3)
    assert len(tokens(await collect(engine, max_tokens=4))) == 4
