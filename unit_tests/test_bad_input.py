"""Users' mistakes: a sentence that names the option and the fix, before an engine starts."""

from __future__ import annotations

import http.server
import math
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from pydantic import ValidationError

from langchain_glimprouter import (
    Always,
    BlankLines,
    ChatGlimpRouter,
    ConfigurationError,
    EngineError,
    Fixed,
    GlimpRouter,
    PromptTooLongError,
    Random,
    VLLMServer,
)
from unit_tests.models import engine, router
from unit_tests.test_engine_errors import Strange

OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"threshold": -0.5}, r"threshold=-0.5 cannot work: .* 0 or above"),
    ({"threshold": math.nan}, r"threshold=nan cannot work: .* 0 or above"),
    ({"threshold": "high"}, r"threshold='high' cannot work: give an entropy in nats"),
    ({"threshold": True}, r"threshold=True cannot work"),
    ({"threshold": Fixed}, r"threshold=.*Fixed.* cannot work"),
    ({"policy": "glimprooter"}, r"unknown policy 'glimprooter'; did you mean 'glimprouter'"),
    ({"policy": "random"}, r"policy='random' needs a rate"),
    ({"policy": 3}, r"policy=3 is no policy: .*glimprouter"),
    ({"policy": Random}, r"policy=.*Random.* is no policy"),
    ({"model": "gpt-5"}, r"model='gpt-5' .*'small' or 'large'"),
    ({"steps": "\n\n"}, r"steps='\\n\\n' .*BlankLines\("),
    ({"steps": BlankLines}, r"steps=.*BlankLines\("),
    ({"stop": ["\n\n"]}, r"stop='\\n\\n' is also the delimiter of steps.*another"),
    ({"stop": [""]}, r"stop=\[''\].*non-empty"),
    ({"max_tokens": 0}, r"max_tokens=0 cannot work: .* 1 or more"),
    ({"max_thinking_tokens": -1}, r"max_thinking_tokens=-1 cannot work: .* 1 or more"),
    ({"max_step_tokens": 0}, r"max_step_tokens=0 cannot work: .* 1 or more"),
    ({"top_logprobs": 1}, r"top_logprobs=1 shows no entropy: give 2 or more"),
    ({"first_n_steps_large": -1}, r"first_n_steps_large=-1 cannot work: .*0 or more"),
    ({"temperature": -1.0}, r"temperature=-1.0 cannot work: .*at least 0"),
    ({"temperature": math.nan}, r"temperature=nan cannot work"),
    ({"top_p": 0.0}, r"top_p=0.0 cannot work: .*above 0 and at most 1"),
    ({"top_p": 1.5}, r"top_p=1.5 cannot work: .*at most 1"),
    ({"min_p": 2.0}, r"min_p=2.0 cannot work: .*at most 1"),
    ({"repetition_penalty": 0.0}, r"repetition_penalty=0.0 cannot work: .*above 0"),
    ({"timeout": 0.0}, r"timeout=0.0 cannot work: .*above 0"),
]
PER_CALL_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"answer_by": "lrage"}, r"unknown answer_by 'lrage'; did you mean 'large'"),
    ({"estimator": "uper"}, r"unknown estimator 'uper'; did you mean 'upper'"),
    ({"max_tokens": None}, r"max_tokens=None cannot work"),
    ({"max_tokens": "9"}, r"max_tokens='9' cannot work"),
    ({"top_k": 0.5}, r"top_k=0.5 cannot work"),
    ({"seed": "7"}, r"seed='7' cannot work"),
    ({"first_n_steps_large": 1.5}, r"first_n_steps_large=1.5 cannot work"),
    ({"chat_template_kwargs": "x"}, r"chat_template_kwargs='x' .*dictionary"),
    ({"tempertaure": 1}, r"unknown option 'tempertaure'; did you mean 'temperature'"),
    ({"max_think_tokens": 1}, r"did you mean 'max_thinking_tokens'"),
    ({"n": 2}, r"n=2: .*one answer.*batch"),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_options_are_checked_when_the_model_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        router(**options)


@pytest.mark.parametrize(("options", "words"), OPTIONS + PER_CALL_ONLY)
async def test_options_are_checked_in_every_call(options: dict[str, Any], words: str) -> None:
    model: Any = router()
    with pytest.raises(ConfigurationError, match=words):
        model.invoke("Hi", **options)
    with pytest.raises(ConfigurationError, match=words):
        list(model.bind(**options).stream("Hi"))
    with pytest.raises(ConfigurationError, match=words):
        await model.ainvoke("Hi", **options)
    with pytest.raises(ConfigurationError, match=words):
        model.events("Hi", **options)
    assert model.small.requests == model.large.requests == []


@pytest.mark.parametrize("name", ["threshold", "policy"])
def test_options_in_the_config_are_checked(name: str) -> None:
    config: Any = {"configurable": {name: -1}}
    with pytest.raises(ConfigurationError, match=f"{name}=-1"):
        router().invoke("Hi", config)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("treshold", "threshold"), ("smal", "small"), ("max_token", "max_tokens"), ("seeds", "seed")],
)
def test_unknown_options_come_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError, match=f"option '{name}'; did you mean '{nearest}'"):
        router(**{name: 1})


