"""A turn between two steps as plain data: what is kept of it."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_glimprouter.errors import Role
from langchain_glimprouter.routing.context import Span
from langchain_glimprouter.routing.options import Opening
from langchain_glimprouter.routing.trace import Phase, StopReason, ThoughtEnd


class SavedModel(TypedDict):
    """Which model wrote: its name, and the fingerprint of its vocabulary."""

    name: str
    vocabulary: str


class SavedPrompt(TypedDict):
    """A rendered conversation."""

    text: str
    token_ids: list[int]
    aside: list[str] | None


class SavedPassage(TypedDict):
    """What is known of the text that is not shown yet; see `Passage`."""

    tokens: int
    held: str
    carried: str
    trim: bool
    marked: str
    unsplit: bool


class SavedOpening(TypedDict):
    """Whether a thought that is not begun is opened; see `ThoughtOpening`."""

    opened: bool
    spare: str


class SavedOptions(TypedDict):
    """What was found out when the prompts were rendered; see `TurnOptions`."""

    think_tags: list[str]
    constraint: dict[str, Any] | None
    unsplit: list[str]
    session_id: str | None


class SavedDecision(TypedDict):
    """A decision about the next step; see `Decision`. No limit is no threshold here."""

    writer: Role
    reason: str
    entropy: list[float] | None
    threshold: float | None
    candidates: list[list[str | float]]
    draft: dict[str, Any] | None


class Thought(TypedDict):
    """A turn between two steps. Strings, numbers, lists and dictionaries: JSON, msgpack.

    Attributes:
        version: Of this record.
        models: Who writes, by role.
        prompts: The conversation as each model read it, by role; `shared` where both read the same.
        opening: How the prompts left the thought.
        problem: The user's last message.
        options: What was found out when they were rendered.
        token_ids: What was written behind them, by role; `shared` with one vocabulary.
        spans: Who wrote which of these tokens, in order.
        steps: Every finished step; see `StepTrace`.
        text: Thought and answer, as shown so far.
        usage: Tokens and seconds by model; see `TurnUsage`.
        since: Tokens spent behind the last step.
        seconds: Wall time of the turn so far, waiting between two saves left out.
        lap: Wall time since the last step.
        phase: `thinking` or `answer`.
        opened: The opening of a thought that has not begun.
        passage: The phase's text that is not certain yet.
        author: Who writes the rest alone.
        writer: Who wrote last.
        pending: What is decided about the next step.
        done: Whether the turn is over.
        thought_end: Why the thought ended.
        stop_reason: Why the turn ended.
        forced_close: Whether `</think>` was written by the router.
        stalls: How often in a row nothing came.
    """

    version: int
    models: dict[Role, SavedModel]
    prompts: dict[str, SavedPrompt]
    opening: Opening
    problem: str
    options: SavedOptions
    token_ids: dict[str, list[int]]
    spans: list[Span]
    steps: list[dict[str, Any]]
    text: str
    usage: dict[str, Any]
    since: dict[str, int]
    seconds: float
    lap: float
    phase: Phase
    opened: SavedOpening | None
    passage: SavedPassage
    author: Role | None
    writer: Role | None
    pending: SavedDecision | None
    done: bool
    thought_end: ThoughtEnd | None
    stop_reason: StopReason | None
    forced_close: bool
    stalls: int
