"""A thought that waits: for a person, for another threshold, for another process."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_glimprouter import (
    ConfigurationError,
    EngineDeadError,
    Fault,
    GlimpRouterContext,
    ScriptedStep,
    steer,
    trace_of,
)
from unit_tests.graphs import QUESTION, answer_of, thinking, thread
from unit_tests.models import ANSWER, LARGE, SMALL, engine, router

MANY = [ScriptedStep(f"s{i}.\n\n", 2.0 * (i % 2)) for i in range(6)]
OTHER = [f"l{i}.\n\n" for i in range(6)]


def zigzag(**options: Any) -> Any:
    """Six steps; the odd ones call the large model."""
    return router(engine(MANY), engine(OTHER, name="huge"), **options)


def writers(state: Any) -> str:
    trace = trace_of(answer_of(state))
    assert trace is not None
    return "".join(step.writer[0] for step in trace.steps)


# -- people --------------------------------------------------------------------------------------


def waiting(model: Any = None) -> Any:
    graph = thinking(model or router(), interrupt_before=["large"])
    graph.invoke(QUESTION, thread())
    return graph


def test_a_person_sees_what_waits() -> None:
    graph = waiting()
    snapshot = graph.get_state(thread())
    assert snapshot.next == ("large",)
    pending = snapshot.values["pending"]
    assert pending["step"] == 1
    assert pending["writer"] == "large"
    assert pending["entropy"] == pytest.approx(2.0, abs=1e-6)
    assert pending["lower"] <= pending["upper"]
    assert pending["threshold"] == 1.0
    assert pending["candidates"][0][0] == "Is"
    assert len(snapshot.values["messages"]) == 1
    assert snapshot.values["thought"]["thought"]["text"] == "Three and four.\n\n"


def test_approved() -> None:
    graph = waiting()
    state = graph.invoke(None, thread())
    assert writers(state) == "slssl"
    assert answer_of(state).content == ANSWER


@pytest.mark.parametrize("way", ["update", "command"])
def test_forced_to_the_small_model(way: str) -> None:
    graph = waiting()
    made = graph_made(graph)
    if way == "update":
        graph.update_state(thread(), steer("small"))
        assert graph.get_state(thread()).next == ("small",)
        state = graph.invoke(None, thread())
    else:
        state = graph.invoke(Command(update=steer("small")), thread())
    assert writers(state) == "ssssl"
    step = state["routing"][1]
    assert (step["writer"], step["reason"]) == ("small", "steered")
    assert step["entropy"] == pytest.approx(2.0, abs=1e-6)
    assert "Is that hard?" in answer_of(state).additional_kwargs["reasoning_content"]
    assert state["steer"] is None
    assert made == 1 + 3  # up to the interrupt: a step, and the probe


def graph_made(graph: Any) -> int:
    saved = graph.get_state(thread()).values["thought"]["thought"]
    usage = saved["usage"]["small"]
    return int(usage["decode"] + usage["probe"])


def test_forced_to_the_large_model() -> None:
    graph = thinking(zigzag(), interrupt_after=["large"])
    graph.invoke(QUESTION, thread())
    assert graph.get_state(thread()).next == ("small",)
    graph.update_state(thread(), steer("large"))
    assert graph.get_state(thread()).next == ("large",)
    state = graph.invoke(None, thread())
    step = state["routing"][2]
    assert (step["writer"], step["reason"], step["entropy"]) == ("large", "steered", None)


@pytest.mark.parametrize("to", ["small", "large"])
def test_steered_from_the_start(to: Any) -> None:
    state = thinking(zigzag()).invoke({**QUESTION, **steer(to)}, thread())
    assert (state["routing"][0]["writer"], state["routing"][0]["reason"]) == (to, "steered")
    assert writers(state)[1:] == "lslsls" + "l"


def test_enough_thought() -> None:
    graph = waiting()
    graph.update_state(thread(), steer("answer"))
    assert graph.get_state(thread()).next == ("answer",)
    state = graph.invoke(None, thread())
    message = answer_of(state)
    assert message.additional_kwargs["reasoning_content"] == "Three and four.\n\n"
    assert message.content == ANSWER
    trace = trace_of(message)
    assert trace is not None
    assert (trace.thought_end, trace.forced_close) == ("steered", True)
    assert message.response_metadata["finish_reason"] == "stop"


def test_stopped() -> None:
    model: Any = router()
    graph = waiting(model)
    asked = len(model.small.requests) + len(model.large.requests)
    graph.update_state(thread(), steer("stop"))
    state = graph.invoke(None, thread())
    message = answer_of(state)
    assert message.additional_kwargs["reasoning_content"] == "Three and four.\n\n"
    assert message.content == ""
    assert message.response_metadata["finish_reason"] == "steered"
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 3
    assert len(model.small.requests) + len(model.large.requests) == asked
    assert state["thought"] is None
    again = graph.invoke({"messages": [HumanMessage("Go on.")]}, thread())
    assert again["messages"][-2:] != state["messages"][-2:]


def test_stopped_streams_its_end() -> None:
    graph = waiting()
    graph.update_state(thread(), steer("stop"))
    chunks = [part[0] for part in graph.stream(None, thread(), stream_mode="messages")]
    assert [chunk.id for chunk in chunks] == [answer_of(graph.get_state(thread()).values).id]
    assert chunks[0].usage_metadata["output_tokens"] == 3


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize("to", ["small", "large", "answer", "stop"])
def test_steered_at_every_checkpoint(to: Any, thinks: bool) -> None:
    """Whatever waits, the turn comes to its end."""
    graph = thinking(router(thinks=thinks, answer_by="route"))
    graph.invoke(QUESTION, thread())
    forks = [one for one in graph.get_state_history(thread()) if one.values.get("thought")]
    assert len(forks) >= 3
    for fork in forks:
        config = graph.update_state(fork.config, steer(to))
        state = graph.invoke(None, config)
        message = answer_of(state)
        trace = trace_of(message)
        assert trace is not None
        assert trace.text == message.additional_kwargs.get("reasoning_content", "") + message.text
        assert state["thought"] is None
        if to == "stop":
            assert len(trace.steps) == len(fork.values["thought"]["thought"]["steps"])


def test_unknown_wishes() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown steer 'smal'; did you mean 'small'"):
        steer("smal")  # type: ignore[arg-type]
    graph = waiting()
    with pytest.raises(ConfigurationError, match="unknown steer 'halt'"):
        graph.update_state(thread(), {"steer": "halt"})
    with pytest.raises(ConfigurationError, match="unknown steer 'halt'"):
        graph.invoke(Command(update={"steer": "halt"}), thread())


# -- other thresholds ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["context", "dict", "configurable"])
@pytest.mark.parametrize("interrupted", [True, False])
def test_replayed_at_another_threshold(way: str, interrupted: bool) -> None:
    """From where the large model was called on: what waits is judged again by its entropy."""
    model = zigzag()
    graph = thinking(model, interrupt_before=["large"] if interrupted else None)
    graph.invoke(QUESTION, thread())
    fork = next(
        one for one in reversed(list(graph.get_state_history(thread()))) if one.next == ("large",)
    )
    config = fork.config
    options: dict[str, Any] = {}
    match way:
        case "context":
            options["context"] = GlimpRouterContext(threshold=2.5)
        case "dict":
            options["context"] = {"threshold": 2.5}
        case "configurable":
            config = {"configurable": {**config["configurable"], "threshold": 2.5}}
    requests = len(model.large.requests)
    state = graph.invoke(None, config, **options)
    assert writers(state) == "sssssss" + "l"
    assert len(model.large.requests) == requests + 1  # its answer
    judged = state["routing"][1]
    assert (judged["writer"], judged["reason"], judged["threshold"]) == ("small", "entropy", 2.5)
    assert judged["entropy"] == pytest.approx(2.0, abs=1e-6)


def test_a_lower_threshold_holds_from_the_fork_on() -> None:
    graph = thinking(zigzag())
    assert writers(graph.invoke(QUESTION, thread())) == "slslsls" + "l"
    fork = next(one for one in graph.get_state_history(thread()) if one.next == ("small",))
    steps = len(fork.values["thought"]["thought"]["steps"])
    state = graph.invoke(None, fork.config, context=GlimpRouterContext(threshold=0.0))
    assert writers(state) == "slslsls"[:steps] + "l" * (8 - steps)


def test_the_same_threshold_repeats_itself() -> None:
    graph = thinking(zigzag())
    first = graph.invoke(QUESTION, thread())
    for fork in list(graph.get_state_history(thread())):
        if fork.values.get("thought"):
            again = graph.invoke(None, fork.config)
            assert answer_of(again).content == answer_of(first).content
            assert writers(again) == writers(first)


# -- budgets -------------------------------------------------------------------------------------

BUDGETS: list[tuple[dict[str, Any], str]] = [
    ({"max_interventions": 1}, "slsssss" + "l"),
    ({"max_large_tokens": 2}, "slslsss" + "l"),
    ({"max_seconds": 1e-9}, "slsssss" + "l"),
    ({"max_interventions": 1, "threshold": 0.0}, "slsssss" + "l"),
    ({"max_interventions": 99}, "slslsls" + "l"),
]


@pytest.mark.parametrize(("context", "expected"), BUDGETS)
def test_budgets_of_the_run(context: dict[str, Any], expected: str) -> None:
    class Mine:
        """Somebody's own context."""

        user = "me"

        def __init__(self, **fields: Any) -> None:
            vars(self).update(fields)

    for given in (context, GlimpRouterContext(**context), Mine(**context)):
        graph = thinking(zigzag())
        if isinstance(given, Mine):
            from langchain_glimprouter import create_glimprouter

            graph = create_glimprouter(zigzag(), context_schema=None).compile()
        assert writers(graph.invoke(QUESTION, thread(), context=given)) == expected


