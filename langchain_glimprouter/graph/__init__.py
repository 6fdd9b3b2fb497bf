"""LangGraph's face: a node that answers, and a graph that checkpoints the thought."""

from __future__ import annotations

from langchain_glimprouter.graph.build import create_glimprouter
from langchain_glimprouter.graph.context import GlimpRouterContext
from langchain_glimprouter.graph.node import glimprouter_node
from langchain_glimprouter.graph.state import GlimpRouterState, PendingDecision, SavedTurn, steer

__all__ = [
    "GlimpRouterContext",
    "GlimpRouterState",
    "PendingDecision",
    "SavedTurn",
    "create_glimprouter",
    "glimprouter_node",
    "steer",
]
