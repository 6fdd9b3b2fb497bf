"""What checkpoints cost: the same turn, plain and as a graph, at the pace of a quick engine."""

from __future__ import annotations

import time
from typing import Any

from langchain_glimprouter import ChatGlimpRouter, ScriptedStep
from unit_tests.graphs import QUESTION, thinking, thread
from unit_tests.models import engine

STEP = " ".join(f"word{number}" for number in range(24)) + ".\n\n"
HAND_OFFS = 3


def test_a_graph_costs_next_to_nothing() -> None:
    """20 ms a token is a 32B model on one GPU; its steps are mostly longer than these."""
    easy = [f"{number} {STEP}" for number in range(HAND_OFFS)]
    steps: list[str | ScriptedStep] = [
        ScriptedStep(text, 2.0 if number % 2 else 0.1) for number, text in enumerate(easy)
    ]
    model = ChatGlimpRouter(
        small=engine(steps, name="tiny", delay=0.02),
        large=engine(easy, name="huge", delay=0.02),
    )
    graph = thinking(model)
    plain = model.invoke(QUESTION["messages"])
    assert plain.response_metadata["glimprouter"]["hand_offs"] >= HAND_OFFS - 1
    ratios = []
    for number in range(6):  # once would do, if nothing else ran
        began = time.perf_counter()
        model.invoke(QUESTION["messages"])
        middle = time.perf_counter()
        state: Any = graph.invoke(QUESTION, thread(number))
        ratios.append((time.perf_counter() - middle) / (middle - began))
        assert state["messages"][-1].content == plain.content
        if ratios[-1] <= 1.05:
            break
    assert min(ratios) <= 1.05, ratios
