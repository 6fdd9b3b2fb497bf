"""The arms of a study: a policy, perhaps with a threshold, over a set-up of the large engine."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ALWAYS_LARGE = "always large"
ALWAYS_SMALL = "always small"
MAIN = "main"
"""Name of the large engine's own set-up."""

_GRID = 0.05  # of the rates that `random` is run at
_ARM = re.compile(
    r"^(?P<policy>[^@=]*?)(?:\s+(?P<option>threshold|tau|τ|rate|ρ)\s*=\s*(?P<number>[^\s@]+))?"
    r"(?:\s*@\s*(?P<variant>[\w.-]+))?$"
)
_CALL = re.compile(r"^(?P<name>[a-z _-]+?)\s*(?:\(\s*(?P<argument>[^)]*?)\s*\))?$")
_KNOWN = (
    ALWAYS_SMALL,
    ALWAYS_LARGE,
    "glimprouter",
    "random",
    "reference",
    "step entropy",
    "step perplexity",
    "specreason",
    "rsd",
    "speccot",
    "two sided",
)
_SIGNALS = {
    "glimprouter": "entropy",
    "reference": "entropy",
    "step entropy": "step_entropy",
    "step perplexity": "step_perplexity",
}
_OVERCONFIDENT = 0.85  # the policy's own default


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of a study's table.

    Attributes:
        policy: The policy, as `ChatGlimpRouter(policy=…)` takes it.
        threshold: Its τ, where the user gave one; else it is calibrated, if the policy has one.
        variant: The large engine's set-up.
        rate: The share of steps that a `TargetRate` is to send to the large model, in place of τ.
    """

    policy: str
    threshold: float | None = None
    variant: str = MAIN
    rate: float | None = None

    @property
    def label(self) -> str:
        """Name in tables and records."""
        tau = "" if self.threshold is None else f" τ={self.threshold:g}"
        tau += "" if self.rate is None else f" ρ={self.rate:g}"
        return f"{self.policy}{tau}" + ("" if self.variant == MAIN else f" @{self.variant}")

    @property
    def name(self) -> str:
        """The policy's name, without its number."""
        match = _CALL.match(self.policy)
        return match["name"] if match else self.policy

    @property
    def signal(self) -> str | None:
        """What the policy compares with its threshold; `None` for policies without one."""
        if self.name == "two sided":
            return f"two_sided({self._argument(_OVERCONFIDENT):g})"
        return _SIGNALS.get(self.name)

    @property
    def calibrates(self) -> bool:
        """Whether its threshold is taken from the calibration split."""
        return self.signal is not None and self.threshold is None and self.rate is None

    @property
    def routes(self) -> bool:
        """Whether it chooses between the models by some signal, so that it has to beat `random`."""
        return self.name not in (ALWAYS_LARGE, ALWAYS_SMALL, "random")

    def _argument(self, default: float) -> float:
        match = _CALL.match(self.policy)
        try:
            return float((match["argument"] if match else None) or default)
        except ValueError:
            msg = f"policy={self.policy!r}: {match and match['argument']!r} is no number"
            raise ConfigurationError(msg) from None


def parse_arm(text: str, variants: Collection[str] = (MAIN,)) -> Arm:
    """Read an arm: `glimprouter threshold=0.8`, `glimprouter rate=0.3`, `always large @draft`.

    Args:
        text: What the user wrote.
        variants: Set-ups of the large engine that exist.

    Raises:
        ConfigurationError: If it is no arm, or its set-up does not exist. Whether the policy
            exists, the chat model says.
    """
    match = _ARM.match(text.strip())
    policy = _spelled(match["policy"].strip().lower()) if match else ""
    if match is None or not policy:
        msg = (
            f"policy={text!r} cannot be read: write a policy, perhaps a threshold or a rate, and a "
            f"set-up of the large engine, as in 'glimprouter threshold=0.8 @draft'"
        )
        raise ConfigurationError(msg)
    variant = match["variant"] or MAIN
    if variant not in variants:
        raise unknown("set-up of the large engine (--large-variant)", variant, variants)
    if match["option"] in ("rate", "ρ"):
        arm = Arm(policy, None, variant, _rate(text, match["number"]))
    else:
        arm = Arm(policy, _threshold(text, match["number"]), variant)
    set_by_hand = arm.threshold is not None or arm.rate is not None
    if set_by_hand and arm.name in _KNOWN and arm.signal is None:
        msg = f"policy={text!r}: {arm.name!r} has no threshold: leave it out"
        raise ConfigurationError(msg)
    return arm


def parse_arms(texts: Iterable[str], variants: Collection[str] = (MAIN,)) -> list[Arm]:
    """Read arms; each is kept once."""
    return list(dict.fromkeys(parse_arm(text, variants) for text in texts))


def random_partner(rate: float) -> Arm:
    """Return the arm that spends as much on the large model, but blindly.

    Rates are rounded to 0.05, so that several arms share a partner, and stay off 0 and 1, where
    nothing would be random.

    Args:
        rate: The intervention rate to match.
    """
    steps = min(max(round(rate / _GRID), 1), round(1 / _GRID) - 1)
    return Arm(f"random({round(steps * _GRID, 2):g})")


def _spelled(policy: str) -> str:
    """Return a policy in the one spelling that records use; chat models take several."""
    match = _CALL.match(policy)
    if match is None:
        return policy
    squeezed = re.sub(r"[ _-]", "", match["name"])
    name = next((one for one in _KNOWN if one.replace(" ", "") == squeezed), match["name"])
    argument = match["argument"]
    if argument is None:
        return name
    try:
        return f"{name}({float(argument):g})"
    except ValueError:
        return f"{name}({argument})"  # the chat model says what is wrong with it


def _rate(text: str, rate: str) -> float:
    value = _number(rate)
    if not 0.0 < value < 1.0:
        msg = f"policy={text!r}: the rate {rate!r} cannot work: give a share between 0 and 1"
        raise ConfigurationError(msg)
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _threshold(text: str, tau: str | None) -> float | None:
    if tau is None:
        return None
    value = _number(tau)
    if math.isnan(value) or value < 0.0:
        msg = f"policy={text!r}: the threshold {tau!r} cannot work: give a number, 0 or above"
        raise ConfigurationError(msg)
    return value
