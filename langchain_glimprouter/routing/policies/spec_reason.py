"""SpecReason: draft a step, then let the large model judge it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.judging import Judge
from langchain_glimprouter.routing.policies.base import check_first_steps
from langchain_glimprouter.routing.policies.drafting import Judged
from langchain_glimprouter.routing.trace import DraftTrace

if TYPE_CHECKING:
    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Turn


@dataclass(frozen=True, slots=True)
class SpecReason(Judged):
    """The small model drafts each step, the large one rates it (SpecReason, arXiv 2504.07891).

    The draft stays iff its score is `accept` or more; else the large model writes the step. A
    premature `</think>` is stripped from a draft: whether the thought is over, the large model says
    in the next step, as it does where a draft is blank.

    Attributes:
        accept: Least score that passes, from 0 to 9 (published: 7).
        judge_by: How the large model is asked.
        first_n_steps_large: So many steps go to the large model without a draft.
    """

    accept: float = 7.0
    judge_by: Judge = field(default_factory=Judge)
    first_n_steps_large: int = 0

    name: ClassVar[str] = "specreason"
    strips: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what is no score."""
        check_first_steps(self.first_n_steps_large)
        if not 0.0 <= self.accept <= 9.0:
            msg = f"accept={self.accept} is no score: give a number from 0 to 9 (published: 7)"
            raise ConfigurationError(msg)

    async def judge(self, turn: Turn, draft: Draft) -> DraftTrace:
        """Have the large model rate the draft."""
        began = time.perf_counter()
        score = await self.judge_by.score(turn, draft)
        return DraftTrace(
            signal="score",
            value=score,
            threshold=self.accept,
            accepted=score is not None and score >= self.accept,
            judge_seconds=time.perf_counter() - began,
        )
