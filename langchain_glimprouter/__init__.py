"""Step-level routing between a small and a large model, as one LangChain chat model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_glimprouter._version import __version__
from langchain_glimprouter.chat_models import ChatGlimpRouter
from langchain_glimprouter.engines.reward import RewardModel
from langchain_glimprouter.engines.scripted import Fault, ScriptedEngine, ScriptedStep
from langchain_glimprouter.engines.vllm_local import VLLMEngine
from langchain_glimprouter.engines.vllm_reward_model import VLLMRewardModel
from langchain_glimprouter.engines.vllm_reward_server import VLLMRewardServer
from langchain_glimprouter.engines.vllm_server import VLLMServer
from langchain_glimprouter.errors import (
    BudgetExceededError,
    ConfigurationError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
    GlimpRouterError,
    PromptTooLongError,
    TurnTimeoutError,
)
from langchain_glimprouter.messages.assembler import trace_of
from langchain_glimprouter.routing.budget import Budget, Limit
from langchain_glimprouter.routing.calibrated import Calibrated
from langchain_glimprouter.routing.judging import Judge
from langchain_glimprouter.routing.policies import (
    RSD,
    Always,
    GlimpRouter,
    Random,
    Reference,
    SpecCoT,
    SpecReason,
    StepEntropy,
    StepPerplexity,
    TwoSided,
)
from langchain_glimprouter.routing.prices import Prices
from langchain_glimprouter.routing.scoring import FunctionScorer, JudgeScorer, ModelScorer
from langchain_glimprouter.routing.steps import (
    BlankLines,
    CueWords,
    EndsWhen,
    MaxTokens,
    MinTokens,
    Newlines,
    Sentences,
)
from langchain_glimprouter.routing.target_rate import TargetRate
from langchain_glimprouter.routing.thresholds import Fixed
from langchain_glimprouter.routing.trace import RoutingTrace
from langchain_glimprouter.visible import RoutingDecision

if TYPE_CHECKING:
    from langchain_glimprouter.graph import GlimpRouterContext as GlimpRouterContext
    from langchain_glimprouter.graph import GlimpRouterState as GlimpRouterState
    from langchain_glimprouter.graph import create_glimprouter as create_glimprouter
    from langchain_glimprouter.graph import glimprouter_node as glimprouter_node
    from langchain_glimprouter.graph import steer as steer
    from langchain_glimprouter.middleware import GlimpRouterMiddleware as GlimpRouterMiddleware

__all__ = [
    "RSD",
    "Always",
    "BlankLines",
    "Budget",
    "BudgetExceededError",
    "Calibrated",
    "ChatGlimpRouter",
    "ConfigurationError",
    "CueWords",
    "EndsWhen",
    "EngineDeadError",
    "EngineError",
    "EngineRequestError",
    "Fault",
    "Fixed",
    "FunctionScorer",
    "GlimpRouter",
    "GlimpRouterContext",
    "GlimpRouterError",
    "GlimpRouterState",
    "Judge",
    "JudgeScorer",
    "Limit",
    "MaxTokens",
    "MinTokens",
    "ModelScorer",
    "Newlines",
    "Prices",
    "PromptTooLongError",
    "Random",
    "Reference",
    "RewardModel",
    "RoutingDecision",
    "RoutingTrace",
    "ScriptedEngine",
    "ScriptedStep",
    "Sentences",
    "SpecCoT",
    "SpecReason",
    "StepEntropy",
    "StepPerplexity",
    "TargetRate",
    "TurnTimeoutError",
    "TwoSided",
    "VLLMEngine",
    "VLLMRewardModel",
    "VLLMRewardServer",
    "VLLMServer",
    "__version__",
    "create_glimprouter",
    "glimprouter_node",
    "steer",
    "trace_of",
]

_GRAPH = (
    "GlimpRouterContext",
    "GlimpRouterState",
    "create_glimprouter",
    "glimprouter_node",
    "steer",
)


def __getattr__(name: str) -> Any:
    """Import on demand what needs langgraph, which takes a while, or the package langchain."""
    if name in _GRAPH:
        from langchain_glimprouter import graph

        return getattr(graph, name)
    if name == "GlimpRouterMiddleware":
        from langchain_glimprouter.middleware import GlimpRouterMiddleware

        return GlimpRouterMiddleware
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
