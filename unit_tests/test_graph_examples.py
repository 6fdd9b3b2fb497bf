"""The examples of graphs, over scripted engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples import durable_thought, graph_node, human_approval
from langchain_glimprouter import EngineDeadError, Fault, ScriptedStep
from unit_tests.models import ANSWER, THOUGHT, engine
from unit_tests.test_graph_steering import MANY, OTHER


def pair(**options: Any) -> tuple[Any, Any]:
    return engine(), engine(["One.\n\n", "It makes seven.\n\n"], name="huge", **options)


def test_graph_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert graph_node.main(*pair()) == ANSWER
    shown = capsys.readouterr().out
    assert "[small, H=0.05]" in shown
    assert "[large, H=2.00]" in shown
    assert "It makes seven." in shown


def test_durable_thought(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "thought.sqlite"
    with pytest.raises(EngineDeadError):
        durable_thought.main(engine(MANY), engine(OTHER, name="huge", fault=Fault(1)), path)
    assert "step 1: large" in capsys.readouterr().out
    for _ in range(2):  # the second time it is done already
        text = durable_thought.main(engine(MANY), engine(OTHER, name="huge"), path)
        assert text == "s0.\n\nl1.\n\ns2.\n\nl3.\n\ns4.\n\nl5.\n\n" + ANSWER
    shown = capsys.readouterr().out
    assert shown.startswith("going on behind step 3\nstep 3: large\n")
    assert shown.count("step 3") == 2


def test_human_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert human_approval.main(*pair()) == ANSWER
    shown: list[tuple[int, str]] = []

    def decide(pending: dict[str, Any], text: str) -> str:
        shown.append((pending["step"], text))
        return "small"

    human_approval.main(*pair(), decide)
    assert shown == [(1, THOUGHT.partition("It makes")[0])]
    assert human_approval.main(*pair(), lambda *_: "stop") == ""
    hard = [ScriptedStep(f"{i}?\n\n", 2.0) for i in range(3)]
    wishes = iter(["small", "", "answer"])
    large = engine(["a\n\n", "b\n\n"], name="huge")
    assert human_approval.main(engine(hard), large, lambda *_: next(wishes)) == ANSWER
