"""LangChain's own tests of a chat model, over real engines."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_glimprouter import ChatGlimpRouter, VLLMEngine
from langchain_glimprouter.engines.runtime import get_runtime


class TestStandard(ChatModelIntegrationTests):
    """Qwen2.5-Coder 0.5B calls tools; SmolLM2 writes some steps of texts, and what fits a schema.

    They are asked for few words: what a long answer shows, a short one shows as well.
    """

    @pytest.fixture(autouse=True)
    def _engines(
        self,
        request: pytest.FixtureRequest,
        small_engine: VLLMEngine,
        smollm_engine: VLLMEngine,
    ) -> None:
        if request.node.originalname.startswith("test_structured_output"):
            # Held to a schema, any model keeps to it, and the smallest one is done sooner.
            self.engines: dict[str, Any] = {"small": smollm_engine, "large": small_engine}
            return
        template = get_runtime().run(small_engine.vocabulary()).chat_template or ""
        brief = template.replace("You are a helpful assistant.", "You answer in five words.")
        assert brief != template
        self.engines = {"small": small_engine, "large": smollm_engine, "chat_template": brief}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatGlimpRouter

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # The small model writes calls and what a schema asks for.
        options = {"threshold": 2.0, "answer_by": "small", "temperature": 0.0, "max_tokens": 96}
        return {**self.engines, **options, "repetition_penalty": 1.2}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(
        self,
    ) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        model = ChatGlimpRouter(
            **{**self.chat_model_params, "max_tokens": 8, "max_thinking_tokens": 16}, thinking=True
        )
        if not stream:
            return model.invoke("What is 2 + 3?")
        full: AIMessageChunk | None = None
        for chunk in model.stream("What is 2 + 3?"):
            full = chunk if full is None else full + chunk
        assert full is not None
        return full

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "small"
