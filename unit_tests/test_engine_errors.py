"""Engines that fail, lie or hang, and callers who leave: nothing is lost, nothing runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from langchain_glimprouter.engines.base import GenerationDelta, GenerationRequest
from langchain_glimprouter.engines.scripted import Fault, ScriptedStep
from langchain_glimprouter.errors import EngineDeadError, EngineError, EngineRequestError
from langchain_glimprouter.routing.events import Event, TokenDelta
from langchain_glimprouter.routing.policies import Always, GlimpRouter, Random, Reference
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.turns import Recorder, check_steps, events_of, pair, play

SMALL = [ScriptedStep(f"s{index} x y.\n\n", index % 2 * 2.0) for index in range(6)]
LARGE = [f"l{index} x y z.\n\n" for index in range(6)]
POLICIES: list[Policy] = [
    GlimpRouter(Fixed(1.0)),
    GlimpRouter(Fixed(1.0), first_n_steps_large=3),
    Random(0.5, 1),
    Reference(Fixed(1.0)),
    Always("small"),
    Always("large"),
]


async def watch(events: AsyncGenerator[Event], seen: list[Event]) -> None:
    async with aclosing(events):
        async for event in events:
            seen += [event]


@pytest.mark.parametrize("role", ["small", "large"])
@pytest.mark.parametrize("at_token", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("units", [("words", "words"), ("words", "characters")])
async def test_an_engine_that_dies(role: str, at_token: int, units: tuple[str, str]) -> None:
    """What was streamed stays; the error names the engine and carries the record so far."""
    small, large = pair(SMALL, LARGE, units=units)
    engine = small if role == "small" else large
    engine.fault = Fault(at_token)
    seen: list[Event] = []
    with pytest.raises(EngineDeadError) as caught:
        await watch(events_of(small, large)[1], seen)
    error = caught.value
    assert (error.role, error.model) == (role, engine.model)
    assert str(error).startswith(f"{role} engine: ")
    assert error.trace is not None
    assert error.trace.stop_reason == "error"
    assert error.trace.text == "".join(
        event.text for event in seen if isinstance(event, TokenDelta)
    )
    check_steps(error.trace)
    assert small.running == large.running == 0
    with pytest.raises(EngineDeadError):
        await play(small, large)
    await engine.aclose()
    assert (await play(small, large)).trace.answer == "Seven."


async def test_both_engines_may_have_one_name() -> None:
    """The role is told by the place, not by the model's name."""
    small, large = pair(SMALL, LARGE)
    large.model = small.model
    large.dead = True
    with pytest.raises(EngineDeadError) as caught:
        await play(small, large)
    assert caught.value.role == "large"


async def test_an_engine_that_breaks_off_in_mid_step_leaves_the_step_in_the_trace() -> None:
    small, large = pair(SMALL, LARGE)
    small.fault = Fault(1, EngineRequestError("too much"), dead=False)
    with pytest.raises(EngineRequestError) as caught:
        await play(small, large)
    trace = caught.value.trace
    assert trace is not None
    assert [step.ended_by for step in trace.steps] == ["interrupted"]
    assert trace.text == "s0"
    assert (await play(small, large)).trace.answer == "Seven."  # only the one request failed


async def test_other_errors_pass_unchanged() -> None:
    small, large = pair(SMALL, LARGE)
    small.fault = Fault(3, ZeroDivisionError("a bug"), dead=False)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await play(small, large)
    assert small.running == 0


# -- engines that lie ----------------------------------------------------------------------------


