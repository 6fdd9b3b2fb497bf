"""How a model writes tool calls: what reads them from its text, and what makes it write them."""

from __future__ import annotations

import importlib.util
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from langchain_core.messages import InvalidToolCall, ToolCall

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_glimprouter.engines.base import Vocabulary
    from langchain_glimprouter.messages.tool_use import ToolUse

HERMES = "hermes"

_SIGNS = (  # in this order: the first whose sign stands in the chat template
    ("<minimax:tool_call>", "minimax_m2"),
    ("<arg_key>", "glm45"),
    ("<function=", "qwen3_coder"),
    ("<tool_call>", HERMES),
    ("[TOOL_CALLS]", "mistral"),
    ("<｜DSML｜", "deepseek_v32"),
    ("<｜tool▁sep｜>function", "deepseek_v3"),
    ("<｜tool▁calls▁begin｜>", "deepseek_v31"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("functools[", "phi4_mini_json"),
    ("<|python_tag|>", "llama3_json"),
)

_MOST_BLANKS = 8  # in a row: enough for pretty JSON three levels deep
_FOR_OTHERS = frozenset(  # what xgrammar does not know, or only in some company
    (
        "contains",
        "format",
        "maxContains",
        "minContains",
        "multipleOf",
        "pattern",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "uniqueItems",
    )
)


@dataclass(frozen=True, slots=True)
class CallDelta:
    """New text of a tool call.

    Attributes:
        index: Which call of the answer, from 0.
        id: Its id, with its first delta.
        name: The tool's name, with the first delta; `None` there if the call names none.
        args: More of its arguments' JSON text.
    """

    index: int
    id: str | None
    name: str | None
    args: str


class Reading(NamedTuple):
    """A whole answer, read.

    Attributes:
        content: Text beside the tool calls.
        calls: Tool calls that parse.
        invalid: Tool calls that do not, with what is wrong.
    """

    content: str
    calls: list[ToolCall]
    invalid: list[InvalidToolCall]


class ToolReader(Protocol):
    """Reads one answer as it comes."""

    def push(self, text: str) -> Sequence[str | CallDelta]:
        """Take text; return plain text and tool calls' text that became certain."""
        ...

    def finish(self) -> Sequence[str | CallDelta]:
        """Return what was held back: no more text will come."""
        ...


class ToolFormat(Protocol):
    """How one family of models writes tool calls."""

    @property
    def name(self) -> str:
        """Name that vLLM has for the parser."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that begin a tool call; empty if they are not known."""
        ...

    def constraint(self, use: ToolUse) -> Mapping[str, Any] | None:
        """Return the grammar of an answer (see `GenerationRequest.constraint`), if it needs one.

        Raises:
            ConfigurationError: If this format cannot be enforced.
        """
        ...

    def reader(self, use: ToolUse) -> ToolReader:
        """Return what reads one answer as it streams."""
        ...

    def read(self, use: ToolUse, text: str) -> Reading:
        """Read a whole answer."""
        ...


def find_format(
    vocabulary: Vocabulary, *, template: str | None, name: str | None, generic: bool = False
) -> ToolFormat:
    """Return how a model writes tool calls, by vLLM's parser where vLLM is installed.

    Args:
        vocabulary: The model's.
        template: A chat template in place of the vocabulary's own.
        name: vLLM's name of the parser; `None` looks for its sign in the chat template.
        generic: Whether the tools come to the model by the generic prompt, in Hermes' format.

    Raises:
        ConfigurationError: If the format is not known here.
    """
    from langchain_glimprouter.messages.hermes import Hermes

    source = template or vocabulary.chat_template or ""
    chosen = name or (HERMES if generic else parser_name(source))
    installed = importlib.util.find_spec("vllm") is not None
    tokenizer = getattr(vocabulary, "tokenizer", None)
    if chosen is None:
        msg = (
            "tools: the chat template does not show how this model writes tool calls; name vLLM's "
            "parser for it, for instance tool_parser='hermes'"
        )
        raise ConfigurationError(msg)
    if installed and tokenizer is not None:
        from langchain_glimprouter.messages.vllm_format import VLLMFormat

        return VLLMFormat(chosen, tokenizer, vocabulary)
    if chosen == HERMES:
        return Hermes()
    msg = (
        f"tool_parser={chosen!r} is vLLM's: install it here (pip install "
        f"'langchain-glimprouter[vllm]'); without vLLM only 'hermes' is known"
    )
    raise ConfigurationError(msg)


def parser_name(template: str) -> str | None:
    """Return vLLM's parser for the models of a chat template, by what the template writes."""
    return next((name for sign, name in _SIGNS if sign in template), None)


def answer_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grammar of an answer that is JSON of a schema; `{}` is any object."""
    if _FOR_OTHERS & _keywords(schema):
        return {"json": dict(schema)}  # vLLM then chooses a back end that knows them
    return {"structural_tag": json.dumps({"type": "structural_tag", "format": json_form(schema)})}


def json_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON of a schema as a format of xgrammar's structural tags.

    White space is limited: where any amount is allowed, small models write little else.
    """
    return {
        "type": "json_schema",
        "json_schema": dict(schema) or {"type": "object"},
        "max_whitespace_cnt": _MOST_BLANKS,
    }


def _keywords(schema: Any) -> frozenset[str]:
    """Return all keys that stand anywhere in a schema."""
    if isinstance(schema, Mapping):
        return frozenset(schema).union(*map(_keywords, schema.values()))
    if isinstance(schema, list | tuple):
        return frozenset().union(*map(_keywords, schema))
    return frozenset()


def call_id() -> str:
    """Return a new tool call's id."""
    return f"call_{uuid.uuid4().hex[:24]}"


def settle_call(
    name: str | None, args: str, identifier: str | None = None
) -> ToolCall | InvalidToolCall:
    """Return a tool call of its parts, or an invalid one that says what is wrong."""
    identifier = identifier or call_id()
    error = None if name else "the call names no tool"
    if error is None:
        try:
            parsed = json.loads(args or "{}", strict=False)
            parsed = {} if parsed is None else parsed
            if isinstance(parsed, dict):
                return ToolCall(name=name or "", args=parsed, id=identifier, type="tool_call")
            error = "the arguments are no JSON object"
        except ValueError as problem:
            error = f"the arguments are no JSON: {problem}"
    return InvalidToolCall(
        name=name, args=args, id=identifier, error=error, type="invalid_tool_call"
    )
