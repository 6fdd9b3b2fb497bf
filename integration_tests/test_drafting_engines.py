"""What drafting asks of engines: several continuations at once, and rewards; both on real ones.

The reward models are real ones cut short: a demo model's first layers with a seeded head over them,
so that `transformers` can compute the same on the side.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from integration_tests.processes import engine_processes, left_over
from langchain_glimprouter.bench.servers import Server, serve
from langchain_glimprouter.engines.base import GenerationDelta, GenerationRequest, Sampling
from langchain_glimprouter.engines.reward import RewardModel
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.engines.value_heads import convert_value_head
from langchain_glimprouter.engines.vllm_check import ServedModel
from langchain_glimprouter.engines.vllm_local import VLLMEngine
from langchain_glimprouter.engines.vllm_protocol import CompletionsEndpoint
from langchain_glimprouter.engines.vllm_reward_model import VLLMRewardModel
from langchain_glimprouter.engines.vllm_reward_server import VLLMRewardServer
from langchain_glimprouter.engines.vllm_server import VLLMServer
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineDeadError,
    EngineRequestError,
)

WARM = Sampling(temperature=0.8)
LAYERS = 4
PROBLEM = "Anna has 24 apples. She gives a third of them to Ben and eats 2. How many are left?"
STEPS = (
    "\n\nShe gives 24 / 3 = 8 apples to Ben.",
    "\n\nSo she has 24 - 8 = 16 apples, and eats 2 of them.",
    "\n\nTherefore 16 - 2 = 14 apples are left.",
)
TEXTS = [f"{PROBLEM}\n{''.join(STEPS[:count])}" for count in range(len(STEPS) + 1)]
TEXTS += ["Yes.", "one two three " * 60, "日本語 🙂"]


# Several continuations in one request


class Continuations:
    """What came, sorted by continuation."""

    def __init__(self, deltas: Sequence[GenerationDelta], count: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.finish: list[str | None] = [None] * count
        self.tops = [0] * count
        for delta in deltas:
            assert self.finish[delta.index] is None
            self.ids[delta.index] += delta.token_ids
            self.tops[delta.index] += len(delta.top_logprobs or ())
            self.finish[delta.index] = delta.finish_reason


@pytest.fixture(scope="module")
def server(smollm_server: Server) -> Iterator[VLLMServer]:
    with VLLMServer(smollm_server.url) as engine:
        get_runtime().run(engine.start())
        yield engine


@pytest.fixture(scope="module", params=["process", "tokens", "completions"])
def engine(
    request: pytest.FixtureRequest, smollm_engine: VLLMEngine, server: VLLMServer
) -> Iterator[VLLMEngine | VLLMServer]:
    if request.param == "process":
        yield smollm_engine
        return
    if request.param == "tokens":
        yield server
        return
    served = server._served
    assert served is not None
    with copy.deepcopy(server) as twin:
        twin._served = ServedModel(
            served.name, served.root, served.context_window, CompletionsEndpoint()
        )
        yield twin


@pytest.fixture(scope="module")
def prompt(smollm: Path) -> list[int]:
    return list(AutoTokenizer.from_pretrained(smollm).encode("The three most beautiful towns are"))


def write(engine: VLLMEngine | VLLMServer, request: GenerationRequest) -> Continuations:
    deltas = list(get_runtime().iterate(lambda: engine.generate(request)))
    return Continuations(deltas, request.n)


def test_three_continuations_end_each_in_its_own_way(
    engine: VLLMEngine | VLLMServer, prompt: list[int]
) -> None:
    request = GenerationRequest(prompt, 24, WARM, seed=11, top_logprobs=20, n=3)
    free = write(engine, request)
    assert len({tuple(ids) for ids in free.ids}) == 3
    assert free.finish == ["length"] * 3
    assert [len(ids) for ids in free.ids] == free.tops == [24] * 3
    stops = {free.ids[0][4], free.ids[1][9]}
    cut = write(engine, GenerationRequest(prompt, 24, WARM, 11, 20, list(stops), n=3))
    for ids, ended, count in zip(cut.ids, cut.finish, cut.tops, strict=True):
        assert len(ids) == count
        assert stops.isdisjoint(ids[:-1])
        assert ended == ("stop" if ids[-1] in stops else "length")
        assert ended == "stop" or len(ids) == 24
    assert "stop" in cut.finish


def test_a_seed_gives_the_same_different_drafts(
    smollm_engine: VLLMEngine, prompt: list[int]
) -> None:
    """Continuation i of seed s is what a single one of seed s + i would be."""
    request = GenerationRequest(prompt, 12, WARM, seed=5, n=3)
    first = write(smollm_engine, request)
    assert len({tuple(ids) for ids in first.ids}) == 3
    assert write(smollm_engine, request).ids == first.ids
    for index in range(3):
        alone = write(smollm_engine, GenerationRequest(prompt, 12, WARM, seed=5 + index))
        assert alone.ids == [first.ids[index]]
    assert write(smollm_engine, GenerationRequest(prompt, 12, WARM, n=3)).ids != first.ids


def test_stop_strings_of_several(engine: VLLMEngine | VLLMServer, prompt: list[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(prompt_source(engine))
    request = GenerationRequest(prompt, 32, WARM, seed=2, stop=[" the", ","], n=3)
    got = write(engine, request)
    for ids, ended in zip(got.ids, got.finish, strict=True):
        text, before = tokenizer.decode(ids), tokenizer.decode(ids[:-1])
        found = " the" in text or "," in text
        assert ended == ("stop" if found else "length")
        assert " the" not in before
        assert "," not in before


def prompt_source(engine: VLLMEngine | VLLMServer) -> str:
    if isinstance(engine, VLLMEngine):
        return engine.model
    assert engine._served is not None
    return engine._served.root


def test_a_constraint_holds_for_each(engine: VLLMEngine | VLLMServer, prompt: list[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(prompt_source(engine))
    request = GenerationRequest(
        prompt, 8, WARM, seed=1, constraint={"choice": ["Rome", "Bath", "Oslo"]}, n=3
    )
    got = write(engine, request)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in got.ids]
    assert set(texts) <= {"Rome", "Bath", "Oslo"}
    assert got.finish == ["stop"] * 3


async def idle(engine: VLLMEngine | VLLMRewardModel, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while await engine.running_requests():
        assert time.monotonic() < end, "a request still runs"
        await asyncio.sleep(0.01)


async def test_leaving_ends_every_continuation(
    smollm_engine: VLLMEngine, prompt: list[int]
) -> None:
    request = GenerationRequest(prompt, 2000, WARM, top_logprobs=20, n=4)
    for tokens in (1, 6):
        async with aclosing(smollm_engine.generate(request)) as deltas:
            for _ in range(tokens):
                await anext(deltas)
            assert await smollm_engine.running_requests() >= 4
        await idle(smollm_engine)
    for seconds in (0.0, 0.02, 0.3):
        task = asyncio.create_task(_all(smollm_engine, request))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await idle(smollm_engine)
    live = smollm_engine._live
    assert live is not None
    processor = live.llm.output_processor
    assert not processor.request_states
    assert not processor.parent_requests
    assert not processor.external_req_ids


async def _all(engine: VLLMEngine, request: GenerationRequest) -> list[GenerationDelta]:
    return [delta async for delta in engine.generate(request)]


def test_leaving_a_server_ends_every_continuation(
    server: VLLMServer, smollm_server: Server, prompt: list[int]
) -> None:
    async def leave() -> None:
        request = GenerationRequest(prompt, 1000, WARM, n=4)
        async with aclosing(server.generate(request)) as deltas:
            await anext(deltas)

    get_runtime().run(leave())
    end = time.monotonic() + 5
    while smollm_server.metric("vllm:num_requests_running"):
        assert time.monotonic() < end, "a request still runs"
        time.sleep(0.02)


def test_continuations_share_one_computed_context(smollm_engine: VLLMEngine) -> None:
    context = list(range(9000, 9200))

    async def run() -> list[int | None]:
        request = GenerationRequest(context, 2, WARM, n=3)
        return [delta.cached_tokens async for delta in smollm_engine.generate(request)]

    assert get_runtime().run(run())[0] == 0
    cached = get_runtime().run(run())
    assert cached[0] == 192  # full blocks of 32
    assert cached[1:] == [None] * (len(cached) - 1)


def test_more_than_the_model_can_give_is_refused(
    engine: VLLMEngine | VLLMServer, prompt: list[int]
) -> None:
    with pytest.raises(ConfigurationError, match="temperature=0"):
        write(engine, GenerationRequest(prompt, 4, Sampling(temperature=0.0), n=2))
    with pytest.raises(EngineRequestError, match="n must be"):
        write(engine, GenerationRequest(prompt, 4, WARM, n=10**6))


# Reward models


class Reference(NamedTuple):
    """A reward model on disk, and what `transformers` makes of a text."""

    folder: Path
    reward: Callable[[str], float]


def cut_short(source: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return config and weights of a model's first layers."""
    config = json.loads((source / "config.json").read_text())
    config["num_hidden_layers"] = LAYERS
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:LAYERS]

    def stays(name: str) -> bool:
        parts = name.split(".")
        return "layers" not in parts or int(parts[parts.index("layers") + 1]) < LAYERS

    weights = load_file(source / "model.safetensors")
    return config, {name: tensor for name, tensor in weights.items() if stays(name)}


