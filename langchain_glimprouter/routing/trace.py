"""The record of a turn: who wrote what, why, and what it cost. Plain data, JSON in and out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from langchain_glimprouter.errors import Role
from langchain_glimprouter.routing.entropy import Entropy

if TYPE_CHECKING:
    from langchain_glimprouter.routing.thresholds import Decision

Phase = Literal["thinking", "answer"]
"""Part of a turn: the thought, or the text behind it."""

StopReason = Literal[
    "end_of_text",
    "stop",
    "max_tokens",
    "context_window",
    "loop",
    "error",
    "cancelled",
    "steered",
]
"""Why a turn ended. `stop`: one of the caller's stop strings appeared; `steered`: a person did."""

ThoughtEnd = Literal[
    "closed",
    "end_of_text",
    "max_thinking_tokens",
    "context_window",
    "loop",
    "steered",
]
"""Why a thought ended. `closed`: a model wrote `</think>`; else it was forced."""

StepEnd = Literal[
    "delimiter", "length", "end_of_text", "closed", "stop", "budget", "interrupted", "stripped"
]
"""Why a step ended. `length`: at `max_step_tokens`; `budget`: the phase's tokens ran out;
`stripped`: a draft wanted to end the thought behind it, which was left to the large model."""

PhaseEnd = Literal[
    "closed",
    "end_of_text",
    "stop",
    "max_thinking_tokens",
    "max_tokens",
    "context_window",
    "loop",
    "steered",
]
"""Why a phase ended: one of `ThoughtEnd` or of `StopReason`."""

STEP_ENDS: dict[PhaseEnd, StepEnd] = {
    "closed": "closed",
    "end_of_text": "end_of_text",
    "stop": "stop",
    "max_thinking_tokens": "budget",
    "max_tokens": "budget",
    "context_window": "budget",
    "loop": "delimiter",
    "steered": "interrupted",
}
"""What that means for the step that was being written."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProbeTrace(_Record):
    """What the glimpse at a step's first token showed.

    Attributes:
        entropy: The number compared with the threshold, in nats.
        lower: Lower bound of the true entropy, in nats.
        upper: Upper bound of the true entropy, in nats.
        seen_mass: Probability of the tokens seen.
        threshold: The threshold in force, in nats.
        straddles: Whether the bounds lie on both sides of the threshold.
        candidates: The likeliest tokens as (text, probability), likeliest first.
    """

    entropy: float
    lower: float
    upper: float
    seen_mass: float
    threshold: float | None = None
    straddles: bool = False
    candidates: list[tuple[str, float]] = Field(default_factory=list)

    @classmethod
    def of(cls, decision: Decision) -> ProbeTrace | None:
        """Return the record of a decision's probe, if there was one."""
        entropy, threshold = decision.entropy, decision.threshold
        if entropy is None:
            return None
        return cls(
            entropy=entropy.estimate,
            lower=entropy.lower,
            upper=entropy.upper,
            seen_mass=entropy.seen_mass,
            threshold=threshold if threshold is not None and math.isfinite(threshold) else None,
            straddles=threshold is not None and entropy.straddles(threshold),
            candidates=list(decision.candidates),
        )

    def measured(self) -> Entropy:
        """Return the entropy as it was measured."""
        return Entropy(self.entropy, self.lower, self.upper, self.seen_mass)


class DraftTrace(_Record):
    """A whole step that the small model drafted, and what was made of it.

    Attributes:
        signal: What judged it: `step_entropy`, `step_perplexity`, `overconfidence`, `hesitation`,
            `score` (0 to 9), `reward` (0 to 1), `selection` (number of the chosen draft from 1, 0
            for none), or `empty`, where there was nothing to judge.
        value: The signal's value, in its own unit; `None` where there was none.
        threshold: What it was compared with.
        accepted: Whether a draft became the step.
        drafts: How many drafts there were.
        tokens: Tokens of all drafts.
        seconds: Wall time of drafting, in seconds.
        judge_seconds: Wall time of judging, in seconds.
        entropy: Mean entropy over the draft's tokens (H_step), in nats.
        perplexity: Perplexity of the draft (PPL_step).
        overconfidence: Share of its tokens with a probability above 1/1.05.
        rejected: Texts of the dropped drafts.
    """

    signal: str
    value: float | None = None
    threshold: float | None = None
    accepted: bool
    drafts: int = 1
    tokens: int = 0
    seconds: float = 0.0
    judge_seconds: float = 0.0
    entropy: float | None = None
    perplexity: float | None = None
    overconfidence: float | None = None
    rejected: list[str] = Field(default_factory=list)


class StepTokens(_Record):
    """Tokens spent on one step, both models together.

    Attributes:
        decode: Tokens of the step itself.
        probe: Tokens written only to be looked at, and dropped; a judge's verdicts are such.
        rejected: Tokens of drafts that were dropped.
        discarded: Other tokens that came behind the step's end and were dropped.
        prefill: Context tokens computed by requests begun for this step.
        cached: Context tokens that the prefix cache spared those requests.
    """

    decode: int = 0
    probe: int = 0
    rejected: int = 0
    discarded: int = 0
    prefill: int = 0
    cached: int = 0


