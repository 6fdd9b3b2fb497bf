"""Thresholds: is this entropy too high, now?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_glimprouter.errors import ConfigurationError, Role

if TYPE_CHECKING:
    from langchain_glimprouter.routing.entropy import Entropy
    from langchain_glimprouter.routing.trace import DraftTrace, TurnUsage


@dataclass(frozen=True, slots=True)
class Decision:
    """Who writes the next step, and why.

    Attributes:
        writer: The chosen model.
        reason: What decided: `entropy`, `first_steps`, `always`, `random`, `answer` (by one model,
            unrouted), `steered` (by a person), or the signal that judged a draft; see `DraftTrace`.
        entropy: The probe's entropy, where there was a probe.
        threshold: The threshold in force, in nats.
        candidates: The probe's likeliest tokens, as (text, probability).
        draft: The draft that was judged, where there was one.
    """

    writer: Role
    reason: str
    entropy: Entropy | None = None
    threshold: float | None = None
    candidates: tuple[tuple[str, float], ...] = ()
    draft: DraftTrace | None = None


@runtime_checkable
class Threshold(Protocol):
    """Turns an entropy into a writer."""

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        """Return who writes the step, and the threshold (nats) that said so.

        Args:
            entropy: The probe.
            usage: What this turn has used so far, and by which models; see `model_pair`.
        """
        ...


def model_pair(usage: TurnUsage) -> tuple[str, str]:
    """Return the names of the small and the large model, without the folders they lie in."""
    return base_name(usage.small.model), base_name(usage.large.model)


def base_name(model: str) -> str:
    """Return a model's name without the folders it happens to lie in."""
    return PurePath(model).name


@dataclass(frozen=True, slots=True)
class Fixed:
    """The paper's rule: the large model writes iff the entropy lies above τ.

    Attributes:
        tau: The threshold, in nats; infinity never calls the large model.
    """

    tau: float

    def __post_init__(self) -> None:
        """Refuse what cannot be a threshold."""
        if math.isnan(self.tau) or self.tau < 0.0:
            msg = f"threshold={self.tau} cannot work: give an entropy in nats, 0 or above (try 1.0)"
            raise ConfigurationError(msg)

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        """Compare the estimate with τ."""
        del usage
        return ("large" if entropy.estimate > self.tau else "small"), self.tau
