"""One writer's turn as a run of a chat model, so that callbacks, traces and streams see it."""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, Field, SkipValidation

from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.graph.hop import Hop
from langchain_glimprouter.messages.assembler import PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatGenerationChunk


class Writer(BaseChatModel):
    """Says what one node writes; its usage is the answer's to tell."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    hop: SkipValidation[Hop] = Field(exclude=True, repr=False)
    """The super-step, begun."""

    streaming: bool | None = None
    """As the chat model has it."""

    @classmethod
    def of(cls, hop: Hop) -> Writer:
        """Return the writer of a super-step, with the habits of its chat model."""
        model = hop.model
        habits: dict[str, Any] = {} if model.streaming is None else {"streaming": model.streaming}
        return cls(
            hop=hop,
            cache=False,  # what comes next depends on the thought, not only on the messages
            rate_limiter=model.rate_limiter if hop.saved is None else None,
            disable_streaming=model.disable_streaming,
            output_version=hop.keywords.get("output_version", model.output_version),
            callbacks=model.callbacks,
            tags=model.tags,
            metadata=model.metadata,
            verbose=model.verbose,
            **habits,
        )

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return self.hop.model._get_ls_params(stop, **{**self.hop.keywords, **kwargs})  # noqa: SLF001

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        get_runtime().run(self._write())
        return ChatResult(generations=[ChatGeneration(message=self.hop.message())])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await get_runtime().bridge(self._write())
        return ChatResult(generations=[ChatGeneration(message=self.hop.message())])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        hop, assembler = self.hop, self.hop.assembler()
        with closing(get_runtime().iterate(hop.events)) as events:
            for event in events:
                if (chunk := hop.chunk(assembler, event)) is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
        for chunk in hop.last(assembler):
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
        hop, assembler = self.hop, self.hop.assembler()
        async with aclosing(get_runtime().aiterate(hop.events)) as events:
            async for event in events:
                if (chunk := hop.chunk(assembler, event)) is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
        for chunk in hop.last(assembler):
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _write(self) -> None:
        async with aclosing(self.hop.events()) as events:
            async for event in events:
                self.hop.tell(event)