def save(
    folder: Path, source: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def hidden_states(backbone: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return hidden.float()


@pytest.fixture(scope="module")
def with_value_head(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A model as Skywork's: the score of the last token in `v_head`, with a bias."""
    config, weights = cut_short(smollm)
    config["architectures"] = ["LlamaForPrmModel"]
    torch.manual_seed(7)
    size = config["hidden_size"]
    head, bias = torch.randn(1, size) / size**0.5, torch.tensor([0.3])
    folder = tmp_path_factory.mktemp("rewards") / "prm"
    head_weights = {"v_head.summary.weight": head, "v_head.summary.bias": bias}
    save(folder, smollm, config, weights | head_weights)
    backbone = AutoModel.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def reward(text: str) -> float:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text)]
        return float(torch.sigmoid(head[0] @ hidden_states(backbone, ids)[-1] + bias)[0])

    return Reference(folder, reward)


STEP_TOKEN = 151651
"""`<extra_0>` of Qwen2.5-Math-PRM, by which vLLM knows where such a model judges."""


@pytest.fixture(scope="module")
def at_marks(qwen_small: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A `Qwen2ForProcessRewardModel`: two labels at the mark behind a step."""
    config, weights = cut_short(qwen_small)
    config["architectures"] = ["Qwen2ForProcessRewardModel"]
    torch.manual_seed(3)
    size = config["hidden_size"]
    dtype = weights["model.norm.weight"].dtype
    head = {
        "score.0.weight": torch.randn(size, size) / size**0.5,
        "score.0.bias": torch.randn(size) / 10,
        "score.2.weight": torch.randn(2, size) / size**0.5,
        "score.2.bias": torch.tensor([0.0, 3.3]),  # logits around 0, where rewards differ most
    }
    head = {name: tensor.to(dtype) for name, tensor in head.items()}
    folder = tmp_path_factory.mktemp("rewards") / "prm"
    save(folder, qwen_small, config, weights | head)
    backbone = AutoModel.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first, first_bias, second, second_bias = (tensor.float() for tensor in head.values())

    def reward(text: str) -> float:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text), STEP_TOKEN]
        hidden = hidden_states(backbone, ids)[-1]
        logits = second @ torch.relu(first @ hidden + first_bias) + second_bias
        return float(torch.softmax(logits, -1)[1])

    return Reference(folder, reward)


@pytest.fixture(scope="module")
def classifier(with_value_head: Reference) -> Reference:
    """The same model as a classifier, as vLLM can load it."""
    folder = with_value_head.folder.with_name("classifier")
    return with_value_head._replace(folder=convert_value_head(with_value_head.folder, folder))


@pytest.fixture(scope="module")
def reward_model(classifier: Reference) -> Iterator[VLLMRewardModel]:
    with VLLMRewardModel(str(classifier.folder), max_model_len=2048) as model:
        yield model


def same(rewards: Sequence[float], reference: Reference, texts: Sequence[str] = TEXTS) -> bool:
    return rewards == pytest.approx([reference.reward(text) for text in texts], abs=2e-2)


async def test_rewards_are_those_of_transformers(
    reward_model: VLLMRewardModel, classifier: Reference
) -> None:
    assert isinstance(reward_model, RewardModel)
    rewards = await reward_model.rewards(TEXTS)
    print([f"{value:.4f}" for value in rewards], [f"{classifier.reward(t):.4f}" for t in TEXTS])
    assert same(rewards, classifier)
    assert max(rewards) - min(rewards) > 0.1, "they tell texts apart"
    one_by_one = [(await reward_model.rewards([text]))[0] for text in TEXTS]
    assert one_by_one == pytest.approx(rewards, abs=2e-2)
    assert await reward_model.rewards([]) == []


async def test_what_texts_have_in_common_is_computed_once(reward_model: VLLMRewardModel) -> None:
    """As RSD asks: the same thought, a step longer each time."""
    text = PROBLEM + "".join(STEPS) * 12
    await reward_model.rewards([text])

    async def cached() -> int:
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        live = reward_model._live
        assert live is not None
        (ids,) = reward_model._encode([text + STEPS[0]])
        params = PoolingParams(task="classify", use_activation=False)
        async for output in live.llm.encode(tokens_input(ids), params, request_id="look"):
            count, whole = output.num_cached_tokens, len(ids)
        assert whole - count < 32 + 32
        return int(count)

    assert await get_runtime().bridge(cached()) > 300


async def test_cancelling_leaves_nothing(reward_model: VLLMRewardModel) -> None:
    texts = [f"{number} " * 600 for number in range(40)]
    for seconds in (0.0, 0.01, 0.1, 0.3):
        task = asyncio.create_task(reward_model.rewards(texts))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await idle(reward_model)
    assert len(await reward_model.rewards(TEXTS)) == len(TEXTS)


async def test_a_text_that_is_too_long_names_the_model(reward_model: VLLMRewardModel) -> None:
    with pytest.raises(EngineRequestError, match="refused a request.*2048") as caught:
        await reward_model.rewards(["Yes.", "one two three " * 1000])
    assert caught.value.model == reward_model.model
    await idle(reward_model)


async def test_a_dead_reward_model_says_so_and_starts_afresh(
    reward_model: VLLMRewardModel, classifier: Reference
) -> None:
    await reward_model.start()
    live = reward_model._live
    assert live is not None
    processes = list(live.brood._found)
    assert processes
    task = asyncio.create_task(reward_model.rewards(["one two three " * 500] * 40))
    await asyncio.sleep(0.2)
    for process in processes:
        process.kill()
    with pytest.raises(EngineDeadError) as caught:
        await task
    assert caught.value.model == reward_model.model
    with pytest.raises(EngineDeadError):
        await reward_model.rewards(["Yes."])
    await reward_model.aclose()
    assert left_over(processes) == []
    assert same(await reward_model.rewards(TEXTS[:2]), classifier, TEXTS[:2])


async def test_closing_ends_what_runs(reward_model: VLLMRewardModel) -> None:
    await reward_model.start()
    processes = [*reward_model._live.brood._found] if reward_model._live else []
    task = asyncio.create_task(reward_model.rewards(["one two three " * 500] * 40))
    await asyncio.sleep(0.2)
    await reward_model.aclose()
    with pytest.raises(EngineDeadError):
        await task
    assert processes
    assert left_over(processes) == []


async def test_a_score_at_the_mark_behind_a_step(at_marks: Reference) -> None:
    # A token that it was never trained on: bfloat16 alone moves these rewards by a tenth.
    async with VLLMRewardModel(str(at_marks.folder), max_model_len=2048, dtype="float32") as model:
        rewards = await model.rewards(TEXTS)
        assert same(rewards, at_marks)
        assert max(rewards) - min(rewards) > 0.1


async def test_what_is_no_reward_model_is_refused(smollm: Path, with_value_head: Reference) -> None:
    before = engine_processes()
    with pytest.raises(ConfigurationError, match="is no reward model"):
        await VLLMRewardModel(str(smollm), max_model_len=512).start()
    with pytest.raises(ConfigurationError, match="convert_value_head"):
        await VLLMRewardModel(str(with_value_head.folder)).start()
    assert engine_processes(besides=before) == []


# Behind a server


@pytest.fixture(scope="module")
def reward_server(at_marks: Reference) -> Iterator[Server]:
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    options = ["--runner", "pooling", "--distributed-executor-backend", "uni"]
    options += ["--dtype", "float32"]
    with serve(at_marks.folder, *options, env=environment) as server:
        yield server


def step_token(reference: Reference) -> str:
    return str(AutoTokenizer.from_pretrained(reference.folder).convert_ids_to_tokens(STEP_TOKEN))


def test_rewards_of_a_server(reward_server: Server, at_marks: Reference) -> None:
    with (
        VLLMRewardServer(reward_server.url) as model,
        pytest.raises(ConfigurationError, match="step_token="),
    ):
        get_runtime().run(model.start())
    with VLLMRewardServer(reward_server.url, step_token=step_token(at_marks)) as model:
        rewards = get_runtime().run(model.rewards(TEXTS))
        assert same(rewards, at_marks)
        assert model.model == str(at_marks.folder)
        with pytest.raises(EngineRequestError, match=r"400.*2048") as caught:
            get_runtime().run(model.rewards(["Yes.", "one two three " * 1000]))
        assert caught.value.model == model.model


async def test_leaving_a_reward_server_aborts(reward_server: Server, at_marks: Reference) -> None:
    server = VLLMRewardServer(reward_server.url, step_token=step_token(at_marks))
    async with server as model:
        await model.start()
        task = asyncio.create_task(model.rewards(["one two three " * 600] * 40))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    end = time.monotonic() + 10
    while await asyncio.to_thread(reward_server.metric, "vllm:num_requests_running"):
        assert time.monotonic() < end, "a request still runs"
        await asyncio.sleep(0.05)


def test_servers_of_other_kinds_are_refused(smollm_server: Server, reward_server: Server) -> None:
    with (
        VLLMRewardServer(smollm_server.url) as model,
        pytest.raises(ConfigurationError, match="--runner pooling"),
    ):
        get_runtime().run(model.start())
    with (
        VLLMServer(reward_server.url) as engine,
        pytest.raises((ConfigurationError, EngineRequestError)),
    ):
        get_runtime().run(engine.start())
