"""Rewards of drafted steps: from the large model as judge, a reward model, or a function."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_glimprouter.errors import ConfigurationError, EngineRequestError
from langchain_glimprouter.routing.judging import Judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Turn

_BEST_SCORE = 9.0
_PLACE = re.compile(r"\{(problem|steps)\}")

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
    r"""A process reward model reads the problem and all steps, the drafted one last.

    By default it reads `problem + "\n" + steps` (RSD, arXiv 2501.19324). Models that were trained
    on chats and on marks between the steps are told so:

    ```python
    ModelScorer(
        VLLMRewardModel("Qwen/Qwen2.5-Math-PRM-7B"),
        template="<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n{steps}",
        step_end="<extra_0>",
    )
    ```

    Attributes:
        reward_model: Rates the last token; it adds its own first token.
        template: What it reads, with `{problem}` and `{steps}` in their places; other braces are
            left alone. Special tokens spelled out become those tokens.
        step_end: What stands behind each step in place of white space; `None` leaves all text as
            it was written.

    Raises:
        ConfigurationError: If the template has no place for the steps.
    """

    reward_model: RewardModel
    template: str = "{problem}\n{steps}"
    step_end: str | None = None

    def __post_init__(self) -> None:
        """Refuse a template that would show no step."""
        if "{steps}" not in self.template:
            msg = f"template={self.template!r} shows no step: put {{steps}} where they belong"
            raise ConfigurationError(msg)

    async def rewards(self, turn: Turn, drafts: Sequence[Draft]) -> Sequence[float | None]:
        """Have the reward model rate all drafts at once."""
        before, problem = turn.log.texts, turn.request.problem
        texts = [self._text(problem, [*before, draft.text]) for draft in drafts]
        name = self.reward_model.model
        rewards = await self.reward_model.rewards(texts)
        if len(rewards) != len(drafts):
            msg = f"the reward model sent {len(rewards)} rewards for {len(drafts)} texts"
            raise EngineRequestError(msg, model=name)
        return [checked(reward, name) for reward in rewards]

    def _text(self, problem: str, steps: Sequence[str]) -> str:
        if self.step_end is not None:
            steps = [f"{step.rstrip()}{self.step_end}" for step in steps]
        shown = {"problem": problem, "steps": "".join(steps)}
        return _PLACE.sub(lambda place: shown[place[1]], self.template)


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
