"""A threshold that sets itself: so many of the steps go to the large model."""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.files import write_whole
from langchain_glimprouter.routing.thresholds import model_pair

if TYPE_CHECKING:
    from langchain_glimprouter.routing.entropy import Entropy
    from langchain_glimprouter.routing.trace import TurnUsage

MEMORY = 100
"""Entropies that the threshold is a quantile of."""

_MOST_GAIN = 0.05  # of the level, per step
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
    level: float
    recent: list[float] = Field(default_factory=list, max_length=MEMORY)

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


class _Key(NamedTuple):
    small: str
    large: str
    domain: str | None


class _Tracker:
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


class _Store:
    """The trackers of all pairs and domains, for several threads at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.trackers: dict[_Key, _Tracker] = {}
        self.waiting: OrderedDict[tuple[object, ...], tuple[int, float]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        with self.lock:
            states = [tracker.state.model_copy(deep=True) for tracker in self.trackers.values()]
        return {"states": states}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.restore(saved["states"])

    def restore(self, states: list[RateState]) -> None:
        """Go on where these states stopped."""
        for state in states:
            key = _Key(state.small, state.large, state.domain)
            self.trackers[key] = _Tracker(state)


class TargetRate:
    """Moves τ so that a given share of the steps goes to the large model; needs no labels.

    τ is the (1 − a)-quantile of the last 100 entropies, and the level a is corrected by what came
    of it: a ← a + γ·(ρ − 1[large]). That is adaptive conformal inference (Gibbs and Candès,
    arXiv 2106.00170; with a quantile tracked online, arXiv 2307.16895), a Robbins-Monro iteration
    with a constant step. The step is taken in quantile space and not in nats, since entropies of
    first tokens pile up near zero with a long tail: a step in nats that is right for one part of
    that distribution is far too small or too large for another, while a quantile follows a shift as
    soon as the new entropies are seen. The sum of the corrections telescopes: behind T steps the
    share differs from ρ by |a_T − a_0| / (γT), whatever the entropies do. So it is no law of large
    numbers that keeps the rate (300 independent draws at the right τ miss by 0.03 in one case out
    of four), and no assumption about the data. γ is 0.05, less for rates near 0 or 1, so that the
    level stays between 0 and 1 and it is the entropy that decides and not the debt.

    A hard question may well get more than ρ, at the expense of the next ones; `cap` bounds that.
    Where entropies tie with τ, as many go to the large model as the rate is short of. A step
    without any entropy never does, so on such data the share stays below ρ.

    The state is kept by pair of models (`TurnUsage` names them, so the object itself needs no pair
    and may serve several chat models at once) and by domain, across turns and threads. Only steps
    that are judged count: no steered ones, none of `first_n_steps_large`, none that a `Budget`
    around it withheld. A turn that goes on from a checkpoint asks again about the step it
    waits for; that is answered as before, and counted once.

    Example:
        ```python
        rate = TargetRate(0.25, cap=0.6)
        model = ChatGlimpRouter(small=…, large=…, threshold=rate)
        model.invoke("…", threshold=rate.for_domain("algebra"))
        rate.save("rate.json")  # TargetRate.load("rate.json") goes on from there
        ```

    Args:
        rate: ρ, the share of judged steps that the large model is to write, between 0 and 1.
        cap: Greatest share of any one turn's routed steps that it may write, at least ρ; each turn
            may go beyond it by less than one step. What a turn was denied, later ones may use.
        domain: Names a kind of work that has a threshold of its own.
        start: τ in nats for the first few steps, before there is anything to rank.

    Raises:
        ConfigurationError: If an option cannot work.
    """

    def __init__(
        self,
        rate: float,
        *,
        cap: float | None = None,
        domain: str | None = None,
        start: float = 1.0,
    ) -> None:
        if not _is_number(rate) or not 0.0 < rate < 1.0:
            msg = (
                f"rate={rate!r} cannot be a target: give a share between 0 and 1 (try 0.25); "
                f"policy='always small' and 'always large' are for none and all"
            )
            raise ConfigurationError(msg)
        if cap is not None and (not _is_number(cap) or not rate <= cap <= 1.0):
            msg = (
                f"cap={cap!r} cannot bound a rate of {rate:g}: give a share between {rate:g} and "
                f"1, or None"
            )
            raise ConfigurationError(msg)
        name: object = domain
        if name is not None and not (isinstance(name, str) and name):
            msg = f"domain={domain!r} is no name: give a text such as 'algebra', or None"
            raise ConfigurationError(msg)
        if not _is_number(start) or not start >= 0.0:
            msg = f"start={start!r} cannot work: give an entropy in nats, 0 or above (try 1.0)"
            raise ConfigurationError(msg)
        self.rate = float(rate)
        self.cap = cap
        self.domain = domain
        self.start = float(start)
        rarer = min(rate, 1.0 - rate)
        # With this step the level wanders a quarter of its way to 0 or 1 (standard deviation).
        self._gain = min(_MOST_GAIN, rarer / (8.0 * (1.0 - rarer)))
        self._store = _Store()

    def __repr__(self) -> str:
        """Show the options, not the state: caches and traces tell calls apart by it."""
        options = f"cap={self.cap!r}, domain={self.domain!r}, start={self.start!r}"
        return f"TargetRate({self.rate!r}, {options})"

    def for_domain(self, domain: str | None) -> TargetRate:
        """Return the same target for another kind of work; the state of both is saved together.

        Raises:
            ConfigurationError: If the domain is no name.
        """
        twin = TargetRate(self.rate, cap=self.cap, domain=domain, start=self.start)
        twin._store = self._store
        return twin

    # -- deciding ------------------------------------------------------------------------------

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        """Judge a step, and learn from it; see `Threshold`."""
        small, large = usage.small, usage.large
        asked = (
            self.domain,
            entropy,
            (small.model, small.steps, small.seconds),
            (large.model, large.steps, large.seconds),
        )
        store = self._store
        with store.lock:
            before = store.waiting.get(asked)
            if before is not None and small.probe > before[0]:
                return "large", before[1]
            tracker = self._tracker(_Key(*model_pair(usage), self.domain))
            role, tau = self._judge(tracker, entropy.estimate, usage)
            big = role == "large"
            tracker.learn(entropy.estimate, large=big, rate=self.rate, gain=self._gain)
            if big:  # the others are written at once, and never asked for again
                store.waiting[asked] = (small.probe, tau)
                if len(store.waiting) > _MOST_WAITING:
                    store.waiting.popitem(last=False)
        return role, tau

    def _judge(self, tracker: _Tracker, entropy: float, usage: TurnUsage) -> tuple[Role, float]:
        routed = usage.small.steps + usage.large.steps + 1
        if self.cap is not None and usage.large.steps >= self.cap * routed:
            return "small", math.inf
        tau = tracker.threshold(self.rate, self.start)
        if entropy == tau > 0.0 and tracker.state.level >= self.rate:
            tau = math.nextafter(tau, 0.0)
        return ("large" if entropy > tau else "small"), tau

    def _tracker(self, key: _Key) -> _Tracker:
        trackers = self._store.trackers
        if key not in trackers:
            trackers[key] = _Tracker(RateState(**key._asdict(), level=self.rate))
        return trackers[key]

    # -- the state -----------------------------------------------------------------------------

    @property
    def states(self) -> tuple[RateState, ...]:
        """Copies of what is known, for every pair and domain."""
        with self._store.lock:
            trackers = self._store.trackers.values()
            return tuple(tracker.state.model_copy(deep=True) for tracker in trackers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state of all pairs and domains as JSON; a reader sees the old or the new file.

        Raises:
            OSError: If the file cannot be written; what was there stays.
        """
        saved = _File(rate=self.rate, states=list(self.states))
        write_whole(path, saved.model_dump_json(indent=1))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        rate: float | None = None,
        cap: float | None = None,
        domain: str | None = None,
        start: float = 1.0,
    ) -> Self:
        """Return a target that goes on where a saved one stopped.

        Args:
            path: What `save` wrote.
            rate: Another target; the entropies are kept, what was short of the old one is not.
            cap: See the class; like `domain` and `start`, it is not part of the file.
            domain: See the class.
            start: See the class.

        Raises:
            ConfigurationError: If the file holds no such state, or an option cannot work.
            OSError: If the file cannot be read.
        """
        try:
            saved = _File.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            msg = f"{os.fspath(path)} holds no target rate's state: {reason}; save() writes one"
            raise ConfigurationError(msg) from None
        made = cls(saved.rate if rate is None else rate, cap=cap, domain=domain, start=start)
        if made.rate != saved.rate:
            for state in saved.states:
                state.level = made.rate
        made._store.restore(saved.states)
        return made


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
