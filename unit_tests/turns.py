"""Runs turns over scripted engines that write down everything they are asked."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from langchain_glimprouter.engines.base import Engine, GenerationDelta, GenerationRequest
from langchain_glimprouter.engines.scripted import ScriptedEngine
from langchain_glimprouter.engines.scripted_vocabulary import ScriptedVocabulary
from langchain_glimprouter.errors import Role
from langchain_glimprouter.routing.events import (
    Event,
    StepFinished,
    StepStarted,
    TokenDelta,
    TurnFinished,
)
from langchain_glimprouter.routing.options import Opening, Prompt, TurnOptions, TurnRequest
from langchain_glimprouter.routing.policies import GlimpRouter
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.router import Router
from langchain_glimprouter.routing.thresholds import Fixed
from langchain_glimprouter.routing.trace import RoutingTrace, StepTrace

PROMPT = "<|user|>What is 3 + 4?<|end|><|assistant|>"
OPENED: Opening = "opened"
ASIDE = ("<|end|><|user|>", "<|end|><|assistant|>")


@dataclass
class Call:
    """One request: the context it had when it began, and what came of it."""

    engine: str
    context: list[int]
    request: GenerationRequest
    produced: list[int] = field(default_factory=list)


class Vocabulary(ScriptedVocabulary):
    """Writes down what it encodes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.encoded: list[str] = []

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        self.encoded.append(text)
        return super().encode(text, special=special)


class Recorder(ScriptedEngine):
    """A scripted engine that writes down every request as it was when it came."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("vocabulary", Vocabulary())
        super().__init__(*arguments, **options)
        self.calls: list[Call] = []
        self.log = self.calls
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        await super().start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        call = Call(self.model, list(request.token_ids), request)
        self.calls.append(call)
        if self.log is not self.calls:
            self.log.append(call)
        async with aclosing(self.deltas(request)) as deltas:
            async for delta in deltas:
                call.produced += delta.token_ids
                yield delta

    def deltas(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        """What the engine sends; for strange engines to change."""
        return super().generate(request)


class Opener(Recorder):
    """Opens its thought itself, with tokens whose entropy would call the large model."""

    opening: tuple[str, ...] = ()

    def _script(self, request: GenerationRequest, index: int = 0) -> Any:
        script = super()._script(request, index)
        if "<think>" in self._vocabulary.decode(request.token_ids):
            return script
        script._place.thinking = True
        opening = [(self._vocabulary.token(text), 2.9) for text in self.opening]
        return itertools.chain(opening, script)


def pair(
    small: Sequence[object],
    large: Sequence[object],
    answer: str = "Seven.",
    *,
    units: tuple[str, str] = ("words", "words"),
    kind: type[Recorder] = Recorder,
    **options: Any,
) -> tuple[Any, Any]:
    """Two engines with aligned scripts and a common log."""
    engines = [
        kind(steps, answer, name=name, vocabulary=Vocabulary(unit), **options)
        for steps, name, unit in zip((small, large), ("tiny", "huge"), units, strict=True)
    ]
    engines[1].log = engines[0].log = []
    return engines[0], engines[1]


@dataclass
class Played:
    """A turn that was played."""

    events: list[Event]
    request: TurnRequest
    small: Any
    large: Any

    @property
    def trace(self) -> RoutingTrace:
        last = self.events[-1]
        assert isinstance(last, TurnFinished)
        return last.trace

    @property
    def writers(self) -> str:
        """One letter a step: s, l, and capitals for the answer's."""
        return "".join(
            step.writer[0] if step.phase == "thinking" else step.writer[0].upper()
            for step in self.trace.steps
        )

    @property
    def texts(self) -> list[str]:
        return [self.trace.step_text(step) for step in self.trace.steps]

    @property
    def shown(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TokenDelta))


def turn_request(
    small: Any, large: Any, opening: Opening = OPENED, prompt: str = PROMPT, **options: Any
) -> TurnRequest:
    """A request whose prompts leave the thought as `opening` says."""
    text = prompt + {"opened": "<think>\n", "tag": "<think>"}.get(opening, "")
    prompts: dict[Role, Prompt] = {}
    for role, engine in (("small", small), ("large", large)):
        vocabulary = ScriptedVocabulary(engine._vocabulary.unit)
        ids = vocabulary.encode(text, special=True)
        prompts[role] = Prompt(text, ids, ASIDE)  # type: ignore[index]
    return TurnRequest(prompts, opening, TurnOptions(**options), "What is 3 + 4?")


def events_of(
    small: Any,
    large: Any,
    policy: Policy | None = None,
    opening: Opening = OPENED,
    *,
    threshold: float = 1.0,
    prompt: str = PROMPT,
    **options: Any,
) -> tuple[TurnRequest, AsyncGenerator[Event]]:
    """The event stream of one turn."""
    request = turn_request(small, large, opening, prompt, **options)
    engines: dict[Role, Engine] = {"small": small, "large": large}
    return request, Router(engines).run(request, policy or GlimpRouter(Fixed(threshold)))


async def play(small: Any, large: Any, *arguments: Any, **options: Any) -> Played:
    """Run one turn to its end."""
    for engine in (small, large):
        engine.calls.clear()
        engine.log.clear()
    request, events = events_of(small, large, *arguments, **options)
    async with aclosing(events):
        played = Played([event async for event in events], request, small, large)
    check(played)
    return played


