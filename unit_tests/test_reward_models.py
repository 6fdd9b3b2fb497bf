"""Reward models: what a logit is worth, how texts are cut, and a server that scores them."""

from __future__ import annotations

import asyncio
import base64
import copy
import functools
import importlib.util
import json
import math
import pickle
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from langchain_glimprouter.engines.reward import RewardModel, check_labels, reward_of
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.vllm_options import default_engine_args
from langchain_glimprouter.engines.vllm_reward_model import VLLMRewardModel
from langchain_glimprouter.engines.vllm_reward_server import VLLMRewardServer
from langchain_glimprouter.engines.vocabulary import HFVocabulary
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
)

URL = "http://gpu:8000"
KEY = "s3cr3t-k3y"
WORDS = ["<s>", "<unk>", "<mark>", "one", "two", "three", "four"]
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


# What a logit is worth


@given(st.floats(-700, 700))
def test_a_reward_is_the_sigmoid_of_the_logit(logit: float) -> None:
    assert reward_of([logit], "prm") == pytest.approx(sigmoid(logit), rel=1e-12)


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30))
def test_rewards_keep_to_their_range_and_order(one: float, other: float) -> None:
    low, high = (reward_of([logit], "prm") for logit in sorted((one, other)))
    assert 0.0 <= low <= high <= 1.0


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_of_two_labels_the_second_is_right(wrong: float, right: float) -> None:
    softmax = math.exp(right) / (math.exp(wrong) + math.exp(right))
    assert reward_of([wrong, right], "prm") == pytest.approx(softmax, rel=1e-9)


def test_certain_rewards() -> None:
    assert [reward_of([x], "prm") for x in (math.inf, -math.inf)] == [1.0, 0.0]


@pytest.mark.parametrize("logits", [[math.nan], [0.0, math.nan], [math.inf, math.inf]])
def test_nan_names_the_model(logits: list[float]) -> None:
    with pytest.raises(EngineRequestError, match=r"'my/prm' returned NaN.*dtype") as caught:
        reward_of(logits, "my/prm")
    assert caught.value.model == "my/prm"


@pytest.mark.parametrize("logits", [[], [1.0, 2.0, 3.0]])
def test_a_score_that_is_missing_names_the_model(logits: list[float]) -> None:
    with pytest.raises(EngineRequestError, match=f"'my/prm' returned {len(logits)} scores"):
        reward_of(logits, "my/prm")


def test_models_that_tell_something_else_are_refused() -> None:
    for count in (1, 2):
        check_labels(count, "prm")
    with pytest.raises(ConfigurationError, match="no reward model.*896 numbers"):
        check_labels(896, "embedder")
    with pytest.raises(ConfigurationError, match="step_token="):
        check_labels(0, "prm")


# How texts are cut


def tokenizer(*, bos: str | None = "<s>", adds: bool = False) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(["<s>", "<mark>"])
    if adds:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, unk_token="<unk>")


@pytest.mark.parametrize("adds", [False, True])
def test_a_text_begins_with_one_bos_where_there_is_one(adds: bool) -> None:
    vocabulary = HFVocabulary(tokenizer(adds=adds), 7, frozenset())
    assert vocabulary.encode_whole("one two") == [0, 3, 4]
    assert vocabulary.encode_whole("<s>one two") == [0, 3, 4] if not adds else [0, 0, 3, 4]
    assert vocabulary.encode_whole("one two", bos=False) == [0, 3, 4][not adds :]
    without = HFVocabulary(tokenizer(bos=None), 7, frozenset())
    assert without.encode_whole("one two") == [3, 4]


def test_special_tokens_of_a_prompt_are_kept() -> None:
    """Some reward models want marks at the ends of steps."""
    vocabulary = HFVocabulary(tokenizer(), 7, frozenset())
    assert vocabulary.encode_whole("one <mark> two") == [0, 3, 2, 4]


# A server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prm")
    tokenizer().save_pretrained(path)
    config = {"vocab_size": 7, "max_position_embeddings": 64}
    (path / "config.json").write_text(json.dumps(config))
    return path


def logits_of(ids: Sequence[int], labels: int = 1) -> list[float]:
    """A reward model: any function of all tokens up to the last."""
    value = sum((place + 1) * token for place, token in enumerate(ids)) / 10 - 2
    return [value] if labels == 1 else [-value / 2, *[value / 2] * (labels - 1)]


def packed(rows: Sequence[Sequence[float]]) -> str:
    flat = [value for row in rows for value in row]
    return base64.b64encode(struct.pack(f"<{len(flat)}f", *flat)).decode()


