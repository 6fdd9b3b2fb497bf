"""LangChain agents' face: thresholds and budgets of the large model, per run and per thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeAlias, get_args

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import ensure_config

from langchain_glimprouter.chat_models import ChatGlimpRouter, configured
from langchain_glimprouter.errors import BudgetExceededError, ConfigurationError
from langchain_glimprouter.messages.assembler import PROVIDER
from langchain_glimprouter.names import unknown
from langchain_glimprouter.routing.budget import Limit, Spent
from langchain_glimprouter.routing.policies.named import as_threshold
from langchain_glimprouter.routing.prices import Prices
from langchain_glimprouter.routing.thresholds import Threshold
from langchain_glimprouter.routing.trace import ModelUsage, TurnUsage

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ContextT,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        PrivateStateAttr,
        ResponseT,
        hook_config,
    )
except ImportError as error:
    if (error.name or "").partition(".")[0] != "langchain":
        raise
    _MISSING = "GlimpRouterMiddleware is for LangChain's agents: pip install 'langchain>=1.4'"
    raise ImportError(_MISSING, name=error.name) from error

from langgraph.channels.untracked_value import UntrackedValue
from langgraph.types import Command

if TYPE_CHECKING:
    from langgraph.runtime import Runtime
    from typing_extensions import TypeIs

__all__ = ["BudgetState", "ExitBehavior", "GlimpRouterMiddleware", "Limit"]

ExitBehavior = Literal["small", "end", "error"]
"""What a spent budget does: the small model goes on, the agent ends, or an error is raised."""

Rule: TypeAlias = Callable[[Any, Any], float | Threshold | None]
"""Chooses a threshold from an agent's state and runtime; `None` leaves it to others."""

_STEERING = ("threshold", "policy", "model")
_UNITS = {
    "large_tokens": "tokens of the large model",
    "seconds": "seconds of the large model",
    "interventions": "interventions",
    "cost": "in token cost",
}
_ANYTHING = (HumanMessage("?"),)


class BudgetState(AgentState[ResponseT]):
    """What the middleware remembers: plain data, hidden from the agent's input and output."""

    thread_large_model: NotRequired[Annotated[dict[str, float], PrivateStateAttr]]
    run_large_model: NotRequired[Annotated[dict[str, float], UntrackedValue, PrivateStateAttr]]


