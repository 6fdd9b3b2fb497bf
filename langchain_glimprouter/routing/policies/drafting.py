"""What policies share that have the small model draft a whole step before they decide."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.errors import EngineRequestError
from langchain_glimprouter.routing.drafts import Draft, draft_step
from langchain_glimprouter.routing.policies.base import BOTH, due, write_steps
from langchain_glimprouter.routing.policies.glimprouter import glimpse
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.trace import DraftTrace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.entropy import Estimator
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.turn import Token, Turn


class Drafting:
    """The small model drafts a step; it stays, or the large model writes the step anew.

    A draft that stays streams as soon as it is accepted. Subclasses say how a draft is judged.
    """

    __slots__ = ()

    roles: ClassVar[frozenset[Role]] = BOTH
    answer_by: ClassVar[Role | None] = None
    first_n_steps_large: int

    def next_writer(self, turn: Turn) -> Role:
        """Return the large model where it is due, else the small one, which drafts."""
        decision, _ = self.due(turn)
        return "small" if decision is None else decision.writer

    async def write(self, turn: Turn) -> AsyncGenerator[Event]:
        """Draft and judge up to a hand-over, or let the large model write what is due."""
        decision, count = self.due(turn)
        events = self.draft(turn) if decision is None else write_steps(turn, decision, count)
        async with aclosing(events):
            async for event in events:
                yield event

    def due(self, turn: Turn) -> tuple[Decision | None, int]:
        """Return what is decided about the next step already, and how many steps it is about."""
        return due(turn, self.first_n_steps_large)

    def draft(self, turn: Turn) -> AsyncGenerator[Event]:
        """Draft steps and judge them, up to a hand-over."""
        raise NotImplementedError


class SelfJudging(Drafting):
    """A draft is judged by its own numbers, so that the small model's request runs on."""

    __slots__ = ()

    estimator: Estimator
    top_logprobs: int

    async def draft(self, turn: Turn) -> AsyncGenerator[Event]:
        """Draft step after step in one request, up to a hand-over."""
        draft: Draft | None = None
        glance: Decision | None = None
        began = time.perf_counter()
        request = turn.tokens("small", top_logprobs=self.top_logprobs, behind=())
        try:
            async with aclosing(request) as tokens:
                async for token in tokens:
                    if draft is None:
                        glance = self.glance(turn, token)
                        if glance is not None and glance.writer == "large":
                            turn.drop_probe("small")
                            turn.pending = glance
                            return
                        draft = Draft(turn, "small", began)
                    draft.push(token)
                    if not draft.ended:
                        continue
                    for event in self._settle(turn, draft, glance):
                        yield event
                    draft, began = None, time.perf_counter()
                    if turn.done or self.due(turn)[0] is not None:
                        return
            if draft is not None:  # its engine broke off
                for event in self._settle(turn, draft, glance):
                    yield event
        finally:
            if draft is not None:
                draft.drop()

    def _settle(self, turn: Turn, draft: Draft, glance: Decision | None) -> Iterator[Event]:
        decision = self.judge(turn, draft, glance)
        if decision.writer == "small":
            yield from draft.keep(decision)
        else:
            draft.drop()
            turn.pending = decision

    def glance(self, turn: Turn, token: Token) -> Decision | None:
        """Judge a step by its first token; only what stays with the small model is drafted on."""
        del turn, token
        return None

    def judge(self, turn: Turn, draft: Draft, glance: Decision | None) -> Decision:
        """Decide about a draft, given what its first token's glance decided."""
        raise NotImplementedError

    def measured(self, turn: Turn, draft: Draft) -> DraftTrace:
        """Return a draft's numbers, not judged yet.

        Raises:
            EngineRequestError: If the engine sent no usable log-probabilities.
        """
        try:
            entropy = draft.entropy(self.estimator)
            if entropy is None:
                msg = "no log-probabilities came with its tokens"
                raise ValueError(msg)
        except ValueError as error:
            msg = f"cannot judge a draft: {error}"
            raise EngineRequestError(msg, model=turn.pair.model("small"), role="small") from error
        return DraftTrace(
            signal="",
            accepted=True,
            tokens=len(draft.tokens),
            seconds=draft.seconds,
            entropy=entropy.estimate,
            perplexity=draft.perplexity,
            overconfidence=draft.overconfidence,
        )

    def decided(
        self, turn: Turn, draft: Draft, record: DraftTrace, threshold: float | None = None
    ) -> Decision:
        """Return the decision that a draft's record tells of.

        Args:
            turn: The turn.
            draft: The draft.
            record: What was made of it.
            threshold: The threshold that H_init was compared with, if it was, in nats.
        """
        entropy, candidates = glimpse(turn, draft.tokens[0], self.estimator)
        if not record.accepted:
            record.rejected = [draft.text]
        writer: Role = "small" if record.accepted else "large"
        return Decision(writer, record.signal, entropy, threshold, candidates, record)


class Judged(Drafting):
    """A draft is judged by somebody else, so that the small model's request ends with it."""

    __slots__ = ()

    strips: ClassVar[bool] = False
    """Whether only the large model may end a thought."""

    async def draft(self, turn: Turn) -> AsyncGenerator[Event]:
        """Draft one step and have it judged."""
        draft = await draft_step(turn, "small")
        if draft is None:
            return
        try:
            thinking = turn.phase == "thinking" and (turn.opening is None or turn.opening.opened)
            strip = self.strips and draft.closes and thinking
            if draft.blank:  # nothing to judge: the large model says whether the text is over
                record = DraftTrace(signal="empty", accepted=False)
            else:
                record = await self.judge(turn, draft)
            record.tokens, record.seconds = len(draft.tokens), draft.seconds
            if record.accepted:
                decision = Decision("small", record.signal, draft=record)
                for event in draft.keep(decision, strip=strip):
                    yield event
                if strip and not turn.done:
                    turn.pending = Decision("large", "premature_end")
            else:
                record.rejected = [draft.text]
                turn.pending = Decision("large", record.signal, draft=record)
        finally:
            draft.drop()

    async def judge(self, turn: Turn, draft: Draft) -> DraftTrace:
        """Judge a draft that is not blank; tokens and seconds of drafting are filled in later."""
        raise NotImplementedError
