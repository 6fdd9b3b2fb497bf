"""The two models of a router, opened and compared."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_glimprouter.engines.base import Engine, Vocabulary
    from langchain_glimprouter.errors import Role


@contextmanager
def naming(role: Role) -> Iterator[None]:
    """Name the role in the errors of its engine."""
    try:
        yield
    except EngineError as error:
        error.role = role
        raise


@dataclass(frozen=True)
class EnginePair:
    """Started engines with their vocabularies; holds one role only where a policy needs no more.

    Attributes:
        engines: By role.
        vocabularies: By role.
        windows: Context windows by role, in tokens.
        shared_vocabulary: Whether ids mean the same to both, so that they pass over as they are.
    """

    engines: Mapping[Role, Engine]
    vocabularies: Mapping[Role, Vocabulary]
    windows: Mapping[Role, int]
    shared_vocabulary: bool
    _stops: dict[tuple[Role, tuple[str, ...]], tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    async def open(cls, engines: Mapping[Role, Engine]) -> EnginePair:
        """Start the engines, one after the other, and compare their vocabularies.

        Raises:
            EngineError: If an engine cannot start; it tells the role.
            ConfigurationError: If an option cannot work.
        """
        vocabularies: dict[Role, Vocabulary] = {}
        windows: dict[Role, int] = {}
        for role, engine in engines.items():
            with naming(role):
                vocabularies[role] = await engine.vocabulary()
        for role, engine in engines.items():
            with naming(role):
                await engine.start()
                windows[role] = await engine.context_window()
        prints = {vocabulary.fingerprint for vocabulary in vocabularies.values()}
        return cls(engines, vocabularies, windows, shared_vocabulary=len(prints) == 1)

    def stop_ids(self, role: Role, delimiters: tuple[str, ...]) -> tuple[int, ...]:
        """Return the ids at which an engine may stop by itself, since they contain a delimiter."""
        key = (role, delimiters)
        if key not in self._stops:
            vocabulary = self.vocabularies[role]
            ids = frozenset[int]().union(*map(vocabulary.ids_containing, delimiters))
            self._stops[key] = tuple(sorted(ids))
        return self._stops[key]

    def model(self, role: Role) -> str:
        """Return the name of one model; empty if it takes no part."""
        engine = self.engines.get(role)
        return engine.model if engine is not None else ""
