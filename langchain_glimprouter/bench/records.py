"""The lines of a study's record. Plain data, JSON in and out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from langchain_glimprouter.routing.trace import (
    ModelUsage,
    RoutingTrace,
    StepTrace,
    StopReason,
    ThoughtEnd,
)

if TYPE_CHECKING:
    from langchain_glimprouter.bench.tasks import Grade

_EXTRACTED = 200  # characters kept of what a grader found in an answer


class _Line(BaseModel):
    # Strings for infinities keep the lines JSON.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    def line(self) -> str:
        """Return the record as one line of JSON."""
        return self.model_dump_json()


class Header(_Line):
    """The first line: what must be the same for all lines behind it.

    Attributes:
        kind: Marks the line.
        version: Of the format.
        created: When the study began.
        settings: By name, nested.
    """

    kind: Literal["study"] = "study"
    version: Literal[1] = 1
    created: datetime
    settings: dict[str, Any]


class Variant(_Line):
    """Another set-up of the large engine.

    Attributes:
        kind: Marks the line.
        name: What arms call it.
        settings: Its engine's arguments.
    """

    kind: Literal["variant"] = "variant"
    name: str
    settings: dict[str, Any]


class Probes(_Line):
    """What the small model's thought about one question of the calibration split looked like.

    Attributes:
        kind: Marks the line.
        question: The question's id.
        steps: Of each step: H_init (nats), H_step (nats), PPL_step, share of overconfident tokens;
            `None` where something was not measured.
    """

    kind: Literal["probes"] = "probes"
    question: str
    steps: list[tuple[float | None, float | None, float | None, float | None]]

    @classmethod
    def of(cls, question: str, trace: RoutingTrace) -> Probes:
        """Return the record of a turn that the small model wrote with drafts judged."""
        return cls(question=question, steps=[_signals(step) for step in trace.routed_steps])


class Tau(_Line):
    """A threshold that the calibration split gave; it never changes within a study.

    Attributes:
        kind: Marks the line.
        signal: What is compared with it.
        threshold: τ, in the signal's unit.
        lower: Lower end of its confidence interval.
        upper: Upper end.
        target_rate: The share of steps that was to go to the large model.
        rate: The share of the calibration's steps that lies above τ.
        steps: How many steps it rests on.
        turns: How many turns.
    """

    kind: Literal["threshold"] = "threshold"
    signal: str
    threshold: float
    lower: float
    upper: float
    target_rate: float
    rate: float
    steps: int
    turns: int


class Match(_Line):
    """The random arm that an arm is compared with.

    Attributes:
        kind: Marks the line.
        arm: The arm.
        rate: Its intervention rate when it was matched.
        random: The random arm.
    """

    kind: Literal["match"] = "match"
    arm: str
    rate: float
    random: str


class Failed(_Line):
    """A turn that an engine broke off; it counts as wrong until it succeeds.

    Attributes:
        kind: Marks the line.
        arm: The arm.
        question: The question's id.
        error: What went wrong.
        seconds: Wall time until then.
    """

    kind: Literal["error"] = "error"
    arm: str
    question: str
    error: str
    seconds: float


class Done(_Line):
    """A finished turn.

    Attributes:
        kind: Marks the line.
        arm: The arm.
        question: The question's id.
        correct: Whether the answer is right.
        score: The grader's score, 0 to 1.
        extracted: What the grader read as the answer.
        grade_error: What kept the grader from judging; the answer then counts as wrong.
        seconds: Wall time of the turn.
        began: When it began, in seconds since 1970.
        threshold: τ in force, for policies with one.
        answer: Text of the answer.
        stop_reason: Why the turn ended.
        thought_end: Why the thought ended.
        forced_close: Whether the router closed the thought.
        hand_offs: Switches from one model to the other.
        prompt_tokens: Tokens of the prompt.
        thinking_tokens: Tokens of the thought.
        answer_tokens: Tokens of the answer.
        drafted: Tokens of steps that were drafts and stayed.
        small: What the small model did.
        large: What the large model did.
        steps: Of each step: its writer (`s`, `l`; capitals where nothing was to be decided, as in
            an answer by one model), its tokens, H_init and H_step in nats, its seconds.
    """

    kind: Literal["turn"] = "turn"
    arm: str
    question: str
    correct: bool
    score: float
    extracted: str | None
    grade_error: str | None
    seconds: float
    began: float
    threshold: float | None
    answer: str
    stop_reason: StopReason
    thought_end: ThoughtEnd | None
    forced_close: bool
    hand_offs: int
    prompt_tokens: int
    thinking_tokens: int
    answer_tokens: int
    drafted: int
    small: ModelUsage
    large: ModelUsage
    steps: list[tuple[Literal["s", "l", "S", "L"], int, float | None, float | None, float]]

    @classmethod
    def of(
        cls,
        arm: str,
        question: str,
        trace: RoutingTrace,
        grade: Grade,
        *,
        answer: str,
        seconds: float,
        began: float,
        threshold: float | None,
    ) -> Done:
        """Return the record of a turn."""
        usage = trace.usage
        extracted = None if grade.extracted is None else str(grade.extracted)[:_EXTRACTED]
        return cls(
            arm=arm,
            question=question,
            correct=grade.correct,
            score=grade.score,
            extracted=extracted,
            grade_error=grade.error,
            seconds=round(seconds, 4),
            began=round(began, 3),
            threshold=threshold,
            answer=answer,
            stop_reason=trace.stop_reason,
            thought_end=trace.thought_end,
            forced_close=trace.forced_close,
            hand_offs=usage.hand_offs,
            prompt_tokens=trace.prompt_tokens,
            thinking_tokens=usage.thinking_tokens,
            answer_tokens=usage.answer_tokens,
            drafted=sum(
                step.tokens.decode
                for step in trace.steps
                if step.draft is not None and step.draft.accepted
            ),
            small=_plain(usage.small),
            large=_plain(usage.large),
            steps=[_step(step) for step in trace.steps],
        )

    def line(self) -> str:
        """Return the record as one line of JSON; the models' names stand in the header."""
        return self.model_dump_json(exclude={"small": {"model"}, "large": {"model"}})

    @property
    def routed(self) -> int:
        """Steps that the policy decided about."""
        return sum(step[0].islower() for step in self.steps)

    @property
    def interventions(self) -> int:
        """Those of them that the large model wrote."""
        return sum(step[0] == "l" for step in self.steps)


Line = Annotated[
    Header | Variant | Probes | Tau | Match | Failed | Done, Field(discriminator="kind")
]
"""Any line of a study's record."""


def _plain(usage: ModelUsage) -> ModelUsage:
    return usage.model_copy(update={"model": "", "seconds": round(usage.seconds, 4)})


def _signals(
    step: StepTrace,
) -> tuple[float | None, float | None, float | None, float | None]:
    probe, draft = step.probe, step.draft
    return (
        _round(probe.entropy if probe else None),
        _round(draft.entropy if draft else None),
        _round(draft.perplexity if draft else None),
        _round(draft.overconfidence if draft else None),
    )


def _step(
    step: StepTrace,
) -> tuple[Literal["s", "l", "S", "L"], int, float | None, float | None, float]:
    letters: dict[tuple[str, bool], Literal["s", "l", "S", "L"]] = {
        ("small", True): "s",
        ("large", True): "l",
        ("small", False): "S",
        ("large", False): "L",
    }
    letter = letters[step.writer, step.reason != "answer"]
    entropy, step_entropy, _, _ = _signals(step)
    return letter, step.tokens.decode, entropy, step_entropy, round(step.seconds, 3)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
