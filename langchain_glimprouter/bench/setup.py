"""What a user asked a study for, and what that comes to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.arms import MAIN
from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_glimprouter.bench.engines import Engines
    from langchain_glimprouter.bench.journal import Journal
    from langchain_glimprouter.bench.study import StudyPlan


@dataclass(frozen=True, slots=True)
class Setup:
    """What the user asked for.

    Attributes:
        small: Small model.
        large: Large model.
        task: Name of the task.
        data: Its local data.
        task_options: Its options.
        policies: The arms, as written.
        questions: How many are held out.
        calibration_questions: How many thresholds are taken from.
        target_rate: What thresholds are calibrated to.
        matched_random: Whether routing arms get random partners.
        seed: Of questions, sampling and draws.
        concurrency: Questions asked at once.
        chat_template: For both models.
        chat: Options of the chat model.
        small_args: Of the small engine.
        large_args: Of the large engine.
        variants: What further set-ups of the large engine change.
        seconds: Stop after so long.
        traces: Where whole traces go.
    """

    small: str
    large: str
    task: str
    data: Path | None
    task_options: dict[str, str]
    policies: Sequence[str]
    questions: int
    calibration_questions: int
    target_rate: float
    matched_random: bool
    seed: int
    concurrency: int
    chat_template: Path | None
    chat: dict[str, Any]
    small_args: dict[str, Any]
    large_args: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    seconds: float | None
    traces: Path | None


def plan_of(setup: Setup) -> tuple[StudyPlan, Engines]:
    """Return what to do and with what, before anything starts.

    Raises:
        ConfigurationError: If something cannot work.
    """
    from langchain_glimprouter.bench.arms import parse_arms
    from langchain_glimprouter.bench.engines import Engines, open_engine
    from langchain_glimprouter.bench.study import StudyPlan
    from langchain_glimprouter.bench.tasks import find_task
    from langchain_glimprouter.calibration import check_rate

    check_rate(setup.target_rate)
    arms = parse_arms(setup.policies, {MAIN, *setup.variants})
    task = find_task(setup.task, path=setup.data, options=setup.task_options)
    template = str(setup.chat_template) if setup.chat_template else None
    calibrates = any(arm.calibrates for arm in arms)
    count = setup.calibration_questions
    plan = StudyPlan(
        task=task,
        arms=arms,
        questions=task.questions(setup.questions, setup.seed, split="test"),
        calibration=task.questions(count, setup.seed, split="calibration") if calibrates else [],
        target_rate=setup.target_rate,
        concurrency=setup.concurrency,
        chat={**setup.chat, "chat_template": template},
        matched_random=setup.matched_random,
        seconds=setup.seconds,
        traces=setup.traces,
    )
    large = {}
    for name in (MAIN, *setup.variants):
        changed = dict(setup.variants.get(name, {}))
        model = str(changed.pop("model", setup.large))
        large[name] = open_engine(model, {**setup.large_args, **changed})
    return plan, Engines(open_engine(setup.small, setup.small_args), large)


async def settle(setup: Setup, plan: StudyPlan, engines: Engines, journal: Journal) -> None:
    """Write the settings down, or see that they are those of the record.

    Raises:
        ConfigurationError: If they are not.
    """
    from langchain_glimprouter.bench.engines import portable
    from langchain_glimprouter.bench.machine import machine, versions
    from langchain_glimprouter.routing.thresholds import base_name

    used = {arm.variant for arm in plan.arms} - {MAIN}
    models = {}
    for role, engine, arguments in (
        ("small", engines.small, setup.small_args),
        ("large", engines.large[MAIN], setup.large_args),
    ):
        fingerprint = (await engine.vocabulary()).fingerprint
        models[role] = {
            "model": base_name(engine.model),
            "vocabulary": fingerprint,
            "engine_args": portable(arguments),
        }
    template = setup.chat_template
    journal.begin(
        {
            **models,
            "task": plan.task.name,
            "first_question": _digest(plan.questions[0].prompt.encode()),
            "target_rate": setup.target_rate,
            "calibration_questions": setup.calibration_questions,
            "concurrency": setup.concurrency,
            "caches_emptied": engines.cools,
            "shared_prefix_computed": True,
            "chat": setup.chat,
            "chat_template": _digest(template.read_bytes()) if template else None,
            "versions": versions(),
            "machine": machine(),
        }
    )
    for name in sorted(used):
        journal.add_variant(name, portable(setup.variants[name]))
    known = {str(question.id) for question in plan.questions}
    strange = sorted({question for _, question in journal.turns} - known)
    if strange:
        msg = (
            f"{journal.path} holds {len(strange)} questions that this run does not ask (such as "
            f"{strange[0]!r}): give at least as many --questions as before, or another --out"
        )
        raise ConfigurationError(msg)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def as_object(option: str, text: str | None) -> dict[str, Any]:
    """Read an option that is a JSON object; empty if it is unset.

    Raises:
        ConfigurationError: If it is none.
    """
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        msg = f"{option} is no JSON ({error}): write for instance '{{\"max_model_len\": 4096}}'"
        raise ConfigurationError(msg) from None
    if not isinstance(value, dict):
        msg = f"{option}={text} is no JSON object: write for instance '{{\"max_model_len\": 4096}}'"
        raise ConfigurationError(msg)
    return value


def as_pairs(texts: Sequence[str]) -> dict[str, str]:
    """Read options of a task, as NAME=VALUE.

    Raises:
        ConfigurationError: If one is none.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            msg = f"--task-option {text!r} cannot be read: write NAME=VALUE"
            raise ConfigurationError(msg)
        found[name.strip()] = value.strip()
    return found


def as_variants(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read set-ups of the large engine, as NAME=JSON.

    Raises:
        ConfigurationError: If one is none.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or name.strip() == MAIN:
            msg = (
                f"--large-variant {text!r} cannot be read: write NAME=JSON, with a name other "
                f"than {MAIN!r}"
            )
            raise ConfigurationError(msg)
        found[name.strip()] = as_object(f"--large-variant {name.strip()}", value)
    return found
