"""Runs the arms of a study on the same questions and engines."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from langchain_glimprouter.bench.arms import MAIN, Arm, random_partner
from langchain_glimprouter.bench.records import Done, Failed, Match, Probes
from langchain_glimprouter.bench.signals import calibrated
from langchain_glimprouter.chat_models import ChatGlimpRouter
from langchain_glimprouter.errors import (
    EngineDeadError,
    EngineError,
    PromptTooLongError,
    TurnTimeoutError,
)
from langchain_glimprouter.messages.assembler import trace_of
from langchain_glimprouter.routing.files import append_line
from langchain_glimprouter.routing.target_rate import TargetRate
from langchain_glimprouter.routing.thresholds import Fixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from langchain_glimprouter.bench.engines import Engines
    from langchain_glimprouter.bench.journal import Journal
    from langchain_glimprouter.bench.tasks import Question, Task
    from langchain_glimprouter.routing.trace import RoutingTrace


_SHARING = 8
"""So many questions show what all prompts begin with."""


class Observer(Protocol):
    """Hears how a study goes."""

    def plan(self, done: int, total: int) -> None:
        """Take how many turns are done, of how many that are known to come."""
        ...

    def saw(self, line: Done | Failed | Probes) -> None:
        """Take a turn's record."""
        ...

    def says(self, text: str) -> None:
        """Take a sentence about what happens."""
        ...


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What a study is to do.

    Attributes:
        task: Asks and grades.
        arms: What is compared.
        questions: The held-out split.
        calibration: The calibration split.
        target_rate: The share of steps that thresholds are calibrated to.
        concurrency: How many questions are asked at once.
        chat: Options of `ChatGlimpRouter` that all arms share.
        matched_random: Whether each routing arm gets a random partner.
        seconds: Stop before the first block of questions that would begin later; `None` never.
        traces: A file that whole traces are added to.
    """

    task: Task
    arms: Sequence[Arm]
    questions: Sequence[Question]
    calibration: Sequence[Question]
    target_rate: float
    concurrency: int = 1
    chat: dict[str, Any] = field(default_factory=dict)
    matched_random: bool = True
    seconds: float | None = None
    traces: Path | None = None


class OutOfTimeError(Exception):
    """The study's time is over; what it found is kept."""


