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
from langchain_glimprouter.routing.policies.rsd import RSD
from langchain_glimprouter.routing.policies.single import Always
from langchain_glimprouter.routing.policies.spec_cot import SpecCoT
from langchain_glimprouter.routing.policies.spec_reason import SpecReason
from langchain_glimprouter.routing.policies.step_signals import StepEntropy, StepPerplexity
from langchain_glimprouter.routing.policies.two_sided import TwoSided
from langchain_glimprouter.routing.thresholds import Fixed, Threshold

if TYPE_CHECKING:
    from langchain_glimprouter.routing.policies.base import Policy

NAMES = (
    "glimprouter",
    "always small",
    "always large",
    "random(rate)",
    "reference",
    "step entropy",
    "step perplexity",
    "specreason(score)",
    "rsd(reward)",
    "speccot(drafts)",
    "two sided(share)",
)
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
    key = re.sub(r"[ _-]", "", match[1]) if match else ""
    argument = match[2] if match else None
    if argument is None:
        match key:
            case "glimprouter":
                return probing
            case "alwayssmall":
                return Always("small")
            case "alwayslarge":
                return Always("large")
    kind = _WITH_THRESHOLD.get(key)
    if kind is not None and argument is None:
        return kind(
            probing.threshold,
            first_n_steps_large=probing.first_n_steps_large,
            top_logprobs=probing.top_logprobs,
            estimator=probing.estimator,
        )
    first = probing.first_n_steps_large
    match key:
        case "random":
            return Random(_number(name, argument, "random(0.25)", "a rate"), seed or 0)
        case "specreason":
            accept = _number(name, argument, "specreason(7)", "a score", 7.0)
            return SpecReason(accept, first_n_steps_large=first)
        case "rsd":
            accept = _number(name, argument, "rsd(0.7)", "a reward", 0.7)
            return RSD(accept, first_n_steps_large=first)
        case "speccot":
            drafts = _number(name, argument, "speccot(3)", "a number of drafts", 3.0)
            whole = int(drafts) if drafts.is_integer() else drafts
            return SpecCoT(whole, first_n_steps_large=max(first, 1))  # type: ignore[arg-type]
        case "twosided":
            return TwoSided(
                probing.threshold,
                _number(name, argument, "two sided(0.85)", "a share", 0.85),
                first_n_steps_large=first,
                top_logprobs=probing.top_logprobs,
                estimator=probing.estimator,
            )
    raise unknown("policy", name, NAMES)


def _number(
    name: str, argument: str | None, example: str, meaning: str, default: float | None = None
) -> float:
    if argument is None and default is not None:
        return default
    try:
        return float(argument or "")
    except ValueError:
        msg = f"policy={name!r} needs {meaning}: write for instance {example!r}"
        raise ConfigurationError(msg) from None


def with_threshold(policy: Policy, threshold: Threshold) -> Policy:
    """Return a policy with another threshold.

    Raises:
        ConfigurationError: If the policy has none.
    """
    if isinstance(policy, GlimpRouter | StepEntropy | StepPerplexity | TwoSided):
        return replace(policy, threshold=threshold)
    msg = f"threshold has no meaning for the policy {policy.name!r}: leave one of the two out"
    raise ConfigurationError(msg)


_WITH_THRESHOLD: dict[str, type[Reference | StepEntropy | StepPerplexity]] = {
    "reference": Reference,
    "stepentropy": StepEntropy,
    "stepperplexity": StepPerplexity,
}