class StepTrace(_Record):
    """One step.

    Attributes:
        index: Number of the step in its turn, from 0.
        phase: `thinking` or `answer`.
        start: Where its text begins in `RoutingTrace.text`.
        end: Where its text ends.
        writer: Which model wrote it.
        reason: What decided; see `Decision.reason`.
        probe: The glimpse, where there was one.
        draft: The draft, where there was one, kept or not.
        tokens: Tokens spent.
        seconds: Wall time since the step before.
        ended_by: Why it ended.
    """

    index: int
    phase: Phase
    start: int
    end: int
    writer: Role
    reason: str
    probe: ProbeTrace | None = None
    draft: DraftTrace | None = None
    tokens: StepTokens
    seconds: float
    ended_by: StepEnd


class ModelUsage(_Record):
    """What one model did in a turn.

    Attributes:
        model: Its name.
        steps: Routed steps it wrote.
        requests: Requests sent to its engine.
        decode: Tokens it wrote that stayed.
        probe: Tokens it wrote as probes or verdicts that were dropped.
        rejected: Tokens it wrote as drafts that were dropped.
        discarded: Other tokens it wrote that were dropped.
        prefill: Context tokens it computed; all of a request's where the engine does not tell.
        cached: Context tokens that its prefix cache held.
        seconds: Wall time of the steps it wrote; a draft's time is the small model's, a verdict's
            the judge's.
    """

    model: str = ""
    steps: int = 0
    requests: int = 0
    decode: int = 0
    probe: int = 0
    rejected: int = 0
    discarded: int = 0
    prefill: int = 0
    cached: int = 0
    seconds: float = 0.0


class TurnUsage(_Record):
    """What a turn has used so far.

    Attributes:
        small: The small model's share.
        large: The large model's share.
        hand_offs: Switches from one model to the other.
        thinking_tokens: Tokens of the thought, its tags included.
        answer_tokens: Tokens of the answer.
    """

    small: ModelUsage = Field(default_factory=ModelUsage)
    large: ModelUsage = Field(default_factory=ModelUsage)
    hand_offs: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0

    def of(self, role: Role) -> ModelUsage:
        """Return one model's share."""
        return self.small if role == "small" else self.large


class RoutingTrace(_Record):
    """The record of a turn.

    Attributes:
        policy: Name of the policy.
        small: Name of the small model.
        large: Name of the large model.
        text: Thought and answer, as shown to the user.
        steps: Every step, in order; their spans tile `text`.
        usage: Tokens and seconds per model, hand-offs.
        prompt_tokens: Tokens of the prompt, as the large model counts them.
        seconds: Wall time of the turn.
        stop_reason: Why the turn ended.
        thought_end: Why the thought ended; `None` for models that do not think.
        forced_close: Whether `</think>` was written by the router.
        step_rule: Where steps ended, as its rule shows itself; `None` in older records.
    """

    policy: str
    small: str
    large: str
    text: str
    steps: list[StepTrace]
    usage: TurnUsage
    prompt_tokens: int
    seconds: float
    stop_reason: StopReason
    thought_end: ThoughtEnd | None = None
    forced_close: bool = False
    step_rule: str | None = None

    def step_text(self, step: StepTrace) -> str:
        """Return a step's text."""
        return self.text[step.start : step.end]

    def _phase_text(self, phase: Phase) -> str:
        return "".join(self.step_text(step) for step in self.steps if step.phase == phase)

    @property
    def thought(self) -> str:
        """Text of the thought, without its tags."""
        return self._phase_text("thinking")

    @property
    def answer(self) -> str:
        """Text of the answer."""
        return self._phase_text("answer")

    @property
    def routed_steps(self) -> list[StepTrace]:
        """The steps that the policy decided about: all but an answer by one model."""
        return [step for step in self.steps if step.reason != "answer"]

    @property
    def intervention_rate(self) -> float:
        """Share of routed steps that the large model wrote; 0 if there are none."""
        steps = self.routed_steps
        return sum(step.writer == "large" for step in steps) / len(steps) if steps else 0.0

    def summary(self) -> dict[str, object]:
        """Return the turn in one flat dictionary, for response metadata and logs."""
        usage = self.usage
        return {
            "policy": self.policy,
            "intervention_rate": self.intervention_rate,
            "hand_offs": usage.hand_offs,
            "steps": {"small": usage.small.steps, "large": usage.large.steps},
            "tokens": {
                role: usage.of(role).model_dump(
                    include={"decode", "probe", "rejected", "discarded", "prefill", "cached"}
                )
                for role in ("small", "large")
            },
            "seconds": {
                "small": round(usage.small.seconds, 4),
                "large": round(usage.large.seconds, 4),
                "total": round(self.seconds, 4),
            },
            "models": {"small": self.small, "large": self.large},
            "stop_reason": self.stop_reason,
            "thought_end": self.thought_end,
        }

    def to_html(self) -> str:
        """Return the turn as one self-contained HTML page, to be written to a file.

        It shows who wrote which step and why, the entropies with threshold and bounds, and what
        each model spent. The page runs no script and fetches nothing; all text is escaped.
        """
        from langchain_glimprouter.trace_html import trace_page

        return trace_page(self)

    def _repr_html_(self) -> str:
        """Show the page in a notebook."""
        from langchain_glimprouter.trace_html import trace_frame

        return trace_frame(self)
