"""LangChain's own standard tests, with scripted engines in place of models."""

from __future__ import annotations

import re
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_glimprouter import ChatGlimpRouter, ScriptedEngine, ScriptedStep
from unit_tests import brain
from unit_tests.models import engine


def thought(prompt: str) -> list[str | ScriptedStep]:
    """Think about the last question in two steps, the second of which is hard."""
    question = re.findall(r"<\|user\|>(.*?)<\|end\|>", prompt, re.DOTALL)[-1].split("\n")[0]
    return [f"They ask: {question[:40]}\n\n", ScriptedStep("Let me see.\n\n", 2.0)]


def engines() -> dict[str, ScriptedEngine]:
    return {
        "small": engine(thought, brain.answer, name="small-model"),
        "large": engine(thought, brain.answer, name="large-model"),
    }


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatGlimpRouter

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return engines()

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "small"

    @property
    def returns_usage_metadata(self) -> bool:
        return True


class TestIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatGlimpRouter

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return engines()

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "small"

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(
        self,
    ) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        model = ChatGlimpRouter(**engines())
        if not stream:
            return model.invoke("What is the fourth number?")
        chunks = list(model.stream("What is the fourth number?"))
        total: AIMessage = sum(chunks[1:], chunks[0])
        return total


class TestIntegrationV1(TestIntegration):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**engines(), "output_version": "v1"}


class TestIntegrationNoThought(TestIntegration):
    """Models that do not think, whose answers are routed; with different vocabularies."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "small": engine(brain.steps, brain.answer, name="small-model", thinks=False),
            "large": engine(
                brain.steps, brain.answer, name="large-model", thinks=False, unit="characters"
            ),
        }

    @property
    def supported_usage_metadata_details(
        self,
    ) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {"invoke": [], "stream": []}
