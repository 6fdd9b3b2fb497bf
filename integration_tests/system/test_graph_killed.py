"""A thought goes on in another process, the first one having been killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from langchain_glimprouter import ScriptedEngine
from unit_tests.graphs import QUESTION, Lasting, answer_of, thinking, thread
from unit_tests.models import ANSWER, router
from unit_tests.test_graph_steering import MANY, OTHER, fresh

CHILD = """
import sys
from integration_tests.system.test_graph_killed import *

graph, _ = fresh(sys.argv[1], lasting(delay=0.02))
for update in graph.stream(QUESTION, thread(), stream_mode="updates", durability="sync"):
    print(*update, flush=True)
"""


def lasting(**options: Any) -> Any:
    """The zigzag, in words that another process reads as they were written."""
    small = ScriptedEngine(MANY, ANSWER, name="tiny", vocabulary=Lasting(), **options)
    large = ScriptedEngine(OTHER, ANSWER, name="huge", vocabulary=Lasting(), **options)
    return router(small, large)


def test_killed_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "thoughts.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    told = [child.stdout.readline().strip() for _ in range(3)]
    child.kill()
    child.communicate()
    assert told == ["small", "large", "small"]
    graph, connection = fresh(path, lasting())
    kept = len(graph.get_state(thread()).values["routing"])
    assert kept >= 2
    state = graph.invoke(None, thread())
    connection.close()
    whole = thinking(lasting()).invoke(QUESTION, thread())
    assert answer_of(state).additional_kwargs == answer_of(whole).additional_kwargs
    assert answer_of(state).content == answer_of(whole).content
    assert [one["step"] for one in state["routing"]] == list(range(8))
