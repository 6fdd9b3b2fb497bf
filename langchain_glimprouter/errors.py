"""What can go wrong, in two families: the caller's mistakes and the engines' troubles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.routing.trace import RoutingTrace

Role = Literal["small", "large"]
"""The place of a model in the pair."""


class GlimpRouterError(Exception):
    """Base of every error that this package raises itself."""


class ConfigurationError(GlimpRouterError, ValueError):
    """An option or an input cannot work; the message names it and the fix."""


class PromptTooLongError(ConfigurationError):
    """The prompt does not fit a model's context window."""


class EngineError(GlimpRouterError, RuntimeError):
    """An engine failed while starting or generating.

    Attributes:
        role: Which model of the pair failed, once a router knows it.
        model: The model's name.
        trace: The record of the turn up to here (a `RoutingTrace`), where one had begun.
    """

    def __init__(self, message: str, *, model: str | None = None, role: Role | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.role = role
        self.trace: RoutingTrace | None = None

    def __str__(self) -> str:
        message = super().__str__()
        if self.role is None:
            return message
        return f"{self.role} engine: {message}"


class EngineDeadError(EngineError):
    """The engine's process or server is gone; `close()` it, and the next use starts it afresh."""


class EngineRequestError(EngineError):
    """The engine lives, but refused or broke off this one request."""


class TurnTimeoutError(GlimpRouterError, TimeoutError):
    """A turn took longer than `timeout`."""


class BudgetExceededError(GlimpRouterError):
    """A budget of the large model is spent, and an agent was told to stop there.

    Attributes:
        spent: By `run` and `thread`: large-model tokens, seconds, interventions.
    """

    def __init__(self, message: str, *, spent: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__(message)
        self.spent = spent
