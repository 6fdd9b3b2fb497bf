"""A threshold that sets itself: so many of the steps go to the large model."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Self

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.rate_state import (
    Key,
    RateState,
    RateStore,
    Tracker,
    read_states,
)
from langchain_glimprouter.routing.thresholds import model_pair

if TYPE_CHECKING:
    from langchain_glimprouter.routing.entropy import Entropy
    from langchain_glimprouter.routing.trace import TurnUsage

_MOST_GAIN = 0.05  # of the level, per step


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
        self._store = RateStore()

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
            before = store.answered(asked, small.probe)
            if before is not None:
                return "large", before
            tracker = store.tracker(Key(*model_pair(usage), self.domain), self.rate)
            role, tau = self._judge(tracker, entropy.estimate, usage)
            big = role == "large"
            tracker.learn(entropy.estimate, large=big, rate=self.rate, gain=self._gain)
            if big:
                store.remember(asked, small.probe, tau)
        return role, tau

    def _judge(self, tracker: Tracker, entropy: float, usage: TurnUsage) -> tuple[Role, float]:
        routed = usage.small.steps + usage.large.steps + 1
        if self.cap is not None and usage.large.steps >= self.cap * routed:
            return "small", math.inf
        tau = tracker.threshold(self.rate, self.start)
        if entropy == tau > 0.0 and tracker.state.level >= self.rate:
            tau = math.nextafter(tau, 0.0)
        return ("large" if entropy > tau else "small"), tau

    # -- the state -----------------------------------------------------------------------------

    @property
    def states(self) -> tuple[RateState, ...]:
        """Copies of what is known, for every pair and domain."""
        return tuple(self._store.states())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state of all pairs and domains as JSON; a reader sees the old or the new file.

        Raises:
            OSError: If the file cannot be written; what was there stays.
        """
        self._store.save(path, self.rate)

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
        before, states = read_states(path)
        made = cls(before if rate is None else rate, cap=cap, domain=domain, start=start)
        if made.rate != before:
            for state in states:
                state.level = made.rate
        made._store.restore(states)
        return made


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
