"""A turn between two steps as plain data: to be kept, and gone on with in another process."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypedDict

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.context import Span
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.opening import ThoughtOpening
from langchain_glimprouter.routing.options import Opening, Prompt, TurnOptions, TurnRequest
from langchain_glimprouter.routing.passage import Passage
from langchain_glimprouter.routing.steps import Whole
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.trace import (
    Phase,
    StepTokens,
    StopReason,
    ThoughtEnd,
    TurnUsage,
)
from langchain_glimprouter.routing.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.routing.pair import EnginePair

_VERSION = 1
_SHARED = "shared"


class SavedModel(TypedDict):
    """Which model wrote: its name, and the fingerprint of its vocabulary."""

    name: str
    vocabulary: str


class SavedPrompt(TypedDict):
    """A rendered conversation."""

    text: str
    token_ids: list[int]


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


class Thought(TypedDict):
    """A turn between two steps. Strings, numbers, lists and dictionaries: JSON, msgpack.

    Attributes:
        version: Of this record.
        models: Who writes, by role.
        prompts: The conversation as each model read it, by role; `shared` where both read the same.
        opening: How the prompts left the thought.
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


def save_turn(turn: Turn) -> Thought:
    """Return a turn as plain data.

    Raises:
        ValueError: In the middle of a step.
    """
    if turn.step is not None:
        msg = "a turn can be saved between its steps only"
        raise ValueError(msg)
    pair, contexts, options, passage = turn.pair, turn.contexts, turn.request.options, turn.passage
    roles = list(pair.engines)
    prompts = {role: contexts.prompts[role] for role in roles}
    first = prompts[roles[0]]
    one = all(
        prompt.text == first.text and prompt.token_ids == first.token_ids
        for prompt in prompts.values()
    )
    return Thought(
        version=_VERSION,
        models=_models(pair),
        prompts={_SHARED: _prompt(first)}
        if one
        else {role: _prompt(prompt) for role, prompt in prompts.items()},
        opening=turn.request.opening,
        options=SavedOptions(
            think_tags=list(options.think_tags),
            constraint=None if options.constraint is None else dict(options.constraint),
            unsplit=list(options.unsplit),
            session_id=options.session_id,
        ),
        token_ids={_SHARED: contexts.written(roles[0])}
        if pair.shared_vocabulary
        else {role: contexts.written(role) for role in roles},
        spans=list(contexts.spans),
        steps=[*turn.earlier, *(step.model_dump(mode="json") for step in turn.fresh)],
        text="".join(turn.texts),
        usage=turn.usage.model_dump(),
        since=turn.spending.since.model_dump(),
        seconds=turn.spending.seconds,
        lap=turn.spending.lap,
        phase=turn.phase,
        opened=None
        if turn.opening is None
        else SavedOpening(opened=turn.opening.opened, spare=turn.opening.spare),
        passage=SavedPassage(
            tokens=passage.tokens,
            held=passage.scanner.held,
            carried=passage.carried,
            trim=passage.trim,
            marked="" if passage.markers is None else passage.markers.held,
            unsplit=passage.unsplit,
        ),
        author=turn.author,
        writer=turn.writer,
        pending=None if turn.pending is None else save_decision(turn.pending),
        done=turn.done,
        thought_end=turn.thought_end,
        stop_reason=turn.stop_reason,
        forced_close=turn.forced_close,
        stalls=turn.stalls,
    )


