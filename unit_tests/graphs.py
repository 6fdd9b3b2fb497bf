"""Graphs over scripted engines, and every way to run one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_glimprouter import create_glimprouter
from langchain_glimprouter.engines.scripted_vocabulary import ScriptedVocabulary, _Table
from unit_tests.models import router

_LASTING = _Table()
for _code in range(1024):
    _LASTING.id(chr(_code))


class Lasting(ScriptedVocabulary):
    """Characters that have the same ids in every process."""

    def __init__(self) -> None:
        super().__init__("characters", opens_thought=True)
        self._table = _LASTING


QUESTION: Any = {"messages": [HumanMessage("What is 3 + 4?", id="q")]}


def thread(name: object = 1, **configurable: Any) -> Any:
    """A thread's config."""
    return {"configurable": {"thread_id": str(name), **configurable}}


def thinking(model: Any = None, *, saver: Any = None, **options: Any) -> Any:
    """The thought of a model as a compiled graph."""
    builder = create_glimprouter(router() if model is None else model)
    return builder.compile(checkpointer=saver or InMemorySaver(), **options)


def answer_of(state: Any) -> AIMessage:
    """The last message of a state."""
    message = state["messages"][-1]
    assert isinstance(message, AIMessage)
    return message


def merged(chunks: Iterable[Any]) -> AIMessageChunk:
    """The sum of chunks."""
    first, *rest = chunks
    for chunk in rest:
        first += chunk
    assert isinstance(first, AIMessageChunk)
    return first


async def both_ways(graph: Any, given: Any, config: Any, **options: Any) -> list[Any]:
    """Final states of the same run, sync and async, on two threads."""
    name = config["configurable"]["thread_id"]
    sync, other = (
        {**config, "configurable": {**config["configurable"], "thread_id": f"{name} {way}"}}
        for way in ("sync", "async")
    )
    return [
        await asyncio.to_thread(graph.invoke, given, sync, **options),
        await graph.ainvoke(given, other, **options),
    ]