def test_one_answer_a_call() -> None:
    with pytest.raises(ConfigurationError, match=r"n=3: .*batch"):
        router(n=3)
    assert router(n=1).invoke("Hi", n=1).content


@pytest.mark.parametrize(
    "options", [{"max_tokens": "many"}, {"estimator": "x"}, {"answer_by": "x"}]
)
def test_wrong_types_name_the_option(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        router(**options)


def test_a_threshold_beside_a_policy_object() -> None:
    with pytest.raises(ConfigurationError, match=r"threshold and a policy object .*in the policy"):
        router(policy=GlimpRouter(Fixed(2.0)), threshold=1.0)
    with pytest.raises(ConfigurationError, match=r"threshold has no meaning .*always small"):
        router(policy=Always("small")).invoke("Hi", threshold=1.0)


@pytest.mark.parametrize(
    ("options", "ceiling"),
    [({"threshold": 3.0}, "3.00"), ({"top_logprobs": 5, "threshold": 1.7}, "1.61")],
)
def test_a_threshold_that_no_entropy_reaches_is_warned_of(
    options: dict[str, Any], ceiling: str
) -> None:
    with pytest.warns(UserWarning, match=rf"threshold=.*never.*= {ceiling} nats; lower the thresh"):
        router(**options)
    with pytest.warns(UserWarning, match=r"threshold="):
        router().invoke("Hi", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router(threshold=2.99)
        router(threshold=math.inf)  # on purpose
        router(threshold=5.0, estimator="upper")
        router(threshold=5.0, policy="always small")


# -- messages ------------------------------------------------------------------------------------


async def test_messages() -> None:
    model: Any = router()
    for messages, words in (
        ([], "messages is empty"),
        ([HumanMessage([{"type": "image", "url": "https://x.org/a.png"}])], "send text only"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            model.invoke(messages)
        with pytest.raises(ConfigurationError, match=words):
            async for _ in model.astream(messages):
                pass
        with pytest.raises(ConfigurationError, match=words):
            model.get_num_tokens_from_messages(messages)
    assert model.small.requests == []


@pytest.mark.parametrize("role", ["small", "large"])
def test_a_prompt_too_long(role: str) -> None:
    narrow = engine(context_window=20, name="narrow")
    model: Any = router(**{role: narrow})
    with pytest.raises(PromptTooLongError, match=rf"{role} model 'narrow': .*context window of 20"):
        model.invoke("word " * 50)
    assert isinstance(PromptTooLongError("x"), ValueError)
    other = "large" if role == "small" else "small"
    assert model.invoke("word " * 50, model=other).content


def test_an_engine_without_log_probabilities() -> None:
    small = Strange(["One.\n\n"], vocabulary=engine()._vocabulary, name="mute")
    small.mode = "no log-probabilities"
    with pytest.raises(EngineError, match=r"small engine: .*no log-probabilities"):
        router(small).invoke("Hi")
    assert router(small).invoke("Hi", model="small").content == ""  # nothing is probed


# -- engines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 3, "", "  ", object(), engine])
@pytest.mark.parametrize("role", ["small", "large"])
def test_what_is_no_engine(role: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"{role}.*(path|URL)"):
        ChatGlimpRouter(**{"small": engine(), "large": engine(), role: value})


def test_a_missing_engine_is_named() -> None:
    with pytest.raises(ValidationError, match="large"):
        ChatGlimpRouter(small=engine())  # type: ignore[call-arg]


def test_one_server_cannot_hold_two_models() -> None:
    one = VLLMServer("http://127.0.0.1:9/v1", model="a")
    for url in ("http://127.0.0.1:9/v1", "http://127.0.0.1:9"):
        other = VLLMServer(url, model="b")
        with pytest.raises(ConfigurationError, match=r"same server .*'a', 'b'.*second server"):
            ChatGlimpRouter(small=one, large=other)
    ChatGlimpRouter(small=one, large=VLLMServer("http://127.0.0.1:9/v1", model="a"))
    ChatGlimpRouter(small=one, large=VLLMServer("http://127.0.0.1:8/v1", model="b"))


def test_a_path_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="no-such-model"):
        router(large="./no-such-model")


def test_vllm_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigurationError, match=r"langchain-glimprouter\[vllm\]"):
        router(large=str(tmp_path))


def test_nobody_answers() -> None:
    model = router(large="http://127.0.0.1:9/v1", max_retries=0)
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"large engine: .*127.0.0.1:9") as caught:
        model.invoke("Hi")
    assert caught.value.role == "large"
    assert time.monotonic() - started < 2


@pytest.fixture
def other_server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"object": "list", "data": [{"id": "m", "owned_by": "somebody"}]}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_is_not_vllm(other_server: str) -> None:
    model = router(small=other_server)
    with pytest.raises(ConfigurationError, match=r"not a vLLM server.*vllm serve"):
        model.invoke("Hi")
    model.close()
