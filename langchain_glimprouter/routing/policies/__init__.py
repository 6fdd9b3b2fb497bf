"""Policies by name."""

from __future__ import annotations

from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.policies.random import Random
from langchain_glimprouter.routing.policies.reference import Reference
from langchain_glimprouter.routing.policies.single import Always

__all__ = ["Always", "GlimpRouter", "Policy", "Random", "Reference"]
