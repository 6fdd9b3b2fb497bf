"""The record of a turn: complete, plain, and found again in its message."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from langchain_core.load import dumps, loads
from langchain_core.messages import (
    AIMessage,
    messages_from_dict,
    messages_to_dict,
)
from pydantic import ValidationError

from langchain_glimprouter import RoutingTrace, ScriptedStep, trace_of
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.trace import ProbeTrace
from unit_tests.models import ANSWER, LARGE, SMALL, THOUGHT, engine, router
from unit_tests.test_router import Scripts, scripts
from unit_tests.turns import pair, play

QUESTION = "What is 3 + 4?"


@given(scripts())
def test_json_in_and_out(scripts: Scripts) -> None:
    engines = pair(scripts.small, scripts.large, scripts.answer)
    trace = asyncio.run(play(*engines, loop_guard=False)).trace
    text = trace.model_dump_json()
    assert RoutingTrace.model_validate_json(text) == trace
    assert RoutingTrace.model_validate(trace.model_dump()) == trace
    assert RoutingTrace.model_validate(json.loads(text)) == trace
    assert RoutingTrace.model_validate_json(text).model_dump_json() == text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


async def test_an_infinite_threshold_is_no_json_number() -> None:
    played = await play(*pair([ScriptedStep("a.\n\n", 2.0)], []), threshold=float("inf"))
    probe = played.trace.steps[0].probe
    assert probe is not None
    assert probe.threshold is None
    assert not probe.straddles
    assert "Infinity" not in played.trace.model_dump_json()


def test_the_summary() -> None:
    message = router().invoke(QUESTION)
    routing = message.response_metadata["glimprouter"]
    trace = trace_of(message)
    assert trace is not None
    assert {name: routing[name] for name in routing if name != "trace"} == trace.summary()
    assert routing["steps"] == {"small": 3, "large": 1}
    assert routing["hand_offs"] == 3
    assert routing["stop_reason"] == "end_of_text"
    assert routing["thought_end"] == "closed"
    assert routing["models"] == {"small": "tiny", "large": "huge"}
    assert routing["tokens"]["small"]["probe"] == 1
    assert routing["tokens"]["large"]["decode"] == trace.usage.large.decode
    assert routing["seconds"]["total"] > 0
    json.dumps(routing)


def test_a_turn_without_steps_has_a_rate() -> None:
    trace = router(engine([], ""), engine([], "")).invoke(QUESTION, model="small")
    assert trace.response_metadata["glimprouter"]["intervention_rate"] == 0


def test_unknown_fields_are_refused() -> None:
    trace = trace_of(router().invoke(QUESTION))
    assert trace is not None
    with pytest.raises(ValidationError):
        RoutingTrace.model_validate({**trace.model_dump(), "cost": 1})


def test_straddling_is_told() -> None:
    wide = Entropy(0.5, 0.4, 2.0, 0.9)
    assert ProbeTrace.of(Decision("small", "entropy", wide, 1.0)) == ProbeTrace(
        entropy=0.5, lower=0.4, upper=2.0, seen_mass=0.9, threshold=1.0, straddles=True
    )
    assert ProbeTrace.of(Decision("large", "first_steps")) is None
    probe = ProbeTrace.of(Decision("small", "entropy", wide, 3.0))
    assert probe is not None
    assert not probe.straddles
    assert probe.measured() == wide


def reloaded(message: AIMessage) -> list[AIMessage]:
    """The same message after every way of storing it."""
    copies: list[Any] = [
        message,
        AIMessage.model_validate(message.model_dump()),
        AIMessage.model_validate_json(message.model_dump_json()),
        messages_from_dict(messages_to_dict([message]))[0],
        loads(dumps(message), allowed_objects="all"),
        message.model_copy(deep=True),
    ]
    return copies


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("how", ["invoke", "stream", "events"])
@pytest.mark.parametrize("thinks", [True, False])
def test_the_trace_is_found_in_its_message(version: str, how: str, thinks: bool) -> None:
    model = router(output_version=version, thinks=thinks)
    if how == "invoke":
        message = model.invoke(QUESTION)
    elif how == "stream":
        chunks = list(model.stream(QUESTION))
        message = sum(chunks[1:], chunks[0])
    else:
        message = model.stream_events(QUESTION, version="v3").output
    for copy in reloaded(message) if how == "invoke" else [message]:
        trace = trace_of(copy)
        assert trace is not None
        assert trace.text == (THOUGHT + ANSWER if thinks else THOUGHT)
        expected = ["Three and four.\n\n", "It makes seven.\n\n", "It is done.\n\n", ""]
        assert [trace.step_text(step) for step in trace.routed_steps] == expected
        assert trace.answer == message.text


def test_no_trace_where_there_is_none() -> None:
    assert trace_of(AIMessage("Hello")) is None
    assert trace_of(AIMessage("Hello", response_metadata={"glimprouter": "?"})) is None
    assert trace_of(router(include_trace=False).invoke(QUESTION)) is None


async def test_candidates_are_what_the_small_model_would_have_written() -> None:
    played = await play(*pair(SMALL, LARGE))
    probe = played.trace.steps[1].probe
    assert probe is not None
    text, probability = probe.candidates[0]
    assert text == "Is"
    assert 0 < probability < 1
    assert sum(value for _, value in probe.candidates) <= 1
    values = [value for _, value in probe.candidates]
    assert values == sorted(values, reverse=True)