class Study:
    """Runs a plan, from wherever its record stands.

    Arms take turns, a block of `concurrency` questions each, so that a machine that slows down does
    so for all of them; which goes first changes from block to block. Between two of them the prefix
    caches are emptied, but for what all prompts begin with.

    Args:
        plan: What to do.
        engines: Those of all arms; not started yet.
        journal: What is done; grows.
        observer: Hears of everything.

    Raises:
        ConfigurationError: If a policy or an option cannot work, before any engine starts.
    """

    def __init__(
        self, plan: StudyPlan, engines: Engines, journal: Journal, observer: Observer
    ) -> None:
        self._plan = plan
        self._engines = engines
        self._journal = journal
        self._observer = observer
        self._end: float | None = None
        self._rates: dict[Arm, TargetRate] = {}
        for arm in plan.arms:
            self._model(arm, arm.threshold)

    async def run(self) -> None:
        """Do what is left to do, then release the engines.

        Raises:
            OutOfTimeError: When the time is over.
            EngineError: If an engine dies; everything up to there is kept.
            OSError: If the record cannot be written; likewise.
        """
        if self._plan.seconds is not None:
            self._end = time.monotonic() + self._plan.seconds
        arms = list(self._plan.arms)
        variants = list(dict.fromkeys(arm.variant for arm in arms))
        variants.sort(key=lambda name: name != MAIN)  # the others keep their order
        self._journal.failures.clear()  # they stay in the file, and are tried again
        try:
            self._tell()
            await self._calibrate()
            for variant in variants:
                await self._group(variant, [arm for arm in arms if arm.variant == variant])
                if variant == MAIN:
                    await self._group(MAIN, self._partners())
            await self._group(MAIN, self._partners())
        finally:
            await self._engines.aclose()

    # -- calibration ---------------------------------------------------------------------------

    async def _calibrate(self) -> None:
        """Let the small model write the calibration split alone, and take thresholds from it."""
        plan, journal = self._plan, self._journal
        signals = {
            arm.signal
            for arm in plan.arms
            if arm.calibrates and arm.signal and arm.signal not in journal.thresholds
        }
        if not signals:
            return
        todo = [one for one in plan.calibration if str(one.id) not in journal.probes]
        if todo:
            await self._engines.use(self._home)
            model = self._probing()
            for block in _blocks(todo, plan.concurrency):
                self._check_time()
                turns = await _gather([self._turn(model, question) for question in block])
                for question, turn in zip(block, turns, strict=True):
                    if turn.trace is not None:
                        line = Probes.of(str(question.id), turn.trace)
                        journal.append(line)
                        self._observer.saw(line)
                for question, turn in zip(block, turns, strict=True):
                    if isinstance(turn.error, EngineDeadError):
                        raise turn.error
                    if turn.error is not None:
                        self._observer.says(f"calibration without {question.id}: {turn.error}")
        names = [str(one.id) for one in plan.calibration]
        probes = [journal.probes[name] for name in names if name in journal.probes]
        for signal in sorted(signals):
            tau = calibrated(signal, probes, plan.target_rate)
            journal.append(tau)
            self._observer.says(f"{signal}: τ = {tau.threshold:.4g}")

    def _probing(self) -> ChatGlimpRouter:
        """Return a model that drafts every step, keeps every draft, and writes down all signals."""
        from langchain_glimprouter.routing.policies import StepEntropy

        options = {**self._plan.chat, "answer_by": "small"}
        engines = self._engines
        return ChatGlimpRouter(
            small=engines.small,
            large=engines.large[self._home],
            policy=StepEntropy(threshold=Fixed(float("inf"))),
            **options,
        )

    @property
    def _home(self) -> str:
        """The set-up that needs no further start."""
        variants = [arm.variant for arm in self._plan.arms]
        return MAIN if MAIN in variants else variants[0]

    # -- arms ----------------------------------------------------------------------------------

    def _partners(self) -> list[Arm]:
        """Return the random arms that match what the finished arms spent."""
        if not self._plan.matched_random:
            return []
        journal, found = self._journal, []
        for arm in self._plan.arms:
            if not arm.routes or self._todo(arm):
                continue
            match = journal.matches.get(arm.label)
            if match is None:
                rate = journal.rate(arm.label)
                if rate is None:
                    continue
                match = Match(arm=arm.label, rate=rate, random=random_partner(rate).label)
                journal.append(match)
            found.append(Arm(match.random))
        return list(dict.fromkeys(found))

    @property
    def _shared(self) -> list[str]:
        """Prompts that have nothing in common but what all have."""
        several = (*self._plan.questions, *self._plan.calibration)[:_SHARING]
        return [one.prompt for one in several] if len(several) > 1 else []

    def _todo(self, arm: Arm) -> list[Question]:
        label = arm.label
        return [one for one in self._plan.questions if not self._tried(label, one)]

    def _tried(self, label: str, question: Question) -> bool:
        return self._journal.tried(label, str(question.id))

    async def _group(self, variant: str, arms: Sequence[Arm]) -> None:
        """Run arms that share their engines."""
        plan = self._plan
        self._tell(arms)
        if not any(self._todo(arm) for arm in arms):
            return
        self._check_time()
        await self._engines.use(variant)
        models = {arm: self._model(arm, self._threshold(arm)) for arm in arms}
        for number, block in enumerate(_blocks(plan.questions, plan.concurrency)):
            shift = number % len(arms)
            for arm in (*arms[shift:], *arms[:shift]):
                todo = [one for one in block if not self._tried(arm.label, one)]
                if todo:
                    self._check_time()
                    await self._engines.cool()
                    await self._engines.warm(self._shared, plan.chat.get("chat_template"))
                    await self._ask(arm, models[arm], todo)

    async def _ask(self, arm: Arm, model: ChatGlimpRouter, questions: Sequence[Question]) -> None:
        """Ask one arm some questions at once, and write down what came of it."""
        turns = await _gather([self._turn(model, question) for question in questions])
        threshold, traces = self._threshold(arm), self._plan.traces
        dead: EngineDeadError | None = None
        for question, turn in zip(questions, turns, strict=True):
            line = await self._line(arm, question, turn, threshold)
            self._journal.append(line)
            if traces is not None and turn.trace is not None:
                self._keep(traces, line, turn.trace)
            self._observer.saw(line)
            if isinstance(turn.error, EngineDeadError):
                dead = turn.error
        if arm in self._rates:
            self._rates[arm].save(self._rate_file(arm))
        if dead is not None:
            raise dead

    async def _line(
        self, arm: Arm, question: Question, turn: _Turn, threshold: float | None
    ) -> Done | Failed:
        name = str(question.id)
        if turn.trace is None:
            said = f"{type(turn.error).__name__}: {turn.error}"
            return Failed(arm=arm.label, question=name, error=said, seconds=round(turn.seconds, 4))
        grade = await self._plan.task.grade(question, turn.answer)
        return Done.of(
            arm.label,
            name,
            turn.trace,
            grade,
            answer=turn.answer,
            seconds=turn.seconds,
            began=turn.began,
            threshold=threshold,
        )

    @staticmethod
    def _keep(file: Path, line: Done | Failed, trace: RoutingTrace) -> None:
        """Add a whole trace to a file that `--replay` and `glimprouter calibrate --labels` read."""
        correct = isinstance(line, Done) and line.correct
        record = {"question": line.question, "arm": line.arm, "correct": correct}
        append_line(file, json.dumps({**record, "trace": trace.model_dump(mode="json")}))

    async def _turn(self, model: ChatGlimpRouter, question: Question) -> _Turn:
        began, start = time.time(), time.perf_counter()
        try:
            message = await model.ainvoke(question.prompt)
        except (EngineError, PromptTooLongError, TurnTimeoutError) as error:
            return _Turn(began, time.perf_counter() - start, error=error)
        seconds = time.perf_counter() - start
        trace = trace_of(message)
        assert trace is not None
        return _Turn(began, seconds, trace=trace, answer=str(message.text))

    def _model(self, arm: Arm, threshold: float | None) -> ChatGlimpRouter:
        options = dict(self._plan.chat)
        if arm.rate is not None:
            options["threshold"] = self._target_rate(arm)
        elif threshold is not None:
            options["threshold"] = threshold
        engines = self._engines
        return ChatGlimpRouter(
            small=engines.small, large=engines.large[arm.variant], policy=arm.policy, **options
        )

    def _target_rate(self, arm: Arm) -> TargetRate:
        """Return a threshold that goes on learning where the arm's last turns left it."""
        if arm not in self._rates:
            assert arm.rate is not None
            file = self._rate_file(arm)
            self._rates[arm] = TargetRate.load(file) if file.exists() else TargetRate(arm.rate)
        return self._rates[arm]

    def _rate_file(self, arm: Arm) -> Path:
        words = re.sub(r"[^\w.]+", "-", f"{arm.policy} {arm.rate:g} {arm.variant}")
        return self._journal.path.with_name(f"rate-{words}.json")

    def _threshold(self, arm: Arm) -> float | None:
        if not arm.calibrates or arm.signal is None:
            return arm.threshold
        return self._journal.thresholds[arm.signal].threshold

    # -- keeping time ----------------------------------------------------------------------------

    def _check_time(self) -> None:
        if self._end is not None and time.monotonic() >= self._end:
            raise OutOfTimeError

    def _tell(self, more: Sequence[Arm] = ()) -> None:
        """Tell how much there is to do, as far as that is known."""
        arms = dict.fromkeys([*self._plan.arms, *more])
        count = len(self._plan.questions)
        done = sum(count - len(self._todo(arm)) for arm in arms)
        self._observer.plan(done, count * len(arms))


@dataclass(slots=True)
class _Turn:
    """What came of a question: a trace, or an error."""

    began: float
    seconds: float
    trace: RoutingTrace | None = None
    answer: str = ""
    error: Exception | None = None


async def _gather(turns: Sequence[Any]) -> list[_Turn]:
    """Run turns at once; if one cannot be recorded, none runs on unseen."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(turn) for turn in turns]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _blocks(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    for start in range(0, len(questions), size):
        yield questions[start : start + size]
