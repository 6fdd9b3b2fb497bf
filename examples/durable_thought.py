"""A thought that outlives its process: kill it in the middle, run it again, and it goes on.

Run: python examples/durable_thought.py FILE SMALL LARGE   (default: thought.sqlite, the demo pair)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_glimprouter import ChatGlimpRouter, create_glimprouter
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"
QUESTION = (
    "A train leaves at 9:40 and arrives at 13:05. It stops for 25 minutes. How long does it drive?"
)


def main(
    small: Engine | str,
    large: Engine | str,
    path: Path | str = "thought.sqlite",
    *,
    thread: str = "train",
    **options: Any,
) -> str:
    """Think, or go on thinking, and print each step as it is kept; return thought and answer."""
    model = ChatGlimpRouter(
        small=small,
        large=large,
        chat_template=str(TEMPLATE),
        temperature=0.0,
        **{"threshold": 1.0, "max_thinking_tokens": 200, "max_tokens": 60, **options},
    )
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    with SqliteSaver.from_conn_string(str(path)) as saver:
        graph = create_glimprouter(model).compile(checkpointer=saver)
        before = graph.get_state(config)
        if before.next:  # somebody began, and did not come to the end
            print(f"going on behind step {len(before.values.get('routing', []))}", flush=True)
        if before.next or not before.values:
            question = None if before.next else {"messages": [HumanMessage(QUESTION)]}
            for update in graph.stream(question, config, stream_mode="updates", durability="sync"):
                for change in update.values():
                    for step in change["routing"]:
                        print(f"step {step['step']}: {step['writer']}", flush=True)
        message = graph.get_state(config).values["messages"][-1]
    print(message.text)
    return str(message.additional_kwargs.get("reasoning_content", "") + message.text)


if __name__ == "__main__":
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[2:4] if len(sys.argv) > 3 else [str(path) for path in map(ensure, names)]
    main(pair[0], pair[1], *sys.argv[1:2])
