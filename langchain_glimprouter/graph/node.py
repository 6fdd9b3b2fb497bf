"""A node that answers in any graph whose state has messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import RunnableConfig

from langchain_glimprouter.chat_models import configured
from langchain_glimprouter.graph.context import budgeted, run_context, unbound
from langchain_glimprouter.graph.state import conversation_of

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable


def glimprouter_node(
    model: Runnable[Any, Any], /, *, name: str = "glimprouter", **options: Any
) -> Runnable[Any, dict[str, Any]]:
    """Return a node for `StateGraph.add_node` that answers the state's `messages`.

    It runs in sync and async graphs; tokens show in `stream_mode="messages"`, routing decisions in
    `"custom"`. Threshold and budgets come from the run's context, if that has them: a
    `GlimpRouterContext`, or a dictionary or an object with some of its attributes.

    Args:
        model: A `ChatGlimpRouter`, also with tools or options bound to it.
        name: Name of the node's runs in traces.
        **options: Per-call options, as `ChatGlimpRouter.invoke` takes them.

    Raises:
        ConfigurationError: If the model is none; at run time, if the state has no `messages`, or
            the context asks for what cannot work.
    """
    chat, bound, _ = unbound(model)

    def prepare(state: Any, config: RunnableConfig) -> tuple[list[BaseMessage], dict[str, Any]]:
        messages, context = conversation_of(state), run_context()
        if context is None:
            return messages, options
        call, _ = chat.settle(messages, configured(config, {**bound, **options}))
        return messages, budgeted(options, call.policy, context)

    def answer(state: Any, config: RunnableConfig) -> dict[str, Any]:
        messages, keywords = prepare(state, config)
        return {"messages": [model.invoke(messages, config, **keywords)]}

    async def aanswer(state: Any, config: RunnableConfig) -> dict[str, Any]:
        messages, keywords = prepare(state, config)
        return {"messages": [await model.ainvoke(messages, config, **keywords)]}

    return RunnableLambda(answer, aanswer, name=name)
