"""What the README shows runs as it stands there, with scripted engines in place of models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from langchain_glimprouter import ChatGlimpRouter, ScriptedEngine
from unit_tests import brain
from unit_tests.models import LARGE, SMALL, engine

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(heading: str) -> list[str]:
    """Python of one section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    found: list[str] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found


def model() -> ChatGlimpRouter:
    return ChatGlimpRouter(
        small=engine(SMALL, brain.answer, name="tiny"),
        large=engine(LARGE, brain.answer, name="huge"),
    )


def test_scripted_example_runs() -> None:
    names: dict[str, Any] = {}
    for block in blocks("Testing your own code"):
        exec(block, names)
    assert isinstance(names["small"], ScriptedEngine)


def test_tools_and_agents_run() -> None:
    names: dict[str, Any] = {"model": model()}
    for block in blocks("Tools and structured output"):
        exec(block, names)
    calls = names["model"].bind_tools([names["add"]]).invoke("What is 2 + 3?").tool_calls
    assert calls[0]["name"] == "add"
    for block in blocks("Agents"):
        exec(block, names)
    state = names["agent"].invoke({"messages": "What is 2 + 3?"}, context={"threshold": 1.2})
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]


def test_thresholds_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chat = model()
    names: dict[str, Any] = {"small": chat.small, "large": chat.large}
    for block in blocks("Choosing a threshold"):
        exec(block, names)
    assert (tmp_path / "rate.json").is_file()


def test_graphs_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"model": model()}
    for block in blocks("LangGraph"):
        exec(block, names)
    assert "'entropy': 2.0" in capsys.readouterr().out
    assert names["part"]


@pytest.mark.parametrize("heading", ["Streaming the routing"])
def test_other_sections_run(heading: str) -> None:
    chat = model()
    names: dict[str, Any] = {"model": chat, "message": chat.invoke("?")}
    for block in blocks(heading):
        if "async for" not in block:
            exec(block, names)
