"""What LangChain asks of a model: cache keys, copies, token counts, parameters, a light import."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_glimprouter import GlimpRouter
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.models import LARGE, SMALL, engine, router
from unit_tests.test_chat_model import QUESTION, writers


def test_the_cache_tells_routers_apart() -> None:
    cache = InMemoryCache()
    base: dict[str, Any] = {"cache": cache}
    variants: list[dict[str, Any]] = [
        {},
        {"threshold": 2.5},
        {"policy": "always small"},
        {"policy": GlimpRouter(Fixed(0.5))},
        {"model": "small"},
        {"temperature": 0.5},
        {"max_thinking_tokens": 2},
        {"seed": 3},
        {"stop": ["x"]},
        {"thinking": False},
        {"chat_template_kwargs": {"x": 1}},
        {"output_version": "v1"},
        {"include_trace": False},
        {"stream_usage": False},
        {"small": engine(SMALL, name="another")},
    ]
    for count, options in enumerate(variants):
        assert len(cache._cache) == count
        router(**{**base, **options}).invoke(QUESTION)
    assert len(cache._cache) == len(variants)
    for options in variants:
        model = router(**{**base, **options})
        before: Any = model.large
        message = model.invoke(QUESTION)
        assert before.requests == []  # a hit
        assert message.content
    assert len(cache._cache) == len(variants)


def test_overrides_per_call_have_their_own_cache_entries() -> None:
    model = router(cache=InMemoryCache())
    assert writers(model.invoke(QUESTION)) == "slssl"
    assert writers(model.invoke(QUESTION, threshold=2.9)) == "ssssl"
    assert writers(model.invoke(QUESTION, {"configurable": {"model": "small"}})) == "sssss"
    assert writers(model.invoke(QUESTION)) == "slssl"


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_work(clone: Any) -> None:
    model = router(threshold=2.9)
    model.invoke(QUESTION)
    twin = clone(model)
    assert twin.threshold == 2.9
    assert writers(twin.invoke(QUESTION)) == "ssssl"
    assert twin._get_llm_string() == model._get_llm_string()
    assert writers(model.model_copy(update={"threshold": 1.0}).invoke(QUESTION)) == "slssl"


def test_tokens_are_counted_as_the_large_model_counts() -> None:
    model = router(engine(SMALL, unit="words"), engine(LARGE, unit="characters"))
    assert model.get_num_tokens("a bc d") == 6
    messages = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
    counted = model.get_num_tokens_from_messages(messages)
    message = model.invoke(messages)
    assert message.usage_metadata is not None
    assert counted == message.usage_metadata["input_tokens"]


def test_langsmith_parameters() -> None:
    model = router(temperature=0.5, max_tokens=9, stop=["x"])
    assert model._get_ls_params() == {
        "ls_provider": "glimprouter",
        "ls_model_type": "chat",
        "ls_model_name": "tiny + huge",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
        "glimprouter_policy": "glimprouter",
        "glimprouter_threshold": 1.0,
        "glimprouter_small": "tiny",
        "glimprouter_large": "huge",
    }
    called = model._get_ls_params(stop=["y"], model="small", temperature=0.0, max_tokens=3)
    assert called["ls_model_name"] == "small"
    assert (called["ls_temperature"], called["ls_max_tokens"], called["ls_stop"]) == (0.0, 3, ["y"])
    message = model.invoke(QUESTION, model="small")
    assert "small" in message.response_metadata["model_name"]


def test_the_profile_is_known_and_valid() -> None:
    profile = router(max_tokens=77).profile
    assert profile is not None
    assert profile["reasoning_output"] is True
    assert profile["max_output_tokens"] == 77
    assert profile["image_inputs"] is False
    assert router().metadata is not None
