"""What an in-process engine is given, and what it refuses, without vLLM being imported."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from langchain_glimprouter.engines.base import Engine
from langchain_glimprouter.engines.logprobs import FlatTopLogprobs
from langchain_glimprouter.engines.vllm_local import VLLMEngine
from langchain_glimprouter.engines.vllm_options import check_engine_args, default_engine_args
from langchain_glimprouter.errors import ConfigurationError

installed = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not installed, reason="vLLM is not installed")


def defaults(
    platform: Any = "cpu", count: int = 0, role: Any = None, **user_args: Any
) -> dict[str, Any]:
    return default_engine_args(platform, count, role, user_args, {})


def test_cpu_engines_have_small_blocks_and_their_own_kv_memory() -> None:
    small, large = defaults(role="small"), defaults(role="large")
    assert small["block_size"] == 32
    assert small["enforce_eager"] is True
    assert small["kv_cache_memory_bytes"] == 1 << 30
    assert large["kv_cache_memory_bytes"] == 2 << 30
    assert small["max_num_seqs"] == 16
    assert "device_ids" not in large


def test_the_users_own_arguments_win() -> None:
    user = {"block_size": 64, "kv_cache_memory_bytes": 5, "max_model_len": 77, "role": 1}
    assert not user.keys() & defaults(**{k: v for k, v in user.items() if k != "role"}).keys()
    assert "device_ids" not in defaults("gpu", 2, "small", device_ids=[0])
    assert "gpu_memory_utilization" not in defaults("gpu", 1, "small", gpu_memory_utilization=0.3)
    assert "gpu_memory_utilization" not in defaults("gpu", 1, "small", kv_cache_memory_bytes=9)


def test_the_environment_fixes_the_kv_memory_of_cpu_engines() -> None:
    environment = {"VLLM_CPU_KVCACHE_SPACE": "4"}
    assert "kv_cache_memory_bytes" not in default_engine_args("cpu", 0, "small", {}, environment)


def test_one_gpu_is_shared() -> None:
    small, large = defaults("gpu", 1, "small"), defaults("gpu", 1, "large")
    assert small["gpu_memory_utilization"] + large["gpu_memory_utilization"] <= 0.92
    assert small["max_model_len"] == large["max_model_len"] == -1
    assert "block_size" not in small
    assert "enforce_eager" not in small
    alone = defaults("gpu", 1)
    assert "gpu_memory_utilization" not in alone


@pytest.mark.parametrize("count", [2, 8])
def test_two_gpus_are_taken_one_each(count: int) -> None:
    small, large = defaults("gpu", count, "small"), defaults("gpu", count, "large")
    assert small["device_ids"] != large["device_ids"]
    assert "gpu_memory_utilization" not in small


@pytest.mark.parametrize(
    "placement",
    [{"tensor_parallel_size": 2}, {"distributed_executor_backend": "ray"}, {"device_ids": [1]}],
)
def test_who_places_an_engine_places_it_alone(placement: dict[str, Any]) -> None:
    chosen = defaults("gpu", 4, "large", **placement)
    assert not {"device_ids", "gpu_memory_utilization"} & chosen.keys()


def test_no_engine_logs_metrics_over_the_others() -> None:
    assert defaults()["disable_log_stats"] is True
    assert "disable_log_stats" not in defaults(disable_log_stats=False)


@needs_vllm
@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"logprobs_mode": "processed_logits"}, "logprobs_mode"),
        ({"max_logprobs": 0}, "max_logprobs"),
        ({"max_logprobs": "many"}, "max_logprobs"),
        ({"skip_tokenizer_init": True}, "skip_tokenizer_init"),
        ({"chat_template": "nowhere.jinja"}, "chat_template"),
    ],
)
def test_mistakes_are_named_before_anything_starts(args: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{named}="):
        VLLMEngine("some/model", **args)


@needs_vllm
def test_a_model_path_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no file or folder at '/nowhere/at/all'"):
        VLLMEngine("/nowhere/at/all")


def test_without_vllm_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"langchain-glimprouter\[cpu\]"):
        check_engine_args({})


@needs_vllm
def test_an_engine_that_has_not_started_is_cheap_and_copies() -> None:
    engine = VLLMEngine("some/model", max_model_len=4096, max_logprobs=40)
    engine.role_hint = "small"
    assert isinstance(engine, Engine)
    assert engine.model == "some/model"
    assert engine.max_top_logprobs == 40
    assert VLLMEngine("some/model", max_logprobs=-1).max_top_logprobs > 10**6
    for twin in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)):
        assert repr(twin) == repr(engine)
        assert twin.role_hint == "small"
        twin.close()
    engine.close()


@needs_vllm
async def test_the_window_is_known_before_the_start(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"max_position_embeddings": 2048, "vocab_size": 9}')
    assert await VLLMEngine(str(tmp_path)).context_window() == 2048
    assert await VLLMEngine(str(tmp_path), max_model_len=99).context_window() == 99
    config.write_text(
        '{"text_config": {"max_position_embeddings": 2048, "vocab_size": 9, "rope_scaling":'
        ' {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}}}'
    )
    assert await VLLMEngine(str(tmp_path)).context_window() == 4096


@dataclass
class Flat:
    """The lists of vLLM's container, with k = 2."""

    start_indices: list[int] = field(default_factory=lambda: [0, 3, 6])
    end_indices: list[int] = field(default_factory=lambda: [3, 6, 8])
    # sampled inside the top; outside of it; inside, merged (where the second mention is gone)
    token_ids: list[int] = field(default_factory=lambda: [8, 7, 8, 9, 7, 8, 8, 7])
    logprobs: list[float] = field(
        default_factory=lambda: [-2.0, -1.0, -2.0, -5.0, -1.0, -2.0, -2.0, -1.0]
    )
    ranks: list[int | None] = field(default_factory=lambda: [2, 1, 2, 9, 1, 2, 2, 1])


def test_the_likeliest_tokens_come_without_a_sampled_outsider() -> None:
    tops = FlatTopLogprobs(Flat(), 2)
    assert len(tops) == 3
    assert [top.sampled for top in tops] == [-2.0, -5.0, -2.0]
    assert all(list(top.token_ids) == [7, 8] for top in tops)
    assert all(list(top.logprobs) == [-1.0, -2.0] for top in tops[0:3])


# Its own command must not look like an engine's.
