"""The example agent: its tools, and its loop over scripted engines."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ToolMessage

from examples import agent
from unit_tests import brain
from unit_tests.models import engine


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 * 24.50 * 0.9", 66.15),
        ("-(2 + 3) // 2 % 4", 1.0),
        (" 1/3 ", 1 / 3),
        ("+1e3", 1000.0),
    ],
)
def test_it_calculates(expression: str, value: float) -> None:
    assert agent.calculate(expression) == pytest.approx(value)
    assert float(agent.calculator.invoke(expression)) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "3 * 4 = 12",
        "1 / 0",
        "9 ** 9 ** 9",
        "1e300 * 1e300",
        "1e999",
        "__import__('os').getpid()",
        "(1).real",
        "[1]",
        "'a' * 9",
        "True + 1",
        "1j",
        "x",
        "lambda: 1",
        "1 if 2 else 3",
        "1 < 2",
        "~1",
        "(" * 150 + ")" * 40,
        "-" * 199 + "1" * 9,
        "1+" * 150 + "1",
        "\0",
    ],
)
def test_it_calculates_nothing_else(expression: str) -> None:
    assert agent.calculator.invoke(expression).startswith("Error: ")


@given(st.text(max_size=60) | st.text("0123456789.+-*/%() ", max_size=60))
def test_it_survives_any_text(expression: str) -> None:
    result = agent.calculator.invoke({"expression": expression})
    assert result.startswith("Error: ") or math.isfinite(float(result))


@pytest.mark.parametrize("name", ["kettle", "Kettles", "3 kettles", "the kettle'; DROP TABLE x"])
def test_products_are_found(name: str) -> None:
    found = agent.look_up_product.invoke(name)
    assert found == "kettle: 24.50 euros each, 12 in stock"


@pytest.mark.parametrize("name", ["piano", "", "%", "' OR 1=1"])
def test_unknown_products_get_a_list(name: str) -> None:
    assert agent.look_up_product.invoke({"name": name}).startswith("No such product. We have: ke")


def test_the_handbook_is_searched() -> None:
    search = agent.search_handbook.invoke
    assert search("discount for 3 kettles") == agent.HANDBOOK[0]
    assert search("When are you OPEN?") == agent.HANDBOOK[3]
    assert search("elephant").endswith("Topics: discounts, returns, delivery, opening hours")


def test_every_tool_is_called_once_and_then_it_answers(capsys: Any) -> None:
    small, large = (
        engine(["I look it up.\n\n"], brain.answer, name=name) for name in ("tiny", "huge")
    )
    messages = agent.main(small, large, chat_template=None)
    assert [m.name for m in messages if isinstance(m, ToolMessage)] == [t.name for t in agent.TOOLS]
    calls = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    assert [call["name"] for call in calls] == [one.name for one in agent.TOOLS]
    assert messages[-1].text.startswith("It is as you say")
    printed = capsys.readouterr().out
    assert "search_handbook" in printed
    assert printed.count("tokens by the large model]") == 4
