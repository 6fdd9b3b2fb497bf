"""An engine that plays a script: for tests of whatever is built on a router, without a model."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from langchain_glimprouter.engines.base import (
    MAX_TOP_LOGPROBS,
    GenerationDelta,
    GenerationRequest,
)
from langchain_glimprouter.engines.continuations import check_continuations
from langchain_glimprouter.engines.scripted_vocabulary import (
    ASSISTANT,
    END,
    ScriptedVocabulary,
)
from langchain_glimprouter.engines.scripted_writing import Continuation
from langchain_glimprouter.errors import EngineDeadError, EngineRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

_ROUTINE = 0.05  # nats: entropy inside steps
_REMEMBERED = 64  # turns


@dataclass(frozen=True, slots=True)
class ScriptedStep:
    """A step to write.

    Attributes:
        text: Its text, delimiter included.
        entropy: Renormalized entropy of its first token, in nats; at most ln 20.
        tokens: The texts of its tokens, where the vocabulary would cut them otherwise.
        drafts: What further continuations of the same request (`n`) write in its place: the second
            one the first of these, and so on, over and over. Without any, all write the same.
    """

    text: str
    entropy: float = _ROUTINE
    tokens: tuple[str, ...] = ()
    drafts: tuple[str | ScriptedStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Trouble at a chosen token.

    Attributes:
        at_token: Index, over all tokens that the engine ever makes, before which it strikes.
        error: What is raised; `None` hangs until the request is closed.
        dead: Whether every later request fails as well, as with a dead engine.
    """

    at_token: int
    error: Exception | None = field(default_factory=lambda: EngineDeadError("scripted fault"))
    dead: bool = True


class ScriptedEngine:
    """Writes given steps with given entropies; implements `Engine`.

    The engine looks how many steps stand behind the prompt, whoever wrote them, and goes on with
    that step of its script. So a small and a large script stay aligned step by step. Behind
    `</think>` it writes `answer`.

    Args:
        steps: The steps, or a function from the prompt's text to them.
        answer: Text behind the thought, or a function from the prompt's text and the request to it.
            Without a thought the steps are the answer, but under a constraint this is.
        name: Name of the model.
        vocabulary: How text becomes tokens.
        delay: Seconds per token.
        prefill_delay: Seconds per request.
        tokens_per_delta: How many tokens one delta holds.
        fault: Trouble at a chosen token.
        context_window: Most tokens of prompt and output.

    Attributes:
        requests: Every request, newest last, without its tokens (the last 1,000).
        running: Requests in progress.
    """

    max_top_logprobs = MAX_TOP_LOGPROBS

    def __init__(
        self,
        steps: Sequence[str | ScriptedStep] | Callable[[str], Sequence[str | ScriptedStep]] = (),
        answer: str | Callable[[str, GenerationRequest], str] = "",
        *,
        name: str = "scripted",
        vocabulary: ScriptedVocabulary | None = None,
        delay: float = 0.0,
        prefill_delay: float = 0.0,
        tokens_per_delta: int = 1,
        fault: Fault | None = None,
        context_window: int = 1 << 20,
    ) -> None:
        self.model = name
        self.answer = answer
        self.delay = delay
        self.prefill_delay = prefill_delay
        self.tokens_per_delta = tokens_per_delta
        self.fault = fault
        self.requests: list[GenerationRequest] = []
        self.running = 0
        self.made = 0
        self.dead = False
        self._steps = steps
        self._vocabulary = vocabulary or ScriptedVocabulary()
        self._window = context_window
        self._places: OrderedDict[int, _Place] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Copies know nothing of this engine's requests."""
        return {**vars(self), "requests": [], "running": 0, "_places": OrderedDict()}

    async def start(self) -> None:
        """Nothing to start; a dead engine says so."""
        self._check_alive()

    async def vocabulary(self) -> ScriptedVocabulary:
        """Return the vocabulary."""
        return self._vocabulary

    async def context_window(self) -> int:
        """Return the window that was asked for."""
        return self._window

    async def prefill(self, token_ids: Sequence[int]) -> None:
        """There is no cache to fill."""
        del token_ids

    async def aclose(self) -> None:
        """Forget faults, like a fresh engine."""
        self.dead = False
        self._places.clear()

    def close(self) -> None:
        """Forget faults, like a fresh engine."""
        self.dead = False

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        """Play the script from where the context ends; see `Engine.generate`."""
        check_continuations(request)
        self._check_alive()
        self._remember(request)
        size = len(request.token_ids)
        if size >= self._window:
            msg = f"{size} tokens leave no room in a window of {self._window}"
            raise EngineRequestError(msg, model=self.model)
        most = min(request.max_tokens, self._window - size)
        writing = [
            Continuation(
                request,
                index,
                self._script(request, index) if index else self._script(request),
                self._vocabulary,
                most,
                self.tokens_per_delta,
            )
            for index in range(request.n)
        ]
        self.running += 1
        try:
            if self.prefill_delay:
                await asyncio.sleep(self.prefill_delay)
            while writing:
                for one in writing:
                    if self.fault is not None:
                        await self._strike()
                    if self.delay and one is writing[0]:
                        await asyncio.sleep(self.delay)  # side by side they take no longer
                    self.made += 1
                    delta = one.write()
                    if delta is not None:
                        yield delta
                writing = [one for one in writing if one.finish is None]
        finally:
            self.running -= 1

    def _check_alive(self) -> None:
        if self.dead:
            msg = "the scripted engine is dead; close() it to use it again"
            raise EngineDeadError(msg, model=self.model)

    async def _strike(self) -> None:
        fault = self.fault
        if fault is None or self.made != fault.at_token:
            return
        self.fault = None
        if fault.error is None:
            await asyncio.Event().wait()
        else:
            self.dead = fault.dead
            raise fault.error

    def _remember(self, request: GenerationRequest) -> None:
        self.requests.append(request)
        if len(self.requests) > 1000:
            del self.requests[:500]

    def _script(self, request: GenerationRequest, index: int = 0) -> _Reader:
        ids = request.token_ids
        place = self._places.get(id(ids))  # a turn's live list keeps its identity, and only grows
        if place is None:
            prompt_end = _last(ids, self._vocabulary.token(ASSISTANT)) + 1
            prompt = self._vocabulary.decode(ids[:prompt_end])
            steps = self._steps
            if callable(steps):
                steps = steps(prompt)
            place = _Place(self._vocabulary, [_step(step) for step in steps], prompt, ids)
            self._places[id(ids)] = place
            if len(self._places) > _REMEMBERED:
                self._places.popitem(last=False)
        place.catch_up()
        answer = self.answer
        if callable(answer):
            answer = answer(place.prompt, request)
        constrained = request.constraint is not None
        return _Reader(place, self._vocabulary, answer, index, constrained=constrained)


