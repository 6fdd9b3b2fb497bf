"""Policies by the names that users write."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown
from langchain_glimprouter.routing.calibrated import calibrated
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.policies.random import Random
from langchain_glimprouter.routing.policies.reference import Reference
from langchain_glimprouter.routing.policies.single import Always
from langchain_glimprouter.routing.thresholds import Fixed, Threshold

if TYPE_CHECKING:
    from langchain_glimprouter.routing.policies.base import Policy

NAMES = ("glimprouter", "always small", "always large", "random(rate)", "reference")
_CALL = re.compile(r"^\s*([a-z _-]+?)\s*(?:\(\s*([^)]*?)\s*\))?\s*$")


def as_threshold(value: float | str | os.PathLike[str] | Threshold) -> Threshold:
    """Return a threshold object for a number of nats or a calibration's file, or the object itself.

    Raises:
        ConfigurationError: If it is none of these, negative, or NaN.
    """
    given: object = value
    if isinstance(value, str | os.PathLike):
        return calibrated(value)
    if isinstance(given, bool | type) or not isinstance(value, int | float | Threshold):
        msg = f"threshold={value!r} cannot work: give an entropy in nats (try 1.0)"
        raise ConfigurationError(msg)
    return Fixed(float(value)) if isinstance(value, int | float) else value


def named_policy(name: str, probing: GlimpRouter, *, seed: int | None = None) -> Policy:
    """Return the policy of a name.

    Args:
        name: One of `NAMES`, with a number in place of `rate`.
        probing: The settings of policies that probe.
        seed: Seed of policies that draw.

    Raises:
        ConfigurationError: If there is no such policy.
    """
    match = _CALL.match(name.lower())
    key, argument = (
        (match[1].replace("_", " ").replace("-", " "), match[2]) if match else (name, None)
    )
    if key == "random":
        try:
            rate = float(argument or "")
        except ValueError:
            msg = f"policy={name!r} needs a rate: write for instance 'random(0.25)'"
            raise ConfigurationError(msg) from None
        return Random(rate, seed or 0)
    if argument is None:
        match key:
            case "glimprouter":
                return probing
            case "reference":
                return Reference(
                    probing.threshold,
                    probing.first_n_steps_large,
                    probing.top_logprobs,
                    probing.estimator,
                )
            case "always small":
                return Always("small")
            case "always large":
                return Always("large")
    raise unknown("policy", name, NAMES)


def with_threshold(policy: Policy, threshold: Threshold) -> Policy:
    """Return a policy with another threshold.

    Raises:
        ConfigurationError: If the policy has none.
    """
    if isinstance(policy, GlimpRouter):
        return replace(policy, threshold=threshold)
    msg = f"threshold has no meaning for the policy {policy.name!r}: leave one of the two out"
    raise ConfigurationError(msg)
