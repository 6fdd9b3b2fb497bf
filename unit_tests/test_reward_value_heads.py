"""Reward models with a value head become sequence classifiers, tensor by tensor."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from langchain_glimprouter.engines.value_heads import check_no_value_head, convert_value_head
from langchain_glimprouter.errors import ConfigurationError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)

CONFIG = {
    "architectures": ["Qwen2ForPrmModel"],
    "auto_map": {"AutoModel": "modeling.Qwen2ForPrmModel"},
    "hidden_size": 4,
    "model_type": "qwen2",
}


def tensors() -> dict[str, Any]:
    import torch  # takes seconds, so not where tests are collected

    torch.manual_seed(0)
    return {
        "model.embed_tokens.weight": torch.randn(7, 4, dtype=torch.bfloat16),
        "model.norm.weight": torch.randn(4),
        "v_head.summary.weight": torch.randn(1, 4),
        "v_head.summary.bias": torch.randn(1),
    }


def write(
    folder: Path, *shards: dict[str, Any], suffix: str = "safetensors", **config: Any
) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    for number, shard in enumerate(shards):
        if suffix == "safetensors":
            save_file(shard, folder / f"model-{number}.safetensors")
        else:
            import torch

            torch.save(shard, folder / f"pytorch_model-{number}.bin")
    (folder / "model.safetensors.index.json").write_text("{}")


def read(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("prefix", ["", "pretrained_model."])
def test_tensors_are_renamed_and_not_changed(
    tmp_path: Path, suffix: str, sharded: bool, prefix: str
) -> None:
    whole = tensors()
    named = {name if "v_head" in name else prefix + name: t for name, t in whole.items()}
    embedding = named[f"{prefix}model.embed_tokens.weight"]
    named[f"{prefix}lm_head.weight"] = embedding.clone() if suffix == "safetensors" else embedding
    items = list(named.items())
    shards = [dict(items[:2]), dict(items[2:])] if sharded else [named]
    write(tmp_path / "prm", *shards, suffix=suffix)
    made = convert_value_head(tmp_path / "prm", tmp_path / "new" / "classifier")
    found = read(made)
    assert sorted(found) == [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "score.bias",
        "score.weight",
    ]
    for name, tensor in whole.items():
        kept = found[name.replace("v_head.summary", "score")]
        assert kept.dtype == tensor.dtype
        assert kept.equal(tensor)
    if sharded:
        index = json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]
        assert index.keys() == found.keys()
        assert all((made / file).exists() for file in index.values())
    else:
        assert not (made / "model.safetensors.index.json").exists()


def test_the_config_says_what_it_has_become(tmp_path: Path) -> None:
    write(tmp_path / "prm", tensors())
    made = convert_value_head(str(tmp_path / "prm"), str(tmp_path / "made"))
    config = json.loads((made / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    assert config["num_labels"] == len(config["id2label"]) == 1
    assert "auto_map" not in config
    assert config["hidden_size"] == 4
    assert (made / "tokenizer.json").read_text() == "{}"
    check_no_value_head("made", config["architectures"])


@pytest.mark.parametrize("name", ["Qwen2ForPrmModel", "LlamaForCausalLMWithValueHead"])
def test_a_value_head_is_recognized(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'prm' is a {name}.*convert_value_head"):
        check_no_value_head("prm", [name])


def test_models_that_cannot_be_converted(tmp_path: Path) -> None:
    def refused(source: str, words: str, target: str = "made") -> None:
        with pytest.raises(ConfigurationError, match=words):
            convert_value_head(tmp_path / source, tmp_path / target)
        assert not list(tmp_path.glob("made*"))

    refused("nothing", r"source: cannot read .*config\.json")
    write(tmp_path / "empty")
    refused("empty", "holds no weights")
    write(tmp_path / "headless", {"model.norm.weight": tensors()["model.norm.weight"]})
    refused("headless", r"no `v_head\.summary\.weight`")
    write(tmp_path / "strange", tensors(), model_type="strange")
    refused("strange", "'strange'.*no sequence classifier")
    refused("headless", "target: .* exists already", target="empty")
