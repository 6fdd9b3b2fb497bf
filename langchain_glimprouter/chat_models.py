"""LangChain's face: a chat model whose thought two models write."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Self

from langchain_core.language_models import LanguageModelInput
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import ensure_config

from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.introspection import Introspection
from langchain_glimprouter.messages.assembler import Assembler
from langchain_glimprouter.messages.convert import to_template_messages
from langchain_glimprouter.messages.tool_use import settle_tools
from langchain_glimprouter.prepare import prepare
from langchain_glimprouter.routing.events import Event, TurnFinished
from langchain_glimprouter.routing.options import TurnRequest
from langchain_glimprouter.routing.router import Router
from langchain_glimprouter.running import run_turn, teller
from langchain_glimprouter.settings import Call
from langchain_glimprouter.structured import Method, structured

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Generator,
        Iterator,
        Mapping,
        Sequence,
    )

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.tools import BaseTool
    from pydantic import BaseModel

_CONFIGURABLE = ("threshold", "policy", "model")


class ChatGlimpRouter(Introspection):
    """A reasoning model that lets a small model write every step it can (arXiv 2601.05110).

    The small model glimpses the first token of each step of the thought. Where the entropy of that
    token's distribution lies above `threshold`, the large model writes the step. The large model
    writes the answer. Models that do not think have the steps of their answer routed.

    Example:
        ```python
        from langchain_glimprouter import ChatGlimpRouter

        model = ChatGlimpRouter(
            small="Qwen/Qwen3-4B-Thinking-2507",
            large="deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
            threshold=1.0,
        )
        message = model.invoke("How many primes lie between 10 and 50?")
        message.response_metadata["glimprouter"]["intervention_rate"]
        ```

    Every option from `threshold` to `chat_template_kwargs` can be overridden for one call by a
    keyword, or through `bind`; `threshold`, `policy` and `model` also through
    `config={"configurable": {...}}`.
    """

    # -- the event stream ----------------------------------------------------------------------

    def events(self, input: LanguageModelInput, **options: Any) -> Generator[Event]:
        """Run one turn and yield its routing events.

        Args:
            input: Messages, a string, or a prompt value.
            **options: Per-call options.
        """
        call, conversation = self.settle(self._convert_input(input).to_messages(), options)
        return get_runtime().iterate(self._run(call, conversation))

    def aevents(self, input: LanguageModelInput, **options: Any) -> AsyncGenerator[Event]:
        """Run one turn and yield its routing events, on any event loop."""
        call, conversation = self.settle(self._convert_input(input).to_messages(), options)
        return get_runtime().aiterate(self._run(call, conversation))

    def settle(
        self, messages: Sequence[BaseMessage], keywords: Mapping[str, Any]
    ) -> tuple[Call, list[dict[str, Any]]]:
        """Check and merge everything that needs no engine.

        Args:
            messages: The conversation.
            keywords: Per-call options, `stop` among them.

        Raises:
            ConfigurationError: If something cannot work.
        """
        options = {name: value for name, value in keywords.items() if name != "stop"}
        return self._settle(keywords.get("stop"), options), to_template_messages(messages)

    async def turn_request(
        self, call: Call, conversation: Sequence[Mapping[str, Any]]
    ) -> TurnRequest:
        """Render a conversation for the models of a call; on the engines' event loop."""
        vocabularies = await self.router.vocabularies(Router.roles(call.policy, call.options))
        return await asyncio.to_thread(prepare, call, conversation, vocabularies)

    def _run(
        self, call: Call, conversation: Sequence[Mapping[str, Any]]
    ) -> Callable[[], AsyncGenerator[Event]]:
        """Return what makes the event stream of a call."""
        return lambda: run_turn(
            self.router,
            call,
            lambda: self.turn_request(call, conversation),
            on_trace=self.on_trace,
        )

    # -- LangChain's protocol ------------------------------------------------------------------

    def assembler(self, keywords: Mapping[str, Any], call: Call | None = None) -> Assembler:
        """Return what turns a call's events into chunks and a message.

        Args:
            keywords: Per-call options.
            call: The settled call, where its answer may call tools.
        """
        version = keywords.get("output_version", self.output_version)
        return Assembler(
            blocks=version == "v1",
            model_name=self._model_name(keywords.get("model", self.model)),
            include_trace=self.include_trace,
            usage=bool(keywords.get("stream_usage", self.stream_usage)),
            answer=call.answer if call is not None else None,
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        assembler, tell = self.assembler(kwargs, call), teller()
        with closing(get_runtime().iterate(self._run(call, conversation))) as events:
            for event in events:
                tell(event)
                if (chunk := assembler.push(event)) is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        assembler, tell = self.assembler(kwargs, call), teller()
        turn = get_runtime().aiterate(self._run(call, conversation))
        async with aclosing(turn) as events:
            async for event in events:
                tell(event)
                if (chunk := assembler.push(event)) is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        make = self._run(call, conversation)
        return get_runtime().run(_finish(make, self.assembler(kwargs, call), teller()))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        make = self._run(call, conversation)
        return await get_runtime().bridge(_finish(make, self.assembler(kwargs, call), teller()))

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Run one turn; see `BaseChatModel.invoke`."""
        return super().invoke(input, config, stop=stop, **configured(config, kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Run one turn; see `BaseChatModel.ainvoke`."""
        return await super().ainvoke(input, config, stop=stop, **configured(config, kwargs))

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Stream one turn; see `BaseChatModel.stream`."""
        return super().stream(input, config, stop=stop, **configured(config, kwargs))

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Stream one turn; see `BaseChatModel.astream`."""
        return super().astream(input, config, stop=stop, **configured(config, kwargs))

    # -- tools and the shape of the answer -----------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give the models tools to call.

        Args:
            tools: Functions with docstrings, Pydantic classes, tools, or OpenAI-style dictionaries.
            tool_choice: `None` or `"auto"`: the model decides; `"none"`: no call; `"any"`,
                `"required"` or `True`: at least one call, enforced by a grammar; a tool's name, or
                OpenAI's dictionary that holds one: that tool, enforced.
            strict: Whether a call's arguments must follow the tool's schema, enforced too where
                the model decides to call.
            parallel_tool_calls: `False` allows one call an answer.
            **kwargs: More per-call options.

        Raises:
            ConfigurationError: If a tool or the choice cannot work.
        """
        given = {
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
            "strict": strict,
        }
        options = {name: value for name, value in given.items() if value is not None}
        use = settle_tools(
            tools,
            tool_choice,
            strict=strict,
            parallel=parallel_tool_calls,
            response_format=kwargs.get("response_format"),
            unique=False,  # LangChain binds what it never calls; a call refuses
        )
        return self.bind(tools=list(use.tools), **options, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers follow a schema, enforced while they are written.

        Args:
            schema: A Pydantic class, a TypedDict, or a JSON schema with a title.
            method: `json_schema`: the answer itself is JSON of the schema; `function_calling`: it
                is a call of a tool with that schema; `json_mode`: any JSON object, of a shape that
                the prompt asks for.
            include_raw: Whether to return `{"raw", "parsed", "parsing_error"}` and raise nothing.
            strict: Taken for compatibility; schemas are always enforced.
            **kwargs: More per-call options.

        Raises:
            ConfigurationError: If the schema or the method cannot work.
        """
        return structured(
            self, schema, method=method, include_raw=include_raw, strict=strict, **kwargs
        )

    # -- life of the engines -----------------------------------------------------------------------

    def close(self) -> None:
        """Release both engines; the next call starts them afresh."""
        get_runtime().run(self._router.aclose())

    async def aclose(self) -> None:
        """Release both engines; the next call starts them afresh."""
        await get_runtime().bridge(self._router.aclose())

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release both engines."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the model."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release both engines."""
        await self.aclose()


async def _finish(
    make: Callable[[], AsyncGenerator[Event]], assembler: Assembler, tell: Callable[[Event], None]
) -> ChatResult:
    message: AIMessage | None = None
    async with aclosing(make()) as events:
        async for event in events:
            tell(event)
            if isinstance(event, TurnFinished):
                message = assembler.message(event.trace)
    assert message is not None
    return ChatResult(generations=[ChatGeneration(message=message)])


def configured(config: RunnableConfig | None, keywords: dict[str, Any]) -> dict[str, Any]:
    """Take per-call options from `config["configurable"]`; keywords win."""
    chosen = ensure_config(config).get("configurable") or {}
    found = {name: chosen[name] for name in _CONFIGURABLE if name in chosen}
    if found.get("model") not in (None, "small", "large"):
        del found["model"]  # somebody else's: agents use this name for theirs
    return {**found, **keywords}