class GlimpRouterMiddleware(AgentMiddleware[AgentState[ResponseT], ContextT, ResponseT]):
    """Chooses the threshold of every model call, and holds the large model to budgets.

    Usage is read from the messages themselves, once for each. What is left of a budget also holds
    within a call: its threshold becomes a `Budget`, so that a limit is exceeded by one step and the
    answer at most. (A policy without a threshold is held to its budget between calls only.) Calls
    of other models than `ChatGlimpRouter`, for instance of a fallback, are left alone.

    The threshold is the first of: `model_settings["threshold"]` as another middleware set it; what
    the rule says; the run context's `threshold`; `config["configurable"]["threshold"]`; the number
    given here; the chat model's own.

    Example:
        ```python
        from langchain.agents import create_agent
        from langchain_glimprouter import GlimpRouterMiddleware, Limit

        agent = create_agent(
            model,
            tools=[search],
            middleware=[
                GlimpRouterMiddleware(
                    threshold=0.8,
                    run_limit=Limit(large_tokens=2_000),
                    thread_limit=Limit(seconds=600, interventions=200),
                )
            ],
        )
        ```

    Args:
        threshold: In nats, a threshold object, or a rule `(state, runtime) -> threshold`.
        run_limit: What the large model may do in one run (one `invoke`; a run that is resumed
            behind an interrupt is a new one).
        thread_limit: What it may do in a whole thread; kept by the agent's checkpointer.
        exit_behavior: What happens once a limit is reached: `small` lets the small model write
            everything from there on, `end` ends the agent with a message that says so, `error`
            raises `BudgetExceededError`.

    Raises:
        ConfigurationError: If an option cannot work.
    """

    state_schema = BudgetState  # type: ignore[assignment]  # as LangChain's own middleware does

    def __init__(
        self,
        *,
        threshold: float | Threshold | Rule | None = None,
        run_limit: Limit | None = None,
        thread_limit: Limit | None = None,
        exit_behavior: ExitBehavior = "small",
    ) -> None:
        super().__init__()
        self._rule = threshold if _is_rule(threshold) else None
        self._threshold = (
            None if threshold is None or _is_rule(threshold) else as_threshold(threshold)
        )
        limits: dict[str, Any] = {"run": run_limit, "thread": thread_limit}
        for scope, limit in limits.items():
            if not isinstance(limit, Limit | None):
                msg = (
                    f"{scope}_limit={limit!r} is no limit: give for instance "
                    f"Limit(large_tokens=2000)"
                )
                raise ConfigurationError(msg)
        if exit_behavior not in get_args(ExitBehavior):
            raise unknown("exit_behavior", str(exit_behavior), get_args(ExitBehavior))
        self._limits: dict[str, Limit] = {
            scope: limit or Limit() for scope, limit in limits.items()
        }
        self.exit_behavior = exit_behavior

    # -- hooks ---------------------------------------------------------------------------------

    @hook_config(can_jump_to=["end"])
    def before_model(
        self, state: AgentState[ResponseT], runtime: Runtime[ContextT]
    ) -> dict[str, Any] | None:
        """End the agent where a budget is spent and `exit_behavior` says so.

        Raises:
            BudgetExceededError: If a budget is spent and `exit_behavior` is `error`.
        """
        del runtime
        if self.exit_behavior == "small":
            return None
        spent = _spent_so_far(state)
        report = self._report(spent)
        if not report:
            return None
        if self.exit_behavior == "error":
            raise BudgetExceededError(
                f"{report}; raise the limit, or let the small model go on: exit_behavior='small'",
                spent={scope: used._asdict() for scope, used in spent.items()},
            )
        return {"jump_to": "end", "messages": [AIMessage(f"{report}.")]}

    @hook_config(can_jump_to=["end"])
    async def abefore_model(
        self, state: AgentState[ResponseT], runtime: Runtime[ContextT]
    ) -> dict[str, Any] | None:
        """See `before_model`."""
        return self.before_model(state, runtime)

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ModelResponse[ResponseT] | ExtendedModelResponse[ResponseT]:
        """Call the model with the threshold and the budget in force, and count what it used."""
        return self._counted(request, handler(self._steered(request)))

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelResponse[ResponseT] | ExtendedModelResponse[ResponseT]:
        """See `wrap_model_call`."""
        return self._counted(request, await handler(self._steered(request)))

    # -- within --------------------------------------------------------------------------------

    def _steered(self, request: ModelRequest[ContextT]) -> ModelRequest[ContextT]:
        model, bound = _unbound(request.model)
        if not isinstance(model, ChatGlimpRouter):
            return request
        settings = dict(request.model_settings)
        spent = _spent_so_far(request.state)
        if self._report(spent):
            settings["model"] = "small"
            return request.override(model_settings=settings)
        threshold = self._chosen(request)
        if threshold is not None:
            settings["threshold"] = threshold
        left = [self._limits[scope].left(used) for scope, used in spent.items()]
        if any(limit != Limit() for limit in left):
            keywords = configured(None, {**bound, **settings})
            steering = {name: keywords[name] for name in _STEERING if name in keywords}
            policy = model.settle(_ANYTHING, steering)[0].policy
            inner = getattr(policy, "threshold", None)
            if isinstance(inner, Threshold):
                for limit in left:
                    inner = limit.over(inner)
                settings["threshold"] = inner
        return request.override(model_settings=settings)

    def _chosen(self, request: ModelRequest[ContextT]) -> Threshold | None:
        """Return the threshold that was asked for from outside the chat model, if any."""
        value = request.model_settings.get("threshold")
        if value is None and self._rule is not None:
            value = self._rule(request.state, request.runtime)
        if value is None:
            value = _of_context(getattr(request.runtime, "context", None))
        if value is None:
            value = (ensure_config().get("configurable") or {}).get("threshold")
        return self._threshold if value is None else as_threshold(value)

    def _report(self, spent: Mapping[str, Spent]) -> str:
        """Say which limits are reached, and what was used; nothing if none is."""
        reached = [
            f"{used._asdict()[name]:g} of {getattr(self._limits[scope], name):g} {_UNITS[name]} "
            f"used in this {scope} ({scope}_limit)"
            for scope, used in spent.items()
            for name in self._limits[scope].reached(used)
        ]
        return f"The large model's budget is spent: {', '.join(reached)}" if reached else ""

    def _counted(
        self, request: ModelRequest[Any], response: ModelResponse[ResponseT]
    ) -> ModelResponse[ResponseT] | ExtendedModelResponse[ResponseT]:
        """Add what a response used to the state."""
        found = (getattr(message, "response_metadata", {}) for message in response.result)
        turns = [metadata.get(PROVIDER) for metadata in found]
        update = {}
        for scope, before in _spent_so_far(request.state).items():
            spent = before
            for turn in turns:
                if isinstance(turn, dict):
                    spent = spent.plus(_spent_by(turn, self._limits[scope].prices))
            if spent != before:
                update[f"{scope}_large_model"] = spent._asdict()
        return ExtendedModelResponse(response, Command(update=update)) if update else response


def _is_rule(threshold: float | Threshold | Rule | None) -> TypeIs[Rule]:
    return callable(threshold) and not isinstance(threshold, type | Threshold)


def _unbound(model: Any) -> tuple[Any, dict[str, Any]]:
    """Return the model behind `bind`, and what is bound to it."""
    bound: dict[str, Any] = {}
    while isinstance(model, RunnableBinding):
        bound = {**model.kwargs, **bound}
        model = model.bound
    return model, bound


def _of_context(context: object) -> Any:
    if isinstance(context, Mapping):
        return context.get("threshold")
    return getattr(context, "threshold", None)


def _spent_so_far(state: Mapping[str, Any]) -> dict[str, Spent]:
    """Return what the large model did in this run and in this thread."""
    return {scope: Spent(**state.get(f"{scope}_large_model", {})) for scope in ("run", "thread")}


def _spent_by(summary: Mapping[str, Any], prices: Prices | None) -> Spent:
    """Return what a turn's summary says; see `RoutingTrace.summary`."""
    models = {
        role: ModelUsage(
            **{name: count for name, count in tokens.items() if name in ModelUsage.model_fields},
            seconds=summary["seconds"][role],
            steps=summary["steps"][role],
        )
        for role, tokens in summary["tokens"].items()
    }
    return Spent.of(TurnUsage(**models), prices)
