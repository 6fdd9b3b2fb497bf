"""Tools for models whose chat template knows none: Hermes' prompt, as plain messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INSTRUCTIONS = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def with_tools_as_text(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Say in plain messages what a template that knows tools would say.

    The tools go into the system message, calls into the assistant's text, and results into
    messages of the user.

    Args:
        messages: OpenAI-style messages.
        tools: OpenAI-style tool schemas; may be empty, where only the history holds calls.
    """
    plain: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            response = f"<tool_response>\n{message['content']}\n</tool_response>"
            if plain and plain[-1].pop("results", False):
                plain[-1] |= {"content": f"{plain[-1]['content']}\n{response}", "results": True}
            else:
                plain.append({"role": "user", "content": response, "results": True})
            continue
        said = dict(message)
        calls = [_call(call["function"]) for call in said.pop("tool_calls", ())]
        if calls:
            said["content"] = "\n".join([text for text in (said["content"],) if text] + calls)
        plain.append(said)
    for said in plain:
        said.pop("results", None)
    if tools:
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        prompt = _INSTRUCTIONS.format(tools=lines)
        if plain and plain[0]["role"] == "system":
            plain[0]["content"] = f"{plain[0]['content']}\n\n{prompt}"
        else:
            plain.insert(0, {"role": "system", "content": prompt})
    return plain


def _call(function: Mapping[str, Any]) -> str:
    args = function["arguments"]
    text = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False)
    name = json.dumps(function["name"])
    return f'<tool_call>\n{{"name": {name}, "arguments": {text}}}\n</tool_call>'
