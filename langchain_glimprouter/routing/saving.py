"""From a turn to plain data and back: it goes on in another process as if nothing had been."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.opening import ThoughtOpening
from langchain_glimprouter.routing.options import Prompt, TurnOptions, TurnRequest
from langchain_glimprouter.routing.passage import Passage
from langchain_glimprouter.routing.steps import Whole
from langchain_glimprouter.routing.thought import (
    SavedDecision,
    SavedModel,
    SavedOpening,
    SavedOptions,
    SavedPassage,
    SavedPrompt,
    Thought,
)
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.trace import DraftTrace, StepTokens, TurnUsage
from langchain_glimprouter.routing.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.routing.pair import EnginePair

_VERSION = 2
_SHARED = "shared"
_JUDGED = ("delimiter", "length")  # ends of the steps that the loop guard saw


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
        prompt.text == first.text
        and prompt.token_ids == first.token_ids
        and prompt.aside == first.aside
        for prompt in prompts.values()
    )
    return Thought(
        version=_VERSION,
        models=_models(pair),
        prompts={_SHARED: _prompt(first)}
        if one
        else {role: _prompt(prompt) for role, prompt in prompts.items()},
        opening=turn.request.opening,
        problem=turn.request.problem,
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
        steps=turn.log.saved(),
        text=turn.log.text,
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
        {role: _load_prompt(prompt) for role, prompt in prompts.items()},
        thought["opening"],
        options,
        thought["problem"],
    )
    turn = Turn(pair, request, wish)
    turn.settle()  # its beginning was told long ago
    turn.contexts.resume(
        {role: _of(thought["token_ids"], role) for role in roles}, thought["spans"]
    )
    turn.log.resume(thought["steps"], thought["text"])
    turn.spending.usage = TurnUsage.model_validate(thought["usage"])
    turn.spending.since = StepTokens.model_validate(thought["since"])
    turn.spending.resume(thought["seconds"], thought["lap"])
    if turn.guard is not None:
        judged = zip(thought["steps"], turn.log.texts, strict=True)
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


def _passage(turn: Turn, thought: Thought) -> Passage:
    options, saved = turn.request.options, thought["passage"]
    steps = options.steps if turn.author is None else Whole()
    passage = Passage(turn.phase, options, steps)
    passage.tokens, passage.trim = saved["tokens"], saved["trim"]
    passage.carried = saved["carried"]
    passage.scanner.held = saved["held"]
    if passage.markers is not None:
        passage.markers.held = saved["marked"]
    count = sum(step["phase"] == turn.phase for step in thought["steps"])
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
        draft=None if decision.draft is None else decision.draft.model_dump(mode="json"),
    )


def load_decision(saved: SavedDecision) -> Decision:
    """Return the decision of a record."""
    return Decision(
        saved["writer"],
        saved["reason"],
        None if saved["entropy"] is None else Entropy(*saved["entropy"]),
        saved["threshold"],
        tuple((str(text), float(probability)) for text, probability in saved["candidates"]),
        None if saved["draft"] is None else DraftTrace.model_validate(saved["draft"]),
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
    return SavedPrompt(
        text=prompt.text,
        token_ids=list(prompt.token_ids),
        aside=None if prompt.aside is None else list(prompt.aside),
    )


def _load_prompt(saved: SavedPrompt) -> Prompt:
    aside = saved["aside"]
    return Prompt(
        saved["text"], saved["token_ids"], None if aside is None else (aside[0], aside[1])
    )


def _of(saved: Mapping[str, Any], role: Role) -> Any:
    return saved[_SHARED] if _SHARED in saved else saved[role]
