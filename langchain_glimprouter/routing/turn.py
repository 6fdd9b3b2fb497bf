"""A turn in progress: token ids with an owner, and everything that every policy shares."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from langchain_glimprouter.routing.context import Contexts
from langchain_glimprouter.routing.events import Event, StepFinished, StepStarted, TokenDelta
from langchain_glimprouter.routing.log import OpenStep, StepLog
from langchain_glimprouter.routing.loop_guard import LoopGuard
from langchain_glimprouter.routing.opening import ThoughtOpening
from langchain_glimprouter.routing.passage import Passage
from langchain_glimprouter.routing.room import Room
from langchain_glimprouter.routing.spending import Spending
from langchain_glimprouter.routing.steps import Steps, Whole, rule_name
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.tokens import Asking, Token, read_tokens
from langchain_glimprouter.routing.trace import (
    STEP_ENDS,
    Phase,
    PhaseEnd,
    ProbeTrace,
    RoutingTrace,
    StepEnd,
    StepTrace,
    StopReason,
    ThoughtEnd,
    TurnUsage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from langchain_glimprouter.engines.base import Sampling, TopLogprobs
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.options import TurnRequest
    from langchain_glimprouter.routing.pair import EnginePair

_MOST_STALLS = 3

__all__ = ["Token", "Turn"]


class Turn:
    """The state of a turn, and the only place where tokens enter it.

    A policy asks `tokens` for a model's tokens, calls `start` with a decision at a step's start,
    and gives each token it keeps to `push`. Budgets, step ends, tags, stop strings, the loop guard
    and all counting happen in here.

    Attributes:
        pair: The engines.
        request: What was asked for.
        contexts: Prompt and thought as each model's token ids.
        room: How far the phase may grow.
        passage: The phase's text.
        spending: What was spent so far.
        guard: Watches for loops, if it is to.
        opening: Whether the thought has been opened, while that is not known.
        phase: Part of the turn.
        author: Who writes the rest of the turn alone, so that no policy is asked; `None` while
            steps are routed.
        step: The step being written, or `None` between steps.
        pending: A decision taken at a hand-off, for the policy to carry out next.
        done: Whether the phase is over.
        log: The finished steps.
        writer: Who wrote the last of them.
        thought_end: Why the thought ended; `None` while it goes on, or if there is none.
        stop_reason: Why the turn ended; `None` while it goes on.
        forced_close: Whether `</think>` was written by the router.
        stalls: How often in a row a policy's call changed nothing.
    """

    def __init__(self, pair: EnginePair, request: TurnRequest, wish: Role | None = None) -> None:
        """Begin a turn.

        Args:
            pair: The engines.
            request: What is asked for.
            wish: Who must write the answer, where the policy says so.
        """
        options = request.options
        opening = request.opening
        if options.constraint is not None and opening == "unknown":
            opening = "none"  # a grammar has no room for a thought that nobody announced
        self.pair = pair
        self.request = request
        self.contexts = Contexts(pair, request.prompts, options.think_tags)
        self.room = Room(pair, self.contexts, options, options.answerer(wish))
        self.spending = Spending({role: pair.model(role) for role in pair.engines})
        self.guard = LoopGuard() if options.loop_guard else None
        self.opening = ThoughtOpening.of(opening, options.think_tags[0])
        self.phase: Phase = "answer" if opening == "none" else "thinking"
        self.author: Role | None = None
        self.step: OpenStep | None = None
        self.pending: Decision | None = None
        self.done = False
        self.log = StepLog()
        self.writer: Role | None = None
        self.thought_end: ThoughtEnd | None = None
        self.stop_reason: StopReason | None = None
        self.forced_close = False
        self.stalls = 0
        self._late: list[Event] = []
        self.passage: Passage
        if self.phase == "answer" and options.constraint is not None:
            self._begin_alone()
        else:
            self._begin(self.phase, options.steps)

    @property
    def count(self) -> int:
        """How many steps are finished."""
        return len(self.log)

    @property
    def steps(self) -> list[StepTrace]:
        """Finished steps."""
        return self.log.steps

    @property
    def usage(self) -> TurnUsage:
        """What was spent so far; complete up to the last finished step."""
        return self.spending.usage

    # -- what policies call ------------------------------------------------------------------

    def tokens(
        self,
        role: Role,
        *,
        one_step: bool = False,
        top_logprobs: int = 0,
        token_ids: Sequence[int] | None = None,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        behind: Sequence[int] | None = None,
    ) -> AsyncGenerator[Token]:
        """Let a model write on from here, in one request; close the generator to end it.

        Args:
            role: Who writes.
            one_step: Whether the engine may stop by itself where a step may end.
            top_logprobs: Log-probabilities per position; 0 for none.
            token_ids: The context, where it is not this turn's own.
            stop: Strings at which the engine ends the request.
            max_tokens: Most tokens, where that is less than the budget leaves.
            sampling: How tokens are drawn, where it differs from the turn's.
            behind: For a draft: its tokens so far, none of them kept. How the request ends says
                nothing about the turn then.

        Raises:
            EngineError: With the role in it.
        """
        asking = Asking(one_step, top_logprobs, token_ids, stop, max_tokens, sampling, behind)
        return read_tokens(self, role, asking)

    def start(self, decision: Decision) -> StepStarted:
        """Begin a step."""
        opening, self.opening = self.opening, None
        if opening is not None:
            if opening.opened:
                self.measure_room()
            else:  # no tag came: a model that does not think
                self._begin("answer", self.request.options.steps)
            self.passage.carried += opening.spare
        if self.writer not in (None, decision.writer):
            self.usage.hand_offs += 1
        self.writer = decision.writer
        self.pending = None
        self.step = OpenStep(len(self.log), decision, self.log.length)
        return StepStarted(self.step.index, self.phase, decision)

    def push(self, token: Token) -> Sequence[Event]:
        """Keep a token: it becomes part of the step being written.

        Returns:
            The text that became certain, and the step's end if this was its last token.
        """
        step, passage = self.step, self.passage
        assert step is not None
        role = step.decision.writer
        self.spending.kept += 1
        self.stalls = 0
        step.tokens += 1
        if token.id in self.contexts.eos_ids[role]:
            return self._end_phase("end_of_text")
        passage.tokens += 1
        text = self.contexts.append(role, token.id)
        events = self._show(text)
        match passage.ending(text, step.tokens, self.room.limit):
            case None:
                pass
            case "marker":
                events += self._end_phase("closed" if self.phase == "thinking" else "stop")
            case "limit":
                events += self._end_phase(self.room.reason)
            case "delimiter" | "length" as ended_by:
                events += self._finish(ended_by)
        return events

    def strip(self) -> Sequence[Event]:
        """End the step here: what followed in its draft does not become part of the turn."""
        return self._finish("stripped")

    def preview(self) -> Passage:
        """Return a copy of the passage, to follow a draft with.

        Where it is not decided yet whether there is a thought, an answer is expected unless a tag
        came.
        """
        opening = self.opening
        if opening is not None and not opening.opened:
            passage = Passage("answer", self.request.options, self.request.options.steps)
            passage.tokens, passage.carried = self.passage.tokens, self.passage.carried
        else:
            passage = copy.deepcopy(self.passage)
        if opening is not None:
            passage.carried += opening.spare
        return passage

    def drop_probe(self, role: Role) -> None:
        """Count a token that was written only to be looked at."""
        self.spending.probe(role)

    def likeliest(
        self, role: Role, top: TopLogprobs, count: int | None = None
    ) -> tuple[tuple[str, float], ...]:
        """Return a position's likeliest tokens as (text, probability)."""
        vocabulary = self.pair.vocabularies[role]
        pairs = zip(top.token_ids[:count], top.logprobs[:count], strict=True)
        return tuple((vocabulary.decode([token]), math.exp(logprob)) for token, logprob in pairs)

    # -- what the router calls ---------------------------------------------------------------

    @property
    def progress(self) -> tuple[int, int, Decision | None]:
        """Changes whenever a policy's call achieved something."""
        return self.spending.kept, len(self.log), self.pending

    def stall(self) -> None:
        """Take note that a policy's call changed nothing; the third in a row ends the phase."""
        self.stalls += 1
        if self.stalls >= _MOST_STALLS:
            self.end_late("end_of_text")

    def settle(self) -> Sequence[Event]:
        """Return events that no policy could: an engine ended a text in its own way."""
        late, self._late = self._late, []
        return late

    def begin_answer(self) -> None:
        """Go on to the answer behind a thought, closing the thought if no model did."""
        options = self.request.options
        carried = self.passage.scanner.after
        if self.thought_end != "closed":
            self.forced_close = True
            texts = self.log.texts
            newline = "" if not texts or texts[-1].endswith("\n") else "\n"
            self.contexts.insert(f"{newline}{options.think_tags[1]}\n\n")
        if options.constraint is not None:
            carried = ""  # the grammar begins behind it
        self.done = False
        if self.room.answer_by == "route":
            self._begin("answer", options.steps, carried=carried, trim=True)
        else:
            self._begin_alone(carried=carried, trim=True)

    def interrupt(self, reason: StopReason) -> Sequence[Event]:
        """End the turn where it stands."""
        self.done = True
        self.stop_reason = reason
        return self._finish("interrupted", guarded=False) if self.step is not None else ()

    def trace(self, policy: str) -> RoutingTrace:
        """Return the record of the turn."""
        if self.steps:
            self.spending.charge(self.steps[-1])
        return RoutingTrace(
            policy=policy,
            small=self.pair.model("small"),
            large=self.pair.model("large"),
            text=self.log.text,
            steps=self.steps,
            usage=self.usage,
            prompt_tokens=self.contexts.prompt_tokens,
            seconds=self.spending.seconds,
            stop_reason=self.stop_reason or "end_of_text",
            thought_end=self.thought_end,
            forced_close=self.forced_close,
            step_rule=rule_name(self.request.options.steps),
        )

    # -- steering ----------------------------------------------------------------------------

    def steer(self, role: Role) -> None:
        """Have one model write the next step, whatever the policy would say."""
        pending = self.pending or Decision(role, "steered")
        self.pending = replace(pending, writer=role, reason="steered")

    def answer_now(self) -> None:
        """End the thought here; without a thought, one model writes the rest in one go."""
        if self.author is not None or self.done:
            return
        opening, self.opening, self.pending = self.opening, None, None
        undecided = opening is not None and not opening.opened
        if self.phase == "thinking" and not undecided:
            self._end_phase("steered")
            self.begin_answer()
            return
        answer_by = self.room.answer_by
        self.author = "large" if answer_by == "route" else answer_by
        self.room.writers = (self.author,)
        if undecided:
            self._begin("answer", Whole())
        self.passage.keep_whole()
        self.measure_room()

    # -- within ------------------------------------------------------------------------------

    def _begin_alone(self, *, carried: str = "", trim: bool = False) -> None:
        """Begin an answer that one model writes."""
        assert self.room.answer_by != "route"
        self.author = self.room.answer_by
        self.room.writers = (self.author,)
        self._begin("answer", Whole(), carried=carried, trim=trim)

    def _begin(self, phase: Phase, steps: Steps, *, carried: str = "", trim: bool = False) -> None:
        self.phase = phase
        self.passage = Passage(phase, self.request.options, steps, carried=carried, trim=trim)
        self.measure_room()
        if self.room.limit <= 0:
            self.end_late("context_window")

    def measure_room(self) -> None:
        """Find the phase's limit anew."""
        undecided = self.opening is not None and not self.opening.opened
        self.room.measure(self.phase, self.passage.tokens, undecided=undecided)

    def _show(self, text: str, *, last: bool = False) -> list[Event]:
        """Add text to the open step; return what became certain."""
        step = self.step
        assert step is not None
        shown = self.passage.show(text, last=last)
        if not shown:
            return []
        step.parts.append(shown)
        self.log.length += len(shown)
        return [TokenDelta(step.index, self.phase, step.decision.writer, shown)]

    def end_late(self, reason: PhaseEnd) -> None:
        """End the phase where no policy listens; `settle` tells it."""
        self._late += self._end_phase(reason)

    def _end_phase(self, reason: PhaseEnd) -> list[Event]:
        events: list[Event] = []
        if self.step is not None:
            if self.passage.scanner.found is None:
                events += self._show("", last=True)
            if self.passage.scanner.found is not None and reason == "end_of_text":
                reason = "closed" if self.phase == "thinking" else "stop"
            events += self._finish(STEP_ENDS[reason], guarded=False)
        self.done = True
        if self.phase == "thinking":
            self.thought_end = cast("ThoughtEnd", reason)
        else:
            self.stop_reason = cast("StopReason", reason)
        return events

    def _finish(self, ended_by: StepEnd, *, guarded: bool = True) -> list[Event]:
        """Close the open step."""
        step = self.step
        assert step is not None
        decision = step.decision
        text = "".join(step.parts)
        tokens, seconds = self.spending.step(
            decision.writer,
            self.phase,
            step.tokens,
            routed=decision.reason != "answer",
            draft=decision.draft,
        )
        record = StepTrace.model_construct(
            index=step.index,
            phase=self.phase,
            start=step.start,
            end=self.log.length,
            writer=decision.writer,
            reason=decision.reason,
            probe=ProbeTrace.of(decision),
            draft=decision.draft,
            tokens=tokens,
            seconds=seconds,
            ended_by=ended_by,
        )
        self.log.add(record, text)
        self.step = None
        self.passage.splitter.restart()
        self.contexts.close_span(decision.writer)
        events: list[Event] = [StepFinished(record)]
        if not self.pair.shared_vocabulary:
            self.contexts.sync()
            self.measure_room()
            if guarded and self.passage.tokens >= self.room.limit:
                return events + self._end_phase("context_window")
        if guarded and self.guard is not None and self.guard.push(text):
            events += self._end_phase("loop")
        return events

    def keep_opening(self, role: Role, token_ids: Sequence[int]) -> None:
        """Append tokens that open the thought; they belong to no step."""
        for token_id in token_ids:
            self.contexts.append(role, token_id)
        self.contexts.close_span(role)
        self.passage.tokens += len(token_ids)
        self.spending.opening(role, len(token_ids))
