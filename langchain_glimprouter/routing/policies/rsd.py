"""RSD: draft a step, then let a reward model judge it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.policies.base import check_first_steps
from langchain_glimprouter.routing.policies.drafting import Judged
from langchain_glimprouter.routing.scoring import (
    FunctionScorer,
    JudgeScorer,
    ModelScorer,
    RewardFunction,
    RewardModel,
    Scorer,
)
from langchain_glimprouter.routing.trace import DraftTrace

if TYPE_CHECKING:
    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Turn


@dataclass(frozen=True, slots=True)
class RSD(Judged):
    """The small model drafts each step, a reward model rates it (RSD, arXiv 2501.19324).

    The draft stays iff its reward is `accept` or more; else the large model writes the step. The
    published limits of 100 steps and 5 rejections in a row are left to the budgets and the loop
    guard.

    Attributes:
        accept: Least reward that passes, from 0 to 1 (published: 0.7).
        scorer: Rates a draft: a reward model on vLLM, a function, or the large model as judge.
        first_n_steps_large: So many steps go to the large model without a draft.
    """

    accept: float = 0.7
    scorer: Scorer | RewardModel | RewardFunction = field(default_factory=JudgeScorer)
    first_n_steps_large: int = 0

    name: ClassVar[str] = "rsd"

    def __post_init__(self) -> None:
        """Refuse what is no reward, and take reward models and functions for scorers."""
        check_first_steps(self.first_n_steps_large)
        if not 0.0 <= self.accept <= 1.0:
            msg = f"accept={self.accept} is no reward: give a number from 0 to 1 (published: 0.7)"
            raise ConfigurationError(msg)
        object.__setattr__(self, "scorer", as_scorer(self.scorer))

    async def judge(self, turn: Turn, draft: Draft) -> DraftTrace:
        """Have the draft rated."""
        began = time.perf_counter()
        (reward,) = await as_scorer(self.scorer).rewards(turn, [draft])
        return DraftTrace(
            signal="reward",
            value=reward,
            threshold=self.accept,
            accepted=reward is not None and reward >= self.accept,
            judge_seconds=time.perf_counter() - began,
        )


def as_scorer(given: Scorer | RewardModel | RewardFunction) -> Scorer:
    """Return a scorer for a reward model or a function, or the scorer itself.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if isinstance(given, JudgeScorer | ModelScorer | FunctionScorer):
        return given
    rates = hasattr(given, "rewards")
    if isinstance(given, type) or not (rates or callable(given)):
        msg = (
            f"scorer={given!r} rates nothing: give a reward model (VLLMRewardModel, "
            f"VLLMRewardServer), a function of problem, text so far and step, or JudgeScorer()"
        )
        raise ConfigurationError(msg)
    if rates and hasattr(given, "model"):
        return ModelScorer(cast("RewardModel", given))
    return cast("Scorer", given) if rates else FunctionScorer(cast("RewardFunction", given))
