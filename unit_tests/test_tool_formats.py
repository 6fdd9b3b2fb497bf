"""Tool calls read from text, whole and streamed, and the grammars that enforce them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.messages.bare_calls import BareCallReader, read_bare_call
from langchain_glimprouter.messages.hermes import Hermes, HermesReader, read_hermes
from langchain_glimprouter.messages.tool_format import (
    CallDelta,
    Reading,
    find_format,
    parser_name,
    settle_call,
)
from langchain_glimprouter.messages.tool_prompt import with_tools_as_text
from langchain_glimprouter.messages.tool_use import settle_tools
from langchain_glimprouter.messages.vllm_format import _Reader
from unit_tests.cuttings import cuttings
from unit_tests.models import engine
from unit_tests.tool_texts import TEXTS, Text

ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now", "description": "Time."}}


def merged(pieces: Sequence[str | CallDelta]) -> Reading:
    """What a streamed answer adds up to."""
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    parts: dict[int, list[CallDelta]] = {}
    for piece in pieces:
        if isinstance(piece, CallDelta):
            parts.setdefault(piece.index, []).append(piece)
    assert list(parts) == list(range(len(parts)))
    calls = []
    for deltas in parts.values():
        assert deltas[0].id
        assert all(delta.id is None and delta.name is None for delta in deltas[1:])
        calls.append(settle_call(deltas[0].name, "".join(delta.args for delta in deltas)))
    return Reading(
        content,
        [call for call in calls if call["type"] == "tool_call"],
        [call for call in calls if call["type"] == "invalid_tool_call"],
    )


def check(text: Text, read: Reading) -> None:
    assert read.content == text.content
    assert tuple((call["name"], call["args"]) for call in read.calls) == text.calls
    assert tuple(call["name"] for call in read.invalid) == text.broken
    assert all(call["id"] for call in (*read.calls, *read.invalid))
    assert all(call["error"] for call in read.invalid)


@pytest.mark.parametrize("name", TEXTS)
def test_whole_answers(name: str) -> None:
    check(TEXTS[name], read_hermes(TEXTS[name].text))


@given(name=st.sampled_from(sorted(TEXTS)), data=st.data())
def test_streamed_answers_mean_the_same_however_they_are_cut(
    name: str, data: st.DataObject
) -> None:
    text = TEXTS[name]
    reader = HermesReader()
    pieces: list[str | CallDelta] = []
    for piece in data.draw(cuttings(st.just(text.text))):
        pieces += reader.push(piece)
    pieces += reader.finish()
    check(text, merged(pieces))


BARE = '{\n  "name": "add",\n  "arguments": {"a": 1}\n}'


@given(
    text=st.sampled_from([BARE, f"```json\n{BARE}\n```", f"\n```\n{BARE}```\n", BARE + "\n"]),
    data=st.data(),
)
def test_a_call_without_tags_is_a_call(text: str, data: st.DataObject) -> None:
    meant = Text(text, "", (("add", {"a": 1}),))
    whole = read_bare_call(text, ["add", "now"])
    assert whole is not None
    check(meant, whole)
    reader = BareCallReader(HermesReader(), ["add", "now"])
    pieces: list[str | CallDelta] = []
    for piece in data.draw(cuttings(st.just(text))):
        pieces += reader.push(piece)
    check(meant, merged([*pieces, *reader.finish()]))


@given(
    text=st.sampled_from(
        ['{"name": "Ann", "age": 7}', "```python\nx = {}\n```", "{", "```", TEXTS["two"].text]
    ),
    data=st.data(),
)
def test_other_json_is_no_call(text: str, data: st.DataObject) -> None:
    assert read_bare_call(text, ["add"]) is None
    reader = BareCallReader(HermesReader(), ["add"])
    pieces: list[str | CallDelta] = []
    for piece in data.draw(cuttings(st.just(text))):
        pieces += reader.push(piece)
    read = merged([*pieces, *reader.finish()])
    assert read.content == read_hermes(text).content
    assert len(read.calls) == len(read_hermes(text).calls)


def test_arguments_stream_as_they_come() -> None:
    reader = HermesReader()
    head = reader.push('Hm. <tool_call>{"name": "add", "arguments": {"a"')
    assert head[0] == "Hm. "
    first = head[1]
    assert isinstance(first, CallDelta)
    assert (first.name, first.args) == ("add", '{"a"')
    assert reader.push(": 1") == [CallDelta(0, None, None, ": 1")]
    assert reader.push("}}") == [CallDelta(0, None, None, "}")]
    assert list(reader.push("\n</tool_call> And?")) == []
    assert list(reader.finish()) == []


def test_other_spellings() -> None:
    for text in (
        '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>',
        '<tool_call>{"name": "add", "parameters": {"a": 1}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
    ):
        reader = HermesReader()
        streamed = merged([*reader.push(text), *reader.finish()])
        for read in (read_hermes(text), streamed):
            assert [(call["name"], call["args"]) for call in read.calls] == [("add", {"a": 1})]


def test_a_call_that_breaks_off_is_invalid_and_kept() -> None:
    (call,) = read_hermes('<tool_call>{"name": "add", "arguments": {"a": 1, "b"').invalid
    assert call["name"] == "add"
    assert call["args"] == '{"a": 1, "b"'
    assert "no JSON" in (call["error"] or "")


def test_grammars() -> None:
    hermes = Hermes()
    assert hermes.constraint(settle_tools([ADD])) is None
    assert hermes.constraint(settle_tools([ADD], "none")) is None

    def form(use: Any) -> Any:
        constraint = hermes.constraint(use)
        assert constraint is not None
        return json.loads(constraint["structural_tag"])["format"]

    every = form(settle_tools([ADD, NOW], "any"))
    assert [tag["begin"] for tag in every["tags"]] == [
        '<tool_call>\n{"name": "add", "arguments": ',
        '<tool_call>\n{"name": "now", "arguments": ',
    ]
    assert every["at_least_one"]
    assert not every["stop_after_first"]
    assert form(settle_tools([ADD], "any", parallel=False))["stop_after_first"]
    one = form(settle_tools([ADD, NOW], "now"))
    assert len(one["tags"]) == 1
    assert one["stop_after_first"]
    schema = {"title": "T", "type": "object", "properties": {}}
    either = form(settle_tools([ADD], response_format=schema))
    assert [part["type"] for part in either["elements"]] == ["tags_with_separator", "json_schema"]
    assert form(settle_tools([ADD], strict=True))["type"] == "triggered_tags"
    only = hermes.constraint(settle_tools([], response_format={"type": "json_object"}))
    assert json.loads((only or {})["structural_tag"])["format"]["json_schema"] == {"type": "object"}
    dated = {"title": "D", "type": "object", "properties": {"on": {"format": "date"}}}
    assert hermes.constraint(settle_tools([], response_format=dated)) == {"json": dated}


def test_choices() -> None:
    choice: Any
    for choice in (None, "auto", False):
        assert settle_tools([ADD], choice).choice == "auto"
    for choice in ("any", "required", True):
        use = settle_tools([ADD, NOW], choice)
        assert use.forced
        assert use.names == ("add", "now")
    for choice in ("now", {"type": "function", "function": {"name": "now"}}, {"name": "now"}):
        assert settle_tools([ADD, NOW], choice).names == ("now",)
    assert settle_tools([ADD], "none").shown == ()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tools": [ADD], "tool_choice": "ad"}, "tool_choice.*'add'"),
        ({"tools": [ADD], "tool_choice": {"function": {"name": "sub"}}}, "tool_choice.*'sub'"),
        ({"tools": [ADD], "tool_choice": {"type": "function"}}, "names no tool"),
        ({"tools": [ADD], "tool_choice": 3}, "tool_choice=3"),
        ({"tools": [ADD, ADD]}, "2 tools are named 'add'"),
        ({"tools": [], "tool_choice": "any"}, "without tools"),
        ({"tools": [3]}, "tools: 3 is no tool"),
        ({"tools": [ADD], "parallel": "yes"}, "parallel_tool_calls"),
        ({"tools": [], "response_format": {"type": "json_schema"}}, "holds no schema"),
        ({"tools": [], "response_format": 3}, "response_format=3 is no schema"),
    ],
)
def test_bad_input(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        settle_tools(**options)


def test_formats_are_found_by_their_signs() -> None:
    assert parser_name("… <tool_call> …") == "hermes"
    assert parser_name("<tool_call>\n<function=x>") == "qwen3_coder"
    assert parser_name("[TOOL_CALLS]") == "mistral"
    assert parser_name("plain") is None
    scripted = asyncio.run(engine().vocabulary())
    assert isinstance(find_format(scripted, template=None, name=None), Hermes)
    with pytest.raises(ConfigurationError, match="tool_parser='hermes'"):
        find_format(scripted, template="plain", name=None)
    with pytest.raises(ConfigurationError, match="only 'hermes'"):
        find_format(scripted, template="plain", name="mistral")


def test_tools_as_plain_messages() -> None:
    plain = with_tools_as_text(
        [
            {"role": "user", "content": "Add."},
            {
                "role": "assistant",
                "content": "Well.",
                "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "3", "tool_call_id": "1"},
            {"role": "tool", "content": "4", "tool_call_id": "2"},
        ],
        [ADD],
    )
    assert [message["role"] for message in plain] == ["system", "user", "assistant", "user"]
    assert '"name": "add"' in plain[0]["content"]
    assert read_hermes(plain[2]["content"]).calls[0]["args"] == {"a": 1}
    assert plain[3]["content"].count("<tool_response>") == 2
    assert set(plain[3]) == {"role", "content"}


class _Stumbling:
    """A parser of somebody else's, which fails over a model's text."""

    def parse_delta(self, text: str, *_: Any, **__: Any) -> Any:
        if "!" in text:
            msg = "unexpected"
            raise KeyError(msg)
        return None


def test_a_parser_that_fails_loses_no_text() -> None:
    reader = _Reader(_Stumbling(), None, lambda _: [])
    pieces = [
        *reader.push("Well"),
        *reader.push("! And"),
        *reader.push(" so on."),
        *reader.finish(),
    ]
    assert pieces == ["Well! And so on."]
