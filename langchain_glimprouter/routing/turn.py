"""A turn in progress: token ids with an owner, and everything that every policy shares."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from langchain_glimprouter.engines.base import GenerationRequest, Sampling
from langchain_glimprouter.errors import EngineError, EngineRequestError, Role
from langchain_glimprouter.routing.context import Contexts
from langchain_glimprouter.routing.events import Event, StepFinished, StepStarted, TokenDelta
from langchain_glimprouter.routing.loop_guard import LoopGuard
from langchain_glimprouter.routing.opening import ThoughtOpening
from langchain_glimprouter.routing.scanner import Scanner
from langchain_glimprouter.routing.steps import Steps, Whole
from langchain_glimprouter.routing.trace import (
    Phase,
    ProbeTrace,
    RoutingTrace,
    StepEnd,
    StepTokens,
    StepTrace,
    StopReason,
    ThoughtEnd,
    TurnUsage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from langchain_glimprouter.engines.base import TopLogprobs
    from langchain_glimprouter.routing.options import AnswerBy, TurnRequest
    from langchain_glimprouter.routing.pair import EnginePair
    from langchain_glimprouter.routing.thresholds import Decision

_CHARACTER_TOKENS = 8
"""No character takes more tokens; a step may grow by so many to end on a whole character or tag."""

_CLOSING_TOKENS = 16
"""Room for a forced `</think>`."""

_MOST_STALLS = 3

_PhaseEnd = Literal[
    "closed", "end_of_text", "stop", "max_thinking_tokens", "max_tokens", "context_window", "loop"
]

_STEP_ENDS: dict[_PhaseEnd, StepEnd] = {
    "closed": "closed",
    "end_of_text": "end_of_text",
    "stop": "stop",
    "max_thinking_tokens": "budget",
    "max_tokens": "budget",
    "context_window": "budget",
    "loop": "delimiter",
}


class Token(NamedTuple):
    """A generated token with its distribution, if that was asked for."""

    id: int
    top: TopLogprobs | None


class _OpenStep:
    """The step being written."""

    __slots__ = ("decision", "index", "parts", "start", "tokens")

    def __init__(self, index: int, decision: Decision, start: int) -> None:
        self.index = index
        self.decision = decision
        self.start = start
        self.tokens = 0
        self.parts: list[str] = []


class Turn:
    """The state of a turn, and the only place where tokens enter it.

    A policy asks `tokens` for a model's tokens, calls `start` with a decision at a step's start,
    and gives each token it keeps to `push`. Budgets, step ends, tags, stop strings, the loop guard
    and all counting happen in here.

    Attributes:
        pair: The engines.
        request: What was asked for.
        answer_by: Who writes the answer behind a thought.
        author: Who writes the rest of the turn alone, so that no policy is asked; `None` while
            steps are routed.
        contexts: Prompt and thought as each model's token ids.
        step: The step being written, or `None` between steps.
        pending: A decision taken at a hand-off, for the policy to carry out next.
        phase: Part of the turn.
        done: Whether the phase is over.
        steps: Finished steps.
        usage: What was spent so far; complete up to the last finished step.
    """

    def __init__(
        self, pair: EnginePair, request: TurnRequest, answer_by: AnswerBy | None = None
    ) -> None:
        options = request.options
        opening = request.opening
        if options.constraint is not None and opening == "unknown":
            opening = "none"  # a grammar has no room for a thought that nobody announced
        self.answer_by = options.answerer(answer_by)
        self.author: Role | None = None
        self.pair = pair
        self.request = request
        self.contexts = Contexts(pair, request.prompts, options.think_tags)
        self.step: _OpenStep | None = None
        self.pending: Decision | None = None
        self.done = False
        self.steps: list[StepTrace] = []
        self.usage = TurnUsage()
        for role in pair.engines:
            self.usage.of(role).model = pair.model(role)
        self.opening = ThoughtOpening.of(opening, options.think_tags[0])
        self.phase: Phase = "answer" if opening == "none" else "thinking"
        self.thought_end: ThoughtEnd | None = None
        self.stop_reason: StopReason | None = None
        self.forced_close = False
        self._began = self._mark = time.perf_counter()
        self._text: list[str] = []
        self._length = 0
        self._writer: Role | None = None
        self._writers: tuple[Role, ...] = tuple(pair.engines)
        self._kept = 0
        self._probes = 0
        self._spent = StepTokens()
        self._trim = False
        self._carried = ""
        self._stalls = 0
        self._late: list[Event] = []
        self._guard = LoopGuard() if options.loop_guard else None
        if self.phase == "answer" and options.constraint is not None:
            self._write_alone()
        else:
            self._begin(self.phase, options.steps)

    # -- what policies call ------------------------------------------------------------------

    async def tokens(
        self,
        role: Role,
        *,
        one_step: bool = False,
        top_logprobs: int = 0,
        token_ids: Sequence[int] | None = None,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
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

        Raises:
            EngineError: With the role in it.
        """
        options = self.request.options
        constraint = options.constraint if self.phase == "answer" else None
        if constraint is not None and self.step is not None:
            msg = "the engine broke off in the middle of an answer that follows a grammar"
            raise EngineRequestError(msg, model=self.pair.model(role), role=role)
        if self.unsplit:
            one_step, stop = False, ()
        self.contexts.sync()
        room = self._room(role)
        if one_step and options.steps.delimiters:
            room = min(room, options.max_step_tokens + _CHARACTER_TOKENS)
        if max_tokens is not None:
            room = min(room, max_tokens)
        if room <= 0:
            self._late += self._end_phase("context_window")
            return
        context = self.contexts.token_ids[role] if token_ids is None else token_ids
        stop_ids = self.pair.stop_ids(role, options.steps.delimiters) if one_step else ()
        seed = options.seed
        request = GenerationRequest(
            token_ids=context,
            max_tokens=room,
            sampling=sampling or options.sampling,
            seed=None if seed is None else (seed * 1_000_003 + len(context)) & 0x7FFFFFFF,
            top_logprobs=top_logprobs,
            stop_token_ids=stop_ids,
            stop=stop,
            session_id=options.session_id,
            constraint=constraint,
        )
        if self.opening is not None:
            self.opening.restart()
        usage = self.usage.of(role)
        usage.requests += 1
        size, received, first = len(context), 0, True
        kept, probes = self._kept, self._probes
        generator = self.pair.engines[role].generate(request)
        reader = _OpeningReader(self, role) if self.opening is not None else None
        last = -1
        finish = None
        try:
            async for delta in generator:
                if first:
                    first = False
                    cached = min(delta.cached_tokens or 0, size)
                    usage.cached += cached
                    usage.prefill += size - cached
                    self._spent.cached += cached
                    self._spent.prefill += size - cached
                received += len(delta.token_ids)
                for index, token_id in enumerate(delta.token_ids):
                    last = token_id
                    token = Token(
                        token_id, delta.top_logprobs[index] if delta.top_logprobs else None
                    )
                    if reader is None or self.opening is None:
                        yield token
                        continue
                    for released in reader.read(token):
                        yield released
                finish = delta.finish_reason
        except EngineError as error:
            error.role = role
            error.model = error.model or self.pair.model(role)
            raise
        finally:
            await generator.aclose()
            dropped = received - (self._kept - kept) - (self._probes - probes)
            usage.discarded += dropped
            self._spent.discarded += dropped
        if self.done or token_ids is not None:
            return
        if finish == "stop" and last not in stop_ids and last not in self.contexts.eos_ids[role]:
            self._late += self._end_phase("end_of_text")  # the engine kept its last token to itself
        elif finish == "length" and not one_step:
            self._late += self._end_phase("context_window")

    def start(self, decision: Decision) -> StepStarted:
        """Begin a step."""
        opening, self.opening = self.opening, None
        if opening is not None:
            if opening.opened:
                self._measure_room()
            else:  # no tag came: a model that does not think
                self._begin("answer", self.request.options.steps)
            self._carried += opening.spare
        if self._writer not in (None, decision.writer):
            self.usage.hand_offs += 1
        self._writer = decision.writer
        self.pending = None
        self.step = _OpenStep(len(self.steps), decision, self._length)
        return StepStarted(self.step.index, self.phase, decision)

    def push(self, token: Token) -> Sequence[Event]:
        """Keep a token: it becomes part of the step being written.

        Returns:
            The text that became certain, and the step's end if this was its last token.
        """
        step = self.step
        assert step is not None
        role = step.decision.writer
        self._kept += 1
        self._stalls = 0
        step.tokens += 1
        if token.id in self.contexts.eos_ids[role]:
            return self._end_phase("end_of_text")
        self._tokens += 1
        text = self.contexts.append(role, token.id)
        events = self._show(text)
        if self._scanner.found is not None:
            events += self._end_phase("closed" if self.phase == "thinking" else "stop")
        elif self._tokens >= self._limit:
            events += self._end_phase(self._limit_reason)
        elif self._ends_step(text):
            events += self._finish("delimiter")
        elif step.tokens >= self._step_limit and self._may_cut(text):
            events += self._finish("length")
        return events

    def drop_probe(self, role: Role) -> None:
        """Count a token that was written only to be looked at."""
        self._probes += 1
        self.usage.of(role).probe += 1
        self._spent.probe += 1

    def candidates(self, top: TopLogprobs, count: int) -> tuple[tuple[str, float], ...]:
        """Return a probe's likeliest tokens as (text, probability), for the trace."""
        vocabulary = self.pair.vocabularies["small"]
        pairs = zip(top.token_ids[:count], top.logprobs[:count], strict=True)
        return tuple((vocabulary.decode([token]), math.exp(logprob)) for token, logprob in pairs)

    # -- what the router calls ---------------------------------------------------------------

    @property
    def unsplit(self) -> bool:
        """Whether the rest of the answer is one step, since a marker of `unsplit` appeared."""
        return self._markers is not None and self._markers.found is not None

    @property
    def progress(self) -> tuple[int, int, Decision | None]:
        """Changes whenever a policy's call achieved something."""
        return self._kept, len(self.steps), self.pending

    def stall(self) -> None:
        """Take note that a policy's call changed nothing; the third in a row ends the phase."""
        self._stalls += 1
        if self._stalls >= _MOST_STALLS:
            self._late += self._end_phase("end_of_text")

    def settle(self) -> Sequence[Event]:
        """Return events that no policy could: an engine ended a text in its own way."""
        late, self._late = self._late, []
        return late

    def begin_answer(self) -> None:
        """Go on to the answer behind a thought, closing the thought if no model did."""
        options = self.request.options
        self._carried = self._scanner.after
        if self.thought_end != "closed":
            self.forced_close = True
            newline = "" if not self._text or self._text[-1].endswith("\n") else "\n"
            self.contexts.insert(f"{newline}{options.think_tags[1]}\n\n")
        self.done = False
        self._trim = True
        if self.answer_by == "route":
            self._begin("answer", options.steps)
        else:
            self._write_alone()
        if options.constraint is not None:
            self._carried = ""  # the grammar begins behind it
        elif self._markers is not None:
            self._markers.push(self._carried)

    def interrupt(self, reason: StopReason) -> Sequence[Event]:
        """End the turn where it stands."""
        self.done = True
        self.stop_reason = reason
        return self._finish("interrupted", guarded=False) if self.step is not None else ()

    def trace(self, policy: str) -> RoutingTrace:
        """Return the record of the turn."""
        if self.steps:  # what came behind the last step's end
            last, spent = self.steps[-1].tokens, self._spent
            for name in ("probe", "discarded", "prefill", "cached"):
                setattr(last, name, getattr(last, name) + getattr(spent, name))
            self._spent = StepTokens()
        return RoutingTrace(
            policy=policy,
            small=self.pair.model("small"),
            large=self.pair.model("large"),
            text="".join(self._text),
            steps=self.steps,
            usage=self.usage,
            prompt_tokens=self.contexts.prompt_tokens,
            seconds=time.perf_counter() - self._began,
            stop_reason=self.stop_reason or "end_of_text",
            thought_end=self.thought_end,
            forced_close=self.forced_close,
        )

    # -- within ------------------------------------------------------------------------------

    def _write_alone(self) -> None:
        """Begin an answer that one model writes."""
        assert self.answer_by != "route"
        self.author = self.answer_by
        self._writers = (self.author,)
        self._begin("answer", Whole())

    def _ends_step(self, text: str) -> bool:
        """Tell whether a delimiter ends the step, unless what must stay whole has begun."""
        ends = self._splitter.push(text)
        markers = self._markers
        if markers is None:
            return ends
        if markers.found is None:
            markers.push(text)
        if markers.found is not None:
            self._step_limit = math.inf
        return ends and markers.found is None and not markers.held

    def _may_cut(self, text: str) -> bool:
        """Tell whether a step may end here: not in mid-character, mid-tag or mid-marker."""
        step, markers = self.step, self._markers
        assert step is not None
        grace = _CHARACTER_TOKENS
        if markers is not None and markers.held:
            grace += max(map(len, self.request.options.unsplit))
        elif text and not self._scanner.held:
            return True
        return step.tokens >= self._step_limit + grace

    def _begin(self, phase: Phase, steps: Steps) -> None:
        options = self.request.options
        self.phase = phase
        self._tokens = 0
        self._splitter = steps.splitter()
        self._step_limit = float("inf") if isinstance(steps, Whole) else options.max_step_tokens
        self._scanner = Scanner(options.think_tags[1:] if phase == "thinking" else options.stop)
        unsplit = options.unsplit if phase == "answer" else ()
        self._markers = Scanner(unsplit) if unsplit else None
        self._measure_room()
        if self._limit <= 0:
            self._late += self._end_phase("context_window")

    def _measure_room(self) -> None:
        """Find the phase's limit: its budget, or what its writers' narrower window leaves."""
        options = self.request.options
        thinking = self.phase == "thinking"
        budget = options.max_thinking_tokens if thinking else options.max_tokens
        if self.opening is not None and not self.opening.opened:
            budget = max(options.max_thinking_tokens, options.max_tokens)
        room = self._tokens + min(self._window_room(role) for role in self._writers)
        self._limit = min(budget, room)
        self._limit_reason: _PhaseEnd = (
            "context_window"
            if room < budget
            else "max_thinking_tokens"
            if thinking
            else "max_tokens"
        )

    def _window_room(self, role: Role) -> int:
        window = self.pair.windows[role]
        reserve = 0
        if self.phase == "thinking":  # what comes behind the thought must fit as well
            reserve = _CLOSING_TOKENS
            if self.answer_by in (role, "route"):
                reserve += min(self.request.options.max_tokens, window // 4)
        return window - len(self.contexts.token_ids[role]) - reserve

    def _room(self, role: Role) -> int:
        return min(self._limit - self._tokens, self._window_room(role))

    def _show(self, text: str, *, last: bool = False) -> list[Event]:
        """Add text to the open step; return what became certain."""
        step = self.step
        assert step is not None
        if self._carried:
            text, self._carried = self._carried + text, ""
        shown = self._scanner.push(text)
        if last:
            shown += self._scanner.flush()
        if self._trim:
            shown = shown.lstrip()
            self._trim = not shown
        if not shown:
            return []
        step.parts.append(shown)
        self._length += len(shown)
        return [TokenDelta(step.index, self.phase, step.decision.writer, shown)]

    def _end_phase(self, reason: _PhaseEnd) -> list[Event]:
        events: list[Event] = []
        if self.step is not None:
            if self._scanner.found is None:
                events += self._show("", last=True)
            if self._scanner.found is not None and reason == "end_of_text":
                reason = "closed" if self.phase == "thinking" else "stop"
            events += self._finish(_STEP_ENDS[reason], guarded=False)
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
        self._text.append(text)
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        tokens, self._spent = self._spent, StepTokens()
        tokens.decode = step.tokens
        record = StepTrace.model_construct(
            index=step.index,
            phase=self.phase,
            start=step.start,
            end=self._length,
            writer=decision.writer,
            reason=decision.reason,
            probe=ProbeTrace.of(decision),
            tokens=tokens,
            seconds=seconds,
            ended_by=ended_by,
        )
        self.steps.append(record)
        usage = self.usage.of(decision.writer)
        usage.decode += step.tokens
        usage.seconds += seconds
        usage.steps += decision.reason != "answer"
        if self.phase == "thinking":
            self.usage.thinking_tokens += step.tokens
        else:
            self.usage.answer_tokens += step.tokens
        self.step = None
        self._splitter.restart()
        events: list[Event] = [StepFinished(record)]
        if not self.pair.shared_vocabulary:
            self.contexts.sync()
            self._measure_room()
            if guarded and self._tokens >= self._limit:
                return events + self._end_phase("context_window")
        if guarded and self._guard is not None and self._guard.push(text):
            events += self._end_phase("loop")
        return events

    def keep_opening(self, role: Role, token_ids: Sequence[int]) -> None:
        """Append tokens that open the thought; they belong to no step."""
        for token_id in token_ids:
            self.contexts.append(role, token_id)
        count = len(token_ids)
        self._kept += count
        self._tokens += count
        self.usage.of(role).decode += count
        self.usage.thinking_tokens += count


class _OpeningReader:
    """Holds a model's first tokens back until it is clear what they open."""

    __slots__ = ("_decoder", "_role", "_turn", "_waiting")

    def __init__(self, turn: Turn, role: Role) -> None:
        self._turn = turn
        self._role = role
        self._decoder = turn.contexts.decoder(role)
        self._waiting: list[Token] = []

    def read(self, token: Token) -> Sequence[Token]:
        """Take a token; return those that belong to the first step."""
        opening = self._turn.opening
        if opening is None:
            return (token,)
        self._waiting.append(token)
        verdict = opening.push(self._decoder.push(token.id))
        if verdict == "wait":
            return ()
        waiting, self._waiting = self._waiting, []
        if verdict == "release":
            return waiting
        self._turn.keep_opening(self._role, [token.id for token in waiting])
        return ()
