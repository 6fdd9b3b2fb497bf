"""Requests for several continuations: what all engines refuse alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_glimprouter.engines.base import GenerationRequest

_GREEDY = 1e-5
"""Temperature below which vLLM samples greedily."""


def check_continuations(request: GenerationRequest) -> None:
    """Refuse a number of continuations that no engine can give.

    Raises:
        ConfigurationError: If `n` is no number of continuations, or if they would all be the same.
    """
    count: object = request.n
    temperature = request.sampling.temperature
    if not isinstance(count, int) or count < 1:
        msg = f"n={count!r} is no number of continuations: ask for 1 or more"
        raise ConfigurationError(msg)
    if count > 1 and temperature is not None and temperature < _GREEDY:
        msg = (
            f"n={count} continuations at temperature={temperature:g} would all be the same: give a "
            f"temperature above 0 (try 0.6), or n=1"
        )
        raise ConfigurationError(msg)
