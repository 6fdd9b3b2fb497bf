"""A node in a graph of one's own: tokens and routing decisions stream, the run sets a budget.

Run: python examples/graph_node.py SMALL LARGE   (model ids, paths or URLs; default: the demo pair)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from langchain_glimprouter import (
    ChatGlimpRouter,
    EngineRequestError,
    GlimpRouterContext,
    glimprouter_node,
)
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"
PRICES = {"apple": 2, "pear": 3, "melon": 7}


def look_up_prices(state: MessagesState) -> dict[str, Any]:
    """Put the prices of what the question is about before it."""
    question = state["messages"][-1]
    named = [fruit for fruit in PRICES if fruit in question.text]
    prices = " ".join(f"One {fruit} costs {PRICES[fruit]} euros." for fruit in named)
    return {"messages": [HumanMessage(f"{prices} {question.text}", id=question.id)]}


def main(small: Engine | str, large: Engine | str, **options: Any) -> str:
    """Ask one question and print what streams; return the answer."""
    model = ChatGlimpRouter(
        small=small,
        large=large,
        chat_template=str(TEMPLATE),
        temperature=0.0,
        **{"max_thinking_tokens": 120, "max_tokens": 60, **options},
    )
    builder = StateGraph(MessagesState, context_schema=GlimpRouterContext)
    builder.add_node("look_up", look_up_prices)
    builder.add_node(
        "think", glimprouter_node(model), retry_policy=RetryPolicy(retry_on=EngineRequestError)
    )
    builder.add_edge(START, "look_up")
    builder.add_edge("look_up", "think")
    builder.add_edge("think", END)

    answer = ""
    stream: Iterator[Any] = builder.compile().stream(
        {"messages": [HumanMessage("What do five apples and a melon cost?")]},
        context=GlimpRouterContext(threshold=1.0, max_large_tokens=60),
        stream_mode=["messages", "custom"],
    )
    for mode, part in stream:
        if mode == "custom" and part["type"] == "glimprouter.decision":
            entropy = "-" if part["entropy"] is None else f"{part['entropy']:.2f}"
            print(f"\n[{part['writer']}, H={entropy}] ", end="")
        elif mode == "messages" and part[1]["langgraph_node"] == "think":
            chunk = part[0]
            answer += chunk.text
            print(chunk.additional_kwargs.get("reasoning_content", "") + chunk.text, end="")
    print()
    return answer


if __name__ == "__main__":
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[1:3] if len(sys.argv) > 2 else [str(path) for path in map(ensure, names)]
    main(*pair)
