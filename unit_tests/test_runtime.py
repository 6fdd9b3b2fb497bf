"""The bridge between callers' threads and loops and the engines' loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from langchain_glimprouter.engines.channel import CAPACITY
from langchain_glimprouter.engines.job import RuntimeClosedError
from langchain_glimprouter.engines.runtime import Runtime, get_runtime
from langchain_glimprouter.errors import EngineError

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


class Source:
    """An async generator that knows whether it was closed."""

    def __init__(self, count: int, pause: float | None = None) -> None:
        self.count = count
        self.pause = pause
        self.made = 0
        self.closed = threading.Event()

    async def __call__(self) -> AsyncGenerator[int]:
        try:
            for number in range(self.count):
                if self.pause is not None:
                    await asyncio.sleep(self.pause)
                self.made += 1
                yield number
        finally:
            await asyncio.sleep(0)  # clean-up that needs the loop, as an engine's abort does
            self.closed.set()


async def tasks_left(runtime: Runtime) -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return await runtime.bridge(count())


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


@pytest.mark.parametrize("pause", [None, 0, 0.001])
def test_iterate_yields_everything_in_order(runtime: Runtime, pause: float | None) -> None:
    source = Source(200, pause)
    assert list(runtime.iterate(source)) == list(range(200))
    assert source.closed.is_set()


@pytest.mark.parametrize("pause", [None, 0, 0.001])
def test_aiterate_yields_everything_in_order(runtime: Runtime, pause: float | None) -> None:
    source = Source(200, pause)

    async def collect() -> list[int]:
        return [number async for number in runtime.aiterate(source)]

    assert asyncio.run(collect()) == list(range(200))
    assert source.closed.is_set()


def test_items_run_on_the_runtime_thread_in_the_callers_context(runtime: Runtime) -> None:
    async def tell() -> AsyncGenerator[tuple[str, str]]:
        yield threading.current_thread().name, who.get()

    async def name() -> str:
        return who.get()

    who.set("me")
    assert list(runtime.iterate(tell)) == [("glimprouter-runtime", "me")]
    assert runtime.run(name()) == "me"
    assert asyncio.run(runtime.bridge(name())) == "me"


def test_threads_and_loops_work_at_once(runtime: Runtime) -> None:
    async def collect() -> int:
        return sum([number async for number in runtime.aiterate(Source(100, 0.001))])

    def sync(_: int) -> int:
        return sum(runtime.iterate(Source(100, 0.001)))

    def own_loop(_: int) -> int:
        async def several() -> int:
            return sum(await asyncio.gather(collect(), collect()))

        return asyncio.run(several())

    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        sums = [*pool.map(sync, range(8)), *pool.map(own_loop, range(8))]
    assert sums == [4950] * 8 + [9900] * 8
    assert time.monotonic() - started < 3  # one after the other would take 2.4 s and more


def test_closing_early_closes_the_source_before_returning(runtime: Runtime) -> None:
    source = Source(10_000, 0.001)
    numbers = runtime.iterate(source)
    assert next(numbers) == 0
    numbers.close()
    assert source.closed.is_set()

    async def early() -> bool:
        source = Source(10_000, 0.001)
        async with aclosing(runtime.aiterate(source)) as numbers:
            async for _ in numbers:
                break
        return source.closed.is_set()

    assert asyncio.run(early())


def test_nothing_runs_before_the_first_item_is_asked_for(runtime: Runtime) -> None:
    source = Source(3)
    runtime.iterate(source).close()
    assert source.made == 0


def test_cancelling_the_consumer_closes_the_source(runtime: Runtime) -> None:
    source = Source(10_000, 0.001)

    async def consume() -> None:
        async for _ in runtime.aiterate(source):
            pass

    async def cancel() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    source.closed.wait(1)
    assert source.closed.is_set()


def test_cancelling_a_bridge_waits_for_the_clean_up(runtime: Runtime) -> None:
    cleaned = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await runtime.bridge(work())
        assert cleaned.is_set()

    asyncio.run(cancel())


@pytest.mark.parametrize("after", [0, 1, 100])
def test_errors_cross_over_behind_the_items_before_them(runtime: Runtime, after: int) -> None:
    async def fail_deep_down() -> None:
        raise EngineError("it broke", model="tiny")

    async def items() -> AsyncGenerator[int]:
        for number in range(after):
            yield number
        await fail_deep_down()

    seen: list[int] = []
    with pytest.raises(EngineError, match="it broke") as caught:
        seen.extend(runtime.iterate(items))
    assert "fail_deep_down" in "".join(traceback.format_tb(caught.value.__traceback__))

    async def consume() -> None:
        async for number in runtime.aiterate(items):
            seen.append(number)  # noqa: PERF401  what came before the error counts

    seen.clear()
    with pytest.raises(EngineError, match="it broke"):
        asyncio.run(consume())
    assert seen == list(range(after))
    with pytest.raises(EngineError, match="it broke"):
        runtime.run(fail_deep_down())
    with pytest.raises(EngineError, match="it broke"):
        asyncio.run(runtime.bridge(fail_deep_down()))


def test_sync_calls_on_the_runtime_thread_raise_instead_of_hanging(runtime: Runtime) -> None:
    async def nothing() -> None: ...

    async def recurse() -> None:
        with pytest.raises(RuntimeError, match="wait for itself"):
            runtime.run(nothing())
        with pytest.raises(RuntimeError, match="wait for itself"):
            runtime.iterate(Source(1))
        # The async ways just delegate.
        await runtime.bridge(nothing())
        assert [number async for number in runtime.aiterate(Source(3))] == [0, 1, 2]

    runtime.run(recurse())


def test_abandoned_generators_are_cancelled_when_collected(runtime: Runtime) -> None:
    source = Source(10_000, 0.001)
    numbers = runtime.iterate(source)
    next(numbers)
    del numbers
    gc.collect()
    assert source.closed.wait(2)

    source = Source(10_000, 0.001)

    async def abandon() -> None:
        async for _ in runtime.aiterate(source):
            break

    asyncio.run(abandon())
    assert source.closed.wait(2)


def test_a_loop_that_was_torn_down_does_not_keep_the_source_running(runtime: Runtime) -> None:
    source = Source(10_000, 0.001)
    loop = asyncio.new_event_loop()
    numbers = runtime.aiterate(source)
    loop.run_until_complete(anext(numbers))
    loop.close()
    del numbers, loop
    gc.collect()
    assert source.closed.wait(2)


def test_a_slow_consumer_holds_the_source_back(runtime: Runtime) -> None:
    source = Source(10 * CAPACITY)
    numbers = runtime.iterate(source)
    next(numbers)
    time.sleep(0.1)
    assert source.made <= CAPACITY + 200
    assert sum(1 for _ in numbers) == 10 * CAPACITY - 1


def test_a_busy_source_leaves_room_for_others(runtime: Runtime) -> None:
    busy = runtime.iterate(Source(10**9))
    next(busy)
    drain = threading.Thread(target=lambda: [next(busy) for _ in range(200_000)])
    drain.start()
    assert list(runtime.iterate(Source(3))) == [0, 1, 2]
    drain.join()
    busy.close()


def test_a_thousand_turns_leave_nothing_behind(runtime: Runtime) -> None:
    async def turns() -> int:
        for number in range(500):
            async with aclosing(runtime.aiterate(Source(50, 0))) as numbers:
                async for value in numbers:
                    if value == number % 60:
                        break
        return await tasks_left(runtime)

    for number in range(500):
        numbers = runtime.iterate(Source(50, 0))
        for value in numbers:
            if value == number % 60:
                break
        numbers.close()
    assert asyncio.run(turns()) == 0
    assert not runtime._waited_for


def test_closing_closes_what_is_registered_and_ends_what_runs() -> None:
    runtime = Runtime()
    order: list[str] = []

    class Engine:
        async def aclose(self) -> None:
            order.append("engine closed")

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                order.append("cancelled")

    def call() -> None:
        with pytest.raises(RuntimeClosedError):
            runtime.run(stubborn())
        order.append("caller free")

    engine = Engine()
    runtime.register(engine)
    caller = threading.Thread(target=call)
    caller.start()
    time.sleep(0.05)
    runtime.close()
    runtime.close()
    caller.join(5)
    assert order == ["engine closed", "cancelled", "caller free"]
    with pytest.raises(RuntimeClosedError):
        runtime.run(stubborn())


def test_there_is_one_runtime_and_a_new_one_after_close() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({id(runtime) for runtime in pool.map(lambda _: get_runtime(), range(50))}) == 1
    first = get_runtime()
    first.close()
    assert get_runtime() is not first
    assert sum(get_runtime().iterate(Source(10))) == 45


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_its_own_runtime() -> None:
    parent = get_runtime()
    child = os.fork()
    if child == 0:
        fine = get_runtime() is not parent and sum(get_runtime().iterate(Source(10))) == 45
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_overhead_per_item_is_small(runtime: Runtime) -> None:
    count = 20_000

    async def consume() -> int:
        return sum([1 async for _ in runtime.aiterate(Source(count))])

    started = time.perf_counter()
    assert sum(1 for _ in runtime.iterate(Source(count))) == count
    sync = (time.perf_counter() - started) / count
    started = time.perf_counter()
    assert asyncio.run(consume()) == count
    other_loop = (time.perf_counter() - started) / count
    print(f"iterate {sync * 1e6:.1f} us, aiterate {other_loop * 1e6:.1f} us an item")
    assert max(sync, other_loop) < 60e-6  # 15 us aimed at; machines under load vary
