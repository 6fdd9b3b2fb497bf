"""Tool calls read and enforced by vLLM's own parsers, for every format that vLLM knows."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.messages.hermes import Hermes, read_hermes
from langchain_glimprouter.messages.tool_format import (
    HERMES,
    CallDelta,
    Reading,
    answer_schema,
    call_id,
    settle_call,
)
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from langchain_glimprouter.engines.base import Vocabulary
    from langchain_glimprouter.messages.tool_use import ToolUse

_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_HERMES_LIKE = (HERMES, "qwen3_json")


class VLLMFormat:
    """One of vLLM's tool parsers.

    Args:
        name: vLLM's name of the parser.
        tokenizer: The model's, of `transformers`.
        vocabulary: The same, as the router sees it.

    Raises:
        ConfigurationError: If vLLM has no such parser, or it refuses the tokenizer.
    """

    def __init__(self, name: str, tokenizer: Any, vocabulary: Vocabulary) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._class = _parser_class(name)

    @property
    def name(self) -> str:
        """Name that vLLM has for the parser."""
        return self._name

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that begin a tool call; empty if the parser does not tell."""
        parser = getattr(self._class, "tool_parser_cls", None)
        start = getattr(parser, "tool_call_start_token", None)
        return (start,) if isinstance(start, str) and start else ()

    def constraint(self, use: ToolUse) -> Mapping[str, Any] | None:
        """Return the grammar of an answer, if it needs one; see `ToolFormat.constraint`."""
        if self._name in _HERMES_LIKE:
            return Hermes().constraint(use)
        if not use.shown:
            return None if use.schema is None else answer_schema(use.schema)
        if not use.forced and use.schema is None and not use.strict:
            return None
        request = self._parser(use).adjust_request(self._request(use, strict=True))
        params = getattr(request, "structured_outputs", None)
        kinds = {} if params is None else asdict(params)
        found = {kind: kinds[kind] for kind in _KINDS if kinds.get(kind) is not None}
        if not use.forced and use.schema is not None and "structural_tag" not in found:
            msg = (
                f"response_format and tools together: the tool parser {self._name!r} cannot allow "
                f"a tool call or a formatted answer; leave one of the two out, or use "
                f"ToolStrategy in agents"
            )
            raise ConfigurationError(msg)
        if use.forced and not found:
            msg = (
                f"tool_choice: vLLM cannot enforce tool calls in the format {self._name!r}; use "
                f"tool_choice='auto'"
            )
            raise ConfigurationError(msg)
        return found or None

    def reader(self, use: ToolUse) -> _Reader:
        """Return what reads one answer as it streams."""
        return _Reader(self._parser(use), self._request(use), self._encode)

    def read(self, use: ToolUse, text: str) -> Reading:
        """Read a whole answer."""
        parser, request = self._parser(use), self._request(use)
        try:
            _, content, found = parser.parse(
                text, request, enable_auto_tools=True, model_output_token_ids=self._encode(text)
            )
        except Exception:  # noqa: BLE001 - parsers raise what they like at a model's text
            content, found = text, None
        if not found:
            if self._name in _HERMES_LIKE:  # its parser gives an answer up at the first bad call
                return read_hermes(text)
            return Reading(content if content is not None else "", [], [])
        calls = [settle_call(call.name, call.arguments) for call in found]
        return Reading(
            content or "",
            [call for call in calls if call["type"] == "tool_call"],
            [call for call in calls if call["type"] == "invalid_tool_call"],
        )

    def _encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text, special=True)

    def _parser(self, use: ToolUse) -> Any:
        try:
            return self._class(self._tokenizer, self._request(use).tools)
        except Exception as error:
            msg = (
                f"tool_parser={self._name!r} does not fit this model: {error}; choose another with "
                f"tool_parser="
            )
            raise ConfigurationError(msg) from error

    def _request(self, use: ToolUse, *, strict: bool = False) -> Any:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.sampling_params import StructuredOutputsParams

        tools = [dict(tool) for tool in use.shown]
        if strict:
            tools = [{**tool, "function": {**tool["function"], "strict": True}} for tool in tools]
        choice: Any = use.choice if tools else None
        if tools and use.name is not None:
            choice = {"type": "function", "function": {"name": use.name}}
        schema: Any = None
        if use.schema is not None:
            schema = {"json": dict(use.schema)} if use.schema else {"json_object": True}
        return ChatCompletionRequest(
            messages=[{"role": "user", "content": ""}],
            tools=tools or None,
            tool_choice=choice,
            parallel_tool_calls=use.parallel is not False,
            structured_outputs=StructuredOutputsParams(**schema) if schema else None,
        )


@functools.lru_cache(maxsize=32)
def _parser_class(name: str) -> Any:
    from vllm.parser.parser_manager import ParserManager
    from vllm.tool_parsers import ToolParserManager

    known = sorted({*ToolParserManager.tool_parsers, *ToolParserManager.lazy_parsers})
    if name not in known:
        raise unknown("tool_parser", name, known)
    return ParserManager.get_parser(name, None, enable_auto_tools=True)


class _Reader:
    """One answer through vLLM's streaming parser; nothing that it swallows is lost."""

    def __init__(self, parser: Any, request: Any, encode: Any) -> None:
        self._parser = parser
        self._request = request
        self._encode = encode
        self._text = ""
        self._plain = 0
        self._named: set[int] = set()
        self._broken = False

    def push(self, text: str) -> Sequence[str | CallDelta]:
        """Take text; see `ToolReader.push`."""
        self._text += text
        return self._step(text, finished=False)

    def finish(self) -> Sequence[str | CallDelta]:
        """Return what was held back."""
        shown = list(self._step("", finished=True))
        rest = self._text[self._plain :]
        if not self._named and rest:
            # The parser held a call back that never became one, or the start of a marker.
            calls = read_hermes(rest)
            shown += [calls.content] if calls.content else []
            shown += [
                CallDelta(index, call_id(), call["name"], call["args"] or "")
                for index, call in enumerate(calls.invalid)
            ]
        return shown

    def _step(self, text: str, *, finished: bool) -> Sequence[str | CallDelta]:
        if self._broken:
            return []
        try:
            delta = self._parser.parse_delta(
                text,
                self._encode(text) if text else [],
                self._request,
                prompt_token_ids=[],
                finished=finished,
            )
        except Exception:  # noqa: BLE001 - parsers raise what they like at a model's text
            self._broken = True  # `finish` tells what is not told yet
            return []
        if delta is None:
            return []
        shown: list[str | CallDelta] = []
        if delta.content:
            shown.append(delta.content)
            self._plain += len(delta.content)
        for call in delta.tool_calls or ():
            function = call.function
            name = function.name if function is not None else None
            args = (function.arguments if function is not None else None) or ""
            first = call.index not in self._named
            self._named.add(call.index)
            if first or args:
                shown.append(
                    CallDelta(
                        call.index,
                        (call.id or call_id()) if first else None,
                        name if first else None,
                        args,
                    )
                )
        return shown
