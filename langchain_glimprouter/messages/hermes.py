"""The format of Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.messages.tool_format import (
    HERMES,
    CallDelta,
    Reading,
    answer_schema,
    call_id,
    json_form,
    settle_call,
)
from langchain_glimprouter.routing.scanner import Scanner

if TYPE_CHECKING:
    from langchain_glimprouter.messages.tool_use import ToolUse

START, END = "<tool_call>", "</tool_call>"

_NAME = re.compile(r'"name"\s*:\s*"((?:[^"\\]|\\.)*)"')
_ARGS = re.compile(r'"(?:arguments|parameters)"\s*:\s*(?=\{)')
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Hermes:
    """Reads and enforces the format without vLLM."""

    @property
    def name(self) -> str:
        """Name that vLLM has for the parser."""
        return HERMES

    @property
    def markers(self) -> tuple[str, ...]:
        """The tag that begins a call."""
        return (START,)

    def constraint(self, use: ToolUse) -> Mapping[str, Any] | None:
        """Return the grammar of an answer, if it needs one; see `ToolFormat.constraint`."""
        calls = _calls(use)
        if use.forced:
            return _tag(calls)
        if use.schema is not None:
            if not use.shown:
                return answer_schema(use.schema)
            return _tag({"type": "or", "elements": [calls, json_form(use.schema)]})
        if use.strict:
            free = {
                "type": "triggered_tags",
                "triggers": [START],
                "tags": calls["tags"],
                "stop_after_first": use.parallel is False,
            }
            return _tag(free)
        return None

    def reader(self, use: ToolUse) -> HermesReader:
        """Return what reads one answer as it streams."""
        del use
        return HermesReader()

    def read(self, use: ToolUse, text: str) -> Reading:
        """Read a whole answer."""
        del use
        return read_hermes(text)


def read_hermes(text: str) -> Reading:
    """Read a whole answer; text between and behind calls is the model talking to itself."""
    content, *regions = text.split(START)
    calls = [settle_call(*split_call(region.partition(END)[0])) for region in regions]
    return Reading(
        content,
        [call for call in calls if call["type"] == "tool_call"],
        [call for call in calls if call["type"] == "invalid_tool_call"],
    )


def split_call(region: str) -> tuple[str | None, str]:
    """Return a call's name and its arguments' JSON text; all of the text where it is no call."""
    try:
        call = json.loads(region, strict=False)
    except ValueError:
        call = None
    if isinstance(call, dict) and isinstance(call.get("name"), str):
        args = call.get("arguments", call.get("parameters"))
        if isinstance(args, str):  # OpenAI's own form: JSON in a string
            return call["name"], args
        return call["name"], json.dumps({} if args is None else args, ensure_ascii=False)
    name, args = _NAME.search(region), _ARGS.search(region)
    if name and args and name.start() < args.start():
        return _unescaped(name[1]), region[args.end() :]
    return None, region.strip()


def _unescaped(text: str) -> str:
    return str(json.loads(f'"{text}"', strict=False)) if "\\" in text else text


def _calls(use: ToolUse) -> dict[str, Any]:
    tags = [
        {
            "type": "tag",
            "begin": f'{START}\n{{"name": {json.dumps(tool["function"]["name"])}, "arguments": ',
            "content": json_form(tool["function"].get("parameters") or _NO_PARAMETERS),
            "end": f"}}\n{END}",
        }
        for tool in use.callable_tools
    ]
    return {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": "\n",
        "at_least_one": True,
        "stop_after_first": use.name is not None or use.parallel is False,
    }


def _tag(form: Mapping[str, Any]) -> dict[str, Any]:
    tag = {"type": "structural_tag", "format": form}
    return {"structural_tag": json.dumps(tag, ensure_ascii=False)}


class HermesReader:
    """Shows text up to the first call at once, and a call's arguments as they come."""

    def __init__(self) -> None:
        self._scanner = Scanner((START,))
        self._calls = 0
        self._call: _Call | None = None

    def push(self, text: str) -> Sequence[str | CallDelta]:
        """Take text; see `ToolReader.push`."""
        shown: list[str | CallDelta] = []
        while text:
            if self._call is not None:
                shown += self._call.push(text)
                if self._call.rest is None:
                    break
                text, self._call = self._call.rest, None
                continue
            plain = self._scanner.push(text)
            if plain and not self._calls:  # text behind a call is the model talking to itself
                shown.append(plain)
            if self._scanner.found is None:
                break
            text, self._scanner = self._scanner.after, Scanner((START,))
            self._call = _Call(self._calls)
            self._calls += 1
        return shown

    def finish(self) -> Sequence[str | CallDelta]:
        """Return what was held back."""
        if self._call is not None:
            return self._call.finish()
        held = self._scanner.flush()
        return [held] if held and not self._calls else []


class _Call:
    """One call: its name first, then its arguments as far as they are certain."""

    def __init__(self, index: int) -> None:
        self.rest: str | None = None
        self._index = index
        self._scanner = Scanner((END,))
        self._text = ""
        self._named = False
        self._args: _Braces | None = None

    def push(self, text: str) -> list[str | CallDelta]:
        text = self._scanner.push(text)
        shown = self._show(text) if text else []
        if self._scanner.found is not None:
            self.rest = self._scanner.after
            shown += self._settle()
        return shown

    def finish(self) -> list[str | CallDelta]:
        return [*self._show(self._scanner.flush()), *self._settle()]

    def _show(self, text: str) -> list[str | CallDelta]:
        if self._args is not None:
            new = self._args.push(text)
            return [CallDelta(self._index, None, None, new)] if new else []
        self._text += text
        name, args = _NAME.search(self._text), _ARGS.search(self._text)
        if not (name and args and name.start() < args.start()):
            return []
        self._named, self._args = True, _Braces()
        first = self._args.push(self._text[args.end() :])
        return [CallDelta(self._index, call_id(), _unescaped(name[1]), first)]

    def _settle(self) -> list[str | CallDelta]:
        """Show a call that is not in the usual order, or none at all."""
        if self._named:
            return []
        self._named = True
        return [CallDelta(self._index, call_id(), *split_call(self._text))]


class _Braces:
    """Passes a JSON object on up to the brace that closes it."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = self._escape = self._closed = False

    def push(self, text: str) -> str:
        if self._closed:
            return ""
        for index, character in enumerate(text):
            if self._escape:
                self._escape = False
            elif self._string:
                self._escape = character == "\\"
                self._string = character != '"'
            elif character == '"':
                self._string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._closed = True
                    return text[: index + 1]
        return text
