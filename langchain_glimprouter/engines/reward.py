"""The protocol of reward models, and how what they compute becomes a reward."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_glimprouter.errors import ConfigurationError, EngineRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.engines.base import Vocabulary
    from langchain_glimprouter.engines.vocabulary import HFVocabulary

MOST_LABELS = 2
"""A logit of its own (value heads, sequence classifiers), or one for wrong and one for right."""


@runtime_checkable
class RewardModel(Protocol):
    """A process reward model: says how good a text is, up to its last token.

    RSD (arXiv 2501.19324) has it read the problem, a line break and all steps, and accepts a
    drafted step iff the reward behind it is high.
    """

    @property
    def model(self) -> str:
        """Name of the model, as its users know it."""
        ...

    async def start(self) -> None:
        """Get ready; safe to call again, and done by the first `rewards()`.

        Raises:
            EngineError: If the model cannot start.
            ConfigurationError: If an option cannot work, or this is no reward model.
        """
        ...

    async def rewards(self, texts: Sequence[str]) -> list[float]:
        """Return a reward from 0 to 1 for each text, in order: σ(logit at its last token).

        All texts are computed together. Cancelling aborts them.

        Raises:
            EngineRequestError: If a text is refused (too long), or gets no score or NaN.
            EngineDeadError: If the engine dies.
        """
        ...

    async def aclose(self) -> None:
        """Release everything; the next use starts afresh."""
        ...


def reward_of(logits: Sequence[float], model: str) -> float:
    """Return the reward that a text's last logits stand for.

    Args:
        logits: One logit, or those of the labels `wrong` and `right` (Qwen2.5-Math-PRM), whose
            softmax is the sigmoid of their difference.
        model: What errors call the model.

    Raises:
        EngineRequestError: If there is no score, or it is NaN.
    """
    if not 1 <= len(logits) <= MOST_LABELS:
        raise EngineRequestError(
            f"The reward model {model!r} returned {len(logits)} scores for a text, not one.",
            model=model,
        )
    logit = logits[0] if len(logits) == 1 else logits[1] - logits[0]
    if math.isnan(logit):
        raise EngineRequestError(
            f"The reward model {model!r} returned NaN: its weights or its `dtype` do not suit it "
            f"(try dtype='bfloat16' or 'float32').",
            model=model,
        )
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    odds = math.exp(logit)  # the same, where exp(-logit) may overflow
    return odds / (1.0 + odds)


def step_token_id(step_token: str, vocabulary: Vocabulary) -> int:
    """Return the id of a token that ends steps.

    Raises:
        ConfigurationError: If it is no token of the model.
    """
    ids = vocabulary.encode(step_token, special=True)
    if len(ids) != 1:
        raise ConfigurationError(
            f"step_token: {step_token!r} is {len(ids)} tokens of the reward model; leave it "
            f"out, or give the one that its model card names, such as '<extra_0>'"
        )
    return ids[0]


def encode(
    vocabulary: HFVocabulary, texts: Sequence[str], *, bos: bool, step_token: int | None
) -> list[list[int]]:
    """Return the token ids of whole texts, up to where they are judged.

    Args:
        vocabulary: The reward model's.
        texts: The texts.
        bos: Whether they begin with the BOS token, where there is one.
        step_token: What they end with, if anything.
    """
    prompts = [vocabulary.encode_whole(text, bos=bos) for text in texts]
    if step_token is not None:
        for ids in prompts:
            if ids[-1:] != [step_token]:
                ids.append(step_token)
    return prompts


def check_labels(count: int, model: str, *, option: str = "model") -> None:
    """Refuse a model that does not say right or wrong, by how much it tells of a single token.

    Raises:
        ConfigurationError: If it tells nothing, or more than two numbers.
    """
    if count == 0:
        raise ConfigurationError(
            f"{option}: {model!r} gives scores at certain tokens alone; name the one that ends a "
            f"step (step_token='<extra_0>' with Qwen2.5-Math-PRM)"
        )
    if count > MOST_LABELS:
        raise ConfigurationError(
            f"{option}: {model!r} is no reward model: it tells {count} numbers about a token, not "
            f"one logit (or those of wrong and right)"
        )
