"""Signals over a whole drafted step: what GlimpRouter's ablation compares H_init with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.engines.base import MAX_TOP_LOGPROBS
from langchain_glimprouter.routing.entropy import Entropy, Estimator
from langchain_glimprouter.routing.policies.base import check_first_steps, check_top_logprobs
from langchain_glimprouter.routing.policies.drafting import SelfJudging
from langchain_glimprouter.routing.thresholds import Decision, Fixed, Threshold

if TYPE_CHECKING:
    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Turn


@dataclass(frozen=True, slots=True)
class _StepSignal(SelfJudging):
    threshold: Threshold = field(default_factory=lambda: Fixed(1.0))
    first_n_steps_large: int = 0
    top_logprobs: int = MAX_TOP_LOGPROBS
    estimator: Estimator = "renormalized"

    name: ClassVar[str]
    signal: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse what could not judge."""
        check_top_logprobs(self.top_logprobs)
        check_first_steps(self.first_n_steps_large)

    def signal_of(self, draft: Draft) -> Entropy | None:
        """Return what the threshold judges."""
        raise NotImplementedError

    def judge(self, turn: Turn, draft: Draft, glance: Decision | None) -> Decision:
        """Keep the draft iff its signal does not lie above the threshold."""
        del glance
        record = self.measured(turn, draft)
        signal = self.signal_of(draft)
        assert signal is not None  # `measured` saw that there are log-probabilities
        writer, threshold = self.threshold.decide(signal, turn.usage)
        record.signal, record.value = self.signal, signal.estimate
        record.threshold = threshold if threshold < float("inf") else None
        record.accepted = writer == "small"
        return self.decided(turn, draft, record)


class StepEntropy(_StepSignal):
    """Draft a step; the large model writes it anew where its mean entropy is high.

    `H_step = (1/T) Σ_t H_t` in nats (GlimpRouter, arXiv 2601.05110, ablation): every draft that is
    dropped was written in vain, which one token's glimpse avoids.

    Attributes:
        threshold: Judges H_step, in nats.
        first_n_steps_large: So many steps go to the large model without a draft.
        top_logprobs: Log-probabilities per token (k); at least 2.
        estimator: Which number stands for the entropy.
    """

    __slots__ = ()

    name: ClassVar[str] = "step entropy"
    signal: ClassVar[str] = "step_entropy"

    def signal_of(self, draft: Draft) -> Entropy | None:
        """Return H_step."""
        return draft.entropy(self.estimator)


class StepPerplexity(_StepSignal):
    """Draft a step; the large model writes it anew where its perplexity is high.

    `PPL_step = exp(−(1/T) Σ_t ln p(x_t))` (GlimpRouter, arXiv 2601.05110, ablation), 1 or above.

    Attributes:
        threshold: Judges the perplexity, which takes the place of an entropy in it.
        first_n_steps_large: So many steps go to the large model without a draft.
        top_logprobs: Log-probabilities per token (k), for the trace; at least 2.
        estimator: Which number stands for the entropy in the trace.
    """

    __slots__ = ()

    name: ClassVar[str] = "step perplexity"
    signal: ClassVar[str] = "step_perplexity"

    def signal_of(self, draft: Draft) -> Entropy | None:
        """Return PPL_step."""
        value = draft.perplexity
        return None if value is None else Entropy(value, value, value, 1.0)
