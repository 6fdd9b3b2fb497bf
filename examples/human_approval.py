"""Before the large model is called, a person sees why, and decides.

Run: python examples/human_approval.py SMALL LARGE   (default: the demo pair)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from langchain_glimprouter import ChatGlimpRouter, create_glimprouter, steer
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"
QUESTION = "A bag holds 3 red and 5 blue marbles. What is the chance to draw two red ones?"


def ask(pending: dict[str, Any], text: str) -> str:
    """Show what waits, and ask a person on the terminal."""
    print(f"\n{text[-300:]}")
    print(f"step {pending['step']}: H = {pending['entropy']:.2f} > {pending['threshold']}; it may")
    for token, probability in pending["candidates"]:
        print(f"  begin with {token!r} ({probability:.0%})")
    print("Enter calls the large model; or: small, answer (no more thought), stop")
    return input("> ").strip()


def main(
    small: Engine | str,
    large: Engine | str,
    decide: Callable[[dict[str, Any], str], str] = ask,
    **options: Any,
) -> str:
    """Answer one question, asking a person before each call of the large model in its thought.

    Args:
        small: The small model.
        large: The large model.
        decide: Given what waits and the text so far; returns nothing, or what `steer` takes.
        **options: More options of the chat model.
    """
    model = ChatGlimpRouter(
        small=small,
        large=large,
        chat_template=str(TEMPLATE),
        temperature=0.0,
        **{"threshold": 1.0, "max_thinking_tokens": 120, "max_tokens": 60, **options},
    )
    graph = create_glimprouter(model).compile(
        checkpointer=InMemorySaver(), interrupt_before=["large"]
    )
    config: RunnableConfig = {"configurable": {"thread_id": "marbles"}}
    graph.invoke({"messages": [HumanMessage(QUESTION)]}, config)
    while (state := graph.get_state(config)).next:
        wish: Any = decide(state.values["pending"], state.values["thought"]["thought"]["text"])
        if wish:
            graph.update_state(config, steer(wish))
        graph.invoke(None, config)
    for step in state.values["routing"]:
        print(f"step {step['step']}: {step['writer']} ({step['reason']})")
    answer = str(state.values["messages"][-1].text)
    print(answer)
    return answer


if __name__ == "__main__":
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[1:3] if len(sys.argv) > 2 else [str(path) for path in map(ensure, names)]
    main(pair[0], pair[1])
