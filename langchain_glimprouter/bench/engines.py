"""The engines of a study: a small one throughout, and one set-up of the large one at a time."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.arms import MAIN
from langchain_glimprouter.engines.model_files import read_chat_template
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.thresholds import base_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.engines.base import Engine


def open_engine(model: str, arguments: Mapping[str, Any]) -> Engine:
    """Return an engine that starts at first use.

    Args:
        model: A model's id or path, or the URL of a vLLM server.
        arguments: Of `VLLMEngine` or `VLLMServer`.

    Raises:
        ConfigurationError: If something cannot work.
    """
    if model.startswith(("http://", "https://")):
        from langchain_glimprouter.engines.vllm_server import VLLMServer

        try:
            return VLLMServer(model, **arguments)
        except TypeError as error:
            msg = f"{model!r} is a server, whose engine takes its arguments when it starts: {error}"
            raise ConfigurationError(msg) from None
    from langchain_glimprouter.engines.vllm_local import VLLMEngine

    return VLLMEngine(model, **arguments)


class Engines:
    """The small engine, and the large one in one set-up at a time.

    Args:
        small: The small engine.
        large: The large engine in each of its set-ups; `main` is its own.

    Attributes:
        small: See above.
        large: See above.
    """

    def __init__(self, small: Engine, large: Mapping[str, Engine]) -> None:
        self.small = small
        self.large = dict(large)
        self._running: str | None = None

    async def use(self, variant: str) -> None:
        """Have the small engine and one set-up of the large one running, and no other.

        Raises:
            EngineError: If an engine does not start.
        """
        if self._running not in (None, variant):
            await self.large[self._running or variant].aclose()
            self._running = None
        await self.small.start()
        await self.large[variant].start()
        self._running = variant

    @property
    def cools(self) -> bool:
        """Whether `cool` reaches every engine; a server's cache is not ours to empty."""
        return all(hasattr(engine, "empty_cache") for engine in (self.small, *self.large.values()))

    async def cool(self) -> None:
        """Empty the prefix caches, so that no arm profits from those before it."""
        for engine in (self.small, self._current):
            if (empty := getattr(engine, "empty_cache", None)) is not None:
                await empty()

    async def warm(self, prompts: Sequence[str], chat_template: str | None = None) -> None:
        """Compute what all prompts begin with, as an engine in service has it in its cache.

        Else the questions that are asked at once would each compute it.

        Args:
            prompts: Users' messages, two or more.
            chat_template: A template's text or path in place of the models' own.
        """
        template = read_chat_template(chat_template)
        options: dict[str, Any] = {} if template is None else {"chat_template": template}
        for engine in (self.small, self._current):
            vocabulary = await engine.vocabulary()
            rendered = [
                vocabulary.encode(
                    vocabulary.render([{"role": "user", "content": prompt}], **options),
                    special=True,
                )
                for prompt in prompts
            ]
            if shared := common_beginning(rendered):
                await engine.prefill(shared)

    @property
    def _current(self) -> Engine:
        return self.large[self._running or MAIN]

    async def aclose(self) -> None:
        """Release all engines."""
        for engine in (self.small, *self.large.values()):
            await engine.aclose()


def common_beginning(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return the token ids that all prompts begin with."""
    same = takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))
    return [ids[0] for ids in same]


def portable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return an engine's arguments for a record: paths by their last part, as models are."""
    return {name: _portable(value) for name, value in arguments.items()}


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return portable(value)
    if isinstance(value, str) and "/" in value and "://" not in value and Path(value).exists():
        return base_name(value)
    return value
