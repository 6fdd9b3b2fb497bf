"""Asking a model about text that is not finished; its verdict does not become part of the turn."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_glimprouter.engines.base import GenerationRequest, Sampling
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.tokens import Token, send

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.drafts import Draft
    from langchain_glimprouter.routing.turn import Turn

QUESTION = (
    "Evaluate the last reasoning step above. Rate its factual correctness, its logical validity "
    "and whether it brings the solution closer, with one digit from 0 (wrong or useless) to 9 "
    "(flawless). Judge the last step only."
)
PREFILL = "The quality score is: "
_DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class Judge:
    """The large model rates a draft from 0 to 9 with one token (SpecReason, arXiv 2504.07891).

    It reads the user's problem and the unfinished text with the draft, both as they are in its own
    context, so that its prefix cache holds all but the draft; then a user's turn with `question`,
    and its own answer begun with `prefill`. The digit is drawn greedily.

    Attributes:
        question: What the judge is asked; the published wording is not ours.
        prefill: How its answer begins.
        mode: `greedy` takes the digit itself, 0 if it is none; `average` the mean over the digits
            among the likeliest tokens, Σ d·p(d) / Σ p(d).
        top_logprobs: How many of the likeliest tokens `average` looks at.
    """

    question: str = QUESTION
    prefill: str = PREFILL
    mode: Literal["greedy", "average"] = "greedy"
    top_logprobs: int = 10

    def __post_init__(self) -> None:
        """Refuse what could not judge."""
        if not self.question.strip():
            msg = "question='' asks a judge nothing: say what it is to rate, from 0 to 9"
            raise ConfigurationError(msg)
        if self.mode not in ("greedy", "average"):
            msg = f"mode={self.mode!r} is no way to read a score: give 'greedy' or 'average'"
            raise ConfigurationError(msg)
        if self.top_logprobs < 1:
            msg = f"top_logprobs={self.top_logprobs} shows no digit: give 1 or more (published: 10)"
            raise ConfigurationError(msg)

    async def score(self, turn: Turn, draft: Draft) -> float | None:
        """Return the rating, from 0 to 9; `None` where there is no room to ask."""
        top = self.top_logprobs if self.mode == "average" else 0
        verdict = await ask(turn, draft, self.question, self.prefill, top_logprobs=top)
        if verdict is None:
            return None
        decode = turn.pair.vocabularies["large"].decode
        if self.mode == "greedy" or verdict.top is None:
            text = decode([verdict.id]).strip()
            return float(text) if len(text) == 1 and text in _DIGITS else 0.0
        return _mean_digit(turn.likeliest("large", verdict.top))


def _mean_digit(likeliest: Sequence[tuple[str, float]]) -> float:
    digits = [(int(text.strip()), p) for text, p in likeliest if text.strip() in tuple(_DIGITS)]
    mass = sum(p for _, p in digits)
    return sum(digit * p for digit, p in digits) / mass if mass else 0.0


async def ask(
    turn: Turn,
    draft: Draft | None,
    question: str,
    prefill: str,
    *,
    role: Role = "large",
    top_logprobs: int = 0,
    constraint: Mapping[str, Any] | None = None,
) -> Token | None:
    """Ask a model for one token about the turn's text so far, greedily.

    Args:
        turn: The turn.
        draft: What is to be read behind the text.
        question: What a user would ask.
        prefill: How the model's answer begins.
        role: Who is asked.
        top_logprobs: How many of the likeliest tokens come with the verdict.
        constraint: Grammar of the token.

    Returns:
        The token; `None` where the model's window has no room for the question.

    Raises:
        ConfigurationError: If the model's chat template allows no question here.
        EngineError: With the role in it.
    """
    aside = turn.request.prompts[role].aside
    if aside is None:
        msg = (
            f"policy: the chat template of the {role} model {turn.pair.model(role)!r} does not let "
            f"a user ask about the model's text, so it cannot judge; give a chat_template= that "
            f"does, or a policy without a judge"
        )
        raise ConfigurationError(msg)
    vocabulary, contexts = turn.pair.vocabularies[role], turn.contexts
    contexts.sync()
    token_ids = list(contexts.token_ids[role])
    if draft is not None:
        if turn.pair.shared_vocabulary and not draft.closes:
            token_ids += draft.ids
        else:
            token_ids += vocabulary.encode(draft.text)
    token_ids += vocabulary.encode(aside[0], special=True)
    token_ids += vocabulary.encode(question)  # it may quote a model, which must not forge a turn
    token_ids += vocabulary.encode(aside[1] + prefill, special=True)
    if len(token_ids) >= turn.pair.windows[role]:
        return None
    request = GenerationRequest(
        token_ids,
        1,
        Sampling(temperature=0.0),
        top_logprobs=top_logprobs,
        session_id=turn.request.options.session_id,
        constraint=constraint,
    )
    verdict: Token | None = None
    async with aclosing(send(turn, role, request)) as deltas:
        async for delta in deltas:
            for index, token_id in enumerate(delta.token_ids):
                top = delta.top_logprobs[index] if delta.top_logprobs else None
                verdict = verdict or Token(token_id, top)
                turn.drop_probe(role)
    return verdict