def resume_turn(
    pair: EnginePair, options: TurnOptions, thought: Thought, wish: Role | None = None
) -> Turn:
    """Return the turn of a record, to go on with it.

    Args:
        pair: The engines, the same models as before.
        options: Limits and habits from here on; what the rendered prompts settled stays.
        thought: The record.
        wish: Who must write the answer, where the policy says so.

    Raises:
        ConfigurationError: If other models, or another version of this package, wrote it.
    """
    _check(pair, thought)
    roles = list(pair.engines)
    found = thought["options"]
    start, end = found["think_tags"]
    options = replace(
        options,
        think_tags=(start, end),
        constraint=found["constraint"],
        unsplit=tuple(found["unsplit"]),
        session_id=found["session_id"],
    )
    prompts = {role: _of(thought["prompts"], role) for role in roles}
    request = TurnRequest(
        {role: Prompt(prompt["text"], prompt["token_ids"]) for role, prompt in prompts.items()},
        thought["opening"],
        options,
    )
    turn = Turn(pair, request, wish)
    turn.settle()  # its beginning was told long ago
    turn.contexts.resume(
        {role: _of(thought["token_ids"], role) for role in roles}, thought["spans"]
    )
    turn.earlier = thought["steps"]
    turn.texts = [thought["text"][step["start"] : step["end"]] for step in turn.earlier]
    turn.length = len(thought["text"])
    turn.spending.usage = TurnUsage.model_validate(thought["usage"])
    turn.spending.since = StepTokens.model_validate(thought["since"])
    turn.spending.resume(thought["seconds"], thought["lap"])
    if turn.guard is not None:
        judged = zip(turn.earlier, turn.texts, strict=True)
        turn.guard.remember(text for step, text in judged if step["ended_by"] in _JUDGED)
    turn.phase, turn.author, turn.writer = thought["phase"], thought["author"], thought["writer"]
    turn.done, turn.stalls = thought["done"], thought["stalls"]
    turn.thought_end, turn.stop_reason = thought["thought_end"], thought["stop_reason"]
    turn.forced_close = thought["forced_close"]
    turn.pending = None if thought["pending"] is None else load_decision(thought["pending"])
    opened = thought["opened"]
    turn.opening = None
    if opened is not None:
        turn.opening = ThoughtOpening(start, opened=opened["opened"])
        turn.opening.spare = opened["spare"]
    turn.passage = _passage(turn, thought)
    if turn.author is not None:
        turn.room.writers = (turn.author,)
    turn.measure_room()
    return turn


_JUDGED = ("delimiter", "length")


def _passage(turn: Turn, thought: Thought) -> Passage:
    options, saved = turn.request.options, thought["passage"]
    steps = options.steps if turn.author is None else Whole()
    passage = Passage(turn.phase, options, steps)
    passage.tokens, passage.trim = saved["tokens"], saved["trim"]
    passage.carried = saved["carried"]
    passage.scanner.held = saved["held"]
    if passage.markers is not None:
        passage.markers.held = saved["marked"]
    count = sum(step["phase"] == turn.phase for step in turn.earlier)
    for span in thought["spans"][-count:] if count else ():
        passage.splitter.push(span["text"])  # it may follow code fences over many steps
        passage.splitter.restart()
    if saved["unsplit"]:
        passage.keep_whole()
    return passage


def save_decision(decision: Decision) -> SavedDecision:
    """Return a decision as plain data."""
    entropy, threshold = decision.entropy, decision.threshold
    return SavedDecision(
        writer=decision.writer,
        reason=decision.reason,
        entropy=None
        if entropy is None
        else [entropy.estimate, entropy.lower, entropy.upper, entropy.seen_mass],
        threshold=threshold if threshold is not None and math.isfinite(threshold) else None,
        candidates=[[text, probability] for text, probability in decision.candidates],
    )


def load_decision(saved: SavedDecision) -> Decision:
    """Return the decision of a record."""
    return Decision(
        saved["writer"],
        saved["reason"],
        None if saved["entropy"] is None else Entropy(*saved["entropy"]),
        saved["threshold"],
        tuple((str(text), float(probability)) for text, probability in saved["candidates"]),
    )


def _check(pair: EnginePair, thought: Thought) -> None:
    if thought["version"] != _VERSION:
        msg = (
            f"this thought was saved in version {thought['version']} of the record, which is not "
            f"{_VERSION}: finish it with the release of langchain-glimprouter that began it"
        )
        raise ConfigurationError(msg)
    before, now = thought["models"], _models(pair)
    same = before.keys() == now.keys() and all(
        _base(before[role]["name"]) == _base(now[role]["name"])
        and before[role]["vocabulary"] == now[role]["vocabulary"]
        for role in now
    )
    if not same:
        msg = (
            f"this thought was begun by {_named(before)}, and cannot be gone on with by "
            f"{_named(now)}: use the same models, or begin a new thread"
        )
        raise ConfigurationError(msg)


def _models(pair: EnginePair) -> dict[Role, SavedModel]:
    return {
        role: SavedModel(name=pair.model(role), vocabulary=vocabulary.fingerprint)
        for role, vocabulary in pair.vocabularies.items()
    }


def _base(name: str) -> str:
    """Return a model's name without the folders it happens to lie in."""
    return PurePath(name).name


def _named(models: Mapping[Role, SavedModel]) -> str:
    return " + ".join(
        f"{role} {model['name']!r} (vocabulary {model['vocabulary'][:8]})"
        for role, model in models.items()
    )


def _prompt(prompt: Prompt) -> SavedPrompt:
    return SavedPrompt(text=prompt.text, token_ids=list(prompt.token_ids))


def _of(saved: Mapping[str, Any], role: Role) -> Any:
    return saved[_SHARED] if _SHARED in saved else saved[role]
