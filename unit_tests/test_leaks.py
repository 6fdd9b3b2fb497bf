"""A thousand turns, many of them left halfway, leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from contextlib import aclosing, suppress
from typing import Any

from langchain_glimprouter import ChatGlimpRouter, Fault, TurnTimeoutError
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.errors import EngineRequestError
from langchain_glimprouter.routing.turn import Turn
from unit_tests.models import engine, router, running, settles
from unit_tests.turns import events_of, pair

QUESTION = "What is 3 + 4?"


def tasks() -> int:
    """Tasks on the engines' loop."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return get_runtime().run(count())


def live(kind: type) -> int:
    gc.collect()
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


def sync_turns(model: ChatGlimpRouter, count: int) -> None:
    for index in range(count):
        match index % 5:
            case 0:
                model.invoke(QUESTION)
            case 1:
                list(model.stream(QUESTION))
            case 2:
                chunks: Any = model.stream(QUESTION)
                for _ in range(index % 4):
                    next(chunks)
                chunks.close()
            case 3:
                events = model.events(QUESTION)
                next(events)
                events.close()
            case 4:
                with suppress(TurnTimeoutError):
                    model.invoke(QUESTION, timeout=1e-6)


async def async_turns(model: ChatGlimpRouter, count: int) -> None:
    for index in range(count):
        match index % 4:
            case 0:
                await model.ainvoke(QUESTION)
            case 1:
                stream: Any = model.astream(QUESTION)
                async with aclosing(stream) as chunks:
                    async for _ in chunks:
                        break
            case 2:
                task = asyncio.create_task(model.ainvoke(QUESTION))
                for _ in range(index % 7):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            case 3:
                async for _ in model.aevents(QUESTION):
                    pass


def test_a_thousand_turns() -> None:
    model: Any = router(engine(["One two.\n\n"], "Yes."), engine([], "Yes.", name="huge"))
    model.small.requests = model.large.requests = Forgetful()
    sync_turns(model, 100)
    asyncio.run(async_turns(model, 100))
    threads = threading.active_count()
    gc.collect()
    before = sys.getallocatedblocks()
    sync_turns(model, 400)
    asyncio.run(async_turns(model, 400))
    assert settles(lambda: running(model) == 0)
    assert settles(lambda: tasks() == 0)
    gc.collect()
    grown = sys.getallocatedblocks() - before
    print(f"{grown} blocks more")
    assert grown < 800  # not one small object a turn
    assert threading.active_count() <= threads + 1
    assert live(Turn) == 0
    assert not get_runtime()._waited_for


class Forgetful(list[Any]):
    """The scripted engines' own memory of requests is not what is looked for."""

    def append(self, item: Any) -> None: ...


def test_turns_that_fail_leave_nothing() -> None:
    model: Any = router(engine())
    for index in range(50):
        model.small.fault = Fault(
            model.small.made + index % 9, EngineRequestError("no"), dead=False
        )
        with suppress(EngineRequestError):
            model.invoke(QUESTION)
    assert running(model) == 0
    assert settles(lambda: tasks() == 0)
    assert live(Turn) == 0


async def test_a_turn_is_freed_without_the_garbage_collector() -> None:
    """No cycle holds its contexts, which may be long."""
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(thing, Turn) for thing in gc.get_objects())
        for _ in range(5):
            async with aclosing(events_of(*pair(["a.\n\n"], []))[1]) as events:
                async for _ in events:
                    pass
            del events
        assert sum(isinstance(thing, Turn) for thing in gc.get_objects()) == before
    finally:
        gc.enable()
