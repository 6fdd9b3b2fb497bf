"""Routing on LangGraph's custom stream."""

from __future__ import annotations

import json
import math
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.events import StepFinished, StepStarted
from langchain_glimprouter.routing.policies import Always, GlimpRouter
from langchain_glimprouter.routing.thresholds import Decision, Fixed
from langchain_glimprouter.visible import (
    RoutingDecision,
    routing_decision,
    routing_event,
    step_decision,
    stream_writer,
)
from unit_tests.turns import pair, play


async def test_events_tell_decisions_and_steps() -> None:
    played = await play(*pair(["One.\n\n", "Two.\n\n"], []), GlimpRouter(Fixed(1.0)))
    told = [routing_event(event) for event in played.events]
    kinds = [one["type"] for one in told if one is not None]
    assert kinds == ["glimprouter.decision", "glimprouter.step"] * len(played.trace.steps)
    by_step = zip(
        (event for event in played.events if isinstance(event, StepStarted)),
        (event for event in played.events if isinstance(event, StepFinished)),
        strict=True,
    )
    for started, finished in by_step:
        before, after = routing_event(started), routing_event(finished)
        assert before is not None
        assert after is not None
        step = finished.step
        assert (after["tokens"], after["ended_by"]) == (step.tokens.decode, step.ended_by)
        assert after["seconds"] == step.seconds
        assert {**after, "type": before["type"]}.items() >= before.items()
        assert set(before) == {"type", *RoutingDecision.__annotations__}
        assert routing_decision(started.index, started.phase, started.decision) == (
            step_decision(step)
        )
        json.dumps([before, after], allow_nan=False)


async def test_what_was_not_probed_shows_no_entropy() -> None:
    played = await play(*pair(["One.\n\n"], []), Always("small"))
    event = routing_event(played.events[0])
    assert event is not None
    assert (event["writer"], event["reason"]) == ("small", "always")
    assert event["entropy"] is event["lower"] is event["upper"] is event["threshold"] is None


def test_no_limit_is_no_number() -> None:
    decision = Decision("small", "entropy", Entropy(1.0, 0.9, 1.1, 0.9), math.inf)
    assert routing_decision(3, "thinking", decision)["threshold"] is None


def test_there_is_a_stream_only_within_a_graph() -> None:
    assert stream_writer() is None
    lone: Any = RunnableLambda(lambda _: stream_writer())
    assert lone.invoke(1) is None

    def node(_: MessagesState) -> None:
        writer = stream_writer()
        assert writer is not None
        writer({"type": "seen"})

    builder: Any = StateGraph(MessagesState)
    graph = builder.add_node("node", node).add_edge(START, "node").compile()
    assert list(graph.stream({"messages": []}, stream_mode="custom")) == [{"type": "seen"}]
