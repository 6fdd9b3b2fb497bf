"""One request to one engine: a model's tokens as a turn reads them."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from langchain_glimprouter.engines.base import GenerationRequest
from langchain_glimprouter.errors import EngineError, EngineRequestError
from langchain_glimprouter.routing.passage import CHARACTER_TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from langchain_glimprouter.engines.base import GenerationDelta, Sampling, TopLogprobs
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.turn import Turn


class Token(NamedTuple):
    """A generated token with its distribution, if that was asked for."""

    id: int
    top: TopLogprobs | None


@dataclass(frozen=True, slots=True)
class Asking:
    """What a policy asks a model for.

    Attributes:
        one_step: Whether the engine may stop by itself where a step may end.
        top_logprobs: Log-probabilities per position; 0 for none.
        token_ids: The context, where it is not the turn's own.
        stop: Strings at which the engine ends the request.
        max_tokens: Most tokens, where that is less than the budget leaves.
        sampling: How tokens are drawn, where it differs from the turn's.
        behind: For a draft: its tokens so far.
    """

    one_step: bool = False
    top_logprobs: int = 0
    token_ids: Sequence[int] | None = None
    stop: Sequence[str] = ()
    max_tokens: int | None = None
    sampling: Sampling | None = None
    behind: Sequence[int] | None = None


async def read_tokens(turn: Turn, role: Role, asking: Asking) -> AsyncGenerator[Token]:
    """Let a model write on from where a turn stands; see `Turn.tokens`."""
    one_step = asking.one_step and not turn.passage.unsplit
    request = make_request(turn, role, asking, one_step=one_step)
    if request is None:
        if not asking.behind:
            turn.end_late("context_window")
        return
    reader = None
    if turn.opening is not None and not asking.behind:
        turn.opening.restart()
        reader = _OpeningReader(turn, role)
    last, finish = -1, None
    async with aclosing(send(turn, role, request)) as deltas:
        async for delta in deltas:
            for index, token_id in enumerate(delta.token_ids):
                last = token_id
                token = Token(token_id, delta.top_logprobs[index] if delta.top_logprobs else None)
                if reader is None or turn.opening is None:
                    yield token
                    continue
                for released in reader.read(token):
                    yield released
            finish = delta.finish_reason
    if turn.done or asking.token_ids is not None or asking.behind is not None:
        return
    expected = last in request.stop_token_ids or last in turn.contexts.eos_ids[role]
    if finish == "stop" and not expected:
        turn.end_late("end_of_text")  # the engine kept its last token to itself
    elif finish == "length" and not one_step and asking.max_tokens is None:
        turn.end_late("context_window")


async def send(
    turn: Turn, role: Role, request: GenerationRequest
) -> AsyncGenerator[GenerationDelta]:
    """Send a request; count it, its context, and what nobody took of its tokens.

    Raises:
        EngineError: With the role in it.
    """
    spending, received, first = turn.spending, 0, True
    spending.request(role)
    size, taken = len(request.token_ids), spending.taken
    generator = turn.pair.engines[role].generate(request)
    try:
        async for delta in generator:
            if first:
                first = False
                spending.prefill(role, size, delta.cached_tokens or 0)
            received += len(delta.token_ids)
            yield delta
    except EngineError as error:
        error.role = role
        error.model = error.model or turn.pair.model(role)
        raise
    finally:
        await generator.aclose()
        spending.discard(role, received - (spending.taken - taken))


def make_request(
    turn: Turn, role: Role, asking: Asking, *, one_step: bool
) -> GenerationRequest | None:
    """Return the request to send, or `None` if there is no room for a token."""
    options = turn.request.options
    constraint = options.constraint if turn.phase == "answer" else None
    if constraint is not None and turn.step is not None:
        msg = "the engine broke off in the middle of an answer that follows a grammar"
        raise EngineRequestError(msg, model=turn.pair.model(role), role=role)
    turn.contexts.sync()
    behind = asking.behind or ()
    room = turn.room.left(role, turn.phase, turn.passage.tokens) - len(behind)
    if one_step and options.steps.delimiters:
        room = min(room, options.max_step_tokens + CHARACTER_TOKENS)
    if asking.max_tokens is not None:
        room = min(room, asking.max_tokens)
    if room <= 0:
        return None
    context = turn.contexts.token_ids[role] if asking.token_ids is None else asking.token_ids
    if behind:
        context = [*context, *behind]
    seed = options.seed
    return GenerationRequest(
        token_ids=context,
        max_tokens=room,
        sampling=asking.sampling or options.sampling,
        seed=None if seed is None else (seed * 1_000_003 + len(context)) & 0x7FFFFFFF,
        top_logprobs=asking.top_logprobs,
        stop_token_ids=turn.pair.stop_ids(role, options.steps.delimiters) if one_step else (),
        stop=() if turn.passage.unsplit else asking.stop,
        session_id=options.session_id,
        constraint=constraint,
    )


class _OpeningReader:
    """Holds a model's first tokens back until it is clear what they open."""

    __slots__ = ("_decoder", "_role", "_through", "_turn", "_waiting")

    def __init__(self, turn: Turn, role: Role) -> None:
        self._turn = turn
        self._role = role
        self._decoder = turn.contexts.decoder(role)
        self._waiting: list[Token] = []
        self._through = False  # a draft goes on while it is open what its first token began

    def read(self, token: Token) -> Sequence[Token]:
        """Take a token; return those that belong to the first step."""
        opening = self._turn.opening
        if opening is None or self._through:
            return (token,)
        self._waiting.append(token)
        verdict = opening.push(self._decoder.push(token.id))
        if verdict == "wait":
            return ()
        waiting, self._waiting = self._waiting, []
        if verdict == "release":
            self._through = True
            return waiting
        self._turn.keep_opening(self._role, [token.id for token in waiting])
        return ()
