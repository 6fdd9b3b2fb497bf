"""vLLM's flat log-probabilities as `TopLogprobs`, made when read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, overload

from langchain_glimprouter.engines.base import TopLogprobs


class Flat(Protocol):
    """What is used of `vllm.logprobs.FlatLogprobs`."""

    start_indices: list[int]
    end_indices: list[int]
    token_ids: list[int]
    logprobs: list[float]
    ranks: list[int | None]


class FlatTopLogprobs(Sequence[TopLogprobs]):
    """A view of flat log-probabilities, one entry a position.

    Args:
        flat: At each position the sampled token, then the likeliest ones in order.
        top: How many of the likeliest were asked for.
    """

    def __init__(self, flat: Flat, top: int) -> None:
        self._flat = flat
        self._top = top

    def __len__(self) -> int:
        return len(self._flat.start_indices)

    @overload
    def __getitem__(self, index: int) -> TopLogprobs: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TopLogprobs]: ...

    def __getitem__(self, index: int | slice) -> TopLogprobs | Sequence[TopLogprobs]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        flat = self._flat
        start, end = flat.start_indices[index], flat.end_indices[index]
        token_ids, logprobs = flat.token_ids[start + 1 : end], flat.logprobs[start + 1 : end]
        sampled = flat.logprobs[start]
        if len(token_ids) < self._top:
            # Merging two outputs drops the second mention of a sampled token among the likeliest.
            place = (flat.ranks[start] or 1) - 1
            token_ids.insert(place, flat.token_ids[start])
            logprobs.insert(place, sampled)
        return TopLogprobs(token_ids, logprobs, sampled)
