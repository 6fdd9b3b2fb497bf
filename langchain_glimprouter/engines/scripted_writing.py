"""How a scripted engine writes: tokens into deltas, entropies into distributions."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from langchain_glimprouter.engines.base import (
    FinishReason,
    GenerationDelta,
    GenerationRequest,
    TopLogprobs,
)
from langchain_glimprouter.engines.scripted_vocabulary import FILLERS, ScriptedVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator


class Continuation:
    """One of the continuations of a request.

    Attributes:
        finish: Why it has ended, if it has.
    """

    __slots__ = (
        "_cached",
        "_count",
        "_ids",
        "_index",
        "_most",
        "_per_delta",
        "_request",
        "_script",
        "_stop_ids",
        "_text",
        "_tops",
        "_vocabulary",
        "finish",
    )

    def __init__(
        self,
        request: GenerationRequest,
        index: int,
        script: Iterator[tuple[int, float]],
        vocabulary: ScriptedVocabulary,
        most: int,
        per_delta: int,
    ) -> None:
        """Begin a continuation.

        Args:
            request: What was asked for.
            index: Which continuation this is.
            script: Its tokens with their entropies, an end of text last.
            vocabulary: What they mean.
            most: Most tokens to write.
            per_delta: How many tokens one delta holds.
        """
        self.finish: FinishReason | None = None
        self._request = request
        self._index = index
        self._script = script
        self._vocabulary = vocabulary
        self._most = most
        self._per_delta = per_delta
        self._stop_ids = frozenset(request.stop_token_ids) | vocabulary.eos_ids
        self._ids: list[int] = []
        self._tops: list[TopLogprobs] = []
        self._cached: int | None = 0 if index == 0 else None
        self._count = 0
        self._text = ""

    def write(self) -> GenerationDelta | None:
        """Write a token; return what a delta holds once there is enough for one."""
        request = self._request
        token_id, entropy = next(self._script)
        self._count += 1
        self._ids.append(token_id)
        if request.top_logprobs:
            self._tops.append(_distribution(token_id, entropy, request.top_logprobs))
        if request.stop:
            self._text += self._vocabulary.decode([token_id])
        if token_id in self._stop_ids or any(stop in self._text for stop in request.stop):
            self.finish = "stop"
        elif self._count >= self._most:
            self.finish = "length"
        if self.finish is None and len(self._ids) < self._per_delta:
            return None
        tops = self._tops if request.top_logprobs else None
        delta = GenerationDelta(self._ids, tops, self.finish, self._cached, self._index)
        self._ids, self._tops, self._cached = [], [], None
        return delta


def _distribution(token_id: int, entropy: float, count: int) -> TopLogprobs:
    logprobs = _logprobs(entropy, count)
    return TopLogprobs((token_id, *FILLERS[: count - 1]), logprobs, logprobs[0])


@functools.lru_cache(maxsize=4096)
def _logprobs(entropy: float, count: int) -> tuple[float, ...]:
    """Return `count` log-probabilities of a given entropy: one likeliest token, the rest even."""
    if count == 1 or entropy <= 0.0:
        return (0.0, *(-math.inf for _ in range(count - 1)))
    low, high = 1.0 / count, 1.0
    for _ in range(100):
        top = (low + high) / 2
        rest = 1.0 - top
        value = -top * math.log(top) - (rest * math.log(rest / (count - 1)) if rest > 0.0 else 0.0)
        low, high = (top, high) if value > entropy else (low, top)
    rest = max(1.0 - high, 1e-300)
    return (math.log(high), *(math.log(rest / (count - 1)) for _ in range(count - 1)))
