"""What a threshold that sets itself knows: the last entropies of each stream, and its debt."""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.files import write_whole

MEMORY = 100
"""Entropies that the threshold is a quantile of."""

_MOST_WAITING = 256  # decisions that a checkpointed turn may ask for again


class RateState(BaseModel):
    """What a `TargetRate` knows of one pair of models in one domain. Plain data.

    Attributes:
        small: Name of the small model, without folders.
        large: Name of the large model, likewise.
        domain: What the caller named the kind of work, if anything.
        steps: Steps judged so far.
        large_steps: How many of them went to the large model.
        level: The share of `recent` that the threshold leaves above itself; moves about the target.
        recent: The last entropies in nats, oldest first.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    small: str
    large: str
    domain: str | None = None
    steps: int = Field(default=0, ge=0)
    large_steps: int = Field(default=0, ge=0)
    level: float = Field(ge=-1.0, le=2.0)
    recent: list[Annotated[float, Field(ge=0.0)]] = Field(default_factory=list, max_length=MEMORY)

    @property
    def share(self) -> float:
        """Share of the judged steps that went to the large model; 0 before the first."""
        return self.large_steps / self.steps if self.steps else 0.0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["glimprouter target rate"] = "glimprouter target rate"
    version: Literal[1] = 1
    rate: float
    states: list[RateState]


class Key(NamedTuple):
    """Names a stream of entropies; see `RateState`."""

    small: str
    large: str
    domain: str | None


class Tracker:
    """Follows one stream of entropies."""

    def __init__(self, state: RateState) -> None:
        self.state = state
        self._sorted = sorted(state.recent)

    def threshold(self, rate: float, start: float) -> float:
        """Return the quantile in force, in nats; `start` while there is too little to rank."""
        ranked, count = self._sorted, len(self._sorted)
        if count * min(rate, 1.0 - rate) < 1.0:
            return start
        # An entropy yet unseen is equally likely to fall into any of the count + 1 gaps.
        place = (count + 1) * (1.0 - self.state.level)
        if place <= 0.0:
            return 0.0
        if place >= count + 1:
            return math.inf
        below, part = int(place), place - int(place)
        low = ranked[below - 1] if below else 0.0
        high = ranked[min(below, count - 1)]
        return low + part * (high - low)

    def learn(self, entropy: float, *, large: bool, rate: float, gain: float) -> None:
        """Take a step into account."""
        state = self.state
        state.steps += 1
        state.large_steps += large
        # Entropies of zero never go to the large model: what cannot be reached must not pile up.
        state.level = min(state.level + gain * (rate - large), 1.0 + gain)
        state.recent.append(entropy)
        insort(self._sorted, entropy)
        if len(state.recent) > MEMORY:
            del self._sorted[bisect_left(self._sorted, state.recent.pop(0))]


class RateStore:
    """The trackers of all pairs and domains; whoever uses it from several threads holds `lock`.

    Attributes:
        lock: To be held while anything in here is used.
        trackers: By pair and domain.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.trackers: dict[Key, Tracker] = {}
        self._waiting: OrderedDict[tuple[object, ...], tuple[int, float]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"states": self.states()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.restore(saved["states"])

    def restore(self, states: list[RateState]) -> None:
        """Go on where these states stopped."""
        for state in states:
            key = Key(state.small, state.large, state.domain)
            self.trackers[key] = Tracker(state)

    def tracker(self, key: Key, level: float) -> Tracker:
        """Return a stream's tracker; a new one begins at `level`."""
        if key not in self.trackers:
            self.trackers[key] = Tracker(RateState(**key._asdict(), level=level))
        return self.trackers[key]

    def answered(self, asked: tuple[object, ...], probes: int) -> float | None:
        """Return the threshold that sent this very step to the large model before, if any did.

        Args:
            asked: What the step is known by.
            probes: Probes dropped in its turn so far. The step's own is dropped once it is decided,
                so the count tells a turn that asks again from another that begins alike.
        """
        before = self._waiting.get(asked)
        return before[1] if before is not None and probes > before[0] else None

    def remember(self, asked: tuple[object, ...], probes: int, tau: float) -> None:
        """Keep a decision for the large model; the others are carried out at once."""
        self._waiting[asked] = (probes, tau)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)

    def states(self) -> list[RateState]:
        """Return copies of all states."""
        with self.lock:
            return [tracker.state.model_copy(deep=True) for tracker in self.trackers.values()]

    def save(self, path: str | os.PathLike[str], rate: float) -> None:
        """Write all states as JSON.

        Raises:
            OSError: If the file cannot be written; what was there stays.
        """
        write_whole(path, _File(rate=rate, states=self.states()).model_dump_json(indent=1))


def read_states(path: str | os.PathLike[str]) -> tuple[float, list[RateState]]:
    """Return what `RateStore.save` wrote: the rate and the states.

    Raises:
        ConfigurationError: If the file holds no such thing.
        OSError: If it cannot be read.
    """
    try:
        saved = _File.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        msg = f"{os.fspath(path)} holds no target rate's state: {reason}; save() writes one"
        raise ConfigurationError(msg) from None
    return saved.rate, saved.states
