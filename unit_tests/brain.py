"""Answers for scripted engines that use tools and follow schemas, as a good model would."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_glimprouter.engines.base import GenerationRequest

_TURN = re.compile(r"<\|(\w+)\|>(.*?)<\|end\|>", re.DOTALL)


def answer(prompt: str, request: GenerationRequest) -> str:
    """Call a tool where one is bound and not called yet, else talk; obey any grammar."""
    turns = _TURN.findall(prompt)
    question = [text for role, text in turns if role == "user"][-1]
    if request.constraint is not None:
        return constrained(request.constraint, question)
    tools = [text for role, text in turns if role == "system" and text.startswith("tools: ")]
    if tools and turns[-1][0] == "user":
        function = json.loads(tools[0].removeprefix("tools: "))[0]["function"]
        return call(function["name"], instance(function.get("parameters") or {}, question))
    return "It is as you say: one, two, three, four, five.\n\nWhat else?"


def steps(prompt: str) -> list[str]:
    """What a model that does not think says."""
    return [answer(prompt, GenerationRequest([], 1))]


def call(name: str, args: Any) -> str:
    """A tool call in Hermes' format."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': args})}\n</tool_call>"


def constrained(constraint: Mapping[str, Any], question: str) -> str:
    """The first thing that a grammar allows."""
    if "structural_tag" in constraint:
        return _form(json.loads(constraint["structural_tag"])["format"], question)
    return json.dumps(instance(constraint.get("json") or JOKE, question))


JOKE = {
    "type": "object",
    "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}},
}


def _form(form: Mapping[str, Any], question: str) -> str:
    match form["type"]:
        case "or":
            return _form(form["elements"][0], question)
        case "json_schema":
            schema = form["json_schema"]
            return json.dumps(instance(schema if "properties" in schema else JOKE, question))
        case _:
            tag = form["tags"][0]
            return f"{tag['begin']}{_form(tag['content'], question)}{tag['end']}"


def instance(
    schema: Mapping[str, Any], question: str, root: Mapping[str, Any] | None = None
) -> Any:
    """An instance of a JSON schema, with the question's number where one is wanted."""
    root = root or schema
    if "$ref" in schema:
        *_, name = schema["$ref"].split("/")
        return instance((root.get("$defs") or root["definitions"])[name], question, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance(schema[key][0], question, root)
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: instance(part, question, root) for name, part in properties.items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), question, root)]
    foreign = re.findall(r"[^\x00-\x7f]+", question)
    number = int((re.findall(r"\d+", question) or ["1"])[0])
    return {
        "string": (foreign or ["text"])[0],
        "integer": number,
        "number": float(number),
        "boolean": True,
    }.get(kind)
