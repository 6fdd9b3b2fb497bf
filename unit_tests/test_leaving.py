"""Callers who leave, hang or come in crowds: engines are free a moment later."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest

from langchain_glimprouter import (
    EngineDeadError,
    EngineError,
    Fault,
    GlimpRouterError,
    TurnTimeoutError,
    trace_of,
)
from langchain_glimprouter.engines.runtime import get_runtime
from unit_tests.models import ANSWER, LARGE, SMALL, THOUGHT, engine, router, running, settles

QUESTION = "What is 3 + 4?"


async def soon(condition: Callable[[], bool]) -> bool:
    """Whether something comes true while this loop runs on."""
    for _ in range(400):
        if condition():
            return True
        await asyncio.sleep(0.005)
    return False


# -- timeouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "astream"])
async def test_a_turn_that_takes_too_long(how: str) -> None:
    model = router(delay=0.02, timeout=0.05)
    started = time.monotonic()
    with pytest.raises(TurnTimeoutError, match=r"timeout=0.05 s.*max_thinking_tokens") as caught:
        match how:
            case "invoke":
                await asyncio.to_thread(model.invoke, QUESTION)
            case "stream":
                await asyncio.to_thread(lambda: list(model.stream(QUESTION)))
            case "ainvoke":
                await model.ainvoke(QUESTION)
            case "astream":
                [chunk async for chunk in model.astream(QUESTION)]
    assert time.monotonic() - started < 1
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, GlimpRouterError)
    assert running(model) == 0
    assert model.invoke(QUESTION, timeout=None).content == ANSWER


async def test_an_engine_that_hangs_meets_the_timeout() -> None:
    model = router(engine(fault=Fault(3, None)), timeout=0.05)
    with pytest.raises(TurnTimeoutError):
        await model.ainvoke(QUESTION)
    assert running(model) == 0


def test_a_slow_reader_meets_the_timeout_too() -> None:
    """Also where the turn waits for the reader, not for an engine."""
    model = router(engine(["word " * 5000 + "\n\n"]), timeout=0.1, max_step_tokens=9999)
    with pytest.raises(TurnTimeoutError):
        for count, _ in enumerate(model.stream(QUESTION)):
            time.sleep(0.3 if count == 0 else 0)
    assert settles(lambda: running(model) == 0)


def test_an_engines_own_timeout_is_not_the_turns() -> None:
    trouble = TimeoutError("the socket gave up")
    model = router(engine(fault=Fault(1, trouble, dead=False)))
    with pytest.raises(TimeoutError, match="the socket gave up"):
        model.invoke(QUESTION)
    model = router(engine(fault=Fault(1, trouble, dead=False)), timeout=60)
    with pytest.raises(TimeoutError, match="the socket gave up") as caught:
        model.invoke(QUESTION)
    assert not isinstance(caught.value, TurnTimeoutError)


# -- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 3, 6, 9])
def test_breaking_out_of_a_stream(after: int) -> None:
    model = router(delay=0.005)
    chunks = model.stream(QUESTION)
    for count, _ in enumerate(chunks, start=1):
        if count == after:
            break
    chunks.close()  # type: ignore[attr-defined]
    assert running(model) == 0
    for _ in model.stream(QUESTION):
        break
    gc.collect()
    assert settles(lambda: running(model) == 0)


@pytest.mark.parametrize("after", [1, 3, 6, 9])
async def test_breaking_out_of_an_async_stream(after: int) -> None:
    model = router(delay=0.005)
    count = 0
    stream: Any = model.astream(QUESTION)
    async with aclosing(stream) as chunks:
        async for _ in chunks:
            count += 1
            if count == after:
                break
    assert await soon(lambda: running(model) == 0)


@pytest.mark.parametrize("method", ["ainvoke", "astream", "abatch"])
@pytest.mark.parametrize("seconds", [0.0, 0.012, 0.03, 0.06])
async def test_cancelling_a_task(method: str, seconds: float) -> None:
    model = router(delay=0.01)

    async def call() -> None:
        match method:
            case "ainvoke":
                await model.ainvoke(QUESTION)
            case "astream":
                async for _ in model.astream(QUESTION):
                    pass
            case "abatch":
                await model.abatch([QUESTION] * 5)

    task = asyncio.create_task(call())
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert settles(lambda: running(model) == 0)


async def test_closing_the_event_stream() -> None:
    model = router(delay=0.005)
    events = model.aevents(QUESTION)
    await anext(events)
    await events.aclose()
    assert running(model) == 0
    sync = model.events(QUESTION)
    await asyncio.to_thread(next, sync)
    await asyncio.to_thread(sync.close)
    assert running(model) == 0


def test_a_callback_that_fails_frees_the_engines() -> None:
    def fail(trace: object) -> None:
        raise ZeroDivisionError

    model = router(on_trace=fail)
    with pytest.raises(ZeroDivisionError):
        model.invoke(QUESTION)
    assert running(model) == 0


# -- engines' trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "astream"])
async def test_a_dead_engine_is_named_within_a_second(how: str) -> None:
    model = router(large=engine(LARGE, name="huge", fault=Fault(2)))
    text = ""
    started = time.monotonic()
    with pytest.raises(EngineDeadError, match="large engine: ") as caught:
        match how:
            case "invoke":
                await asyncio.to_thread(model.invoke, QUESTION)
            case "stream":
                for chunk in model.stream(QUESTION):
                    text += chunk.additional_kwargs.get("reasoning_content", "")
            case "ainvoke":
                await model.ainvoke(QUESTION)
            case "astream":
                async for chunk in model.astream(QUESTION):
                    text += chunk.additional_kwargs.get("reasoning_content", "")
    assert time.monotonic() - started < 1
    error: EngineError = caught.value
    assert (error.role, error.model) == ("large", "huge")
    assert error.trace is not None
    assert error.trace.text == "Three and four.\n\nIt makes"
    if "stream" in how:
        assert text == error.trace.text
    with pytest.raises(EngineDeadError):
        model.invoke(QUESTION)
    model.close()
    assert model.invoke(QUESTION).content == ANSWER


async def test_a_pinned_call_does_not_need_the_dead_engine() -> None:
    model = router(large=engine(LARGE, name="huge", fault=Fault(0)))
    with pytest.raises(EngineDeadError):
        await model.ainvoke(QUESTION)
    assert (await model.ainvoke(QUESTION, model="small")).content == ANSWER


# -- crowds --------------------------------------------------------------------------------------


def test_threads_loops_and_batches_at_once() -> None:
    """One model, eight threads, four event loops, batches: nobody sees another's turn."""

    def script(prompt: str) -> list[str]:
        name = prompt.split("<|user|>")[1].partition("<|end|>")[0]
        return [f"{name} {index}.\n\n" for index in range(5)]

    model: Any = router(
        engine(script, delay=0.0005), engine(script, delay=0.0005, name="huge"), threshold=0.01
    )

    def expected(name: str) -> str:
        return "".join(f"{name} {index}.\n\n" for index in range(5))

    def check(message: Any, name: str) -> None:
        assert message.additional_kwargs["reasoning_content"] == expected(name)
        trace = trace_of(message)
        assert trace is not None
        assert trace.text == expected(name) + ANSWER

    def sync(name: str) -> None:
        check(model.invoke(name), name)
        text = "".join(
            chunk.additional_kwargs.get("reasoning_content", "") for chunk in model.stream(name)
        )
        assert text == expected(name)

    def batch(name: str) -> None:
        names = [f"{name}{index}" for index in range(8)]
        for own, message in zip(names, model.batch(names), strict=True):
            check(message, own)

    def loop(name: str) -> None:
        async def several() -> None:
            names = [f"{name}{index}" for index in range(8)]
            messages = await asyncio.gather(*(model.ainvoke(own) for own in names))
            for own, message in zip(names, messages, strict=True):
                check(message, own)
            for own, message in zip(names, await model.abatch(names), strict=True):
                check(message, own)

        asyncio.run(several())

    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(sync, f"s{index}") for index in range(8)]
        jobs += [pool.submit(loop, f"l{index}") for index in range(4)]
        jobs += [pool.submit(batch, f"b{index}") for index in range(4)]
        for job in jobs:
            job.result()
    assert running(model) == 0


def test_a_turn_may_be_called_from_a_callback_on_the_engines_loop() -> None:
    """`on_trace` runs there: an async call works, a sync one says why it cannot."""
    inner = router()
    messages: list[Any] = []

    def again(trace: object) -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            inner.invoke(QUESTION)
        task = asyncio.ensure_future(inner.ainvoke(QUESTION))
        task.add_done_callback(lambda done: messages.append(done.result()))

    router(on_trace=again).invoke(QUESTION)
    assert settles(lambda: len(messages) == 1)
    assert messages[0].content == ANSWER


def test_models_survive_the_end_of_the_runtime() -> None:
    model = router()
    assert model.invoke(QUESTION).content == ANSWER
    get_runtime().close()
    assert model.invoke(QUESTION).content == ANSWER
    with router() as other:
        assert other.invoke(QUESTION).additional_kwargs["reasoning_content"] == THOUGHT


def test_closing_the_runtime_ends_a_turn_with_an_error() -> None:
    model = router(engine(SMALL, fault=Fault(2, None)))
    errors: list[BaseException] = []

    def call() -> None:
        try:
            model.invoke(QUESTION)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert settles(lambda: running(model) == 1)
    get_runtime().close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(errors) == 1
