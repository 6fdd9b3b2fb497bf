"""Routing events to LangChain's message chunks, and a finished turn to a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from langchain_glimprouter.messages.convert import reasoning_of
from langchain_glimprouter.routing.events import StepStarted, TokenDelta, TurnFinished
from langchain_glimprouter.routing.trace import RoutingTrace

if TYPE_CHECKING:
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
    """

    def __init__(
        self, *, blocks: bool, model_name: str, include_trace: bool, usage: bool = True
    ) -> None:
        self._blocks = blocks
        self._model_name = model_name
        self._include_trace = include_trace
        self._usage = usage
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
            case TokenDelta():
                return _chunk(self._delta(event))
            case TurnFinished(trace=trace):
                return self._last(trace)
        return None

    def message(self, trace: RoutingTrace) -> AIMessage:
        """Return the whole message of a turn; equal to the sum of its chunks."""
        content: str | list[str | dict[str, Any]] = trace.answer
        kwargs: dict[str, Any] = {}
        if self._blocks:
            content = [
                _reasoning(step, trace.step_text(step))
                for step in trace.steps
                if step.phase == "thinking" and step.end > step.start
            ]
            if trace.answer:
                content.append({"type": "text", "text": trace.answer, "index": 0})
        elif trace.thought:
            kwargs["reasoning_content"] = trace.thought
        return AIMessage(
            content=content,
            additional_kwargs=kwargs,
            response_metadata=self._metadata(trace),
            usage_metadata=usage_metadata(trace) if self._usage else None,
        )

    def _delta(self, event: TokenDelta) -> AIMessageChunk:
        if not self._blocks:
            if event.phase == "answer":
                return AIMessageChunk(content=event.text)
            return AIMessageChunk(content="", additional_kwargs={"reasoning_content": event.text})
        block: dict[str, Any]
        if event.phase == "answer":
            block = {"type": "text", "text": event.text, "index": 0}
        else:
            block = {"type": "reasoning", "reasoning": event.text, "index": self._index}
            if self._extras is not None:
                block["extras"], self._extras = self._extras, None
        return AIMessageChunk(content=[block], response_metadata={"output_version": "v1"})

    def _last(self, trace: RoutingTrace) -> ChatGenerationChunk:
        message = AIMessageChunk(
            content=[] if self._blocks else "",
            response_metadata=self._metadata(trace),
            usage_metadata=usage_metadata(trace) if self._usage else None,
            chunk_position="last",
        )
        return _chunk(message)

    def _metadata(self, trace: RoutingTrace) -> dict[str, Any]:
        routing = trace.summary()
        if self._include_trace:
            routing["trace"] = trace.model_dump(mode="json", exclude={"text"})
        metadata = {
            "model_provider": PROVIDER,
            "model_name": self._model_name,
            "finish_reason": _FINISH.get(trace.stop_reason, trace.stop_reason),
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
    return RoutingTrace.model_validate({**routing["trace"], "text": text})


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
