"""Rewards of drafted steps: from the large model as judge, a reward model, or a function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_glimprouter.errors import EngineRequestError
from langchain_glimprouter.routing.judging import Judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Turn

_BEST_SCORE = 9.0

RewardFunction = Callable[[str, str, str], float | Awaitable[float]]
"""(the user's problem, the text so far, the drafted step) → a reward from 0 to 1."""


@runtime_checkable
class Scorer(Protocol):
    """Rates drafted steps."""

    async def rewards(self, turn: Turn, drafts: Sequence[Draft]) -> Sequence[float | None]:
        """Return a reward from 0 to 1 for each draft; `None` where there is no room to rate it.

        Raises:
            EngineError: If there is no usable reward.
        """
        ...


class RewardModel(Protocol):
    """A process reward model; see `VLLMRewardModel` and `VLLMRewardServer`."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    async def rewards(self, texts: Sequence[str]) -> list[float]:
        """Return the reward at the last token of each text, from 0 to 1."""
        ...


@dataclass(frozen=True, slots=True)
class JudgeScorer:
    """The large model's score over 9: for those who have no reward model.

    Attributes:
        judge: How the large model is asked; the mean over digits, since a reward has no steps.
    """

    judge: Judge = field(default_factory=lambda: Judge(mode="average"))

    async def rewards(self, turn: Turn, drafts: Sequence[Draft]) -> Sequence[float | None]:
        """Have the large model rate one draft after the other."""
        scores = [await self.judge.score(turn, draft) for draft in drafts]
        return [None if score is None else score / _BEST_SCORE for score in scores]


@dataclass(frozen=True, slots=True)
class ModelScorer:
    r"""A process reward model reads `problem + "\n" + steps` (RSD, arXiv 2501.19324).

    Attributes:
        reward_model: Rates the last token; it adds its own first token.
    """

    reward_model: RewardModel

    async def rewards(self, turn: Turn, drafts: Sequence[Draft]) -> Sequence[float | None]:
        """Have the reward model rate all drafts at once."""
        before = f"{turn.request.problem}\n{turn.log.text}"
        name = self.reward_model.model
        rewards = await self.reward_model.rewards([before + draft.text for draft in drafts])
        if len(rewards) != len(drafts):
            msg = f"the reward model sent {len(rewards)} rewards for {len(drafts)} texts"
            raise EngineRequestError(msg, model=name)
        return [checked(reward, name) for reward in rewards]


@dataclass(frozen=True, slots=True)
class FunctionScorer:
    """A function rates each draft; it may be a coroutine function.

    It runs on the engines' event loop: work that takes long belongs into a thread of its own
    (`asyncio.to_thread`).

    Attributes:
        function: Takes the user's problem, the text so far and the step; returns the reward.
    """

    function: RewardFunction

    async def rewards(self, turn: Turn, drafts: Sequence[Draft]) -> Sequence[float | None]:
        """Call the function for one draft after the other."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        rewards: list[float] = []
        for draft in drafts:
            reward = self.function(turn.request.problem, turn.log.text, draft.text)
            if inspect.isawaitable(reward):
                reward = await reward
            rewards.append(checked(reward, name))
        return rewards


def checked(reward: object, name: str) -> float:
    """Return a reward that is one.

    Raises:
        EngineRequestError: If it is NaN, infinite or no number.
    """
    number = isinstance(reward, int | float) and not isinstance(reward, bool)
    if not number or not math.isfinite(float(reward)):  # type: ignore[arg-type]
        msg = (
            f"the scorer {name!r} returned {reward!r}, which is no reward: it must return a finite "
            f"number, from 0 (wrong) to 1 (right)"
        )
        raise EngineRequestError(msg, model=name)
    return float(reward)  # type: ignore[arg-type]