@dataclass
class Pooling:
    """Answers as vLLM's pooling server does."""

    root: str
    labels: int = 1
    each_token: bool = False  # scores of all tokens, not of the text
    tag: int | None = None  # the only token that scores are told of
    activation: str = "asked"  # or "always", as servers do that don't know the switch; or "never"
    change: Callable[[dict[str, Any]], Any] = lambda answer: answer
    replies: list[httpx.Response | Exception] = field(default_factory=list)
    paths: dict[str, httpx.Response | Exception] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append(request)
        reply: httpx.Response | Exception | None = self.paths.get(path)
        if reply is None and path == "/v1/models":
            card = {"id": "prm", "owned_by": "vllm", "root": self.root, "max_model_len": 64}
            reply = httpx.Response(200, json={"data": [card]})
        if reply is None and path == "/pooling":
            reply = self._score(json.loads(request.content))
        if isinstance(reply, Exception):
            raise reply
        return reply or httpx.Response(200)

    def _score(self, body: dict[str, Any]) -> httpx.Response | Exception:
        checked = is_check(body)
        if self.replies and not checked:
            return self.replies.pop(0)
        data = []
        for index, ids in enumerate(body["input"]):
            ends = range(1, len(ids) + 1) if self.each_token else [len(ids)]
            ends = [end for end in ends if self.tag in (None, ids[end - 1])]
            rows = [logits_of(ids[:end], self.labels) for end in ends]
            if self.activation == "always" or (
                self.activation == "asked" and body["use_activation"]
            ):
                rows = [self._activate(row) for row in rows]
            data.append({"index": index, "object": "pooling", "data": packed(rows)})
        answer = {"id": "pool-1", "object": "list", "model": body["model"], "data": data}
        return httpx.Response(200, json=answer if checked else self.change(answer))

    def _activate(self, row: list[float]) -> list[float]:
        if self.labels == 1:
            return [sigmoid(row[0])]
        total = sum(map(math.exp, row))
        return [math.exp(value) / total for value in row]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Bodies of the requests for rewards, the check's left out."""
        posts = [json.loads(r.content) for r in self.requests if r.url.path == "/pooling"]
        return [body for body in posts if not is_check(body)]


def is_check(body: dict[str, Any]) -> bool:
    return len(body["input"]) == 3 and len(body["input"][0]) == 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Pooling:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    server = Pooling(str(folder))
    client = functools.partial(httpx.AsyncClient, transport=httpx.MockTransport(server))
    monkeypatch.setattr("httpx.AsyncClient", client)
    return server


TEXTS = ["one two", "three", "one two three four", "four"]


def expected(texts: Sequence[str]) -> list[float]:
    return [sigmoid(logits_of([0, *(WORDS.index(w) for w in t.split())])[0]) for t in texts]


def rewards(server: VLLMRewardServer, texts: Sequence[str] = TEXTS) -> list[float]:
    with server:
        return get_runtime().run(server.rewards(texts))


@pytest.mark.parametrize("each_token", [False, True])
@pytest.mark.parametrize("labels", [1, 2])
def test_rewards_of_every_kind_of_model(fake: Pooling, labels: int, each_token: bool) -> None:
    fake.labels, fake.each_token = labels, each_token
    assert rewards(VLLMRewardServer(URL)) == pytest.approx(expected(TEXTS), abs=1e-6)
    (body,) = fake.bodies
    assert body["use_activation"] is False
    assert body["input"][0] == [0, 3, 4]
    assert isinstance(VLLMRewardServer(URL), RewardModel)


def test_rewards_are_in_the_order_of_the_texts(fake: Pooling) -> None:
    fake.change = lambda answer: answer | {"data": answer["data"][::-1]}
    assert rewards(VLLMRewardServer(URL)) == pytest.approx(expected(TEXTS), abs=1e-6)


def test_no_text_costs_no_request(fake: Pooling) -> None:
    assert rewards(VLLMRewardServer(URL), []) == []
    assert fake.requests == []


def test_bos_can_be_left_out(fake: Pooling) -> None:
    rewards(VLLMRewardServer(URL, bos=False))
    assert fake.bodies[0]["input"][0] == [3, 4]


def test_a_model_that_judges_at_marks(fake: Pooling) -> None:
    fake.each_token, fake.labels, fake.tag = True, 2, WORDS.index("<mark>")
    with pytest.raises(ConfigurationError, match=r"base_url.*certain tokens.*step_token="):
        rewards(VLLMRewardServer(URL))
    marked = [f"{text} <mark>" for text in TEXTS]
    texts = ["one two", "three <mark>", "one two three four", "four"]
    found = rewards(VLLMRewardServer(URL, step_token="<mark>"), texts)
    assert found == pytest.approx(expected(marked), abs=1e-6)
    assert fake.bodies[-1]["input"][:2] == [[0, 3, 4, 2], [0, 5, 2]]
    with pytest.raises(ConfigurationError, match="step_token: 'one two' is 2 tokens"):
        rewards(VLLMRewardServer(URL, step_token="one two"))


