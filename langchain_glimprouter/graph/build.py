"""The thought as a graph: every hand-off is a checkpoint."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import RunnableConfig, merge_configs
from langgraph.graph import END, START, StateGraph

from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.graph.context import GlimpRouterContext, unbound
from langchain_glimprouter.graph.hop import Hop
from langchain_glimprouter.graph.state import GlimpRouterState, NodeInput, next_node
from langchain_glimprouter.graph.writer import Writer

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from langgraph.graph.state import CompiledStateGraph

    from langchain_glimprouter.chat_models import ChatGlimpRouter
    from langchain_glimprouter.graph.state import Node


class _ThoughtGraph(StateGraph[Any, Any, Any, Any]):
    """A graph that knows its name before it is compiled."""

    name = "glimprouter"

    def compile(self, *arguments: Any, **options: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Compile the graph under its name; see `StateGraph.compile`."""
        return super().compile(*arguments, **{"name": self.name, **options})


def create_glimprouter(
    model: Runnable[Any, Any],
    *,
    state_schema: type = GlimpRouterState,
    context_schema: type | None = GlimpRouterContext,
    name: str = "glimprouter",
) -> StateGraph[Any, Any, Any, Any]:
    """Return the thought of a `ChatGlimpRouter` as a graph, to be compiled with a checkpointer.

    Its nodes are `small`, `large` and `answer`; a super-step is one writer's turn to write: a run
    of the small model's steps, one step of the large model, or the answer behind the thought. So
    every hand-off is a checkpoint: a thought goes on there after a crash, can be looked at and
    steered by a person before the large model is called (`interrupt_before=["large"]`, `steer`),
    and can be forked there at another threshold. Compile with a checkpointer, and invoke with
    `durability="sync"` where not even the last hand-off may be lost.

    Args:
        model: A `ChatGlimpRouter`, also with tools or options bound to it.
        state_schema: The graph's state; anything with `messages`. What `GlimpRouterState` has
            besides is shown in the output only if this has it too.
        context_schema: The run's context; anything, read for what `GlimpRouterContext` has.
        name: Name of the compiled graph.

    Raises:
        ConfigurationError: If the model is none, or the state has no `messages`.
    """
    chat, keywords, config = unbound(model)
    _check(state_schema)
    graph = _ThoughtGraph(state_schema, context_schema=context_schema)
    graph.name = name
    nodes: tuple[Node, ...] = ("small", "large", "answer")
    for node in nodes:
        graph.add_node(node, _node(chat, keywords, config, node), input_schema=NodeInput)
    graph.add_edge(START, "small")  # which finds out who begins
    for node in nodes:
        graph.add_conditional_edges(node, next_node, [*nodes, END])
    return graph


def _node(
    model: ChatGlimpRouter, keywords: dict[str, Any], bound: RunnableConfig, node: Node
) -> Runnable[Any, dict[str, Any]]:
    def write(state: NodeInput, config: RunnableConfig) -> dict[str, Any]:
        config = merge_configs(bound, config)
        hop = Hop(model, keywords, node, state, config)
        if get_runtime().run(hop.begin()):
            hop.said(Writer.of(hop).invoke(hop.messages, config))
        return hop.update()

    async def awrite(state: NodeInput, config: RunnableConfig) -> dict[str, Any]:
        config = merge_configs(bound, config)
        hop = Hop(model, keywords, node, state, config)
        if await get_runtime().bridge(hop.begin()):
            hop.said(await Writer.of(hop).ainvoke(hop.messages, config))
        return hop.update()

    return RunnableLambda(write, awrite, name=node)


def _check(schema: type) -> None:
    try:
        keys = typing.get_type_hints(schema)
    except (NameError, TypeError):  # langgraph has its own words for that
        return
    if "messages" not in keys:
        msg = (
            f"state_schema={schema.__name__} has no 'messages' to answer (it has "
            f"{sorted(keys)}): extend GlimpRouterState or langgraph.graph.MessagesState"
        )
        raise ConfigurationError(msg)