class _Place:
    """Where a conversation stands in the script. Reads only what came since it last looked."""

    def __init__(
        self,
        vocabulary: ScriptedVocabulary,
        steps: list[ScriptedStep],
        prompt: str,
        ids: Sequence[int],
    ) -> None:
        self.steps = steps
        self.prompt = prompt
        self.index = 0
        self.partial = ""
        self.thinking = False
        self.closed = False
        self._vocabulary = vocabulary
        self._ids = ids  # kept alive, so that no other list gets its identity
        self._read = _last(ids, vocabulary.token(ASSISTANT)) + 1

    def catch_up(self) -> None:
        """Read what came since."""
        text = self._vocabulary.decode(self._ids[self._read :])
        self._read = len(self._ids)
        if "<think>" in text:
            self.thinking = True
            text = text.rpartition("<think>")[2]
        if "</think>" in text:
            self.closed, self.partial = True, ""
            text = text.rpartition("</think>")[2]
        self.partial = (self.partial + text).lstrip() if not self.partial else self.partial + text
        while "\n\n" in self.partial:
            self.index += 1
            self.partial = self.partial.partition("\n\n")[2].lstrip()


class _Reader:
    """The tokens from a place to the script's end, with their entropies."""

    def __init__(
        self,
        place: _Place,
        vocabulary: ScriptedVocabulary,
        answer: str,
        index: int,
        *,
        constrained: bool,
    ) -> None:
        self._place = place
        self._index = index
        self._vocabulary = vocabulary
        self._answer = answer
        self._constrained = constrained
        self._pieces = self._all()

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> tuple[int, float]:
        text, entropy = next(self._pieces)
        return self._vocabulary.token(text), entropy

    def _all(self) -> Iterator[tuple[str, float]]:
        place = self._place
        partial, thinking = place.partial, place.thinking
        if not place.closed and not self._constrained:
            for step in place.steps[place.index :]:
                yield from self._step(step, partial)
                partial = ""
            if thinking:
                yield "</think>", _ROUTINE
        if place.closed or thinking or self._constrained:
            rest = self._answer
            if partial and rest.startswith(partial):
                rest = rest[len(partial) :]
            for piece in self._vocabulary.pieces(rest):
                yield piece, _ROUTINE
        yield END, _ROUTINE

    def _step(self, step: ScriptedStep, partial: str) -> Iterator[tuple[str, float]]:
        if self._index and step.drafts:
            step = _step(step.drafts[(self._index - 1) % len(step.drafts)])
        if partial and step.text.startswith(partial):
            pieces = self._vocabulary.pieces(step.text[len(partial) :])
        else:
            pieces = list(step.tokens) or self._vocabulary.pieces(step.text)
        for index, piece in enumerate(pieces):
            yield piece, step.entropy if index == 0 else _ROUTINE


def _step(step: str | ScriptedStep) -> ScriptedStep:
    return ScriptedStep(step) if isinstance(step, str) else step


def _last(ids: Sequence[int], wanted: int) -> int:
    for index in range(len(ids) - 1, -1, -1):
        if ids[index] == wanted:
            return index
    return -1
