"""What a run's context says about routing, and the call that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableBinding
from langgraph.runtime import get_runtime

from langchain_glimprouter.chat_models import ChatGlimpRouter
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.budget import Limit, Spent
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.policies.named import as_threshold, with_threshold
from langchain_glimprouter.routing.prices import Prices
from langchain_glimprouter.routing.thresholds import Fixed, Threshold

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable, RunnableConfig

    from langchain_glimprouter.routing.policies.base import Policy

_LIMITS = Spent._fields


@dataclass
class GlimpRouterContext:
    """Routing of one run: `graph.invoke(…, context=GlimpRouterContext(threshold=2.0))`.

    A budget holds for each turn by itself. Spent, it sends every further step to the small model;
    it is asked before each step, so one step may exceed it. What no threshold decides is counted,
    but not kept back: the first steps (`first_n_steps_large`), and the answer behind a thought.

    Attributes:
        threshold: τ in nats, or a threshold object, in place of the model's own.
        max_large_tokens: Tokens that the large model may write in a turn.
        max_seconds: Wall time of the large model's steps in a turn, in seconds.
        max_interventions: Routed steps that the large model may write in a turn.
        max_cost: What a turn's tokens may cost before the small model takes over.
        prices: What tokens cost; for `max_cost`.

    Raises:
        ConfigurationError: If a budget is zero or below, or the threshold is none.
    """

    threshold: float | Threshold | None = None
    max_large_tokens: int | None = None
    max_seconds: float | None = None
    max_interventions: int | None = None
    max_cost: float | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work before anything runs."""
        steered(GlimpRouter(), self)


def run_context() -> Any:
    """Return the context of the graph run that the caller is in; `None` if there is none."""
    try:
        runtime: Any = get_runtime()
    except (RuntimeError, KeyError):
        return None
    return getattr(runtime, "context", None)


def steered(policy: Policy, context: Any) -> Policy:
    """Return a policy as a context wants it.

    Args:
        policy: As the chat model and the call's options have it.
        context: A `GlimpRouterContext`, a dictionary, or any object, with some of its attributes.

    Raises:
        ConfigurationError: If a budget is zero or below, the threshold is none, or the policy has
            none.
    """
    threshold = _read(context, "threshold")
    if threshold is not None:
        policy = with_threshold(policy, as_threshold(threshold))
    limits: dict[str, Any] = {name: _read(context, f"max_{name}") for name in _LIMITS}
    if all(limit is None for limit in limits.values()):
        return policy
    if limits["cost"] is not None:
        limits["prices"] = _read(context, "prices")
    try:
        limit = Limit(**limits)
    except ConfigurationError as error:
        msg = str(error) if str(error).startswith("prices") else f"max_{error}"
        raise ConfigurationError(msg) from None
    inner = getattr(policy, "threshold", None) or Fixed(0.0)
    return with_threshold(policy, limit.over(inner))


def unbound(model: Runnable[Any, Any]) -> tuple[ChatGlimpRouter, dict[str, Any], RunnableConfig]:
    """Return the chat model inside bindings (`bind_tools`, `with_config`), and what they bind.

    Raises:
        ConfigurationError: If there is no `ChatGlimpRouter` inside.
    """
    keywords: dict[str, Any] = {}
    config: RunnableConfig = {}
    inner = model
    while isinstance(inner, RunnableBinding):
        keywords = {**inner.kwargs, **keywords}
        config = {**inner.config, **config}
        inner = inner.bound
    if not isinstance(inner, ChatGlimpRouter):
        msg = (
            f"model={type(inner).__name__} routes no steps: give a ChatGlimpRouter, or what its "
            f"bind_tools(), bind() or with_config() returns"
        )
        raise ConfigurationError(msg)
    return inner, keywords, config


def budgeted(keywords: Mapping[str, Any], policy: Policy, context: Any) -> dict[str, Any]:
    """Return a call's options with the threshold that a context asks for, if it does."""
    wanted = steered(policy, context)
    if wanted is policy:
        return dict(keywords)
    threshold = getattr(wanted, "threshold", None)
    assert threshold is not None  # no policy without one takes another
    return {**keywords, "threshold": threshold}


def _read(context: Any, name: str) -> Any:
    return context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)
