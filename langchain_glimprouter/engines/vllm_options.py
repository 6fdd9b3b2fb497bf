"""Which options a vLLM engine gets: the user's, checked, and ours where the user set nothing."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from langchain_glimprouter.errors import ConfigurationError, Role

Platform = Literal["cpu", "gpu"]

_GIB = 1 << 30
_KV_BYTES: dict[Role | None, int] = {"small": _GIB, "large": 2 * _GIB, None: _GIB}
# Two engines on one GPU: what is left is for CUDA's own needs, which vLLM does not count.
_GPU_SHARE: dict[Role, float] = {"small": 0.2, "large": 0.7}
_GPU_SHARE_OF_REWARDS = 0.08
"""Beside those two: of 80 GiB what a model with 1.5B parameters needs, and some."""
_OWN_PLACEMENT = (
    "device_ids",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "distributed_executor_backend",
)
CPU_WORKER = "langchain_glimprouter.engines.cpu_worker.WorkerExtension"
"""What vLLM's workers on a CPU load; without it, a seeded request with a long prompt ends them."""
_MEMORY = ("gpu_memory_utilization", "kv_cache_memory_bytes")


def default_engine_args(
    platform: Platform,
    device_count: int,
    role: Role | None,
    user_args: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    *,
    pooling: bool = False,
) -> dict[str, Any]:
    """Return the engine arguments that make the engines share a machine; the user's always win.

    Args:
        platform: What vLLM was built for.
        device_count: How many GPUs are visible.
        role: The engine's place in a pair, or `None` if it stands alone.
        user_args: What the user set.
        environment: The process's environment variables.
        pooling: Whether the engine scores texts instead of generating any.
    """
    environment = os.environ if environment is None else environment
    defaults: dict[str, Any] = {
        # Each engine's Prometheus logger would unregister the other's.
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if pooling:
        defaults["runner"] = "pooling"
    else:
        defaults["enable_prefix_caching"] = True  # not every pooling model can; vLLM knows which
    if platform == "cpu":
        # vLLM's 128 would have up to 127 tokens computed again at each hand-off.
        defaults["block_size"] = 32
        defaults["enforce_eager"] = True
        defaults["max_num_seqs"] = 16
        defaults["worker_extension_cls"] = CPU_WORKER
        if not _set(user_args, _OWN_PLACEMENT) and "VLLM_CPU_OMP_THREADS_BIND" not in environment:
            # A worker process of its own would be bound to all cores but one, and the engine would
            # spin on that one. Together they start faster, and use every core.
            defaults["distributed_executor_backend"] = "uni"
        # The window that fits into the memory, where the model's own does not.
        defaults["max_model_len"] = -1
        if not environment.get("VLLM_CPU_KVCACHE_SPACE"):
            defaults["kv_cache_memory_bytes"] = _KV_BYTES[role]
    elif role is not None and not _set(user_args, _OWN_PLACEMENT):
        if device_count >= 2:
            defaults["device_ids"] = [0] if role == "large" else [device_count - 1]
        elif not _set(user_args, _MEMORY):
            defaults["gpu_memory_utilization"] = _GPU_SHARE[role]
            defaults["max_model_len"] = -1
    elif pooling and device_count == 1 and not _set(user_args, (*_OWN_PLACEMENT, *_MEMORY)):
        defaults["gpu_memory_utilization"] = _GPU_SHARE_OF_REWARDS
        defaults["max_model_len"] = -1
    return {key: value for key, value in defaults.items() if key not in user_args}


def _set(user_args: Mapping[str, Any], names: Iterable[str]) -> bool:
    return any(user_args.get(name) not in (None, 1, "mp") for name in names)


def check_engine_args(user_args: Mapping[str, Any]) -> None:
    """Refuse what cannot work, as far as that is known before vLLM is imported.

    Raises:
        ConfigurationError: If an option cannot work.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigurationError(
            "vLLM is not installed. Install `langchain-glimprouter[vllm]` for GPUs or "
            "`langchain-glimprouter[cpu]` for CPUs, or use servers: `VLLMServer(base_url)`."
        )
    mode = user_args.get("logprobs_mode", "raw_logprobs")
    if str(getattr(mode, "value", mode)) != "raw_logprobs":
        raise ConfigurationError(
            f"`logprobs_mode={mode!r}` cannot be used: the entropy that routes a step comes from "
            "log-probabilities before temperature and penalties. Leave it at 'raw_logprobs'."
        )
    most = user_args.get("max_logprobs", 20)
    if not isinstance(most, int) or (most < 1 and most != -1):
        raise ConfigurationError(
            f"`max_logprobs={most!r}` leaves a router without probabilities: use 20 (the default), "
            "more, or -1 for no limit."
        )
    if user_args.get("skip_tokenizer_init"):
        raise ConfigurationError("`skip_tokenizer_init=True` cannot be used: leave it out.")
    if "vllm.engine.arg_utils" in sys.modules:
        check_names(user_args)


def check_names(user_args: Mapping[str, Any]) -> None:
    """Refuse arguments that vLLM does not know; imports vLLM, which takes seconds.

    Raises:
        ConfigurationError: If an argument is unknown.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in user_args:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ConfigurationError(f"`{name}` is no engine argument of this vLLM.{hint}")


def check_main_module() -> None:
    """Refuse to start engine processes from a script that those would run all over again.

    Raises:
        ConfigurationError: If the main script lacks its `if __name__ == "__main__":`.
    """
    import multiprocessing

    message = (
        "vLLM starts its engine in a new process, which imports your script again. Put the code "
        'that uses the model under `if __name__ == "__main__":`.'
    )
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigurationError(message)
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None:
        return  # a prompt, `python -c`, or `python -m`
    try:
        source = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    if "__name__" not in source and "__mp_main__" not in source:
        raise ConfigurationError(f"{message} (In {path!r}.)")