async def test_any_event_loop_will_do(fake: Pooling) -> None:
    async with VLLMRewardServer(URL) as server:
        await server.start()
        several = await asyncio.gather(*(server.rewards([text]) for text in TEXTS))
    assert [value for (value,) in several] == pytest.approx(expected(TEXTS), abs=1e-6)
    assert sum(request.url.path == "/v1/models" for request in fake.requests) == 1


# Answers that are no rewards


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer | {"data": answer["data"][1:]},
        lambda answer: answer | {"data": None},
        lambda answer: ["nothing"],
        lambda answer: answer | {"data": [d | {"data": [0.5]} for d in answer["data"]]},
        lambda answer: answer | {"data": [d | {"data": "AAA="} for d in answer["data"]]},
        lambda answer: answer | {"data": [d | {"data": None} for d in answer["data"]]},
    ],
)
def test_a_missing_score_names_the_model(fake: Pooling, change: Any) -> None:
    fake.change = change
    with pytest.raises(EngineRequestError, match="'prm' sent no score for each of 4") as caught:
        rewards(VLLMRewardServer(URL))
    assert caught.value.model == "prm"


@pytest.mark.parametrize(("value", "words"), [("", "0 scores"), (packed([[math.nan]]), "NaN")])
def test_an_empty_score_or_nan_names_the_model(fake: Pooling, value: str, words: str) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        answer["data"][2]["data"] = value
        return answer

    fake.change = change
    with pytest.raises(EngineRequestError, match=f"'prm' returned {words}"):
        rewards(VLLMRewardServer(URL))


# The check


def test_a_server_that_generates(fake: Pooling) -> None:
    fake.paths["/pooling"] = httpx.Response(404, json={"detail": "Not Found"})
    with pytest.raises(ConfigurationError, match=r"base_url.*vllm serve MODEL --runner pooling"):
        rewards(VLLMRewardServer(URL))


def test_a_server_that_embeds(fake: Pooling) -> None:
    fake.labels = 5
    with pytest.raises(ConfigurationError, match=r"base_url.*'prm' is no reward model.*5 numbers"):
        rewards(VLLMRewardServer(URL))


def test_a_server_that_applies_the_sigmoid_unasked(fake: Pooling) -> None:
    """The sigmoid must be applied exactly once, so such a server will not do."""
    fake.activation = "always"
    with pytest.raises(ConfigurationError, match="cannot be told from probabilities"):
        rewards(VLLMRewardServer(URL))
    assert fake.bodies == []


def test_a_model_without_activation(fake: Pooling) -> None:
    """Regression heads have none: logits both times, which no probabilities could be."""
    fake.activation = "never"
    assert rewards(VLLMRewardServer(URL)) == pytest.approx(expected(TEXTS), abs=1e-6)


def test_wrong_key_and_secrets(fake: Pooling) -> None:
    server = VLLMRewardServer(URL, "prm", KEY)
    rewards(server)
    assert {r.headers["Authorization"] for r in fake.requests} == {f"Bearer {KEY}"}
    fake.paths["/v1/models"] = httpx.Response(401, json={"error": "Unauthorized"})
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        rewards(server)
    assert KEY not in repr(server) + str(server) + repr(caught.value)


def test_a_tokenizer_that_cannot_be_found_from_here(fake: Pooling, folder: Path) -> None:
    fake.root = "/models/on/the/server"
    with pytest.raises(ConfigurationError, match="pass `tokenizer=`"):
        rewards(VLLMRewardServer(URL))
    server = VLLMRewardServer(URL, tokenizer=str(folder))
    assert rewards(server) == pytest.approx(expected(TEXTS), abs=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_make_their_own_connections(fake: Pooling, copied: Any) -> None:
    with VLLMRewardServer(URL) as server:
        get_runtime().run(server.start())
        twin = copied(server)
        assert twin._connection is None
        assert rewards(twin) == pytest.approx(expected(TEXTS), abs=1e-6)


# Faults


def error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "code": status}})


