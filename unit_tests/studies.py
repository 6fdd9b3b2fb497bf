"""Studies over scripted engines, and records of studies made up by hand."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_glimprouter import ScriptedEngine, ScriptedStep
from langchain_glimprouter.bench.arms import MAIN, parse_arms
from langchain_glimprouter.bench.engines import Engines
from langchain_glimprouter.bench.journal import Journal
from langchain_glimprouter.bench.records import Done, Failed, Probes, Tau
from langchain_glimprouter.bench.study import Study, StudyPlan
from langchain_glimprouter.bench.tasks.base import Grade, Question, Split
from langchain_glimprouter.engines.base import GenerationRequest
from langchain_glimprouter.routing.trace import ModelUsage
from unit_tests.models import engine

STEPS = 9  # eight, and the one that closes the thought
TEMPLATE_STEPS = ("Add the tens.", "Carry one.", "Wait.", "Now the units.")


class Sums:
    """A task: sums of two numbers."""

    name = "sums"

    def __init__(self) -> None:
        self.graded: list[str] = []

    def questions(self, count: int | None, seed: int, split: Split = "test") -> list[Question]:
        first = 1000 if split == "calibration" else 0
        numbers = range(first, first + (count or 50))
        return [Question(f"{split}-{n}", f"What is {n} + {seed}?", str(n + seed)) for n in numbers]

    async def grade(self, question: Question, answer: str) -> Grade:
        self.graded.append(question.id)
        found = answer.rpartition(" ")[2].rstrip(".") or None
        return Grade(found == question.answer, float(found == question.answer), found)


def numbers_of(prompt: str) -> tuple[int, int]:
    """The two numbers of a question, as its prompt reaches a model."""
    words = prompt.partition("What is ")[2].partition("?")[0].split(" + ")
    return int(words[0]), int(words[1])


def steps_of(prompt: str) -> list[ScriptedStep]:
    """A thought of eight steps, whose entropies the question decides."""
    source = random.Random(str(numbers_of(prompt)))
    return [
        ScriptedStep(f"{source.choice(TEMPLATE_STEPS)} {number}\n\n", source.expovariate(1.5) % 2.9)
        for number in range(STEPS - 1)
    ]


def careless(prompt: str, request: GenerationRequest) -> str:
    """An answer that is right for every third question."""
    one, other = numbers_of(prompt)
    return f"It is {one + other + (one % 3 != 0)}."


def careful(prompt: str, request: GenerationRequest) -> str:
    """An answer that is right but for every fifth question."""
    one, other = numbers_of(prompt)
    return f"It is {one + other + (one % 5 == 4)}."


def scripted(role: str, **options: Any) -> ScriptedEngine:
    """The small or the large model."""
    answer = careless if role == "small" else careful
    return engine(steps_of, answer, name=role, **options)


class Log:
    """Hears of a study; implements `Observer`."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[Done | Failed | Probes] = []
        self.plans: list[tuple[int, int]] = []
        self.said: list[str] = []
        self.stop_after = stop_after

    def plan(self, done: int, total: int) -> None:
        self.plans.append((done, total))

    def saw(self, line: Done | Failed | Probes) -> None:
        self.lines.append(line)
        if self.stop_after is not None and len(self.lines) >= self.stop_after:
            raise KeyboardInterrupt

    def says(self, text: str) -> None:
        self.said.append(text)


def plan(policies: Sequence[str], questions: int = 6, **options: Any) -> StudyPlan:
    """A plan about sums."""
    task = options.pop("task", Sums())
    variants = options.pop("variants", (MAIN,))
    return StudyPlan(
        task=task,
        arms=parse_arms(policies, variants),
        questions=task.questions(questions, 7),
        calibration=task.questions(options.pop("calibration", 5), 7, split="calibration"),
        target_rate=options.pop("target_rate", 0.3),
        chat={"thinking": True, "seed": 7, **options.pop("chat", {})},
        **options,
    )