def check(played: Played) -> None:
    """What holds for every turn that ends, whatever the models write."""
    check_events(played)
    trace = played.trace
    check_steps(trace)
    check_usage(played)
    for engine in (played.small, played.large):
        assert engine.running == 0
    assert RoutingTrace.model_validate_json(trace.model_dump_json()) == trace


def check_events(played: Played) -> None:
    """Events: each step starts, shows its text, and finishes, in order."""
    trace, texts = played.trace, {step.index: "" for step in played.trace.steps}
    open_step: StepStarted | None = None
    finished: list[StepTrace] = []
    for event in played.events[:-1]:
        match event:
            case StepStarted():
                assert open_step is None
                assert event.index == len(finished)
                open_step = event
            case TokenDelta():
                assert open_step is not None
                assert event.text
                assert event.index == open_step.index
                assert event.phase == open_step.phase
                assert event.writer == open_step.decision.writer
                texts[event.index] += event.text
            case StepFinished(step=step):
                assert open_step is not None
                assert (step.index, step.phase) == (open_step.index, open_step.phase)
                assert step.writer == open_step.decision.writer
                assert step.reason == open_step.decision.reason
                finished.append(step)
                open_step = None
            case TurnFinished():
                raise AssertionError
    assert open_step is None
    assert finished == trace.steps
    assert [texts[step.index] for step in trace.steps] == played.texts
    assert played.shown == trace.text


def check_steps(trace: RoutingTrace) -> None:
    """Steps tile the text; decisions agree with their probes."""
    ends = [0, *(step.end for step in trace.steps)]
    assert [step.start for step in trace.steps] == ends[:-1]
    assert ends[-1] == len(trace.text)
    assert [step.index for step in trace.steps] == list(range(len(trace.steps)))
    assert trace.thought + trace.answer == trace.text
    for step in trace.steps:
        if step.draft is None:
            assert (step.probe is not None) == (step.reason == "entropy")
        else:
            assert step.reason == step.draft.signal
            assert step.writer == ("small" if step.draft.accepted else "large")
        if step.draft is None and step.probe is not None:
            tau = float("inf") if step.probe.threshold is None else step.probe.threshold
            assert step.writer == ("large" if step.probe.entropy > tau else "small")
            assert step.probe.lower <= step.probe.upper
            assert step.probe.straddles == (step.probe.lower <= tau < step.probe.upper)


def check_usage(played: Played) -> None:
    """Every token that an engine made is accounted for once."""
    trace = played.trace
    usage, steps = trace.usage, trace.steps
    both = (usage.small, usage.large)
    for name in ("probe", "rejected", "discarded", "prefill", "cached"):
        total = sum(getattr(step.tokens, name) for step in steps)
        assert total == sum(getattr(share, name) for share in both), name
    written = usage.thinking_tokens + usage.answer_tokens
    assert written == usage.small.decode + usage.large.decode
    opening = written - sum(step.tokens.decode for step in steps)
    assert opening >= 0
    for engine, role in ((played.small, "small"), (played.large, "large")):
        share = usage.of(role)  # type: ignore[arg-type]
        own = [step for step in steps if step.writer == role]
        assert share.decode >= sum(step.tokens.decode for step in own)
        assert share.steps == sum(step.reason != "answer" for step in own)
        assert share.requests == len(engine.calls)
        made = sum(len(call.produced) for call in engine.calls)
        assert share.decode + share.probe + share.rejected + share.discarded == made
        read = sum(len(call.context) for call in engine.calls if call.produced)
        assert share.prefill + share.cached == read
    writers = [step.writer for step in steps]
    switches = sum(one != other for one, other in itertools.pairwise(writers))
    assert usage.hand_offs == switches


def check_contexts(played: Played) -> None:
    """Contexts grow only at the end, by what the last request made; ids pass as they are."""
    small, large = played.small, played.large
    shared = small._vocabulary.fingerprint == large._vocabulary.fingerprint
    vocabularies = {engine.model: engine._vocabulary for engine in (small, large)}
    for engine in (small, large):
        for one, other in itertools.pairwise(engine.calls):
            assert other.context[: len(one.context)] == one.context
    forced = 0
    for one, other in itertools.pairwise(small.log):
        before = vocabularies[one.engine].decode(one.context)
        after = vocabularies[other.engine].decode(other.context)
        assert after.startswith(before)
        added, made = after[len(before) :], vocabularies[one.engine].decode(one.produced)
        ids = other.context[len(one.context) :]
        known = shared or one.engine == other.engine
        if ids != one.produced[: len(ids)] if known else not made.startswith(added):
            forced += 1
            assert added.endswith("</think>\n\n")
            assert made.startswith(added.removesuffix("</think>\n\n").removesuffix("\n"))
    assert forced <= played.trace.forced_close
    if not shared:
        last = small.log[-1]
        whole = vocabularies[last.engine].decode(last.context + last.produced)
        for engine in (small, large):  # nothing is encoded twice
            assert sum(map(len, engine._vocabulary.encoded)) <= len(whole) - len(PROMPT)