@pytest.mark.parametrize("lost", [error(503, "busy"), httpx.ReadError("reset")])
def test_a_busy_server_is_asked_again(fake: Pooling, lost: httpx.Response | Exception) -> None:
    fake.replies = [lost]
    assert rewards(VLLMRewardServer(URL)) == pytest.approx(expected(TEXTS), abs=1e-6)
    assert len(fake.bodies) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (error(400, "the text has 70 tokens"), EngineRequestError, "400: the text has 70 tokens"),
        (error(500, "EngineCore"), EngineRequestError, "500: EngineCore"),
        (httpx.ReadTimeout(""), EngineRequestError, r"nothing for 7 s.*`timeout`"),
        (httpx.Response(200, text="<html>"), EngineRequestError, "<html>"),
        (httpx.ConnectError("refused"), EngineDeadError, "no vLLM server answers"),
    ],
)
def test_faults_say_what_they_are(
    fake: Pooling, reply: Any, kind: type[EngineError], words: str
) -> None:
    fake.replies = [reply] * 5
    with pytest.raises(EngineError, match=words) as caught:
        rewards(VLLMRewardServer(URL, timeout=7.0))
    assert type(caught.value) is kind
    assert caught.value.model == "prm"


def test_an_engine_that_died_behind_its_server(fake: Pooling) -> None:
    fake.replies = [error(500, "EngineCore")]
    fake.paths["/health"] = httpx.Response(503)
    with pytest.raises(EngineDeadError):
        rewards(VLLMRewardServer(URL))


class Slow:
    """A real server that never tells rewards, and notices when it is left."""

    def __init__(self, folder: Path) -> None:
        self.fake = Pooling(str(folder))
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                answer = await self.fake(await self._read(reader))
                if self.fake.bodies:
                    self.asked.set()
                    assert await reader.read() == b""  # comes when the client hangs up
                    self.left.set()
                    return
                content = await answer.aread()
                head = f"HTTP/1.1 {answer.status_code} OK\r\ncontent-length: {len(content)}\r\n\r\n"
                writer.write(head.encode() + content)
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> httpx.Request:
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        method, path, _ = first.split()
        lengths = [line.split()[1] for line in headers if line.startswith("content-length:")]
        content = await reader.readexactly(int(lengths[0]) if lengths else 0)
        return httpx.Request(method.upper(), f"http://here{path}", content=content)


@asynccontextmanager
async def slow_server(folder: Path) -> AsyncIterator[tuple[Slow, VLLMRewardServer]]:
    slow = Slow(folder)
    async with await asyncio.start_server(slow.handle, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with VLLMRewardServer(f"http://127.0.0.1:{port}") as server:
            yield slow, server


async def test_cancelling_hangs_up(folder: Path) -> None:
    async with slow_server(folder) as (slow, server):
        task = asyncio.create_task(server.rewards(TEXTS))
        await asyncio.wait_for(slow.asked.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(slow.left.wait(), 10)


async def test_closing_ends_what_runs(folder: Path) -> None:
    async with slow_server(folder) as (slow, server):
        task = asyncio.create_task(server.rewards(TEXTS))
        await asyncio.wait_for(slow.asked.wait(), 10)
        await get_runtime().bridge(server.aclose())
        with pytest.raises(EngineDeadError):
            await asyncio.wait_for(task, 10)
        await asyncio.wait_for(slow.left.wait(), 10)


# In this process, as far as that goes without a model


@needs_vllm
def test_a_model_that_has_not_started_is_cheap_and_copies() -> None:
    model = VLLMRewardModel("some/prm", bos=False, max_model_len=512)
    assert isinstance(model, RewardModel)
    assert model.model == "some/prm"
    assert get_runtime().run(model.rewards([])) == []
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(twin) == repr(model) == "VLLMRewardModel('some/prm', max_model_len=512)"
        assert twin._bos is False
        twin.close()
    model.close()


@needs_vllm
def test_a_reward_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no file or folder at '/nowhere/at/all'"):
        VLLMRewardModel("/nowhere/at/all")


@needs_vllm
async def test_a_value_head_is_named_before_anything_starts(tmp_path: Path) -> None:
    config = {"architectures": ["Qwen2ForPrmModel"], "vocab_size": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"Qwen2ForPrmModel.*convert_value_head"):
        await VLLMRewardModel(str(tmp_path)).start()


def test_a_reward_model_finds_room_beside_two_engines_on_one_gpu() -> None:
    def share(role: Any, **options: Any) -> float:
        value = default_engine_args("gpu", 1, role, {}, {}, **options)["gpu_memory_utilization"]
        return float(value)

    assert share("small") + share("large") + share(None, pooling=True) < 1.0
    alone = default_engine_args("gpu", 1, None, {"device_ids": [0]}, {}, pooling=True)
    assert "gpu_memory_utilization" not in alone


def test_what_a_pooling_engine_gets() -> None:
    defaults = default_engine_args("cpu", 0, None, {}, {}, pooling=True)
    assert defaults["runner"] == "pooling"
    assert "enable_prefix_caching" not in defaults  # vLLM knows which of these models can
    assert default_engine_args("cpu", 0, None, {}, {})["enable_prefix_caching"] is True
