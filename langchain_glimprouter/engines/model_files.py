"""What a model's files say about it, read before any engine starts and without its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_glimprouter.errors import ConfigurationError

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")
_WINDOW_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "model_max_length",
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's config tells.

    Attributes:
        vocab_size: Width of its distribution.
        context_window: Most tokens that it was built for.
        eos_ids: Ids that its generation config ends a text with.
        architectures: What it is, as class names of `transformers`.
    """

    vocab_size: int | None = None
    context_window: int | None = None
    eos_ids: frozenset[int] = frozenset()
    architectures: tuple[str, ...] = ()


def local_model_path(model: str, *, option: str = "model") -> str:
    """Return a local folder's full path, or the hub id as it is.

    Raises:
        ConfigurationError: If `model` is written as a path and nothing is there.
    """
    path = Path(model).expanduser()
    if path.exists():
        return str(path.resolve())
    looks_local = model.startswith(("/", "./", "../", "~", "\\")) or model.count("/") > 1
    if looks_local or not model.strip():
        raise ConfigurationError(
            f"`{option}={model!r}`: there is no file or folder at {str(path.absolute())!r}. Give "
            "the folder with the model's config.json, or a Hugging Face id like 'Qwen/Qwen3-4B'."
        )
    return model


def read_chat_template(template: str | None) -> str | None:
    """Return a template's text, given that text or the path of a file.

    Raises:
        ConfigurationError: If it is the name of a file that cannot be read.
    """
    if template is None or "{" in template or "\n" in template:
        return template
    try:
        return Path(template).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"`chat_template={template!r}` is neither a Jinja template nor a readable file "
            f"({error.strerror}). Give the template's text or the path of a .jinja file."
        ) from error


@contextmanager
def reading(what: str, model: str) -> Iterator[None]:
    """Turn the many ways in which a model's files cannot be read into one clear error."""
    try:
        yield
    except ConfigurationError:
        raise
    except ImportError as error:
        raise ConfigurationError(f"The {what} of {model!r} needs a package: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if Path(model).exists():
            fix = f"Check that {model!r} holds a whole model as `save_pretrained` writes it."
        else:
            fix = (
                "It is no local folder, so it was looked for on the Hugging Face hub. Check the "
                "id and the network (gated models need `hf auth login`), or give a local folder."
            )
        raise ConfigurationError(
            f"Cannot read the {what} of model {model!r}. {fix} [{first_line}]"
        ) from error


def read_model_facts(
    model: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> ModelFacts:
    """Read a model's config and generation config.

    Raises:
        ConfigurationError: If the model has no readable config.
    """
    with reading("config", model):
        config = _read_json(model, "config.json", revision, needed=True)
        generation = _read_json(model, "generation_config.json", revision, needed=False)
    if config is None:
        raise ConfigurationError(
            f"`model={model!r}` has no config.json. Give the folder with the model's config.json."
        )
    text_config = _text_config(config)
    if "vocab_size" not in text_config:
        text_config = {**text_config, **_defaults(model, revision, trust_remote_code)}
    vocab_size = text_config.get("vocab_size")
    return ModelFacts(
        vocab_size=int(vocab_size) if vocab_size else None,
        context_window=_context_window(text_config),
        eos_ids=_eos_ids(config) | _eos_ids(generation or {}),
        architectures=tuple(config.get("architectures") or ()),
    )


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in _TEXT_CONFIGS:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return _text_config(inner)
    return config


def _defaults(model: str, revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """Return what the config leaves to its class, where `transformers` knows the class."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            model, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError):
        return {}  # vLLM may know models that transformers does not; the tokenizer tells then
    values: dict[str, Any] = config.get_text_config().to_dict()
    return values


def _context_window(config: Mapping[str, Any]) -> int | None:
    """Return the window before the engine has told its own; scaled as vLLM scales it."""
    windows = [config[key] for key in _WINDOW_KEYS if isinstance(config.get(key), int)]
    if not windows:
        return None
    window = min(windows)
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    original = scaling.get("original_max_position_embeddings")
    if kind in ("longrope", "su"):
        return int(config.get("original_max_position_embeddings") or original or window)
    if kind in ("default", "llama3", "mrope", "proportional"):
        return int(window)
    if kind == "yarn":
        window = original or window
    return int(window * float(scaling.get("factor") or 1))


def _read_json(
    model: str, name: str, revision: str | None, *, needed: bool
) -> dict[str, Any] | None:
    """Return a model's file, or `None` if it has no such file.

    Raises:
        OSError: If the file is needed and the model is not on the hub, or not to be reached.
    """
    path: str | Path | None = Path(model) / name
    if not Path(model).is_dir():
        from transformers.utils.hub import cached_file

        path = cached_file(
            model,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=needed,
            _raise_exceptions_for_connection_errors=needed,
        )
    if path is None or not Path(path).exists():
        return None
    values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return values


def _eos_ids(config: Mapping[str, Any]) -> frozenset[int]:
    ids = config.get("eos_token_id")
    if ids is None:
        return frozenset()
    return frozenset(ids if isinstance(ids, list) else [ids])
