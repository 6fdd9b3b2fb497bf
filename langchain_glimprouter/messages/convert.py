"""LangChain messages to the plain dictionaries that chat templates take."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEXT = ("text", "text-plain")
_SKIPPED = (
    "reasoning",
    "thinking",
    "tool_call",
    "tool_call_chunk",
    "invalid_tool_call",
    "tool_use",
)


def to_template_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Convert a conversation to OpenAI-style dictionaries.

    The reasoning of earlier turns comes along as `reasoning_content`, which templates show or drop
    as their models were trained.

    Raises:
        ConfigurationError: If there is no message, or one holds what a text model cannot read.
    """
    if not messages:
        msg = "messages is empty: give at least one message, for instance [HumanMessage('…')]"
        raise ConfigurationError(msg)
    return [_convert(message) for message in messages]


def session_key(conversation: Sequence[Mapping[str, Any]]) -> str:
    """Return a name that every turn of a conversation shares: a hash of how it began.

    A load balancer that follows it sends all turns to the replica whose prefix cache knows them.
    """
    start: list[Mapping[str, Any]] = []
    for message in conversation:
        start.append(message)
        if message["role"] not in ("system", "developer"):
            break
    return hashlib.sha256(json.dumps(start, default=str).encode()).hexdigest()[:32]


def last_question(conversation: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the user's last message; empty if there is none."""
    for message in reversed(conversation):
        if message["role"] == "user":
            return str(message["content"])
    return ""


def _convert(message: BaseMessage) -> dict[str, Any]:
    content = _text(message)
    if isinstance(message, AIMessage):
        converted: dict[str, Any] = {"role": "assistant", "content": content}
        if reasoning := reasoning_of(message):
            converted["reasoning_content"] = reasoning
        if calls := _tool_calls(message):
            converted["tool_calls"] = calls
        return converted
    if isinstance(message, ToolMessage):
        if message.status == "error":
            content = f"Error: {content}" if not content.startswith("Error") else content
        return {
            "role": "tool",
            "content": content,
            "tool_call_id": message.tool_call_id,
            **({"name": message.name} if message.name else {}),
        }
    if isinstance(message, FunctionMessage):
        return {"role": "tool", "content": content, "name": message.name}
    if isinstance(message, ChatMessage):
        return {"role": message.role, "content": content}
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": content}
    if isinstance(message, HumanMessage):
        return {"role": "user", "content": content}
    msg = (
        f"messages: a {type(message).__name__} has no place in a chat template; use the standard "
        f"message types"
    )
    raise ConfigurationError(msg)


def reasoning_of(message: AIMessage) -> str:
    """Return the reasoning that a message carries, in either of its two forms."""
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        return reasoning
    if isinstance(message.content, str):
        return ""
    return "".join(
        str(block.get("reasoning") or block.get("thinking") or "")
        for block in message.content
        if isinstance(block, dict) and block.get("type") in ("reasoning", "thinking")
    )


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts: list[str] = []
    for block in message.content:
        if isinstance(block, str):
            parts.append(block)
        elif block.get("type") in _TEXT:
            parts.append(str(block.get("text", "")))
        elif block.get("type") == "json":
            parts.append(json.dumps(block.get("json")))
        elif block.get("type") not in _SKIPPED:
            msg = (
                f"messages: a content block of type {block.get('type')!r} cannot be read by these "
                f"text models; send text only"
            )
            raise ConfigurationError(msg)
    return "".join(parts)


def _tool_calls(message: AIMessage) -> list[dict[str, Any]]:
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["args"]},
        }
        for call in message.tool_calls
    ]
    calls += [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"] or "", "arguments": call["args"] or ""},
        }
        for call in message.invalid_tool_calls
    ]
    return calls
