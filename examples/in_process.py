"""Two models in this process: ask a question, see who wrote which step.

Run: python examples/in_process.py SMALL LARGE   (model ids or paths; default: the demo pair)
"""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_glimprouter import ChatGlimpRouter, trace_of
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"
QUESTION = "A farm has 14 cows and twice as many sheep. How many animals are there?"


def main(small: Engine | str, large: Engine | str) -> str:
    """Ask one question and print the steps; return the answer."""
    model = ChatGlimpRouter(
        small=small,
        large=large,
        threshold=1.0,
        chat_template=str(TEMPLATE),
        temperature=0.0,
        max_thinking_tokens=200,
        max_tokens=100,
    )
    message = model.invoke(QUESTION)

    trace = trace_of(message)
    assert trace is not None
    for step in trace.steps:
        entropy = f"{step.probe.entropy:.2f}" if step.probe else "-"
        print(f"{step.writer:>5}  H={entropy:>4}  {trace.step_text(step).strip()!r}")
    print("answer:", message.text)
    print("routing:", message.response_metadata["glimprouter"]["intervention_rate"])
    return str(message.text)


if __name__ == "__main__":  # vLLM starts processes that import this file
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[1:3] if len(sys.argv) > 2 else [str(path) for path in map(ensure, names)]
    main(*pair)
