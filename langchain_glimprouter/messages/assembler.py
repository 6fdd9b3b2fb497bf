"""Routing events to LangChain's message chunks, and a finished turn to a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_glimprouter.messages.answer import AnswerFormat
from langchain_glimprouter.messages.convert import reasoning_of
from langchain_glimprouter.messages.tool_format import CallDelta, Reading
from langchain_glimprouter.routing.events import StepStarted, TokenDelta, TurnFinished
from langchain_glimprouter.routing.trace import RoutingTrace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.messages.tool_format import ToolReader
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.trace import StepTrace

PROVIDER = "glimprouter"
_FINISH = {
    "end_of_text": "stop",
    "stop": "stop",
    "max_tokens": "length",
    "context_window": "length",
    "loop": "repetition",
}


class Assembler:
    """Turns one turn's events into chunks.

    Numbers and names are sent once, on the last chunk: LangChain sums or concatenates what comes
    twice.

    Args:
        blocks: Whether content is a list of blocks, one reasoning block a step (LangChain's
            `output_version="v1"`), or a string with the thought in `additional_kwargs`.
        model_name: What `response_metadata` says.
        include_trace: Whether `response_metadata` holds every step.
        usage: Whether to report token counts.
        answer: How the answer is read, where it may call tools; known before its first text.
    """

    def __init__(
        self,
        *,
        blocks: bool,
        model_name: str,
        include_trace: bool,
        usage: bool = True,
        answer: AnswerFormat | None = None,
    ) -> None:
        self._blocks = blocks
        self._model_name = model_name
        self._include_trace = include_trace
        self._usage = usage
        self._answer = answer or AnswerFormat()
        self._reader: ToolReader | None = None
        self._blank = ""
        self._plain = False
        self._calls = 0
        self._extras: dict[str, Any] | None = None
        self._index = 0

    def push(self, event: Event) -> ChatGenerationChunk | None:
        """Take an event; return its chunk, if it has one."""
        match event:
            case StepStarted(phase="thinking") if self._blocks:
                entropy = event.decision.entropy
                self._index = event.index + 1
                self._extras = _extras(
                    event.index, event.decision.writer, entropy.estimate if entropy else None
                )
            case TokenDelta(phase="answer"):
                message = self._said(event.text)
                return None if message is None else _chunk(message)
            case TokenDelta():
                return _chunk(self._thought(event))
            case TurnFinished(trace=trace):
                return self._last(trace)
        return None

    def message(self, trace: RoutingTrace) -> AIMessage:
        """Return the whole message of a turn; equal to the sum of its chunks."""
        read = self._answer.read(trace.answer)
        content: str | list[str | dict[str, Any]] = read.content
        kwargs: dict[str, Any] = {}
        if self._blocks:
            content = [
                _reasoning(step, trace.step_text(step))
                for step in trace.steps
                if step.phase == "thinking" and step.end > step.start
            ]
            if read.content:
                content.append({"type": "text", "text": read.content, "index": 0})
            content += [cast("dict[str, Any]", call) for call in (*read.calls, *read.invalid)]
        elif trace.thought:
            kwargs["reasoning_content"] = trace.thought
        return AIMessage(
            content=content,
            additional_kwargs=kwargs,
            tool_calls=read.calls,
            invalid_tool_calls=read.invalid,
            response_metadata=self._metadata(trace, read),
            usage_metadata=usage_metadata(trace) if self._usage else None,
        )

    def _thought(self, event: TokenDelta) -> AIMessageChunk:
        if not self._blocks:
            return AIMessageChunk(content="", additional_kwargs={"reasoning_content": event.text})
        block: dict[str, Any] = {
            "type": "reasoning",
            "reasoning": event.text,
            "index": self._index,
        }
        if self._extras is not None:
            block["extras"], self._extras = self._extras, None
        return AIMessageChunk(content=[block], response_metadata={"output_version": "v1"})

    def _said(self, text: str) -> AIMessageChunk | None:
        """Return a chunk of the answer: text, tool calls, or nothing yet."""
        if self._reader is None:
            self._reader = self._answer.reader()
        if self._reader is None:
            return self._plain_chunk(text)
        return self._chunk_of(self._settled(self._reader.push(text)))

    def _settled(self, pieces: Sequence[str | CallDelta]) -> list[str | CallDelta]:
        """Leave out what is no part of the message: blanks before a call, calls too many."""
        settled: list[str | CallDelta] = []
        for piece in pieces:
            if isinstance(piece, CallDelta):
                self._calls = max(self._calls, piece.index + 1)
                if piece.index == 0 or self._answer.use.parallel is not False:
                    settled.append(piece)
            elif self._plain or piece.strip():
                self._plain = True
                settled.append(self._blank + piece)
                self._blank = ""
            else:
                self._blank += piece
        return settled

    def _plain_chunk(self, text: str) -> AIMessageChunk:
        if not self._blocks:
            return AIMessageChunk(content=text)
        block = {"type": "text", "text": text, "index": 0}
        return AIMessageChunk(content=[block], response_metadata={"output_version": "v1"})

    def _chunk_of(self, pieces: Sequence[str | CallDelta], **fields: Any) -> AIMessageChunk | None:
        if not pieces and not fields:
            return None
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        calls = [piece for piece in pieces if isinstance(piece, CallDelta)]
        content: str | list[str | dict[str, Any]] = text
        if self._blocks:
            content = [{"type": "text", "text": text, "index": 0}] if text else []
            content += [
                {
                    "type": "tool_call_chunk",
                    "id": call.id,
                    "name": call.name,
                    "args": call.args,
                    "index": f"lc_tc_{call.index}",  # no number: those are the steps'
                }
                for call in calls
            ]
            fields.setdefault("response_metadata", {"output_version": "v1"})
        return AIMessageChunk(
            content=content,
            tool_call_chunks=[
                ToolCallChunk(
                    name=call.name,
                    args=call.args,
                    id=call.id,
                    index=call.index,
                    type="tool_call_chunk",
                )
                for call in calls
            ],
            **fields,
        )

    def _last(self, trace: RoutingTrace) -> ChatGenerationChunk:
        pieces = self._settled(self._reader.finish()) if self._reader is not None else []
        if self._blank and not self._calls:
            pieces.append(self._blank)
        read = self._answer.read(trace.answer) if self._reader is not None else None
        message = self._chunk_of(
            pieces,
            response_metadata=self._metadata(trace, read),
            usage_metadata=usage_metadata(trace) if self._usage else None,
            chunk_position="last",
        )
        assert message is not None
        return _chunk(message)

    def _metadata(self, trace: RoutingTrace, read: Reading | None) -> dict[str, Any]:
        routing = trace.summary()
        called = read is not None and bool(read.calls or read.invalid)
        if self._include_trace:
            # A message of plain text holds the trace's text itself.
            hidden = {"text"} if read is None or read.content == trace.answer else None
            routing["trace"] = trace.model_dump(mode="json", exclude=hidden)
        finish = _FINISH.get(trace.stop_reason, trace.stop_reason)
        metadata = {
            "model_provider": PROVIDER,
            "model_name": self._model_name,
            "finish_reason": "tool_calls" if called and finish == "stop" else finish,
            PROVIDER: routing,
        }
        if self._blocks:
            metadata["output_version"] = "v1"
        return metadata


def trace_of(message: AIMessage) -> RoutingTrace | None:
    """Return the record of the turn that made a message.

    Returns:
        The trace, or `None` if the message carries none (`include_trace=False`, another model).
    """
    routing = message.response_metadata.get(PROVIDER)
    if not isinstance(routing, dict) or "trace" not in routing:
        return None
    text = reasoning_of(message) + str(message.text)
    return RoutingTrace.model_validate({"text": text, **routing["trace"]})


def usage_metadata(trace: RoutingTrace) -> UsageMetadata:
    """Return logical usage: the prompt once, and the tokens that are in the message."""
    usage = trace.usage
    output = usage.thinking_tokens + usage.answer_tokens
    return UsageMetadata(
        input_tokens=trace.prompt_tokens,
        output_tokens=output,
        total_tokens=trace.prompt_tokens + output,
        output_token_details=OutputTokenDetails(reasoning=usage.thinking_tokens),
    )


def _reasoning(step: StepTrace, text: str) -> dict[str, Any]:
    entropy = step.probe.entropy if step.probe else None
    return {
        "type": "reasoning",
        "reasoning": text,
        "index": step.index + 1,
        "extras": _extras(step.index, step.writer, entropy),
    }


def _extras(index: int, writer: str, entropy: float | None) -> dict[str, Any]:
    return {PROVIDER: {"step": index, "model": writer, "entropy": entropy}}


def _chunk(message: AIMessageChunk) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=message)
