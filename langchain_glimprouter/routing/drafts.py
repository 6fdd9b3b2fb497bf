"""Steps that are written before it is decided whether they stay."""

from __future__ import annotations

import math
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_glimprouter.routing.entropy import Entropy, Estimator, measure_entropy
from langchain_glimprouter.routing.tokens import Asking, Token, make_request, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_glimprouter.engines.base import Sampling
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.thresholds import Decision
    from langchain_glimprouter.routing.turn import Turn

_SURE = -math.log(1.05)
"""Log-probability above which TrigReason (arXiv 2604.14847) calls a token sure: 1/p < 1.05."""


class Draft:
    """One step of a model, held back until somebody judged it.

    It ends where the turn would end the step, and its tokens are counted from the first on: as the
    step's once it is kept, as rejected once it is dropped.

    Attributes:
        role: Who wrote it.
        tokens: Its tokens.
        text: What a reader would see of it; no tag, nothing behind one.
        ended: Whether the step is complete.
        closes: Whether it ends the thought, or the answer at a stop string.
        ends_text: Whether its last token is the model's end of text.
        seconds: Wall time it took, in seconds.
    """

    __slots__ = (
        "_began",
        "_decoder",
        "_held",
        "_lengths",
        "_limit",
        "_passage",
        "_raw",
        "_turn",
        "closes",
        "ended",
        "ends_text",
        "role",
        "seconds",
        "text",
        "tokens",
    )

    def __init__(self, turn: Turn, role: Role, began: float) -> None:
        """Begin a draft behind what is written so far.

        Args:
            turn: The turn.
            role: Who writes it.
            began: When it was asked for, by `time.perf_counter`.
        """
        self._turn = turn
        self._passage = turn.preview()
        self._limit = turn.room.limit
        self._decoder = turn.contexts.decoder(role)
        self._raw = ""
        self._lengths: list[int] = []
        self._held = 0
        self._began = began
        self.role: Role = role
        self.tokens: list[Token] = []
        self.text = ""
        self.ended = False
        self.closes = False
        self.ends_text = False
        self.seconds = 0.0

    @property
    def ids(self) -> list[int]:
        """Token ids, without an end of text."""
        ids = [token.id for token in self.tokens]
        return ids[:-1] if self.ends_text else ids

    @property
    def blank(self) -> bool:
        """Whether there is nothing to judge."""
        return not self.text.strip()

    def push(self, token: Token) -> None:
        """Take the next token."""
        self._held += 1
        self._turn.spending.held += 1
        self.seconds = time.perf_counter() - self._began
        self.tokens.append(token)
        passage = self._passage
        if token.id in self._turn.contexts.eos_ids[self.role]:
            self.ends_text = True
            self._end()
            return
        passage.tokens += 1
        text = self._decoder.push(token.id)
        self._raw += text
        self._lengths.append(len(self._raw))
        self.text += passage.show(text)
        match passage.ending(text, len(self.tokens), self._limit):
            case None:
                return
            case "marker":
                self.closes = True
        self._end()

    def keep(self, decision: Decision, *, strip: bool = False) -> Iterator[Event]:
        """Make the draft the turn's next step.

        Args:
            decision: Says why.
            strip: Whether a `</think>` is left out, with what stands around it in its tokens; the
                thought then goes on.
        """
        turn, kept = self._turn, self.tokens
        strip = strip and self.closes
        if strip:
            tag = self._passage.scanner.found or ""
            end = self._raw.rfind(tag)
            kept = [t for t, n in zip(self.tokens, self._lengths, strict=False) if n <= end]
        yield turn.start(decision)
        for token in kept:
            self._held -= 1
            turn.spending.held -= 1
            yield from turn.push(token)
            if turn.done or turn.step is None:
                break
        self.drop()
        if strip and turn.step is not None and not turn.done:
            yield from turn.strip()

    def drop(self) -> None:
        """Count what is not kept as rejected; safe to call again."""
        held, self._held = self._held, 0
        if held:
            self._turn.spending.reject(self.role, held)

    # -- what its own numbers say --------------------------------------------------------------

    def entropy(self, estimator: Estimator) -> Entropy | None:
        """Return H_step, the mean entropy of its tokens, with the mean of their bounds.

        From GlimpRouter's ablation (arXiv 2601.05110): `H_step = (1/T) Σ_t H_t`, in nats. `None`
        where no log-probabilities came.

        Raises:
            ValueError: If they are no distribution.
        """
        size = self._turn.pair.vocabularies[self.role].size
        measured = [
            measure_entropy(token.top.logprobs, size, estimator)
            for token in self.tokens
            if token.top is not None
        ]
        if not measured:
            return None
        count = len(measured)
        return Entropy(
            sum(one.estimate for one in measured) / count,
            sum(one.lower for one in measured) / count,
            sum(one.upper for one in measured) / count,
            sum(one.seen_mass for one in measured) / count,
        )

    @property
    def _logprobs(self) -> list[float]:
        return [token.top.sampled for token in self.tokens if token.top is not None]

    @property
    def perplexity(self) -> float | None:
        """PPL_step = exp(−(1/T) Σ_t ln p(x_t)); `None` where no log-probabilities came."""
        logprobs = self._logprobs
        return math.exp(min(-sum(logprobs) / len(logprobs), 700.0)) if logprobs else None

    @property
    def overconfidence(self) -> float | None:
        """Share of its tokens with 1/p < 1.05 (TrigReason, arXiv 2604.14847)."""
        logprobs = self._logprobs
        return sum(one > _SURE for one in logprobs) / len(logprobs) if logprobs else None

    def _end(self) -> None:
        self.ended = True
        if self._passage.scanner.found is None:
            self.text += self._passage.show("", last=True)


async def draft_step(turn: Turn, role: Role, *, top_logprobs: int = 0) -> Draft | None:
    """Let a model draft one step; its engine stops where the step may end.

    Returns:
        The draft, unended if the engine broke it off; `None` if nothing came.
    """
    draft: Draft | None = None
    began = time.perf_counter()
    try:
        while draft is None or not draft.ended:
            behind = draft.ids if draft else []
            request = turn.tokens(role, one_step=True, top_logprobs=top_logprobs, behind=behind)
            async with aclosing(request) as tokens:
                async for token in tokens:
                    draft = draft or Draft(turn, role, began)
                    draft.push(token)
                    if draft.ended:
                        break
            if draft is None or len(draft.tokens) == len(behind):
                break
    except BaseException:
        if draft is not None:
            draft.drop()
        raise
    return draft


async def draft_steps(turn: Turn, role: Role, count: int, sampling: Sampling) -> list[Draft]:
    """Let a model draft one step several times, in one request (`n`).

    Returns:
        The drafts; those that nothing came for are left out.
    """
    request = make_request(turn, role, Asking(sampling=sampling), one_step=True)
    if request is None:
        turn.end_late("context_window")
        return []
    began = time.perf_counter()
    drafts = [Draft(turn, role, began) for _ in range(count)]
    try:
        async with aclosing(send(turn, role, replace(request, n=count))) as deltas:
            async for delta in deltas:
                draft = drafts[delta.index]
                for index, token_id in enumerate(delta.token_ids):
                    if draft.ended:
                        break
                    top = delta.top_logprobs[index] if delta.top_logprobs else None
                    draft.push(Token(token_id, top))
                if all(draft.ended for draft in drafts):
                    break
    except BaseException:
        drop_all(drafts)
        raise
    return [draft for draft in drafts if draft.tokens]


def drop_all(drafts: Sequence[Draft]) -> None:
    """Drop every draft that is not kept."""
    for draft in drafts:
        draft.drop()
