"""Answers that follow a schema: what `with_structured_output` returns."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_glimprouter.messages.tool_use import json_schema, settle_tools
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput

Method = Literal["function_calling", "json_mode", "json_schema"]


def structured(
    model: BaseChatModel,
    schema: Any,
    *,
    method: Method,
    include_raw: bool,
    strict: bool | None,
    **kwargs: Any,
) -> Runnable[LanguageModelInput, Any]:
    """Bind a schema to a chat model and parse its answers.

    Args:
        model: A chat model that takes `tools`, `tool_choice` and `response_format`.
        schema: A Pydantic class, a TypedDict, or a JSON schema.
        method: How the model is held to the schema.
        include_raw: Whether to return the message and the error beside what was parsed.
        strict: What the caller said; told to tracers only.
        **kwargs: More per-call options.

    Raises:
        ConfigurationError: If the schema or the method cannot work.
    """
    if method not in get_args(Method):
        raise unknown("method", str(method), get_args(Method))
    pydantic: Any = schema if is_basemodel_subclass(schema) else None
    said = {"method": method, **({} if strict is None else {"strict": strict})}
    told = {"ls_structured_output_format": {"kwargs": said, "schema": schema}}
    parser: Any
    if method == "function_calling":
        tool = settle_tools([schema]).tools[0]
        told["ls_structured_output_format"]["schema"] = dict(tool)
        name = tool["function"]["name"]
        bound = model.bind_tools(
            [schema], tool_choice=name, parallel_tool_calls=False, **told, **kwargs
        )
        parser = (
            PydanticToolsParser(tools=[pydantic], first_tool_only=True)
            if pydantic is not None
            else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        )
    else:
        form: dict[str, Any] = {"type": "json_object"}
        asked = json_schema(schema)
        told["ls_structured_output_format"]["schema"] = dict(asked)
        if method == "json_schema":
            envelope = {"name": asked.get("title", "answer"), "schema": asked, "strict": True}
            form = {"type": "json_schema", "json_schema": envelope}
        bound = model.bind(response_format=form, **told, **kwargs)
        parser = (
            PydanticOutputParser(pydantic_object=pydantic)
            if pydantic is not None
            else JsonOutputParser()
        )
    if not include_raw:
        checked: Runnable[LanguageModelInput, Any] = bound | parser
        return checked
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    settled = parsed.with_fallbacks([failed], exception_key="parsing_error")
    chain: Runnable[LanguageModelInput, Any] = RunnableMap(raw=bound) | settled
    return chain
