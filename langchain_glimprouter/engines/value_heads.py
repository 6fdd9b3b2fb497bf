"""Reward models with a value head, as sequence classifiers that vLLM knows.

Skywork-o1-Open-PRM (`Qwen2ForPrmModel`), which RSD was published with, keeps its score in
`v_head.summary`, a linear layer over the last hidden states, as TRL's value heads do. vLLM has no
such models, but the same weights under the name `score` make a sequence classifier. As such it even
takes what two texts have in common from the prefix cache, which vLLM's reward models cannot.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ARCHITECTURES = ("PrmModel", "ForCausalLMWithValueHead")
"""Ends of the names of models with a value head."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_HEAD = {"v_head.summary.weight": "score.weight", "v_head.summary.bias": "score.bias"}
_INDEX = "model.safetensors.index.json"


def check_no_value_head(model: str, architectures: Sequence[str]) -> None:
    """Say what to do about a model with a value head.

    Raises:
        ConfigurationError: If `model` is one.
    """
    for name in architectures:
        if name.endswith(_ARCHITECTURES):
            raise ConfigurationError(
                f"{model!r} is a {name}, whose value head vLLM does not know. Convert it once, "
                f"`from langchain_glimprouter.engines.value_heads import convert_value_head; "
                f"convert_value_head(its_folder, new_folder)`, and give the new folder."
            )


def convert_value_head(source: str | Path, target: str | Path) -> Path:
    """Copy a reward model with a value head as a sequence classifier with one label.

    The weights are renamed, not changed. All else that the folder holds is copied.

    Args:
        source: Folder of the model, as `hf download` leaves it.
        target: Folder to make; it must not exist.

    Returns:
        `target`.

    Raises:
        ConfigurationError: If `source` is no model with a value head, or `target` exists.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    config = _read(source / "config.json")
    if target.exists():
        raise ConfigurationError(f"target: {str(target)!r} exists already; give a new folder")
    files = sorted(source.glob("*.safetensors")) or sorted(source.glob("pytorch_model*.bin"))
    if not files:
        raise ConfigurationError(f"source: {str(source)!r} holds no weights (*.safetensors, *.bin)")
    config |= {
        "architectures": [_classifier(str(config.get("model_type")), source)],
        "num_labels": 1,
        "id2label": {"0": "right"},
        "label2id": {"right": 0},
    }
    config.pop("auto_map", None)  # the code of what it was
    # Whole or not at all: a folder that was left halfway would look like a model.
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        places = _convert(files, part, source)
        if len(files) > 1:
            _write(part / _INDEX, {"metadata": {}, "weight_map": places})
        _write(part / "config.json", config)
        for file in source.iterdir():
            weights = file.suffix in _WEIGHTS or file.name.endswith(".index.json")
            if file.is_file() and not weights and not (part / file.name).exists():
                shutil.copyfile(file, part / file.name)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _convert(files: Sequence[Path], target: Path, source: Path) -> dict[str, str]:
    """Write each file of weights with its tensors' new names; return which file holds which."""
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    for number, file in enumerate(files, start=1):
        name = "model.safetensors"
        if len(files) > 1:
            name = f"model-{number:05}-of-{len(files):05}.safetensors"
        # A tensor that shares its memory with another cannot be written as it is.
        tensors = {
            new: tensor.clone().contiguous()
            for old, tensor in _load(file).items()
            if (new := _renamed(old)) is not None
        }
        save_file(tensors, target / name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, name)
    if "score.weight" not in places:
        raise ConfigurationError(f"source: {str(source)!r} has no `v_head.summary.weight`")
    return places


def _load(file: Path) -> dict[str, Any]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    import torch

    tensors: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return tensors


def _renamed(name: str) -> str | None:
    name = name.removeprefix("pretrained_model.")  # TRL's wrapper
    return None if name.startswith("lm_head.") else _HEAD.get(name, name)


def _classifier(model_type: str, source: Path) -> str:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES,
    )

    name = NAMES.get(model_type)
    if name is None:
        raise ConfigurationError(
            f"source: {str(source)!r} is of the type {model_type!r}, of which transformers knows "
            f"no sequence classifier"
        )
    return str(name)


def _read(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"source: cannot read {str(file)!r} ({error})") from error
    return values


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
