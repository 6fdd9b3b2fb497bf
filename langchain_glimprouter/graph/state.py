"""What a thought's graph remembers between its super-steps: plain data, whatever keeps it."""

from __future__ import annotations

from operator import add
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.graph import END, MessagesState

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown
from langchain_glimprouter.routing.thought import Thought
from langchain_glimprouter.visible import RoutingDecision

Node = Literal["small", "large", "answer"]
"""The nodes of a thought's graph."""

Steer = Literal["small", "large", "answer", "stop"]
"""What a person may ask for; see `steer`."""


class PendingDecision(RoutingDecision):
    """A decision that waits to be carried out.

    Attributes:
        candidates: The likeliest first tokens of the step as [text, probability].
    """

    candidates: list[list[str | float]]


class SavedTurn(TypedDict):
    """A turn between two super-steps.

    Attributes:
        thought: The turn itself; see `Thought`.
        next: Whose node comes next.
        message_id: Id of the message that it becomes.
        conversation: How many messages it answers, and the last one's id.
        tool_format: How its answer writes tool calls, by vLLM's name; `None` without tools.
        call_ids: Ids of tool calls that were streamed already.
    """

    thought: Thought
    next: Node
    message_id: str
    conversation: list[int | str | None]
    tool_format: str | None
    call_ids: list[str]


class GlimpRouterState(MessagesState):
    """State of a thought's graph.

    Attributes:
        messages: The conversation; the answer is appended once the turn is over.
        thought: The turn in progress as plain data; `None` between turns.
        routing: Every decision of the thread, in order.
        pending: The decision that waits for the large model, to be looked at; see `steer`.
        steer: What a person asked for; `steer()` makes it.
    """

    thought: NotRequired[SavedTurn | None]
    routing: NotRequired[Annotated[list[RoutingDecision], add]]
    pending: NotRequired[PendingDecision | None]
    steer: NotRequired[Steer | None]


class NodeInput(TypedDict):
    """What the nodes read, whatever schema the rest of the state has."""

    messages: list[AnyMessage]
    thought: NotRequired[SavedTurn | None]
    pending: NotRequired[PendingDecision | None]
    steer: NotRequired[Steer | None]


def steer(to: Steer) -> dict[str, Any]:
    """Return the state's update by which a person takes a hand in a thought.

    For instance `graph.update_state(config, steer("small"))`, then `graph.invoke(None, config)`.

    Args:
        to: `small` or `large`: that model writes the next step, whatever its entropy; then the
            threshold decides again. `answer`: the thought ends here, and the answer is written;
            in an answer that is routed itself, one model writes the rest in one go. `stop`: the
            turn ends here, and its message holds the text so far. Once the answer has begun,
            `small`, `large` and `answer` change nothing.

    Raises:
        ConfigurationError: If it is none of these.
    """
    return {"steer": checked(to)}


def checked(to: Any) -> Steer | None:
    """Return what a person asked for, if that can be done."""
    if to is not None and to not in get_args(Steer):
        raise unknown("steer", str(to), get_args(Steer))
    asked: Steer | None = to
    return asked


def next_node(state: NodeInput) -> str:
    """Return the node that comes next."""
    asked, saved = checked(state.get("steer")), state.get("thought")
    if asked is not None:
        return "answer" if asked == "stop" else asked
    return END if saved is None else saved["next"]


def conversation_of(state: Any) -> list[BaseMessage]:
    """Return the messages of any kind of state.

    Raises:
        ConfigurationError: If it has none.
    """
    held = state.get("messages") if isinstance(state, dict) else getattr(state, "messages", None)
    if not isinstance(held, list | tuple):
        kind = f"keys {sorted(state)}" if isinstance(state, dict) else type(state).__name__
        msg = (
            f"the state has no 'messages' to answer ({kind}): give the state a list of messages "
            f"under 'messages', for instance by extending langgraph.graph.MessagesState"
        )
        raise ConfigurationError(msg)
    return list(held)


def fingerprint(messages: list[BaseMessage]) -> list[int | str | None]:
    """Return what tells a conversation from the same one with other messages."""
    return [len(messages), messages[-1].id if messages else None]
