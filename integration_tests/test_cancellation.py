"""Turns that are broken off, turns at the same time, engines that die: with real engines."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import psutil
import pytest

from integration_tests.processes import engine_processes
from langchain_glimprouter import (
    ChatGlimpRouter,
    EngineDeadError,
    EngineError,
    TurnTimeoutError,
    VLLMEngine,
    trace_of,
)
from langchain_glimprouter.engines.base import GenerationDelta, GenerationRequest, Sampling
from langchain_glimprouter.engines.runtime import get_runtime


@pytest.fixture(scope="module")
def model(smollm_engine: VLLMEngine, small_engine: VLLMEngine) -> ChatGlimpRouter:
    return ChatGlimpRouter(
        small=smollm_engine, large=small_engine, threshold=1.5, temperature=0.0, max_tokens=400
    )


def idle(*engines: VLLMEngine, seconds: float = 3.0) -> bool:
    """Tell whether the engines come to have no running request."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(get_runtime().run(engine.running_requests()) for engine in engines):
            return True
        time.sleep(0.05)
    return False


async def test_every_way_to_stop_aborts_the_request(
    model: ChatGlimpRouter, smollm_engine: VLLMEngine, small_engine: VLLMEngine
) -> None:
    draw = random.Random(1)

    async def read(count: int) -> None:
        async for _ in model.astream("Write a long story about a ship."):
            count -= 1
            if count <= 0:
                return

    for _ in range(6):  # cancelled at any moment
        task = asyncio.create_task(read(1000))
        await asyncio.sleep(draw.uniform(0.0, 1.5))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for _ in range(3):  # a generator that is left, and one that is closed
        await read(draw.randint(1, 5))
        stream = cast("AsyncGenerator[Any]", model.astream("Write a long story about a ship."))
        await anext(stream)
        await stream.aclose()
    with pytest.raises(TurnTimeoutError, match="timeout"):
        await model.ainvoke("Write a long story about a ship.", timeout=0.7)
    assert await asyncio.to_thread(idle, smollm_engine, small_engine)


def test_sync_stream_that_is_left(
    model: ChatGlimpRouter, smollm_engine: VLLMEngine, small_engine: VLLMEngine
) -> None:
    for chunk in model.stream("Write a long story about a horse."):
        if chunk.text:
            break
    assert idle(smollm_engine, small_engine)


def test_threads_loops_and_batches_at_once(model: ChatGlimpRouter) -> None:
    options: dict[str, Any] = {"max_tokens": 12}
    results: dict[str, int] = {}

    def in_thread() -> None:
        results["thread"] = len(model.invoke("Say hello.", **options).text)

    def in_loop(name: str) -> None:
        async def several() -> int:
            messages = await asyncio.gather(
                *(model.ainvoke(f"Count to {number}.", **options) for number in range(2, 4))
            )
            return min(len(message.text) for message in messages)

        results[name] = asyncio.run(several())

    def in_batch() -> None:
        messages = model.batch(["Name a colour.", "Name a fruit.", "Name a city."], **options)
        results["batch"] = min(len(message.text) for message in messages)

    jobs = [
        threading.Thread(target=in_thread),
        threading.Thread(target=in_loop, args=("one",)),
        threading.Thread(target=in_loop, args=("two",)),
        threading.Thread(target=in_batch),
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=120)
    assert set(results) == {"thread", "one", "two", "batch"}
    assert min(results.values()) > 0


# An engine that is killed, and started again, and closed: the shared one, whose last tests these
# are; it starts again for whoever comes behind.

LONG = GenerationRequest(range(1000, 1100), 3000, Sampling(temperature=0.0))


class Doomed(NamedTuple):
    """An engine that runs, and the processes of all others."""

    engine: VLLMEngine
    others: list[psutil.Process]

    def processes(self, named: str = "VLLM::") -> list[psutil.Process]:
        return engine_processes(named=named, besides=self.others)

    def write(self) -> list[GenerationDelta]:
        return list(get_runtime().iterate(lambda: self.engine.generate(LONG)))


@pytest.fixture(scope="module")
def doomed(smollm_engine: VLLMEngine, small_engine: VLLMEngine) -> Doomed:
    get_runtime().run(small_engine.start())  # before the others are counted
    get_runtime().run(smollm_engine.start())
    assert smollm_engine._live is not None
    own = smollm_engine._live.brood._found
    return Doomed(smollm_engine, engine_processes(besides=own))


def test_dead_engine_names_its_role_and_keeps_the_text(
    doomed: Doomed, small_engine: VLLMEngine
) -> None:
    """In flight and new, through the router and beside it; after `close()` it works again."""
    model = ChatGlimpRouter(
        small=doomed.engine,
        large=small_engine,
        policy="always small",
        max_tokens=800,
        temperature=0.0,
    )
    text, died = "", 0.0
    beside: Future[list[GenerationDelta]] | None = None
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(EngineDeadError, match="SmolLM2") as caught:
            for chunk in model.stream("Write a long story about a dragon."):
                if beside is None:
                    beside = pool.submit(doomed.write)
                text += str(chunk.text)
                if len(text) > 40 and not died:
                    (core,) = doomed.processes(named="VLLM::EngineCore")
                    core.kill()
                    died = time.monotonic()
        assert beside is not None
        with pytest.raises(EngineDeadError, match="SmolLM2") as direct:
            beside.result(timeout=1)
    assert time.monotonic() - died < 1.0
    assert direct.value.model == caught.value.model == doomed.engine.model
    assert (direct.value.role, caught.value.role) == (None, "small")
    assert "small engine" in str(caught.value)
    assert caught.value.trace is not None
    assert caught.value.trace.text == text
    began = time.monotonic()
    with pytest.raises(EngineError, match="small engine"):
        model.invoke("And now?")
    with pytest.raises(EngineDeadError):
        doomed.write()
    assert time.monotonic() - began < 1.0

    doomed.engine.close()
    assert doomed.processes() == []
    revived = trace_of(model.invoke("Say hello.", max_tokens=5))
    assert revived is not None
    assert revived.text


async def test_closing_in_mid_turn_is_an_error(doomed: Doomed) -> None:
    await doomed.engine.start()
    long = asyncio.create_task(asyncio.to_thread(doomed.write))
    await asyncio.sleep(0.5)
    began = time.monotonic()
    await doomed.engine.aclose()
    with pytest.raises(EngineDeadError):
        await long
    assert time.monotonic() - began < 6
    assert doomed.processes() == []


async def test_closing_during_the_start_leaves_nothing(doomed: Doomed) -> None:
    await doomed.engine.aclose()
    others = engine_processes(named="")
    start = asyncio.create_task(doomed.engine.start())
    while not engine_processes(named="spawn_main", besides=others):
        assert not start.done()
        await asyncio.sleep(0.05)
    await doomed.engine.aclose()
    with pytest.raises(EngineError, match="closed while it started"):
        await start
    assert doomed.processes() == []
