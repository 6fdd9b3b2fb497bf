"""Agents over real models. What small models say is their affair; which tools they call is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ModelRequest
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from examples import agent as example
from langchain_glimprouter import (
    ChatGlimpRouter,
    GlimpRouterMiddleware,
    Limit,
    RoutingTrace,
    VLLMEngine,
    trace_of,
)

T = TypeVar("T")

QUESTION: Any = {"messages": "Do you have a kettle?"}
THREAD: Any = {"configurable": {"thread_id": "1"}}


def stock(product: Literal["kettle", "mug"]) -> str:
    """Tell how many of a product there are."""
    return f"There are {len(product)} of the product {product}."


class Answer(BaseModel):
    """What to tell the customer."""

    product: Literal["kettle", "mug"]
    in_stock: bool


class OneCall(AgentMiddleware):
    """Has the tool called, and then an answer."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., T]) -> T:
        return handler(self._asked(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[..., Awaitable[T]]
    ) -> T:
        return await handler(self._asked(request))

    @staticmethod
    def _asked(request: ModelRequest[Any]) -> ModelRequest[Any]:
        called = isinstance(request.messages[-1], ToolMessage)
        return request.override(tool_choice="none" if called else "stock")


@pytest.fixture(scope="module")
def model(smollm_engine: VLLMEngine, thinking_template: Path) -> ChatGlimpRouter:
    """The smallest model in both places: for what does not depend on the weights."""
    return ChatGlimpRouter(
        small=smollm_engine,
        large=smollm_engine,
        threshold=1.0,
        chat_template=str(thinking_template),
        temperature=0.0,
        max_thinking_tokens=24,
        max_step_tokens=12,
        max_tokens=48,
    )


def traces(messages: Sequence[AnyMessage]) -> list[RoutingTrace]:
    found = [trace_of(message) for message in messages if isinstance(message, AIMessage)]
    assert all(found)
    return [trace for trace in found if trace is not None]


def check_one_call(messages: Sequence[AnyMessage]) -> None:
    """A question, a tool call with arguments that fit, its result, an answer."""
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    _, asked, result, answer = messages
    assert isinstance(asked, AIMessage)
    assert isinstance(answer, AIMessage)
    (call,) = asked.tool_calls
    assert call["name"] == "stock"
    assert call["args"]["product"] in ("kettle", "mug")
    assert result.text == stock(**call["args"])
    assert answer.tool_calls == []
    for trace in traces(messages):
        assert trace.usage.thinking_tokens > 0  # routed, before a call as well
        assert sum(step.phase == "answer" for step in trace.steps) == 1  # in one piece


def test_the_example_uses_three_tools(
    smollm_engine: VLLMEngine, small_engine: VLLMEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = example.main(smollm_engine, small_engine, max_thinking_tokens=24, max_step_tokens=12)
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert [result.name for result in results] == [tool.name for tool in example.TOOLS]
    assert all(result.text for result in results)
    turns = traces(messages)
    assert len(turns) == 4
    assert sum(turn.usage.large.decode for turn in turns) > 0
    assert capsys.readouterr().out.count("tokens by the large model]") == 4


def test_a_thread_remembers_and_is_held_to_its_budget(model: ChatGlimpRouter) -> None:
    agent = create_agent(
        model,
        tools=[stock],
        middleware=[OneCall(), GlimpRouterMiddleware(thread_limit=Limit(large_tokens=1))],
        checkpointer=InMemorySaver(),
    )
    first = agent.invoke(QUESTION, THREAD)["messages"]
    check_one_call(first)
    both = agent.invoke(QUESTION, THREAD)["messages"]
    assert both[:4] == first
    check_one_call(both[4:])
    by_large = [trace.usage.large.requests for trace in traces(both)]
    assert by_large[0] > 0
    assert by_large[1:] == [0, 0, 0]


def test_a_spent_budget_ends_the_agent(model: ChatGlimpRouter) -> None:
    budget = GlimpRouterMiddleware(
        threshold=0.0, run_limit=Limit(large_tokens=1), exit_behavior="end"
    )
    agent = create_agent(model, tools=[stock], middleware=[OneCall(), budget])
    messages = agent.invoke(QUESTION)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].text.startswith("The large model's budget is spent: ")


async def test_streamed_pieces_are_the_messages(model: ChatGlimpRouter) -> None:
    agent = create_agent(model, tools=[stock], middleware=[OneCall()])
    pieces: dict[str | None, AIMessageChunk] = {}
    state: Any = {}
    async for mode, part in agent.astream(QUESTION, stream_mode=["messages", "values"]):
        if mode == "values":
            state = part
        elif isinstance(part[0], AIMessageChunk):
            piece = part[0]
            pieces[piece.id] = pieces[piece.id] + piece if piece.id in pieces else piece
    check_one_call(state["messages"])
    whole = [message for message in state["messages"] if isinstance(message, AIMessage)]
    assert len(pieces) == len(whole)
    for message in whole:
        streamed = pieces[message.id]
        assert streamed.text == message.text
        assert streamed.tool_calls == message.tool_calls
        assert streamed.usage_metadata == message.usage_metadata


async def test_a_person_approves_a_call(model: ChatGlimpRouter) -> None:
    agent = create_agent(
        model,
        tools=[stock],
        middleware=[OneCall(), HumanInTheLoopMiddleware(interrupt_on={"stock": True})],
        checkpointer=InMemorySaver(),
    )
    paused = await agent.ainvoke(QUESTION, THREAD)
    (interrupt,) = paused["__interrupt__"]
    (action,) = interrupt.value["action_requests"]
    assert action["name"] == "stock"
    decision: Any = Command(resume={"decisions": [{"type": "approve"}]})
    check_one_call((await agent.ainvoke(decision, THREAD))["messages"])


@pytest.mark.parametrize("native", [True, False])
def test_an_answer_has_the_shape_that_was_asked_for(
    model: ChatGlimpRouter, *, native: bool
) -> None:
    agent = create_agent(model, response_format=Answer if native else ToolStrategy(Answer))
    state = agent.invoke(QUESTION)
    assert isinstance(state["structured_response"], Answer)
    # LangChain's way to ask for a shape without the model's help is a tool of that name.
    tools = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert [tool.name for tool in tools] == ([] if native else ["Answer"])
    (trace,) = traces(state["messages"])
    assert trace.usage.thinking_tokens > 0
