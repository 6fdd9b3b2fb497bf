"""Hand over where the small model is unsure, and where it is suspiciously sure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.engines.base import MAX_TOP_LOGPROBS
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.entropy import Estimator
from langchain_glimprouter.routing.policies.base import check_first_steps, check_top_logprobs, due
from langchain_glimprouter.routing.policies.drafting import SelfJudging
from langchain_glimprouter.routing.policies.glimprouter import glimpse
from langchain_glimprouter.routing.thresholds import Decision, Fixed, Threshold

if TYPE_CHECKING:
    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Token, Turn

HESITATION = (
    "wait",
    "hmm",
    "alternatively",
    "but wait",
    "hold on",
    "let me double-check",
    "actually",
)


@dataclass(frozen=True, slots=True)
class TwoSided(SelfJudging):
    """GlimpRouter, with TrigReason's three triggers (arXiv 2604.14847) behind the glimpse.

    A step goes to the large model where (1) it is among the first n, (2) its first token's entropy
    lies above the threshold, (3) the whole draft is overconfident: the share of its tokens with
    1/p < 1.05 lies above `overconfidence`, or (4) the steps before it hesitate. Low entropy does
    not mean right: TrigReason found 94.6 % of a small model's wrong steps overconfident, against
    38.1 % of all. What counts as hesitation, and the length of its run, are unpublished.

    Attributes:
        threshold: Judges H_init, in nats.
        overconfidence: Largest share that passes, in (0, 1]; published are 0.85 for R1-1.5B and
            0.75 for Qwen3-0.6B. 1 switches it off.
        hesitation_steps: So many steps of the small model in a row that begin with a word of
            `hesitation` call the large model for one step; 0 switches it off.
        hesitation: Beginnings of a step that hesitates; case does not matter.
        first_n_steps_large: So many steps go to the large model without a draft (published: 20).
        top_logprobs: Log-probabilities per token (k); at least 2.
        estimator: Which number stands for the entropy.
    """

    threshold: Threshold = field(default_factory=lambda: Fixed(1.0))
    overconfidence: float = 0.85
    hesitation_steps: int = 2
    hesitation: tuple[str, ...] = HESITATION
    first_n_steps_large: int = 0
    top_logprobs: int = MAX_TOP_LOGPROBS
    estimator: Estimator = "renormalized"

    name: ClassVar[str] = "two sided"

    def __post_init__(self) -> None:
        """Refuse what could not judge."""
        check_top_logprobs(self.top_logprobs)
        check_first_steps(self.first_n_steps_large)
        if not 0.0 < self.overconfidence <= 1.0:
            msg = (
                f"overconfidence={self.overconfidence} is no share: give a number above 0, up to 1 "
                f"(1 never calls the large model)"
            )
            raise ConfigurationError(msg)
        if self.hesitation_steps < 0:
            msg = f"hesitation_steps={self.hesitation_steps} cannot work: give 0 or more"
            raise ConfigurationError(msg)
        words: object = self.hesitation
        if not isinstance(words, tuple) or not all(words):
            msg = f"hesitation={words!r} must be a tuple of words, for instance ('wait',)"
            raise ConfigurationError(msg)

    def due(self, turn: Turn) -> tuple[Decision | None, int]:
        """Return what is decided already; a run of hesitation decides."""
        decision, count = due(turn, self.first_n_steps_large)
        if decision is None and self._hesitates(turn):
            return Decision("large", "hesitation"), 1
        return decision, count

    def glance(self, turn: Turn, token: Token) -> Decision:
        """Hand over where the first token's entropy is high."""
        entropy, candidates = glimpse(turn, token, self.estimator)
        writer, threshold = self.threshold.decide(entropy, turn.usage)
        return Decision(writer, "entropy", entropy, threshold, candidates)

    def judge(self, turn: Turn, draft: Draft, glance: Decision | None) -> Decision:
        """Keep the draft unless it is overconfident."""
        record = self.measured(turn, draft)
        record.signal, record.value = "overconfidence", record.overconfidence
        record.threshold = self.overconfidence
        record.accepted = (record.value or 0.0) <= self.overconfidence
        return self.decided(turn, draft, record, glance.threshold if glance else None)

    def _hesitates(self, turn: Turn) -> bool:
        count = self.hesitation_steps
        steps, texts = turn.log.steps[-count:], turn.log.texts[-count:]
        if not count or len(texts) < count or any(step.writer == "large" for step in steps):
            return False
        begins = re.compile(rf"\W*(?:{'|'.join(map(re.escape, self.hesitation))})\b", re.IGNORECASE)
        return all(step.phase == turn.phase for step in steps) and all(map(begins.match, texts))
