"""An engine that is watched: when each request began, and when its first token came."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from langchain_glimprouter.engines.base import (
        Engine,
        GenerationDelta,
        GenerationRequest,
        Vocabulary,
    )
    from langchain_glimprouter.errors import Role


@dataclass(slots=True)
class RequestTime:
    """One request, as its caller saw it.

    Attributes:
        role: Whose it was.
        context: Tokens of its context.
        cached: How many of these the prefix cache held; `None` where the engine does not tell.
        tokens: Tokens that came.
        first: Seconds until the first of them.
        seconds: Seconds until the request was over.
    """

    role: Role
    context: int
    cached: int | None = None
    tokens: int = 0
    first: float = 0.0
    seconds: float = 0.0


class TimedEngine:
    """Passes everything on to an engine, and writes its requests down.

    Args:
        engine: The engine.
        role: Its place in the pair.
        log: Where its requests go, in the order in which they began.
    """

    def __init__(self, engine: Engine, role: Role, log: list[RequestTime]) -> None:
        self._engine = engine
        self._role = role
        self._log = log

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._engine.model

    @property
    def max_top_logprobs(self) -> int:
        """Most log-probabilities per position that a request may ask for."""
        return self._engine.max_top_logprobs

    async def start(self) -> None:
        """Get ready to generate."""
        await self._engine.start()

    async def vocabulary(self) -> Vocabulary:
        """Return the model's vocabulary."""
        return await self._engine.vocabulary()

    async def context_window(self) -> int:
        """Return the most tokens of prompt and output together."""
        return await self._engine.context_window()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        """Continue `request.token_ids`; see `Engine.generate`."""
        entry = RequestTime(self._role, len(request.token_ids))
        self._log.append(entry)
        began = time.perf_counter()
        try:
            async with aclosing(self._engine.generate(request)) as deltas:
                async for delta in deltas:
                    if not entry.tokens:
                        entry.first = time.perf_counter() - began
                        entry.cached = delta.cached_tokens
                    entry.tokens += len(delta.token_ids)
                    yield delta
        finally:
            entry.seconds = time.perf_counter() - began

    async def prefill(self, token_ids: Sequence[int]) -> None:
        """Compute `token_ids` into the prefix cache."""
        await self._engine.prefill(token_ids)

    async def aclose(self) -> None:
        """Release everything."""
        await self._engine.aclose()
