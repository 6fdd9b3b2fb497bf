"""Many questions at once, with a progress bar: turns share both engines.

Run: python examples/batch_progress.py SMALL LARGE   (default: the demo pair)
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.progress import track

from langchain_glimprouter import ChatGlimpRouter
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"


def main(small: Engine | str, large: Engine | str, count: int = 8) -> list[str]:
    """Answer `count` sums in one batch; return the answers in order."""
    model = ChatGlimpRouter(
        small=small,
        large=large,
        threshold=1.5,
        chat_template=str(TEMPLATE),
        temperature=0.0,
        max_thinking_tokens=120,
        max_tokens=60,
    )
    questions = [
        f"Ann has {number} books and buys {number + 3} more. How many?" for number in range(count)
    ]
    answers = [""] * count
    done = model.batch_as_completed(questions, config={"max_concurrency": 8})
    for index, message in track(done, total=count, description="answering"):
        answers[index] = message.text
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question}  →  {answer.strip()}")
    return answers


if __name__ == "__main__":
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[1:3] if len(sys.argv) > 2 else [str(path) for path in map(ensure, names)]
    main(pair[0], pair[1])