@pytest.mark.parametrize("name", ["max_large_tokens", "max_seconds", "max_interventions"])
@pytest.mark.parametrize("limit", [0, -1, True, "many"])
def test_budgets_of_nothing_are_refused(name: str, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}={limit!r} is no budget"):
        GlimpRouterContext(**{name: limit})
    with pytest.raises(ConfigurationError, match=f"{name}={limit!r} is no budget"):
        thinking().invoke(QUESTION, thread(), context={name: limit})


def test_a_policy_without_a_threshold_has_no_budget() -> None:
    graph = thinking(router(policy="always large"))
    with pytest.raises(ConfigurationError, match="no meaning for the policy 'always large'"):
        graph.invoke(QUESTION, thread(), context=GlimpRouterContext(max_interventions=1))


# -- crashes, and other processes ----------------------------------------------------------------


def fresh(path: Path | str, model: Any) -> Any:
    """A new graph, over new engines, over what lies on the disk."""
    connection = sqlite3.connect(path, check_same_thread=False)
    return thinking(model, saver=SqliteSaver(connection)), connection


@pytest.mark.parametrize("role", ["small", "large"])
@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_a_thought_goes_on_where_it_was_handed_over(tmp_path: Path, role: str, at: int) -> None:
    whole = thinking(zigzag()).invoke(QUESTION, thread())
    path = tmp_path / "thoughts.sqlite"
    model = zigzag()
    getattr(model, role).fault = Fault(at)
    graph, connection = fresh(path, model)
    with pytest.raises(EngineDeadError):
        graph.invoke(QUESTION, thread(), durability="sync")
    before = graph.get_state(thread()).values.get("thought")
    done = before["thought"]["steps"] if before else []
    connection.close()

    model = zigzag()
    graph, connection = fresh(path, model)
    state = graph.invoke(None, thread())
    connection.close()
    assert answer_of(state).content == answer_of(whole).content
    reasoning = answer_of(state).additional_kwargs["reasoning_content"]
    assert reasoning == answer_of(whole).additional_kwargs["reasoning_content"]
    assert writers(state) == writers(whole)
    assert [one["step"] for one in state["routing"]] == list(range(8))  # none is told twice
    made = model.small.made + model.large.made
    trace = trace_of(answer_of(state))
    assert trace is not None
    written = sum(step.tokens.decode + step.tokens.probe for step in trace.steps[len(done) :])
    assert made <= written + 1  # no finished step was written again