SETTINGS: dict[str, Any] = {
    "small": {"model": "tiny", "vocabulary": "v", "engine_args": {}},
    "large": {"model": "huge", "vocabulary": "v", "engine_args": {}},
    "task": "sums",
    "first_question": "0" * 16,
    "target_rate": 0.3,
    "calibration_questions": 5,
    "concurrency": 1,
    "caches_emptied": True,
    "chat": {
        "temperature": 0.0,
        "max_thinking_tokens": 512,
        "max_tokens": 128,
        "max_step_tokens": 64,
    },
    "chat_template": None,
    "versions": {"langchain-glimprouter": "0.0", "vllm": None},
    "machine": {"cpu": "a processor", "cores": 2, "gpus": []},
}


async def study(
    folder: Path,
    what: StudyPlan,
    *,
    small: Any = None,
    large: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> Journal:
    """Run a study, or go on with it; return its record as it is read back."""
    journal = Journal(folder / "study.jsonl")
    journal.begin(SETTINGS)
    engines = Engines(small or scripted("small"), large or {MAIN: scripted("large")})
    await Study(what, engines, journal, log or Log()).run()
    return Journal(folder / "study.jsonl")


def turn(arm: str, question: str, *, correct: bool, **fields: Any) -> Done:
    """A finished turn, made up."""
    given: dict[str, Any] = {
        "score": float(correct),
        "extracted": None,
        "grade_error": None,
        "seconds": 2.0,
        "began": 0.0,
        "threshold": None,
        "answer": "It is 7.",
        "stop_reason": "end_of_text",
        "thought_end": "closed",
        "forced_close": False,
        "hand_offs": 1,
        "prompt_tokens": 9,
        "thinking_tokens": 40,
        "answer_tokens": 4,
        "drafted": 0,
        "small": ModelUsage(decode=30, probe=2, prefill=12, cached=4),
        "large": ModelUsage(decode=14, prefill=20),
        "steps": [("s", 20, 0.1, None, 1.0), ("l", 20, 1.5, None, 0.5), ("L", 4, None, None, 0.5)],
        **fields,
    }
    return Done(arm=arm, question=question, correct=correct, **given)


def made_up(folder: Path, verdicts: Mapping[str, str], **fields: Any) -> Journal:
    """A study's record in which each arm was right (`+`), wrong (`-`), or broke off (`!`)."""
    file = folder / "study.jsonl"
    Journal(file).begin(SETTINGS)
    lines: list[Done | Failed] = []
    for arm, marks in verdicts.items():
        for number, mark in enumerate(marks):
            if mark == "!":
                lines.append(Failed(arm=arm, question=str(number), error="no", seconds=1.0))
            else:
                lines.append(turn(arm, str(number), correct=mark == "+", **fields))
    with file.open("a", encoding="utf-8") as added:
        added.writelines(line.line() + "\n" for line in lines)
    return Journal(file)


PICTURED = {
    "always small": (5, 4.0, 0),
    "always large": (14, 20.0, 300),
    "glimprouter": (12, 11.0, 120),
    "step entropy": (11, 12.0, 130),
    "specreason(7)": (12, 16.0, 90),
    "random(0.3)": (9, 10.5, 118),
    "always large @draft": (14, 12.0, 300),
}


def pictured(folder: Path) -> Journal:
    """A study with something of every kind in its pictures."""
    made = made_up(folder, {})
    made.add_variant("draft", {"speculative_config": {"num_speculative_tokens": 3}})
    for arm, (right, seconds, tokens) in PICTURED.items():
        for number in range(20):
            made.append(
                turn(
                    arm,
                    str(number),
                    correct=number < right,
                    seconds=seconds,
                    large=ModelUsage(decode=tokens),
                    threshold=0.8 if arm == "glimprouter" else None,
                )
            )
    made.append(
        Tau(
            signal="entropy",
            threshold=0.8,
            lower=0.7,
            upper=0.9,
            target_rate=0.3,
            rate=0.3,
            steps=60,
            turns=20,
        )
    )
    for number in range(20):
        made.append(
            Probes(
                question=f"c{number}", steps=[(0.1 * number, 0.1, 1.2, 0.5), (0.2, 0.1, 1.1, 0.9)]
            )
        )
    return made


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk that fills up: no file of this process may grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
