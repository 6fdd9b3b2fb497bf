"""Small changes to messages that several nodes say piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk


def bare(message: Any) -> AIMessageChunk:
    """Return a last chunk without what only the whole message's last chunk may say."""
    kept = {
        name: value for name, value in message.response_metadata.items() if name == "output_version"
    }
    bare: AIMessageChunk = message.model_copy(
        update={"response_metadata": kept, "usage_metadata": None}
    )
    return bare


def rename_calls(message: AIMessage, ids: list[str]) -> None:
    """Give tool calls the ids under which they were streamed."""
    calls: list[Any] = [*message.tool_calls, *message.invalid_tool_calls]
    if len(ids) != len(calls) or (message.tool_calls and message.invalid_tool_calls):
        return
    blocks = [
        block
        for block in message.content
        if isinstance(block, dict) and block.get("type") in ("tool_call", "invalid_tool_call")
    ]
    for index, identifier in enumerate(ids):
        calls[index]["id"] = identifier
        if len(blocks) == len(ids):
            blocks[index]["id"] = identifier
