"""The chat template that makes the demo pair think."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from examples import demo_models

TEMPLATE = Path(demo_models.__file__).with_name("thinking_chat_template.jinja").read_text("utf-8")
USER = {"role": "user", "content": "What is 2 + 2?"}


def render(messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    options = {"add_generation_prompt": True, **options}
    (text,), _ = render_jinja_template([list(messages)], chat_template=TEMPLATE, **options)
    assert isinstance(text, str)
    return text


def turns(text: str) -> list[tuple[str, str]]:
    """Take the conversation apart again."""
    pieces = text.split("<|im_start|>")
    assert pieces[0] == ""
    split = [piece.partition("\n") for piece in pieces[1:]]
    return [
        (role, content.removesuffix("\n").removesuffix("<|im_end|>")) for role, _, content in split
    ]


def test_worked_examples_come_before_the_question() -> None:
    found = turns(render([USER]))

    roles = [role for role, _ in found]
    assert roles[0] == "system"
    assert roles[1:] == ["user", "assistant"] * (len(roles[1:]) // 2)
    assert found[-2] == ("user", "What is 2 + 2?")
    assert found[-1] == ("assistant", "<think>")
    for _, example in found[2:-2:2]:
        thought, _, answer = example.partition("\n</think>\n\n")
        assert thought.startswith("<think>\n")
        assert thought.count("\n\n") >= 1
        assert answer.count("\\boxed{") == 1


def test_the_generation_prompt_opens_the_thought() -> None:
    assert render([USER]).endswith("<|im_start|>assistant\n<think>\n")
    assert render([USER], add_generation_prompt=False).endswith("What is 2 + 2?<|im_end|>\n")


def test_the_users_system_message_is_kept() -> None:
    text = render([{"role": "system", "content": "Speak French."}, USER])

    (first, *rest) = turns(text)
    assert first[0] == "system"
    assert first[1].startswith("Speak French.")
    assert "system" not in [role for role, _ in rest]


def test_a_finished_turn_renders_as_it_was_generated() -> None:
    """So that the next turn finds it in the prefix cache."""
    generated = "Two and two.\n\nThat is 4.\n</think>\n\n\\boxed{4}<|im_end|>"
    answer = {
        "role": "assistant",
        "reasoning_content": "Two and two.\n\nThat is 4.\n",
        "content": "\\boxed{4}",
    }

    later = render([USER, answer, {"role": "user", "content": "And 3 + 3?"}])

    assert later.startswith(render([USER]) + generated)


def test_an_answer_without_thought_has_no_thought() -> None:
    found = turns(render([USER, {"role": "assistant", "content": "4"}, USER]))

    assert found[-3] == ("assistant", "4")


@pytest.mark.parametrize("arguments", [{"a": 2}, '{"a": 2}'])
def test_tools_and_their_results(arguments: object) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    messages: list[Mapping[str, Any]] = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "4"},
        {"role": "tool", "content": "5"},
    ]

    found = turns(render(messages, tools=[tool]))

    assert '"name": "add"' in found[0][1]
    one = '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>'
    assert found[-3] == ("assistant", f"{one}\n{one}")
    assert found[-2][1] == (
        "<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response>"
    )
