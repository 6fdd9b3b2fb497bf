"""Thresholds, options and models: `GlimpRouterMiddleware` in `create_agent`."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    ModelResponse,
)
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage

import langchain_glimprouter
from langchain_glimprouter import (
    Budget,
    ConfigurationError,
    Fault,
    Fixed,
    GlimpRouter,
    GlimpRouterMiddleware,
    Limit,
)
from unit_tests.agents import HARD, agent, hard, run, threshold_of
from unit_tests.models import engine, router

# -- thresholds ------------------------------------------------------------------------------------


@dataclass
class Context:
    threshold: Any = None


class Setting(AgentMiddleware):
    """Another middleware, which chooses a threshold as well."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> ModelResponse[Any]:
        settings = {**request.model_settings, "threshold": 0.11}
        return handler(request.override(model_settings=settings))  # type: ignore[no-any-return]


CASES: list[tuple[Any, dict[str, Any], float]] = [
    (None, {}, 1.0),
    (0.5, {}, 0.5),
    (0, {}, 0.0),
    (Fixed(0.6), {}, 0.6),
    (Budget(Fixed(0.7), interventions=5), {}, 0.7),
    (0.5, {"context": {"threshold": 0.3}}, 0.3),
    (0.5, {"context": Context(0.3)}, 0.3),
    (0.5, {"context": Context(Fixed(0.3))}, 0.3),
    (0.5, {"context": Context()}, 0.5),
    (0.5, {"context": {"other": 1}}, 0.5),
    (None, {"context": Context(0)}, 0.0),
    (0.5, {"configurable": {"threshold": 0.4}}, 0.4),
    (None, {"configurable": {"threshold": 0.4}}, 0.4),
    (0.5, {"configurable": {"threshold": 0.4}, "context": Context(0.3)}, 0.3),
    (lambda _state, _runtime: 0.2, {"context": Context(0.3)}, 0.2),
    (lambda _state, _runtime: Fixed(0.2), {}, 0.2),
    (lambda _state, _runtime: None, {"context": Context(0.3)}, 0.3),
    (lambda _state, _runtime: None, {}, 1.0),
    (lambda _state, runtime: runtime.context.threshold / 2, {"context": Context(0.8)}, 0.4),
    (lambda state, _runtime: len(state["messages"]) / 8, {}, 0.125),
]


@pytest.mark.parametrize("limit", [None, Limit(large_tokens=500)])
@pytest.mark.parametrize(("threshold", "options", "expected"), CASES)
def test_the_nearest_threshold_wins(
    threshold: Any, options: dict[str, Any], expected: float, limit: Limit | None
) -> None:
    routed = agent(GlimpRouterMiddleware(threshold=threshold, run_limit=limit))
    (message,) = run(routed, **options)
    assert threshold_of(message) == expected


@pytest.mark.parametrize("limit", [None, Limit(large_tokens=500)])
def test_what_another_middleware_set_for_the_call_stays(limit: Limit | None) -> None:
    ours = GlimpRouterMiddleware(threshold=0.5, run_limit=limit)
    assert threshold_of(run(agent(Setting(), ours))[0]) == 0.11


def test_a_rule_sees_the_state_of_every_call() -> None:
    routed = agent(GlimpRouterMiddleware(threshold=lambda s, _: len(s["messages"]) / 10), calls=3)
    assert [threshold_of(message) for message in run(routed)] == [0.1, 0.3, 0.5]


@pytest.mark.parametrize("bad", [-0.1, float("nan"), "high", True])
def test_no_threshold_is_refused_wherever_it_comes_from(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="threshold="):
        GlimpRouterMiddleware(threshold=bad)
    with pytest.raises(ConfigurationError, match="threshold="):
        run(agent(GlimpRouterMiddleware()), context=Context(bad))
    with pytest.raises(ConfigurationError, match="threshold="):
        run(agent(GlimpRouterMiddleware(threshold=lambda _s, _r: bad)))


def test_a_threshold_for_a_policy_without_one_is_refused() -> None:
    routed = agent(GlimpRouterMiddleware(threshold=0.5), model=hard(policy="always large"))
    with pytest.raises(ConfigurationError, match="threshold has no meaning"):
        run(routed)


# -- options and other models ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run_limit", "thread_limit"])
@pytest.mark.parametrize("bad", [5, {"large_tokens": 5}, Limit])
def test_what_is_no_limit_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}=.*Limit\(large_tokens=2000\)"):
        GlimpRouterMiddleware(**{name: bad})


def test_exit_behaviors_have_names() -> None:
    with pytest.raises(ConfigurationError, match="exit_behavior 'ends'; did you mean 'end'"):
        GlimpRouterMiddleware(exit_behavior="ends")  # type: ignore[arg-type]


def test_other_models_are_left_alone() -> None:
    middleware = GlimpRouterMiddleware(threshold=0.5, run_limit=Limit(large_tokens=1))
    messages = run(agent(middleware, calls=3, model=FakeListChatModel(responses=["a", "b", "c"])))
    assert [message.text for message in messages] == ["a", "b", "c"]


@pytest.mark.parametrize("outer", [True, False])
def test_a_fallback_is_not_counted(outer: bool) -> None:
    model = router(engine(HARD, fault=Fault(0)))
    both = [
        ModelFallbackMiddleware(FakeListChatModel(responses=["fine"])),
        GlimpRouterMiddleware(run_limit=Limit(large_tokens=1)),
    ]
    routed = agent(*(both if outer else both[::-1]), model=model)
    # Within, the fallback gets our settings too; a chat model takes or ignores what it is sent.
    assert [message.text for message in run(routed)] == ["fine"]


def test_a_bound_model_keeps_what_is_bound() -> None:
    middleware: Any = GlimpRouterMiddleware(run_limit=Limit(interventions=2))
    seen: list[ModelRequest[Any]] = []

    def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
        seen.append(request)
        return ModelResponse([request.model.invoke("Go.", **request.model_settings)])

    bound: Any = hard().bind(policy=GlimpRouter(Fixed(0.4)))
    request = ModelRequest(model=bound, messages=[HumanMessage("Go.")])
    response = middleware.wrap_model_call(request, handler)
    assert seen[0].model_settings == {"threshold": Budget(Fixed(0.4), interventions=2)}
    assert response.command.update["run_large_model"]["interventions"] == 2


# -- the package langchain -------------------------------------------------------------------------


def test_without_langchain_the_error_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware.types", None)
    monkeypatch.delitem(sys.modules, "langchain_glimprouter.middleware")
    with pytest.raises(ImportError, match="pip install 'langchain"):
        importlib.import_module("langchain_glimprouter").GlimpRouterMiddleware  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'GlimpRouterMiddlewear'"):
        langchain_glimprouter.GlimpRouterMiddlewear  # noqa: B018
