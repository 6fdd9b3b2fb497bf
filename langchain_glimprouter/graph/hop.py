"""One super-step of a thought: a saved turn goes on with one writer, and is saved again."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_glimprouter.chat_models import configured
from langchain_glimprouter.graph.chunks import bare, rename_calls
from langchain_glimprouter.graph.context import run_context, steered
from langchain_glimprouter.graph.state import (
    PendingDecision,
    SavedTurn,
    checked,
    conversation_of,
    fingerprint,
)
from langchain_glimprouter.messages.tool_format import find_format
from langchain_glimprouter.routing.events import TokenDelta, TurnFinished
from langchain_glimprouter.routing.router import Router
from langchain_glimprouter.routing.saving import save_turn
from langchain_glimprouter.running import deadline, teller
from langchain_glimprouter.visible import routing_decision, step_decision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from langchain_core.runnables import RunnableConfig

    from langchain_glimprouter.chat_models import ChatGlimpRouter
    from langchain_glimprouter.graph.state import Node, NodeInput
    from langchain_glimprouter.messages.assembler import Assembler
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.trace import RoutingTrace, StepTrace
    from langchain_glimprouter.routing.turn import Turn

_PREFIX = "lc_run--"  # as LangChain marks ids that no provider gave


class Hop:
    """What one node does with a turn.

    To be made in the node's own context. `begin` and `events` run on the engines' event loop.

    Args:
        model: The chat model.
        keywords: Options bound to it.
        node: The node.
        state: The graph's state.
        config: The node's config.

    Raises:
        ConfigurationError: If an option, the state or the context cannot work.
    """

    def __init__(
        self,
        model: ChatGlimpRouter,
        keywords: dict[str, Any],
        node: Node,
        state: NodeInput,
        config: RunnableConfig,
    ) -> None:
        self.model = model
        self.node = node
        self.keywords = configured(config, keywords)
        self.messages = conversation_of(state)
        call, self._conversation = model.settle(self.messages, self.keywords)
        self.call = replace(call, policy=steered(call.policy, run_context()))
        self._asked = checked(state.get("steer"))
        saved = state.get("thought")
        if saved is not None and saved["conversation"] != fingerprint(self.messages):
            saved = None  # a turn about another conversation; this one is not answered yet
        self.saved = saved
        self.message_id = saved["message_id"] if saved else f"{_PREFIX}{uuid.uuid4()}"
        self._tool_format = saved["tool_format"] if saved else None
        self._call_ids = list(saved["call_ids"]) if saved else []
        self._told = teller()
        self._turn: Turn | None = None
        self._known = 0
        self._trace: RoutingTrace | None = None

    @property
    def turn(self) -> Turn:
        """The turn, once it was taken up."""
        assert self._turn is not None
        return self._turn

    # -- on the engines' event loop ------------------------------------------------------------

    async def begin(self) -> bool:
        """Take the turn up, as far as somebody steered; tell whether this node has to write.

        Raises:
            ConfigurationError: If another pair of models began the turn.
            TurnTimeoutError: If rendering and starting takes longer than the call's `timeout`.
        """
        model, call, saved = self.model, self.call, self.saved
        async with deadline(call.timeout, saved["thought"]["seconds"] if saved else 0.0):
            if saved is None:
                request = await model.turn_request(call, self._conversation)
                turn = await model.router.open(request, call.policy)
                if call.answer.format is not None:
                    self._tool_format = call.answer.format.name
            else:
                turn = await model.router.resume(saved["thought"], call.options, call.policy)
                self._find_format(turn)
        self._turn = turn
        self._known = turn.count
        match self._asked:
            case "small" | "large" as role if turn.author is None and not turn.done:
                turn.steer(role)
            case "answer":
                turn.answer_now()
            case "stop":
                turn.interrupt("steered")
        return self.node == self._next()

    async def events(self) -> AsyncGenerator[Event]:
        """Let the node's writer write; behind it the turn lies between two steps.

        Raises:
            EngineError: If an engine fails.
            TurnTimeoutError: If the turn takes longer than the call's `timeout`.
        """
        turn, policy = self.turn, self.call.policy
        async with deadline(self.call.timeout, turn.spending.seconds):
            while not turn.done and self._next() == self.node:
                async with aclosing(Router.advance(turn, policy)) as events:
                    async for event in events:
                        yield event
                if self.node == "large":
                    break
        if turn.done:
            self._trace = turn.trace(policy.name)
            if self.node == "answer" and self.model.on_trace is not None:
                self.model.on_trace(self._trace)

    @property
    def _over(self) -> bool:
        """Whether the turn becomes a message here."""
        return self.node == "answer" and self.turn.done

    def _next(self) -> Node:
        turn = self.turn
        if turn.done or turn.author is not None:
            return "answer"
        return self.call.policy.next_writer(turn)

    def _find_format(self, turn: Turn) -> None:
        """Find out again how the answer writes tool calls, without rendering anything."""
        if self._tool_format is None:
            return
        vocabularies, answer_by = turn.pair.vocabularies, turn.room.answer_by
        chosen = vocabularies.get("large" if answer_by == "route" else answer_by)
        self.call.answer.format = find_format(
            chosen or next(iter(vocabularies.values())), template=None, name=self._tool_format
        )

    def tell(self, event: Event) -> None:
        """Put an event on the custom stream, on whatever thread the caller is."""
        self._told(event)

    # -- in the node's context -----------------------------------------------------------------

    def assembler(self) -> Assembler:
        """Return what makes chunks, as it stands behind the answer's text so far."""
        assembler = self.model.assembler(self.keywords, self.call)
        turn = self.turn
        if turn.phase == "answer" and turn.writer is not None:
            thought = sum(step.phase == "thinking" for step in turn.steps)
            text = "".join(turn.log.texts[thought:])
            assembler.push(TokenDelta(turn.count, "answer", turn.writer, text))
        return assembler

    def chunk(self, assembler: Assembler, event: Event) -> ChatGenerationChunk | None:
        """Return an event's chunk, if it has one, after the custom stream heard of the event."""
        self.tell(event)
        return self._marked(assembler.push(event))

    def last(self, assembler: Assembler) -> Iterator[ChatGenerationChunk]:
        """Return what ends the node's chunks; numbers come once, with the answer's last one."""
        trace = self._trace
        if trace is not None and self._new:
            end = self._marked(assembler.push(TurnFinished(trace)))
            assert end is not None
            if not self._over:  # text that was held back belongs here, the rest does not
                end.message = bare(end.message)
            yield end
            return
        message = AIMessageChunk(content=self._nothing, chunk_position="last")
        if trace is not None and self._over:
            whole = self.model.assembler(self.keywords, self.call).message(trace)
            message.response_metadata = whole.response_metadata
            message.usage_metadata = whole.usage_metadata
        end = self._marked(ChatGenerationChunk(message=message))
        assert end is not None
        yield end

    def said(self, message: AIMessage) -> None:
        """Take note under which id the node's text streamed: `stream_events` v3 gives its own."""
        self.message_id = message.id or self.message_id

    def message(self) -> AIMessage:
        """Return the turn's whole message, or what this node wrote while it goes on."""
        assembler = self.model.assembler(self.keywords, self.call)
        if self._trace is not None and self._over:
            message = assembler.message(self._trace)
            rename_calls(message, self._call_ids)
        else:
            new = self._new
            text = {
                phase: "".join(
                    self.turn.log.texts[step.index] for step in new if step.phase == phase
                )
                for phase in ("thinking", "answer")
            }
            message = AIMessage(
                content=text["answer"], additional_kwargs={"reasoning_content": text["thinking"]}
            )
        message.id = self.message_id
        return message

    def update(self) -> dict[str, Any]:
        """Return what becomes of the state."""
        turn = self.turn
        update: dict[str, Any] = {
            "routing": [step_decision(step) for step in self._new],
            "pending": self._pending(turn),
            "steer": None,
        }
        if self._over:
            return {**update, "messages": [self.message()], "thought": None}
        update["thought"] = SavedTurn(
            thought=save_turn(turn),
            next=self._next(),
            message_id=self.message_id,
            conversation=fingerprint(self.messages),
            tool_format=self._tool_format,
            call_ids=self._call_ids,
        )
        return update

    @staticmethod
    def _pending(turn: Turn) -> PendingDecision | None:
        decision = turn.pending
        if decision is None or turn.done:
            return None
        return PendingDecision(
            **routing_decision(turn.count, turn.phase, decision),
            candidates=[[text, probability] for text, probability in decision.candidates],
        )

    @property
    def _new(self) -> list[StepTrace]:
        """Steps that this node wrote."""
        return self.turn.log.since(self._known)

    @property
    def _nothing(self) -> str | list[str | dict[str, Any]]:
        version = self.keywords.get("output_version", self.model.output_version)
        return [] if version == "v1" else ""

    def _marked(self, chunk: ChatGenerationChunk | None) -> ChatGenerationChunk | None:
        """Mark a chunk as part of the turn's one message."""
        if chunk is not None:
            chunk.message.id = self.message_id
            if isinstance(chunk.message, AIMessageChunk):
                calls = chunk.message.tool_call_chunks
                self._call_ids += [call["id"] for call in calls if call["id"]]
        return chunk
