"""`VLLMServer` where a real server can't be made to misbehave; streams are recorded from vLLM."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import pickle
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from langchain_glimprouter.engines.base import (
    Engine,
    GenerationDelta,
    GenerationRequest,
    Sampling,
    TopLogprobs,
)
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_protocol import (
    CompletionsEndpoint,
    Endpoint,
    TokensEndpoint,
)
from langchain_glimprouter.engines.vllm_server import VLLMServer
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
)

RECORDED = Path(__file__).parent / "recorded"
CHECK = (RECORDED / "completions_check.sse").read_bytes()
STREAM = (RECORDED / "completions_interval_1.sse").read_bytes()
FIRST = STREAM[: STREAM.index(b"\n\n") + 2]
TOKENS = [28, 9653, 8363, 89, 40656, 35664]
EVENTS = {"content-type": "text/event-stream"}
URL = "http://gpu:8000"
KEY = "s3cr3t-k3y"

Reply = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Stream(httpx.AsyncByteStream):
    """A body that comes in pieces, and may break or hang."""

    def __init__(self, *pieces: bytes | Exception | float) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                yield piece

    async def aclose(self) -> None:
        self.closed = True


def sse(*pieces: bytes | Exception | float) -> httpx.Response:
    return httpx.Response(200, headers=EVENTS, stream=Stream(*pieces))


def error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "code": status}})


def card(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "owned_by": "vllm", "root": name, "max_model_len": 2048} | more


@dataclass
class Fake:
    """Answers as vLLM does, until told otherwise."""

    models: Sequence[dict[str, Any]] = (card("smol"),)
    completions: Sequence[Reply] = ()
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append(request)
        if path in self.replies:
            reply = self.replies[path]
        elif path == "/v1/models":
            reply = httpx.Response(200, json={"object": "list", "data": list(self.models)})
        elif path == "/v1/completions":
            reply = self._completion(request)
        else:
            reply = httpx.Response(403 if "render" in path else 200)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx.Response) else reply(request)

    def _completion(self, request: httpx.Request) -> Reply:
        if json.loads(request.content)["prompt"] == [1]:
            return sse(CHECK)
        if not self.completions:
            return sse(STREAM)
        first, *rest = self.completions
        self.completions = rest or [first]
        return first

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Bodies of the requests for tokens, the check's left out."""
        posts = [json.loads(r.content) for r in self.requests if r.url.path == "/v1/completions"]
        return [body for body in posts if body["prompt"] != [1]]

    def count(self, path: str) -> int:
        return sum(request.url.path == path for request in self.requests)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    server = Fake()
    client = functools.partial(httpx.AsyncClient, transport=httpx.MockTransport(server))
    monkeypatch.setattr("httpx.AsyncClient", client)
    return server


