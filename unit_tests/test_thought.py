"""A turn as plain data: saved between any two steps, and gone on with as if nothing had been."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_glimprouter.engines.base import GenerationRequest
from langchain_glimprouter.engines.scripted import Fault, ScriptedStep
from langchain_glimprouter.errors import ConfigurationError, EngineDeadError
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.events import Event, StepFinished
from langchain_glimprouter.routing.options import TurnRequest
from langchain_glimprouter.routing.policies import Always, GlimpRouter, Random, Reference
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.router import Router
from langchain_glimprouter.routing.saving import load_decision, save_decision, save_turn
from langchain_glimprouter.routing.steps import BlankLines
from langchain_glimprouter.routing.thought import Thought
from langchain_glimprouter.routing.thresholds import Decision, Fixed
from langchain_glimprouter.routing.trace import RoutingTrace
from langchain_glimprouter.routing.turn import Turn
from unit_tests.test_router import ENTROPIES, THRESHOLDS, UNITS, Scripts, scripts, wild_script
from unit_tests.turns import Opener, Played, Recorder, pair, play, turn_request

Make = Callable[[], tuple[Any, Any]]


def whole(make: Make, policy: Policy, *arguments: Any, **options: Any) -> Played:
    """The turn without a break; played twice, since a vocabulary knows all its tokens then."""
    asyncio.run(play(*make(), policy, *arguments, **options))
    return asyncio.run(play(*make(), policy, *arguments, **options))


class Forgetful(Recorder):
    """Looks for its place in the script anew with every request, as a fresh engine does."""

    def _script(self, request: GenerationRequest, index: int = 0) -> Any:
        self._places.clear()
        return super()._script(request, index)


async def hopping(
    make: Make,
    request: TurnRequest,
    policy: Policy,
    breaks: Collection[int] = (),
) -> tuple[RoutingTrace, list[Event], list[Thought]]:
    """Run a turn with fresh engines behind every hand-over, and behind the steps in `breaks`."""
    events: list[Event] = []
    thoughts: list[Thought] = []
    turn = await Router(engines(make)).open(request, policy)
    while not turn.done:
        async with aclosing(Router.advance(turn, policy)) as advance:
            async for event in advance:
                events.append(event)
                if isinstance(event, StepFinished) and event.step.index in breaks:
                    break
        close(turn)
        thoughts.append(json.loads(json.dumps(save_turn(turn), allow_nan=False)))
        turn = await Router(engines(make)).resume(thoughts[-1], request.options, policy)
    return turn.trace(policy.name), events, thoughts


def close(turn: Turn) -> None:
    """Go on to the answer, where the reader left before the router did."""
    if turn.done and turn.phase == "thinking":
        turn.begin_answer()


def engines(make: Make) -> Any:
    small, large = make()
    return {"small": small, "large": large}


def timeless(trace: RoutingTrace, *names: str) -> dict[str, Any]:
    """A record without what no two runs have in common."""
    record = trace.model_dump(exclude={"seconds"})
    for step in record["steps"]:
        del step["seconds"]
        for name in names:
            del step["tokens"][name]
    for role in ("small", "large"):
        del record["usage"][role]["seconds"]
        for name in (*names, "requests") if names else ():
            del record["usage"][role][name]
    return record


POLICIES = st.sampled_from(["glimprouter", "first", "reference", "random", "small", "large"])


def policy_of(name: str, threshold: float) -> Policy:
    match name:
        case "glimprouter":
            return GlimpRouter(Fixed(threshold))
        case "first":
            return GlimpRouter(Fixed(threshold), first_n_steps_large=2)
        case "reference":
            return Reference(Fixed(threshold))
        case "random":
            return Random(0.5, 7)
    return Always(name)  # type: ignore[arg-type]


@given(
    scripts(),
    UNITS,
    THRESHOLDS,
    st.integers(1, 4),
    POLICIES,
    st.sampled_from(["opened", "tag", "unknown", "none"]),
    st.sampled_from(["large", "small", "route"]),
)
def test_saved_at_every_hand_over_a_turn_ends_the_same(
    scripts: Scripts,
    units: tuple[str, str],
    threshold: float,
    per_delta: int,
    name: str,
    opening: str,
    answer_by: str,
) -> None:
    """Text, steps and every count: nothing is written twice, or lost."""
    policy = policy_of(name, threshold)

    def make() -> tuple[Any, Any]:
        return pair(
            scripts.small, scripts.large, scripts.answer, units=units, tokens_per_delta=per_delta
        )

    options: dict[str, Any] = {"opening": opening, "answer_by": answer_by}
    plain = whole(make, policy, **options)
    request = turn_request(*make(), **options)
    trace, events, thoughts = asyncio.run(hopping(make, request, policy))
    assert timeless(trace) == timeless(plain.trace)
    assert [type(event) for event in events] == [type(event) for event in plain.events[:-1]]
    for thought in thoughts:
        check_record(thought)


@given(
    wild_script(),
    wild_script(),
    UNITS,
    st.sampled_from(["opened", "tag", "unknown", "none"]),
    st.sampled_from(["large", "small", "route"]),
    THRESHOLDS,
    st.integers(1, 12),
    st.sampled_from([(), ("So",), ("\n\nb",), ("<",)]),
    st.sampled_from([(), ("x\n",), ("<b",), ("",)]),
)
def test_saved_at_every_hand_over_whatever_the_models_write(
    small: list[ScriptedStep],
    large: list[ScriptedStep],
    units: tuple[str, str],
    opening: str,
    answer_by: str,
    threshold: float,
    max_step_tokens: int,
    stop: tuple[str, ...],
    unsplit: tuple[str, ...],
) -> None:
    policy = GlimpRouter(Fixed(threshold))

    def make() -> tuple[Any, Any]:
        return pair(small, large, "The</b> end.\n\nSo be it.", units=units, kind=Forgetful)

    options: dict[str, Any] = {
        "opening": opening,
        "answer_by": answer_by,
        "max_step_tokens": max_step_tokens,
        "max_thinking_tokens": 60,
        "max_tokens": 40,
        "stop": stop,
        "unsplit": unsplit,
    }
    plain = whole(make, policy, **options)
    request = turn_request(*make(), **options)
    trace, _, thoughts = asyncio.run(hopping(make, request, policy))
    assert timeless(trace) == timeless(plain.trace)
    for thought in thoughts:
        check_record(thought)


@given(scripts(), UNITS, THRESHOLDS, POLICIES, st.sets(st.integers(0, 12)), st.booleans())
def test_saved_between_any_two_steps_a_turn_ends_the_same(
    scripts: Scripts,
    units: tuple[str, str],
    threshold: float,
    name: str,
    breaks: set[int],
    thinks: bool,
) -> None:
    """A request that was broken off costs a new one; all else is as it was."""
    policy = policy_of(name, threshold)

    def make() -> tuple[Any, Any]:
        return pair(scripts.small, scripts.large, scripts.answer, units=units)

    options: dict[str, Any] = {"opening": "opened" if thinks else "none"}
    plain = whole(make, policy, **options)
    request = turn_request(*make(), **options)
    trace, _, thoughts = asyncio.run(hopping(make, request, policy, breaks))
    lost = ("prefill", "cached", "discarded")
    assert timeless(trace, *lost) == timeless(plain.trace, *lost)
    for thought in thoughts:
        check_record(thought)


def check_record(thought: Thought) -> None:
    """Plain data, whose spans own every token and every character behind the prompt."""
    serializer = JsonPlusSerializer()
    assert serializer.loads_typed(serializer.dumps_typed(thought)) == thought
    spans = thought["spans"]
    steps = thought["steps"]
    assert len([span for span in spans if span["owner"] != "router"]) >= len(steps)
    own = [span["owner"] for span in spans if span["owner"] != "router"][-len(steps) :]
    assert [step["writer"] for step in steps] == (own if steps else [])
    if "shared" in thought["token_ids"]:
        assert sum(span["tokens"] for span in spans) == len(thought["token_ids"]["shared"])


@given(scripts(), UNITS, st.sampled_from([("<think>", "\n"), ("<think>",), tuple("<think>\n")]))
def test_a_thought_that_the_model_opened_itself(
    scripts: Scripts, units: tuple[str, str], opening: tuple[str, ...]
) -> None:
    def make() -> tuple[Any, Any]:
        both = pair(scripts.small, scripts.large, scripts.answer, units=units, kind=Opener)
        for engine in both:
            engine.opening = opening
        return both

    policy = GlimpRouter(Fixed(0.5))
    plain = whole(make, policy, "unknown")
    request = turn_request(*make(), "unknown")
    trace, _, _ = asyncio.run(hopping(make, request, policy))
    assert timeless(trace) == timeless(plain.trace)


async def test_nothing_is_rendered_or_encoded_again() -> None:
    def make() -> tuple[Any, Any]:
        return pair(
            [ScriptedStep(f"s{i} x.\n\n", 2.0 * (i % 2)) for i in range(6)],
            [f"l{i} y.\n\n" for i in range(6)],
            units=("words", "characters"),
        )

    whole = make()
    request = turn_request(*whole)
    policy = GlimpRouter(Fixed(1.0))
    plain = await play(*whole, policy)
    encoded: list[str] = []

    def counting() -> tuple[Any, Any]:
        both = make()
        for engine in both:
            engine._vocabulary.encoded = encoded
        return both

    await hopping(counting, request, policy)
    assert sorted(encoded) == sorted(
        text for engine in whole for text in engine._vocabulary.encoded
    )
    assert len(plain.trace.steps) == 8


async def test_code_fences_reach_over_a_save() -> None:
    def make() -> tuple[Any, Any]:
        small = ["See:\n\n", ScriptedStep("```\na\n\n", 2.0), "b\n```\n\n", "End.\n\n"]
        large = ["", "```\nA\n\n", "B\n\n", "C\n```\n\n"]
        return pair(small, large)

    options: dict[str, Any] = {"steps": BlankLines(inside_code=False)}
    policy = GlimpRouter(Fixed(1.0))
    await play(*make(), policy, **options)
    plain = await play(*make(), policy, **options)
    trace, _, _ = await hopping(make, turn_request(*make(), **options), policy, range(20))
    assert timeless(trace)["text"] == timeless(plain.trace)["text"]
    assert [step.end for step in trace.steps] == [step.end for step in plain.trace.steps]


@given(ENTROPIES)
def test_the_loop_guard_remembers(entropy: float) -> None:
    line = "the same line of some forty characters, again\n\n"

    def make() -> tuple[Any, Any]:
        return pair([ScriptedStep(line, entropy)] * 9, [line] * 9)

    policy = GlimpRouter(Fixed(1.0))
    plain = asyncio.run(play(*make(), policy))
    assert plain.trace.thought_end == "loop"
    trace, _, _ = asyncio.run(hopping(make, turn_request(*make()), policy, range(9)))
    assert trace.thought_end == "loop"
    assert trace.text == plain.trace.text


# -- who may go on ---------------------------------------------------------------------------


def named(small: str, large: str, units: tuple[str, str] = ("words", "words")) -> tuple[Any, Any]:
    both = pair([ScriptedStep("One.\n\n", 2.0)], ["Eins.\n\n"], units=units)
    both[0].model, both[1].model = small, large
    return both


async def first_thought(make: Make) -> tuple[Thought, TurnRequest]:
    request = turn_request(*make())
    policy = GlimpRouter(Fixed(1.0))
    turn = await Router(engines(make)).open(request, policy)
    async with aclosing(Router.advance(turn, policy)) as events:
        async for _ in events:
            pass
    return save_turn(turn), request


async def test_another_pair_is_refused_by_name() -> None:
    thought, request = await first_thought(lambda: named("org/tiny", "org/huge"))
    policy = GlimpRouter(Fixed(1.0))
    for make in (
        lambda: named("org/tiny", "org/giant"),
        lambda: named("org/tiny", "org/huge", ("words", "characters")),
    ):
        with pytest.raises(ConfigurationError) as caught:
            await Router(engines(make)).resume(thought, request.options, policy)
        message = str(caught.value)
        assert "small 'org/tiny'" in message
        assert "large 'org/huge'" in message
        assert "giant" in message or "scripted" in message


async def test_a_model_may_have_moved() -> None:
    thought, request = await first_thought(lambda: named("org/tiny", "/old/path/huge"))
    moved = engines(lambda: named("/models/tiny", "huge"))
    turn = await Router(moved).resume(thought, request.options, GlimpRouter(Fixed(1.0)))
    assert turn.pair.model("large") == "huge"


async def test_a_policy_that_needs_another_model_is_refused() -> None:
    def make() -> tuple[Any, Any]:
        return named("tiny", "huge")

    request = turn_request(*make())
    turn = await Router(engines(make)).open(request, Always("small"))
    thought = save_turn(turn)
    with pytest.raises(ConfigurationError, match="small 'tiny'.* large 'huge'"):
        await Router(engines(make)).resume(thought, request.options, GlimpRouter())


async def test_another_version_of_the_record_is_refused() -> None:
    thought, request = await first_thought(lambda: named("tiny", "huge"))
    thought["version"] = 99
    with pytest.raises(ConfigurationError, match="version 99"):
        await Router(engines(lambda: named("tiny", "huge"))).resume(
            thought, request.options, GlimpRouter()
        )


async def test_a_turn_is_not_saved_in_the_middle_of_a_step() -> None:
    small, large = named("tiny", "huge")
    turn = await Router({"small": small, "large": large}).open(
        turn_request(small, large), GlimpRouter()
    )
    turn.start(Decision("small", "first_steps"))
    with pytest.raises(ValueError, match="between its steps"):
        save_turn(turn)


# -- decisions that wait -----------------------------------------------------------------------


async def waiting(threshold: float = 1.0) -> tuple[Turn, Thought]:
    thought, request = await first_thought(lambda: named("tiny", "huge"))
    assert thought["pending"] is not None
    assert thought["pending"]["writer"] == "large"
    router = Router(engines(lambda: named("tiny", "huge")))
    turn = await router.resume(thought, request.options, GlimpRouter(Fixed(threshold)))
    return turn, thought


async def rest(turn: Turn, policy: Policy) -> RoutingTrace:
    while not turn.done:
        async with aclosing(Router.advance(turn, policy)) as events:
            async for _ in events:
                pass
    return turn.trace(policy.name)


async def test_a_waiting_decision_is_judged_again_by_another_threshold() -> None:
    turn, _ = await waiting(2.5)
    policy = GlimpRouter(Fixed(2.5))
    assert policy.next_writer(turn) == "small"
    trace = await rest(turn, policy)
    assert trace.steps[0].writer == "small"
    probe = trace.steps[0].probe
    assert probe is not None
    assert (round(probe.entropy, 3), probe.threshold) == (2.0, 2.5)


async def test_the_same_threshold_does_not_judge_again() -> None:
    turn, _ = await waiting(1.0)
    assert turn.pending is not None
    assert turn.pending.writer == "large"
    asked = []

    class Counting(Fixed):
        def decide(self, entropy: Entropy, usage: object) -> Any:
            asked.append(entropy)
            return super().decide(entropy, usage)  # type: ignore[arg-type]

    await rest(turn, GlimpRouter(Counting(1.0)))
    assert len(asked) == 1  # the end of the thought; not the decision that waited


async def test_a_person_decides() -> None:
    """Forced to the small model, a step is not asked about again; the record says who decided."""
    turn, _ = await waiting()
    turn.steer("small")
    trace = await rest(turn, GlimpRouter(Fixed(1.0)))
    first = trace.steps[0]
    assert (first.writer, first.reason) == ("small", "steered")
    assert trace.step_text(first) == "One.\n\n"
    assert first.probe is not None  # what they overruled
    turn, _ = await waiting(2.5)
    turn.steer("large")
    trace = await rest(turn, GlimpRouter(Fixed(2.5)))
    assert (trace.steps[0].writer, trace.steps[0].reason) == ("large", "steered")


@pytest.mark.parametrize("policy", [Reference(Fixed(1.0)), Random(0.0), GlimpRouter()])
@pytest.mark.parametrize("role", ["small", "large"])
async def test_every_policy_that_routes_obeys(policy: Policy, role: Any) -> None:
    small, large = named("tiny", "huge")
    router = Router({"small": small, "large": large})
    turn = await router.open(turn_request(small, large), policy)
    turn.steer(role)
    assert policy.next_writer(turn) == role
    trace = await rest(turn, policy)
    assert (trace.steps[0].writer, trace.steps[0].reason) == (role, "steered")


async def test_enough_thought() -> None:
    turn, _ = await waiting()
    turn.answer_now()
    trace = await rest(turn, GlimpRouter())
    assert (trace.thought_end, trace.forced_close) == ("steered", True)
    assert trace.answer == "Seven."
    assert [step.phase for step in trace.steps] == ["answer"]


@pytest.mark.parametrize("opening", ["none", "unknown"])
async def test_enough_routing_where_there_is_no_thought(opening: Any) -> None:
    script = ["One.\n\n", ScriptedStep("Two.\n\n", 2.0), "Three.\n\n"]
    small, large = pair(script, script)
    router = Router({"small": small, "large": large})
    policy = GlimpRouter(Fixed(1.0))
    turn = await router.open(turn_request(small, large, opening), policy)
    async with aclosing(Router.advance(turn, policy)) as events:
        async for _ in events:
            pass
    turn.answer_now()
    trace = await rest(turn, policy)
    assert [step.writer for step in trace.steps] == ["small", "large"]
    assert trace.text == "One.\n\nTwo.\n\nThree.\n\n"
    assert trace.thought_end is None


def test_decisions_are_plain_data() -> None:
    decision = Decision("large", "entropy", Entropy(1.5, 1.0, 2.0, 0.9), 1.0, (("So", 0.5),))
    saved = json.loads(json.dumps(save_decision(decision)))
    assert load_decision(saved) == decision
    endless = Decision("small", "entropy", Entropy(1.5, 1.0, 2.0, 0.9), float("inf"))
    assert save_decision(endless)["threshold"] is None


# -- engines that break off ------------------------------------------------------------------


async def test_a_save_lies_between_steps_even_where_an_engine_broke_off() -> None:
    class Short(Recorder):
        """Breaks off without a word after two tokens."""

        async def deltas(self, request: GenerationRequest) -> Any:
            count = 0
            async with aclosing(super().deltas(request)) as deltas:
                async for delta in deltas:
                    delta.finish_reason = None
                    yield delta
                    count += len(delta.token_ids)
                    if count >= 2:
                        return

    def make() -> tuple[Any, Any]:
        script = ["One two three four.\n\n", ScriptedStep("Five six seven.\n\n", 2.0)]
        return pair(script, script, kind=Short)

    policy = GlimpRouter(Fixed(1.0))
    await play(*make(), policy)
    plain = await play(*make(), policy)
    trace, _, thoughts = await hopping(make, turn_request(*make()), policy)
    assert timeless(trace) == timeless(plain.trace)
    assert all(thought["steps"] for thought in thoughts)


async def test_an_error_carries_the_record_of_the_whole_turn() -> None:
    small, large = named("tiny", "huge")
    thought, request = await first_thought(lambda: named("tiny", "huge"))
    large.fault = Fault(0)
    router = Router({"small": small, "large": large})
    policy = GlimpRouter(Fixed(1.0))
    turn = await router.resume(thought, request.options, policy)
    with pytest.raises(EngineDeadError) as caught:
        await rest(turn, policy)
    assert caught.value.trace is not None
    assert caught.value.trace.usage.small.probe == 1
