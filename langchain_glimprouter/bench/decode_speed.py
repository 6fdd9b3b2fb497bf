"""How long one model takes for one token, with nothing else at work."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from langchain_glimprouter.engines.base import GenerationRequest, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.engines.base import Engine

QUIET_SECONDS = 1.5
"""vLLM's processes spin for up to a second after their last message."""


async def decode_seconds(engine: Engine, token_ids: Sequence[int], tokens: int) -> float:
    """Measure a model's own decode time per token.

    Args:
        engine: A started engine, with nothing else running on the machine.
        token_ids: A context as long as those of the work to compare with.
        tokens: How many tokens to write; more is steadier.

    Returns:
        The median time between two tokens, in seconds.
    """
    await asyncio.sleep(QUIET_SECONDS)
    request = GenerationRequest(token_ids, tokens, Sampling(temperature=0.0), top_logprobs=20)
    gaps: list[float] = []
    last: float | None = None
    async with aclosing(engine.generate(request)) as deltas:
        async for delta in deltas:
            now = time.perf_counter()
            if last is not None:
                gaps.extend([(now - last) / len(delta.token_ids)] * len(delta.token_ids))
            last = now
    return statistics.median(gaps)
