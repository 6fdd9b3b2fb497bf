"""LangChain's own tests of a chat model, over real engines with two vocabularies."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_glimprouter import ChatGlimpRouter, VLLMEngine


class TestStandard(ChatModelIntegrationTests):
    """SmolLM2 and Qwen2.5-Coder-0.5B as a pair."""

    @pytest.fixture(autouse=True)
    def _engines(self, smollm_engine: VLLMEngine, small_engine: VLLMEngine) -> None:
        self.engines = {"small": smollm_engine, "large": small_engine}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatGlimpRouter

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**self.engines, "threshold": 1.5, "max_tokens": 12}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_tool_choice(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return False

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "small"
