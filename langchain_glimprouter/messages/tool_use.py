"""What a call says about tools and about the shape of its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

_CHOICES = {
    None: "auto",
    False: "auto",
    "auto": "auto",
    "none": "none",
    True: "required",
    "any": "required",
    "required": "required",
}
_FORMATS = ("text", "json_object", "json_schema")


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a call, and what its answer must look like.

    Attributes:
        tools: OpenAI-style tool schemas.
        choice: `auto`: the model decides; `none`: no call; `required`: at least one call.
        name: The one tool that must be called, or `None`.
        parallel: Whether an answer may hold several calls; `None` if the caller did not say.
        schema: JSON schema that an answer which calls no tool must follow; `{}` is any object.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    choice: str = "auto"
    name: str | None = None
    parallel: bool | None = None
    schema: Mapping[str, Any] | None = None

    @property
    def shown(self) -> tuple[Mapping[str, Any], ...]:
        """The tools that the models get to see."""
        return () if self.choice == "none" else self.tools

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tools that may be called."""
        if self.name is not None:
            return (self.name,)
        return tuple(tool["function"]["name"] for tool in self.shown)

    @property
    def callable_tools(self) -> tuple[Mapping[str, Any], ...]:
        """The tools that may be called."""
        return tuple(tool for tool in self.shown if tool["function"]["name"] in self.names)

    @property
    def strict(self) -> bool:
        """Whether a tool asks that its arguments follow its schema."""
        return any(tool["function"].get("strict") for tool in self.shown)

    @property
    def constrained(self) -> bool:
        """Whether the answer follows a grammar."""
        return self.forced or self.schema is not None or self.strict

    @property
    def forced(self) -> bool:
        """Whether the answer must be a tool call."""
        return self.choice == "required"


def settle_tools(
    tools: Sequence[Any] | None,
    tool_choice: Any = None,
    *,
    strict: bool | None = None,
    parallel: bool | None = None,
    response_format: Any = None,
    unique: bool = True,
) -> ToolUse:
    """Check and merge what a call says about tools.

    Args:
        tools: Tools in any form that LangChain knows.
        tool_choice: `None`, `"auto"`, `"none"`, `"any"`, `"required"`, a boolean, a tool's name, or
            OpenAI's dictionary that names one.
        strict: Whether arguments must follow the tools' schemas.
        parallel: Whether an answer may hold several calls.
        response_format: OpenAI's `{"type": "json_schema", …}`, `{"type": "json_object"}`, or a
            Pydantic class or JSON schema.
        unique: Whether to refuse two tools of one name.

    Raises:
        ConfigurationError: If a tool is no tool, two share a name, the choice names no tool, or the
            format is unknown.
    """
    converted = tuple(_tool(tool, strict) for tool in tools or ())
    names = [tool["function"]["name"] for tool in converted]
    for name, count in Counter(names).items():
        if count > 1 and unique:
            msg = f"tools: {count} tools are named {name!r}: give each a name of its own"
            raise ConfigurationError(msg)
    choice, name = _choice(tool_choice, names)
    if parallel not in (None, True, False):
        msg = f"parallel_tool_calls={parallel!r} cannot work: give True, False or None"
        raise ConfigurationError(msg)
    schema = response_schema(response_format)
    return ToolUse(converted, choice, name, parallel, schema)


def _tool(tool: Any, strict: bool | None) -> Mapping[str, Any]:
    try:
        converted = convert_to_openai_tool(tool, strict=strict)
        if strict is not None:  # OpenAI-style dictionaries pass through as they are
            converted = {**converted, "function": {**converted["function"], "strict": strict}}
        return converted
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = (
            f"tools: {tool!r} is no tool ({error}): give a function with a docstring, a Pydantic "
            f"class, a BaseTool, or an OpenAI-style dictionary"
        )
        raise ConfigurationError(msg) from error


def _choice(tool_choice: Any, names: Sequence[str]) -> tuple[str, str | None]:
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function")
        named = function.get("name") if isinstance(function, Mapping) else tool_choice.get("name")
        if not isinstance(named, str):
            msg = (
                f"tool_choice={tool_choice!r} names no tool: write for instance "
                f'{{"type": "function", "function": {{"name": "…"}}}}'
            )
            raise ConfigurationError(msg)
        tool_choice = named
    elif tool_choice is not None and not isinstance(tool_choice, bool | str):
        msg = f"tool_choice={tool_choice!r} cannot work: give 'auto', 'any', 'none' or a tool"
        raise ConfigurationError(msg)
    if tool_choice in names:
        return "required", tool_choice
    if tool_choice not in _CHOICES:
        raise unknown("tool_choice", str(tool_choice), (*names, "auto", "any", "required", "none"))
    choice = _CHOICES[tool_choice]
    if choice == "required" and not names:
        msg = f"tool_choice={tool_choice!r} without tools: bind tools, or leave tool_choice out"
        raise ConfigurationError(msg)
    return choice, None


def response_schema(response_format: Any) -> Mapping[str, Any] | None:
    """Return the JSON schema that a `response_format` asks for; `{}` for any object.

    Raises:
        ConfigurationError: If it is none of the known forms.
    """
    if response_format is None:
        return None
    if isinstance(response_format, Mapping) and response_format.get("type") in _FORMATS:
        kind = response_format["type"]
        if kind == "text":
            return None
        if kind == "json_object":
            return {}
        envelope = response_format.get("json_schema")
        schema = envelope.get("schema") if isinstance(envelope, Mapping) else None
        if isinstance(schema, Mapping):
            return schema
        msg = (
            'response_format: {"type": "json_schema"} holds no schema: give '
            '{"type": "json_schema", "json_schema": {"name": "…", "schema": {…}}}'
        )
        raise ConfigurationError(msg)
    return json_schema(response_format, "response_format")


def json_schema(schema: Any, option: str = "schema") -> Mapping[str, Any]:
    """Return the JSON schema of a Pydantic class, a TypedDict, or a JSON schema itself.

    Raises:
        ConfigurationError: If it is none of these.
    """
    from langchain_core.utils.function_calling import convert_to_json_schema

    if isinstance(schema, Mapping) and "type" in schema and "title" not in schema:
        return schema  # LangChain wants a title, grammars do not
    try:
        return convert_to_json_schema(schema)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = (
            f"{option}={schema!r} is no schema ({error}): give a Pydantic class, a TypedDict, or a "
            f"JSON schema with a title"
        )
        raise ConfigurationError(msg) from error