class Strange(Recorder):
    """Changes what it sends."""

    mode = ""

    async def deltas(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        async with aclosing(super().deltas(request)) as deltas:
            async for delta in deltas:
                match self.mode:
                    case "no log-probabilities":
                        delta.top_logprobs = None
                    case "NaN" if delta.top_logprobs:
                        nan = [
                            top._replace(logprobs=[float("nan")] * 20) for top in delta.top_logprobs
                        ]
                        delta.top_logprobs = nan
                    case "nothing":
                        return
                    case "empty deltas":
                        yield GenerationDelta([])
                    case "keeps its last token" if delta.finish_reason == "stop":
                        delta.token_ids = list(delta.token_ids)[:-1]
                    case "hiccups" if len(self.calls) % 2:
                        return
                    case "one token a request" | "hiccups":
                        delta.finish_reason = None
                        yield delta
                        return
                    case "says nothing of its end":
                        delta.finish_reason = None
                yield delta


def strange(small: str = "", large: str = "", steps: object = None) -> tuple[Strange, Strange]:
    engines = pair(SMALL if steps is None else steps, LARGE, kind=Strange)  # type: ignore[arg-type]
    engines[0].mode, engines[1].mode = small, large
    return engines


@pytest.mark.parametrize("mode", ["no log-probabilities", "NaN"])
@pytest.mark.parametrize("policy", [GlimpRouter(), Reference()])
async def test_a_probe_needs_log_probabilities(mode: str, policy: Policy) -> None:
    with pytest.raises(EngineRequestError, match="log-probabilities") as caught:
        await play(*strange(mode), policy)
    assert (caught.value.role, caught.value.model) == ("small", "tiny")
    assert caught.value.trace is not None


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("modes", [("nothing", ""), ("", "nothing"), ("nothing", "nothing")])
async def test_an_engine_that_ends_every_request_at_once_ends_the_turn(
    policy: Policy, modes: tuple[str, str]
) -> None:
    small, large = strange(*modes)
    async with asyncio.timeout(5):
        played = await play(small, large, policy)
    assert len(small.calls) + len(large.calls) < 60
    assert played.trace.stop_reason in ("end_of_text", "stop")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_empty_deltas_do_no_harm(policy: Policy) -> None:
    plain = await play(*strange(), policy)
    played = await play(*strange("empty deltas", "empty deltas"), policy)
    assert played.trace.text == plain.trace.text


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_engines_that_break_off_all_the_time_are_asked_to_go_on(policy: Policy) -> None:
    """Each step stays its writer's, however many requests it takes."""
    plain = await play(*strange(), policy)
    mode = "one token a request"
    played = await play(*strange(mode, mode), policy)
    assert played.texts == plain.texts
    assert played.writers == plain.writers


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.name != "reference"])
async def test_requests_that_come_to_nothing_now_and_then_change_no_decision(
    policy: Policy,
) -> None:
    plain = await play(*strange(), policy)
    played = await play(*strange("hiccups", "hiccups"), policy)
    assert (played.texts, played.writers) == (plain.texts, plain.writers)


async def test_a_step_that_its_engine_leaves_is_not_continued_by_the_other() -> None:
    small, large = strange()

    class Leaves(Strange):
        """Writes two tokens of its step, then never anything again."""

        async def deltas(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
            left = 2 - sum(len(call.produced) for call in self.calls)
            async with aclosing(super().deltas(request)) as deltas:
                async for delta in deltas:
                    if left <= 0:
                        return
                    left -= 1
                    delta.finish_reason = None
                    yield delta

    leaver = Leaves(LARGE, "Seven.", name="huge")
    leaver.log = small.log
    async with asyncio.timeout(5):
        played = await play(small, leaver)
    assert played.texts[1] == "l1 x"
    assert played.trace.steps[1].writer == "large"
    del large


async def test_an_engine_that_keeps_the_end_of_text_to_itself() -> None:
    steps = ["One.\n\n", "Two."]
    for mode in ("keeps its last token", "says nothing of its end"):
        played = await play(*strange(mode, mode, steps), opening="none")
        assert played.trace.text == "One.\n\nTwo."
        assert played.trace.stop_reason == "end_of_text"


# -- callers who leave ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_closing_the_events_at_any_point_stops_the_engines(policy: Policy) -> None:
    """At once: not when the garbage is collected."""
    whole = await play(*pair(SMALL, LARGE), policy)
    for count in range(len(whole.events)):
        small, large = pair(SMALL, LARGE)
        events = events_of(small, large, policy)[1]
        for _ in range(count):
            await anext(events)
        await events.aclose()
        assert small.running == large.running == 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_cancelling_at_any_time_stops_the_engines(policy: Policy) -> None:
    for tick in range(0, 60, 3):
        small, large = pair(SMALL, LARGE, delay=1e-9, prefill_delay=1e-9)
        task = asyncio.create_task(play(small, large, policy))
        for _ in range(tick):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert small.running == large.running == 0


async def test_an_engine_that_hangs_can_be_left() -> None:
    small, large = pair(SMALL, LARGE)
    small.fault = Fault(4, None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await play(small, large)
    assert small.running == 0


async def test_engine_errors_speak_for_themselves() -> None:
    assert str(EngineError("gone")) == "gone"
    assert str(EngineError("gone", role="small")) == "small engine: gone"
    assert isinstance(EngineDeadError("gone"), RuntimeError)
