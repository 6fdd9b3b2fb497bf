"""Agents over scripted engines, several model calls a run."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, hook_config
from langchain_core.messages import AIMessage, HumanMessage

from langchain_glimprouter import ChatGlimpRouter, ScriptedStep, trace_of
from unit_tests.models import engine, router

HARD = [ScriptedStep(f"s{number} x.\n\n", 2.0) for number in range(6)]


class Again(AgentMiddleware):
    """Has the agent call its model several times in each run."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    @hook_config(can_jump_to=["model"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        messages = state["messages"]
        start = max(i for i, m in enumerate(messages) if m.type == "human" and m.text == "Go.")
        if sum(message.type == "ai" for message in messages[start:]) >= self.calls:
            return None
        return {"jump_to": "model", "messages": [HumanMessage("More.")]}


def agent(*middleware: Any, calls: int = 1, model: Any = None, **options: Any) -> Any:
    again = [Again(calls)] if calls > 1 else []
    return create_agent(model or router(), middleware=[*middleware, *again], **options)


def hard(**options: Any) -> ChatGlimpRouter:
    """A model whose every step of thought calls the large one, and is 3 tokens long there."""
    large = [f"l{number} y.\n\n" for number in range(6)]
    return router(engine(HARD, "No."), engine(large, "Yes.", name="huge"), **options)


def run(agent: Any, thread: str = "1", **options: Any) -> list[AIMessage]:
    """Run an agent; return what its models said in this run."""
    config = {"configurable": {"thread_id": thread, **options.pop("configurable", {})}}
    messages = agent.invoke({"messages": "Go."}, config, **options)["messages"]
    start = max(i for i, m in enumerate(messages) if m.type == "human" and m.text == "Go.")
    return [message for message in messages[start:] if message.type == "ai"]


def interventions(messages: list[AIMessage]) -> list[int | None]:
    """Steps by the large model, call by call; `None` for messages that no model wrote."""
    found = [message.response_metadata.get("glimprouter") for message in messages]
    return [one and one["steps"]["large"] for one in found]


def requests(messages: list[AIMessage]) -> list[int]:
    """Requests to the large model, call by call."""
    traces = [trace_of(message) for message in messages]
    return [trace.usage.large.requests for trace in traces if trace is not None]


def threshold_of(message: AIMessage) -> float | None:
    trace = trace_of(message)
    assert trace is not None
    probe = trace.steps[0].probe
    assert probe is not None
    return probe.threshold