async def test_goes_on_asynchronously_too(tmp_path: Path) -> None:
    path = str(tmp_path / "thoughts.sqlite")
    model = zigzag()
    model.large.fault = Fault(3)
    async with AsyncSqliteSaver.from_conn_string(path) as saver:
        with pytest.raises(EngineDeadError):
            await thinking(model, saver=saver).ainvoke(QUESTION, thread(), durability="sync")
    async with AsyncSqliteSaver.from_conn_string(path) as saver:
        state = await thinking(zigzag(), saver=saver).ainvoke(None, thread())
    assert writers(state) == "slslsls" + "l"


def test_another_pair_does_not_go_on(tmp_path: Path) -> None:
    path = tmp_path / "thoughts.sqlite"
    graph, connection = fresh(path, router())
    graph.interrupt_before_nodes = ["large"]
    graph.invoke(QUESTION, thread())
    connection.close()
    for other in (
        router(large=engine(LARGE, name="vast")),
        router(large=engine(LARGE, name="huge", unit="characters")),
    ):
        graph, connection = fresh(path, other)
        with pytest.raises(ConfigurationError) as caught:
            graph.invoke(None, thread())
        connection.close()
        assert "small 'tiny'" in str(caught.value)
        assert "large 'huge'" in str(caught.value)
    graph, connection = fresh(path, router(engine(SMALL, name="models/tiny")))
    assert answer_of(graph.invoke(None, thread())).content == ANSWER
    connection.close()