def ask(**more: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {
        "token_ids": [504, 2365],
        "max_tokens": 6,
        "sampling": Sampling(temperature=1.5),
        "top_logprobs": 3,
    }
    return GenerationRequest(**(defaults | more))


def generate(server: VLLMServer, request: GenerationRequest | None = None) -> list[GenerationDelta]:
    with server:
        return list(get_runtime().iterate(lambda: server.generate(request or ask())))


def start(server: VLLMServer) -> None:
    with server:
        get_runtime().run(server.start())


def tokens(deltas: Sequence[GenerationDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


# Reading what vLLM streams


def recorded(endpoint: Endpoint, name: str) -> list[GenerationDelta]:
    events = (RECORDED / name).read_text().split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    return [endpoint.delta(choice, 3) for chunk in chunks for choice in chunk["choices"]]


@pytest.mark.parametrize("interval", [1, 4])
@pytest.mark.parametrize(
    ("endpoint", "name"), [(CompletionsEndpoint(), "completions"), (TokensEndpoint(), "tokens")]
)
def test_recorded_streams_read_alike(endpoint: Endpoint, name: str, interval: int) -> None:
    deltas = recorded(endpoint, f"{name}_interval_{interval}.sse")
    assert [len(delta.token_ids) for delta in deltas] == ([1] * 6 if interval == 1 else [1, 4, 1])
    assert tokens(deltas) == TOKENS
    assert [delta.finish_reason for delta in deltas][-2:] == [None, "length"]
    positions = [position for delta in deltas for position in delta.top_logprobs or ()]
    # The sampled token ranks third, and is listed first.
    assert positions[0] == TopLogprobs(
        [351, 284, 28],
        [-0.6585749387741089, -3.0960750579833984, -3.2835750579833984],
        -3.2835750579833984,
    )
    # The sampled token is none of the likeliest three.
    assert positions[-1] == TopLogprobs(
        [28, 506, 617],
        [-0.5181617736816406, -3.0181617736816406, -3.2681617736816406],
        -17.20566177368164,
    )


def test_generate_delivers_the_recorded_stream(fake: Fake) -> None:
    deltas = generate(VLLMServer(URL))
    assert tokens(deltas) == TOKENS
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].cached_tokens == 0
    assert isinstance(VLLMServer(URL), Engine)


def test_pieces_that_cut_events_anywhere(fake: Fake) -> None:
    fake.completions = [sse(*(STREAM[i : i + 7] for i in range(0, len(STREAM), 7)))]
    assert tokens(generate(VLLMServer(URL))) == TOKENS


# What is sent


def test_unset_sampling_is_left_to_the_server(fake: Fake) -> None:
    generate(VLLMServer(URL), ask(sampling=Sampling(top_p=0.9), session_id="chat é"))
    (body,) = fake.bodies
    assert body["top_p"] == 0.9
    assert not body.keys() & {"temperature", "top_k", "min_p", "repetition_penalty", "seed", "stop"}
    assert fake.requests[-1].headers["X-Session-ID"] == "chat%20%C3%A9"


def test_context_is_taken_at_once_and_output_fits_the_window(fake: Fake) -> None:
    context = list(range(2, 2042))
    server = VLLMServer(URL)
    with server:
        request = ask(token_ids=context, max_tokens=100)
        deltas = server.generate(request)
        context.append(7)
        list(get_runtime().iterate(lambda: deltas))
        assert fake.bodies[0]["prompt"] == list(range(2, 2042))
        assert fake.bodies[0]["max_tokens"] == 8
        with pytest.raises(EngineRequestError, match="2048 tokens leaves no room"):
            list(get_runtime().iterate(lambda: server.generate(ask(token_ids=[5] * 2048))))


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_base_url_with_or_without_v1(fake: Fake, suffix: str) -> None:
    server = VLLMServer(f"{URL}/proxy{suffix}")
    assert server.base_url == f"{URL}/proxy"
    fake.replies["/proxy/v1/models"] = httpx.Response(200, json={"data": [card("a"), card("b")]})
    with pytest.raises(ConfigurationError, match="several models"):
        start(server)


# Mistakes


@pytest.mark.parametrize(
    "url",
    ["", "gpu:8000", "localhost", "ftp://gpu", "http://", "http://gpu:port", f"{URL}?a=1", None],
)
def test_bad_base_url(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        VLLMServer(url)


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout", 0), ("timeout", float("nan")), ("max_retries", -1), ("verify", "/no/such/bundle")],
)
def test_bad_option_is_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        VLLMServer(URL, **{option: value})


def test_secrets_are_nowhere_to_be_seen(fake: Fake) -> None:
    server = VLLMServer(URL, api_key=KEY, headers={"X-Other": KEY})
    fake.replies["/v1/models"] = httpx.Response(401, json={"error": "Unauthorized"})
    with pytest.raises(ConfigurationError, match=r"api_key.*VLLM_API_KEY") as caught:
        start(server)
    assert KEY not in repr(server) + str(server) + repr(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        VLLMServer(f"http://me:{KEY}@gpu")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_api_key_is_sent_also_by_a_copy(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, copied: Callable[[VLLMServer], VLLMServer]
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    server = VLLMServer(URL)
    assert tokens(generate(copied(server))) == TOKENS
    with server:
        get_runtime().run(server.start())
        twin = copied(server)
        assert tokens(generate(twin)) == TOKENS
    assert {r.headers["Authorization"] for r in fake.requests} == {f"Bearer {KEY}"}
    generate(VLLMServer(URL, api_key=SecretStr("mine")))
    assert fake.requests[-1].headers["Authorization"] == "Bearer mine"


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>Hello</html>"),
        httpx.Response(404, text="not found"),
        httpx.Response(200, json={"data": [{"id": "gpt", "owned_by": "openai"}]}),
        httpx.Response(200, json=["nothing"]),
    ],
)
def test_not_a_vllm_server(fake: Fake, reply: httpx.Response) -> None:
    fake.replies["/v1/models"] = reply
    with pytest.raises(ConfigurationError, match=r"base_url.*not a vLLM server"):
        start(VLLMServer(URL))


def test_model_that_is_not_served(fake: Fake) -> None:
    fake.models = [card("smol"), card("adapter", root="/adapter", parent="smol")]
    with pytest.raises(ConfigurationError, match="does not serve 'nope'; it serves 'smol', 'adap"):
        start(VLLMServer(URL, "nope"))
    with pytest.raises(ConfigurationError, match=r"model: .* several models.*'smol', 'adapter'"):
        start(VLLMServer(URL))
    server = VLLMServer(URL, "adapter")
    with server:
        get_runtime().run(server.start())
        assert server.model == "adapter"


def test_one_model_with_two_names(fake: Fake) -> None:
    fake.models = [card("smol"), card("alias", root="smol")]
    server = VLLMServer(URL)
    assert server.model == URL
    with server:
        get_runtime().run(server.start())
        assert server.model == "smol"
        assert get_runtime().run(server.context_window()) == 2048


TEXT_ONLY = b"""data: {"choices": [{"text": " fox", "finish_reason": null, "logprobs": null}]}

data: {"choices": [{"text": "", "finish_reason": "length"}]}

data: [DONE]

"""
TEXT_KEYS = CHECK.replace(b"token_id:", b"tok")


@pytest.mark.parametrize("stream", [TEXT_ONLY, TEXT_KEYS])
def test_server_without_token_ids(fake: Fake, stream: bytes) -> None:
    fake.replies["/v1/completions"] = lambda _: sse(stream)
    with pytest.raises(ConfigurationError, match=r"token ids.*--max-logprobs"):
        start(VLLMServer(URL))


def test_vocabulary_that_cannot_be_found_from_here(fake: Fake) -> None:
    fake.models = [card("smol", root="/models/on/the/server")]
    with VLLMServer(URL) as server, pytest.raises(ConfigurationError, match="pass `tokenizer=`"):
        get_runtime().run(server.vocabulary())


# Faults


def test_busy_server_is_asked_again(fake: Fake) -> None:
    fake.completions = [error(503, "busy"), error(429, "slow down"), sse(STREAM)]
    assert tokens(generate(VLLMServer(URL))) == TOKENS
    assert len(fake.bodies) == 3


@pytest.mark.parametrize(
    "lost", [httpx.ConnectError("refused"), sse(httpx.ReadError("reset")), sse()]
)
def test_lost_connection_is_made_again_before_the_first_token(fake: Fake, lost: Reply) -> None:
    fake.completions = [lost, sse(STREAM)]
    assert tokens(generate(VLLMServer(URL))) == TOKENS


def test_a_loss_that_took_long_to_show_is_tried_again(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langchain_glimprouter.engines.vllm_connection._GONE_SECONDS", -1.0)
    fake.completions = [httpx.ConnectError("refused"), sse(STREAM)]
    assert tokens(generate(VLLMServer(URL))) == TOKENS


@pytest.mark.parametrize(
    "end", [[], [httpx.ReadError("reset")], [httpx.RemoteProtocolError("incomplete")]]
)
def test_broken_stream_is_an_error_and_not_asked_again(fake: Fake, end: list[Exception]) -> None:
    fake.completions = [sse(STREAM[:1000], *end)]
    seen: list[GenerationDelta] = []
    server = VLLMServer(URL)
    with server, pytest.raises(EngineDeadError, match="base_url") as caught:
        seen.extend(get_runtime().iterate(lambda: server.generate(ask())))
    assert len(fake.bodies) == 1
    assert caught.value.model == "smol"


def test_break_after_the_finish_reason_loses_nothing(fake: Fake) -> None:
    fake.completions = [sse(STREAM, httpx.ReadError("reset"))]
    assert tokens(generate(VLLMServer(URL))) == TOKENS


def test_retries_end(fake: Fake) -> None:
    fake.completions = [error(503, "too many requests queued")]
    with pytest.raises(EngineRequestError, match="503: too many requests queued"):
        generate(VLLMServer(URL, max_retries=1))
    assert len(fake.bodies) == 2
    with pytest.raises(EngineRequestError):
        generate(VLLMServer(URL, max_retries=0))
    assert len(fake.bodies) == 3


def test_dead_server_is_told_within_a_second(fake: Fake) -> None:
    fake.completions = [httpx.ConnectError("refused")]
    server = VLLMServer(URL, max_retries=50)
    with server:
        get_runtime().run(server.start())
        before = time.monotonic()
        with pytest.raises(EngineDeadError, match=f"no vLLM server answers at {URL}"):
            list(get_runtime().iterate(lambda: server.generate(ask())))
        assert time.monotonic() - before < 1.0


@pytest.mark.parametrize(
    ("health", "kind"), [(200, EngineRequestError), (503, EngineDeadError), (None, EngineDeadError)]
)
def test_internal_error_tells_a_dead_engine(
    fake: Fake, health: int | None, kind: type[EngineError]
) -> None:
    fake.replies["/health"] = httpx.Response(health) if health else httpx.ConnectError("refused")
    in_stream = b'data: {"error": {"message": "EngineCore", "code": 500}}\n\ndata: [DONE]\n\n'
    for reply in (error(500, "EngineCore"), sse(FIRST, in_stream)):
        fake.completions = [reply]
        with pytest.raises(EngineError) as caught:
            generate(VLLMServer(URL))
        assert type(caught.value) is kind


def test_garbage_in_the_stream(fake: Fake) -> None:
    fake.completions = [sse(FIRST, b"data: <html>\n\n")]
    with pytest.raises(EngineRequestError, match="<html>"):
        generate(VLLMServer(URL))


def test_refused_request_says_what_the_server_said(fake: Fake) -> None:
    fake.completions = [error(400, "token id 99999 is out of vocabulary")]
    with pytest.raises(EngineRequestError, match="400: token id 99999 is out of vocabulary"):
        generate(VLLMServer(URL))
    assert len(fake.bodies) == 1


def test_request_that_the_server_breaks_off(fake: Fake) -> None:
    fake.completions = [
        sse(STREAM.replace(b'"finish_reason":"length"', b'"finish_reason":"abort"'))
    ]
    with pytest.raises(EngineRequestError, match="broke the request off"):
        generate(VLLMServer(URL))


def test_silence_ends_at_the_timeout(fake: Fake) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    fake.completions = [silent]
    with pytest.raises(EngineRequestError, match=r"nothing for 0\.5 s.*`timeout`"):
        generate(VLLMServer(URL, timeout=0.5))
    assert len(fake.bodies) == 1


# The check


def test_concurrent_callers_share_one_check(fake: Fake) -> None:
    server = VLLMServer(URL)

    async def scenario() -> None:
        impatient = asyncio.create_task(server.start())
        patient = [asyncio.create_task(server.context_window()) for _ in range(20)]
        await asyncio.sleep(0)
        impatient.cancel()
        assert await asyncio.gather(*patient) == [2048] * 20
        assert impatient.cancelled()
        await server.start()

    with server:
        get_runtime().run(scenario())
        assert fake.count("/v1/models") == 1
        get_runtime().run(server.aclose())
        get_runtime().run(server.start())
        assert fake.count("/v1/models") == 2


def test_failed_check_is_tried_again(fake: Fake) -> None:
    server = VLLMServer(URL)
    fake.replies["/v1/models"] = httpx.ConnectError("refused")
    with server:
        with pytest.raises(EngineDeadError, match="start it, or correct `base_url`"):
            get_runtime().run(server.start())
        del fake.replies["/v1/models"]
        get_runtime().run(server.start())


def test_closing_during_the_check_is_no_cancellation_of_its_callers(fake: Fake) -> None:
    server = VLLMServer(URL)

    async def scenario() -> None:
        caller = asyncio.create_task(server.start())
        await asyncio.sleep(0)
        await server.aclose()
        with pytest.raises(EngineError, match="closed"):
            await caller

    get_runtime().run(scenario())


# Abort


def test_closing_the_generator_closes_the_stream(fake: Fake) -> None:
    server = VLLMServer(URL)

    async def scenario(how: str) -> None:
        stream = Stream(FIRST, 30.0)
        fake.completions = [httpx.Response(200, headers=EVENTS, stream=stream)]
        deltas = server.generate(ask())
        await anext(deltas)
        if how == "cancel":
            task = asyncio.ensure_future(anext(deltas))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await deltas.aclose()
        assert stream.closed

    with server:
        get_runtime().run(scenario("close"))
        get_runtime().run(scenario("cancel"))


def test_a_server_that_ignores_grammars_is_told_apart(fake: Fake) -> None:
    with pytest.raises(ConfigurationError, match="knows no structured outputs"):
        generate(VLLMServer(URL), ask(constraint={"choice": ["yes"]}))
    assert fake.bodies == []

    def strict(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if len(body.get("structured_outputs", ())) > 1:
            return error(400, "only one kind")
        return sse(CHECK if body["prompt"] == [1] else STREAM)

    fake.replies["/v1/completions"] = strict
    generate(VLLMServer(URL), ask(constraint={"choice": ["yes"]}))
    assert fake.bodies[-1]["structured_outputs"] == {"choice": ["yes"]}
