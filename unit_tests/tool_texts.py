"""Answers with tool calls as models write them, good and bad, and what they mean."""

from __future__ import annotations

from typing import Any, NamedTuple


class Text(NamedTuple):
    """An answer and its meaning: plain content, calls as (name, args), broken calls' names."""

    text: str
    content: str
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    broken: tuple[str | None, ...] = ()


TEXTS = {
    "plain": Text("No tool is needed: 2 < 3.", "No tool is needed: 2 < 3."),
    "one": Text(
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
        "",
        (("add", {"a": 1, "b": 2}),),
    ),
    "said first": Text(
        "Let me look.\n<tool_call>\n"
        '{"name": "find", "arguments": {"text": "a\\n\\nb"}}\n</tool_call>',
        "Let me look.\n",
        (("find", {"text": "a\n\nb"}),),
    ),
    "two": Text(
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "sub", "arguments": {"b": {"c": [1, "}"]}}}\n</tool_call>',
        "",
        (("add", {"a": 1}), ("sub", {"b": {"c": [1, "}"]}})),
    ),
    "no arguments": Text(
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', "", (("now", {}),)
    ),
    "unicode": Text(
        '<tool_call>\n{"name": "grüßen", "arguments": {"wen": "Zoë 🦊"}}\n</tool_call>',
        "",
        (("grüßen", {"wen": "Zoë 🦊"}),),
    ),
    "pretty": Text(
        '<tool_call>\n{\n  "name": "add",\n\n  "arguments": {\n    "a": 1\n\n  }\n}\n</tool_call>',
        "",
        (("add", {"a": 1}),),
    ),
    "no end tag": Text(
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}', "", (("add", {"a": 1}),)
    ),
    "no JSON": Text("<tool_call>\nadd 1 and 2\n</tool_call>", "", (), (None,)),
    "almost a tag": Text("a <tool_calls> b <tool", "a <tool_calls> b <tool"),
}
