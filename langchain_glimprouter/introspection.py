"""What LangChain and its tracers ask about a chat model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models.base import LangSmithParams

from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.messages.assembler import PROVIDER
from langchain_glimprouter.messages.convert import to_template_messages
from langchain_glimprouter.options import OUTPUT, SETTLED, ChatOptions
from langchain_glimprouter.prepare import prepare
from langchain_glimprouter.routing.router import ROLES

if TYPE_CHECKING:
    from collections.abc import (
        Sequence,
    )

    from langchain_core.language_models.model_profile import ModelProfile
    from langchain_core.messages import BaseMessage


class Introspection(ChatOptions):
    """Names, parameters, profile and token counts of `ChatGlimpRouter`."""

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        params = {name: getattr(self, name) for name in (*SETTLED, *OUTPUT)}
        params["stop_sequences"] = params.pop("stop")  # LangChain sets "stop" to the call's
        return {**params, **{role: self._router.engines[role].model for role in ROLES}}

    def _model_name(self, pinned: str | None = None) -> str:
        engines = self._router.engines
        if pinned in ROLES:
            return f"{pinned}: {engines[pinned].model}"
        return f"{engines['small'].model} + {engines['large'].model}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        pinned = kwargs.get("model", self.model)
        params = LangSmithParams(
            ls_provider=PROVIDER,
            ls_model_type="chat",
            ls_model_name=pinned if isinstance(pinned, str) else self._model_name(),
        )
        temperature = kwargs.get("temperature", self.temperature)
        if temperature is not None:
            params["ls_temperature"] = temperature
        params["ls_max_tokens"] = kwargs.get("max_tokens", self.max_tokens)
        if stops := stop or self.stop:
            params["ls_stop"] = stops
        threshold = kwargs.get("threshold", self.threshold)
        policy = kwargs.get("policy", self.policy)
        routing = {
            "glimprouter_policy": getattr(policy, "name", str(policy)),
            "glimprouter_threshold": (
                threshold if isinstance(threshold, int | float) else repr(threshold)
            ),
            **{f"glimprouter_{role}": self._router.engines[role].model for role in ROLES},
        }
        return cast("LangSmithParams", {**params, **routing})

    def _resolve_model_profile(self) -> ModelProfile | None:
        return {
            "text_inputs": True,
            "text_outputs": True,
            "image_inputs": False,
            "audio_inputs": False,
            "video_inputs": False,
            "reasoning_output": True,
            "tool_calling": True,
            "tool_choice": True,
            "tool_call_streaming": True,
            "structured_output": self.tool_parser in (None, "hermes", "qwen3_json"),
            "max_output_tokens": self.max_tokens,
        }

    def get_token_ids(self, text: str) -> list[int]:
        """Return the large model's token ids of a text."""
        vocabularies = get_runtime().run(self._router.vocabularies(("large",)))
        return vocabularies["large"].encode(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count a conversation's tokens as the large model's chat template renders it."""
        vocabularies = get_runtime().run(self._router.vocabularies(("large",)))
        call = self._settle(None, {"tools": tools} if tools else {})
        request = prepare(call, to_template_messages(messages), vocabularies)
        return len(request.prompts["large"].token_ids)
