"""Policies by name."""

from __future__ import annotations

from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.policies.random import Random
from langchain_glimprouter.routing.policies.reference import Reference
from langchain_glimprouter.routing.policies.rsd import RSD
from langchain_glimprouter.routing.policies.single import Always
from langchain_glimprouter.routing.policies.spec_cot import SpecCoT
from langchain_glimprouter.routing.policies.spec_reason import SpecReason
from langchain_glimprouter.routing.policies.step_signals import StepEntropy, StepPerplexity
from langchain_glimprouter.routing.policies.two_sided import TwoSided

__all__ = [
    "RSD",
    "Always",
    "GlimpRouter",
    "Policy",
    "Random",
    "Reference",
    "SpecCoT",
    "SpecReason",
    "StepEntropy",
    "StepPerplexity",
    "TwoSided",
]
