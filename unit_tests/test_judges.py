"""Policies whose drafts somebody else judges: SpecReason, RSD, SpecCoT."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.engines.base import GenerationDelta, GenerationRequest, TopLogprobs
from langchain_glimprouter.errors import ConfigurationError, EngineError, EngineRequestError
from langchain_glimprouter.routing.judging import Judge
from langchain_glimprouter.routing.policies import RSD, GlimpRouter, SpecCoT, SpecReason
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.policies.named import named_policy
from langchain_glimprouter.routing.scoring import JudgeScorer, ModelScorer
from unit_tests.turns import Played, Recorder, events_of, pair, play

SMALL = [f"s{index} x.\n\n" for index in range(4)]
LARGE = [f"l{index} y z.\n\n" for index in range(4)]
Verdict = Callable[[str], str]


def judged(
    verdict: Verdict, small: Sequence[str] = SMALL, large: Sequence[str] = LARGE, **options: Any
) -> tuple[Recorder, Recorder]:
    """Engines of which the large one rates what stands last before the question."""
    engines = pair(small, (), **options)
    engines[1]._steps = lambda prompt: (
        [verdict(_last_step(prompt))] if "Rate its" in prompt else large
    )
    return engines


def _last_step(prompt: str) -> str:
    text = prompt.rpartition("<|end|><|user|>")[0]
    return text.rstrip("\n").rpartition("\n\n")[2].rpartition("<think>\n")[2]


def good(*steps: str) -> Verdict:
    return lambda step: "8" if step in steps else "3"


async def test_specreason_keeps_what_the_large_model_rates_well() -> None:
    small, large = judged(good("s0 x.", "s2 x."))
    played = await play(small, large, SpecReason())
    assert played.texts[:4] == ["s0 x.\n\n", "l1 y z.\n\n", "s2 x.\n\n", "l3 y z.\n\n"]
    kept, rejected = (step.draft for step in played.trace.steps[:2])
    assert kept is not None
    assert rejected is not None
    assert (kept.signal, kept.value, kept.threshold, kept.accepted) == ("score", 8.0, 7.0, True)
    assert (rejected.value, rejected.accepted, rejected.rejected) == (3.0, False, ["s1 x.\n\n"])
    assert played.trace.usage.small.rejected == 5  # with a lone end tag
    assert played.trace.usage.large.probe == 4  # one token a verdict
    judge = next(call for call in large.calls if call.request.max_tokens == 1)
    assert judge.request.sampling.temperature == 0.0


async def test_the_judge_reads_the_problem_the_thought_and_the_draft() -> None:
    small, large = judged(good("s0 x.", "s1 x."))
    await play(small, large, SpecReason())
    judges = [call for call in large.calls if call.request.max_tokens == 1]
    second = large._vocabulary.decode(judges[1].context)
    assert second.startswith("<|user|>What is 3 + 4?<|end|><|assistant|><think>\ns0 x.\n\ns1 x.")
    assert second.endswith("<|end|><|assistant|>The quality score is: ")
    pairs = enumerate(zip(judges[0].context, judges[1].context, strict=False))
    shared = next(index for index, (one, other) in pairs if one != other)
    common = large._vocabulary.decode(judges[0].context[:shared])
    assert common.endswith("s0 x.\n\n")  # what its prefix cache holds


async def test_a_score_on_the_line_passes_and_no_digit_is_zero() -> None:
    played = await play(*judged(lambda _: "7"), SpecReason(7))
    assert played.writers.startswith("ssss")
    played = await play(*judged(lambda _: "good"), SpecReason(1))
    assert played.writers.startswith("llll")
    assert played.trace.steps[0].draft is not None
    assert played.trace.steps[0].draft.value == 0.0


class Rater(Recorder):
    """Rates with a distribution over digits."""

    digits: tuple[tuple[str, float], ...] = ()

    async def deltas(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta]:
        async with aclosing(super().deltas(request)) as deltas:
            async for delta in deltas:
                if request.max_tokens == 1 and request.top_logprobs:
                    ids = [self._vocabulary.token(text) for text, _ in self.digits]
                    logprobs = [math.log(p) for _, p in self.digits]
                    delta.top_logprobs = [TopLogprobs(ids, logprobs, logprobs[0])]
                yield delta


async def test_the_average_weighs_digits_only() -> None:
    engines: Any = judged(lambda _: "9", kind=Rater)
    small, large = engines
    large.digits = (("9", 0.5), ("good", 0.3), (" 4", 0.1), ("\n", 0.1))
    played = await play(small, large, SpecReason(7, Judge(mode="average")))
    draft = played.trace.steps[0].draft
    assert draft is not None
    assert draft.value == pytest.approx((9 * 0.5 + 4 * 0.1) / 0.6)
    asked = [call for call in large.calls if call.request.max_tokens == 1]
    assert asked[0].request.top_logprobs == 10
    large.digits = (("good", 0.9),)
    played = await play(small, large, SpecReason(7, Judge(mode="average")))
    assert played.trace.steps[0].draft is not None
    assert played.trace.steps[0].draft.value == 0.0


async def test_a_premature_end_is_stripped_and_left_to_the_large_model() -> None:
    small, large = judged(good("s0 x.", "s1 x."), ["s0 x.\n\n", "s1 x.\n</think>"], LARGE)
    played = await play(small, large, SpecReason())
    assert played.texts[1] == "s1 x.\n"
    assert played.trace.steps[1].ended_by == "stripped"
    assert played.trace.steps[2].reason == "premature_end"
    assert played.trace.steps[2].writer == "large"
    assert played.trace.thought_end == "closed"


async def test_a_draft_with_nothing_in_it_is_the_large_models_to_write() -> None:
    small, large = judged(good("s0 x."), ["s0 x.\n\n"], ["l0 y.\n\n"])
    played = await play(small, large, SpecReason())
    assert played.writers == "slL"
    assert played.trace.steps[1].reason == "empty"
    assert played.trace.thought_end == "closed"


async def test_no_room_for_the_question_is_no_acceptance() -> None:
    small, large = judged(lambda _: "9", context_window=90)
    played = await play(small, large, SpecReason(judge_by=Judge(question="Rate its " + "x " * 90)))
    assert played.trace.steps[0].writer == "large"
    assert played.trace.steps[0].draft is not None
    assert played.trace.steps[0].draft.value is None


# -- RSD -----------------------------------------------------------------------------------------


async def test_rsd_asks_the_judge_where_there_is_no_reward_model() -> None:
    played = await play(*judged(good("s1 x.")), RSD())
    assert played.writers.startswith("lsll")
    draft = played.trace.steps[1].draft
    assert draft is not None
    assert (draft.signal, draft.threshold) == ("reward", 0.7)
    assert draft.value == pytest.approx(8 / 9)


async def test_rsd_takes_a_function() -> None:
    seen: list[tuple[str, str, str]] = []

    def reward(problem: str, text: str, step: str) -> float:
        seen.append((problem, text, step))
        return 0.7 if "2" in step else 0.69

    played = await play(*judged(good()), RSD(scorer=reward))
    assert played.writers.startswith("llsl")
    assert seen[2] == ("What is 3 + 4?", "l0 y z.\n\nl1 y z.\n\n", "s2 x.\n\n")
    assert played.trace.usage.large.probe == 0


async def test_rsd_takes_a_coroutine_function() -> None:
    async def reward(problem: str, text: str, step: str) -> float:
        await asyncio.sleep(0)
        return float("0" in step)

    played = await play(*judged(good()), RSD(scorer=reward))
    assert played.writers.startswith("slll")


class Rewards:
    """A reward model that reads."""

    model = "prm"

    def __init__(self, *values: float) -> None:
        self.values = values
        self.texts: list[str] = []

    async def rewards(self, texts: Sequence[str]) -> list[float]:
        self.texts += texts
        return [self.values[(len(self.texts) - 1) % len(self.values)]]


async def test_rsd_takes_a_reward_model() -> None:
    model = Rewards(0.9, 0.1)
    played = await play(*judged(good()), RSD(scorer=model))
    assert played.writers.startswith("slsl")
    assert model.texts[1] == "What is 3 + 4?\ns0 x.\n\ns1 x.\n\n"


async def test_a_reward_model_may_want_a_chat_and_marks() -> None:
    model = Rewards(0.9, 0.1)
    scorer = ModelScorer(
        model, template=r"<user>{problem} \boxed{}<reply>{steps}", step_end="<mark>"
    )
    played = await play(*judged(good()), RSD(scorer=scorer))
    assert played.writers.startswith("slsl")
    assert model.texts[1] == r"<user>What is 3 + 4? \boxed{}<reply>s0 x.<mark>s1 x.<mark>"


@pytest.mark.parametrize("reward", [math.nan, math.inf, "0.5", None, True])
async def test_what_is_no_reward_ends_the_turn_and_names_the_scorer(reward: Any) -> None:
    def prm(problem: str, text: str, step: str) -> Any:
        return reward

    with pytest.raises(EngineRequestError, match="prm") as caught:
        await play(*judged(good()), RSD(scorer=prm))
    assert caught.value.trace is not None
    assert caught.value.trace.usage.small.rejected > 0  # what was written is counted
    with pytest.raises(EngineRequestError, match="prm"):
        await play(*judged(good()), RSD(scorer=Rewards(reward)))


# -- SpecCoT -------------------------------------------------------------------------------------


def selecting(number: str, **options: Any) -> tuple[Recorder, Recorder]:
    def answer(prompt: str, request: GenerationRequest) -> str:
        return number if request.constraint is not None else "Seven."

    small, large = pair(SMALL, LARGE, **options)
    large.answer = answer
    return small, large


async def test_speccot_lets_the_large_model_begin_and_select() -> None:
    small, large = selecting("2")
    played = await play(small, large, SpecCoT())
    assert played.writers.startswith("lsss")
    assert played.trace.steps[0].reason == "first_steps"
    draft = played.trace.steps[1].draft
    assert draft is not None
    assert (draft.signal, draft.value, draft.drafts, draft.accepted) == ("selection", 2.0, 3, True)
    assert len(draft.rejected) == 2
    assert draft.tokens == 6
    assert played.trace.steps[1].tokens.rejected == 4
    drafts = small.calls[0].request
    assert (drafts.n, drafts.sampling.temperature) == (3, 0.6)
    choice = next(call.request for call in large.calls if call.request.constraint)
    assert choice.constraint == {"choice": ["0", "1", "2", "3"]}
    assert choice.max_tokens == 1


async def test_speccot_zero_rejects_all() -> None:
    played = await play(*selecting("0"), SpecCoT(2))
    assert played.writers.startswith("llll")
    draft = played.trace.steps[1].draft
    assert draft is not None
    assert (draft.value, draft.accepted, draft.drafts) == (0.0, False, 2)
    assert played.trace.usage.small.decode == 0


async def test_speccot_shows_the_drafts_to_the_large_model() -> None:
    small, large = selecting("1")
    await play(small, large, SpecCoT(2))
    asked = next(call for call in large.calls if call.request.constraint)
    text = large._vocabulary.decode(asked.context)
    assert "Candidate 1:\ns1 x.\n\nCandidate 2:\ns1 x." in text
    assert text.endswith("The best candidate is number ")


# -- all of them ---------------------------------------------------------------------------------

POLICIES: list[Policy] = [SpecReason(), RSD(), SpecCoT(2), SpecReason(first_n_steps_large=1)]


@given(
    marks=st.lists(st.sampled_from("0379x"), max_size=5),
    policy=st.sampled_from(POLICIES),
    units=st.sampled_from([("words", "words"), ("words", "characters"), ("characters", "words")]),
    opening=st.sampled_from(["opened", "tag", "none", "unknown"]),
    budget=st.sampled_from([3, 14, 1000]),
    step_tokens=st.sampled_from([2, 512]),
    ends=st.booleans(),
)
async def test_every_token_has_one_place(
    marks: list[str],
    policy: Policy,
    units: tuple[str, str],
    opening: Any,
    budget: int,
    step_tokens: int,
    ends: bool,
) -> None:
    texts = [f"s{index} x.\n\n" for index in range(len(marks))]
    if ends and texts:
        texts[-1] = "the end.\n</think>"
    small, large = judged(
        lambda step: next((m for i, m in enumerate(marks) if step.startswith(f"s{i}")), "8"),
        texts,
        [f"l{index} y z.\n\n" for index in range(len(marks))],
        units=units,
    )
    large.answer = lambda _, request: "1" if request.constraint is not None else "Seven."
    options = {
        "max_thinking_tokens": budget,
        "max_tokens": budget,
        "max_step_tokens": step_tokens,
        "loop_guard": False,
    }
    await play(small, large, policy, opening, **options)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_leaving_in_the_middle_leaves_nothing_running(policy: Policy) -> None:
    for stop in range(1, 12):
        small, large = judged(good("s0 x.", "s1 x."))
        large.answer = "1"
        _, events = events_of(small, large, policy)
        count = 0
        async for _ in events:
            count += 1
            if count == stop:
                break
        await events.aclose()
        assert (small.running, large.running) == (0, 0)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("at_token", [0, 1, 3, 5])
async def test_a_dead_engine_loses_no_count(policy: Policy, at_token: int) -> None:
    from langchain_glimprouter.engines.scripted import Fault

    for faulty in (0, 1):
        engines = judged(good("s0 x."))
        engines[1].answer = "1"
        engines[faulty].fault = Fault(at_token)
        _, events = events_of(*engines, policy)
        with pytest.raises(EngineError) as caught:
            async for _ in events:
                pass
        trace = caught.value.trace
        assert trace is not None
        for share, engine in zip((trace.usage.small, trace.usage.large), engines, strict=True):
            made = sum(len(call.produced) for call in engine.calls)
            assert share.decode + share.probe + share.rejected + share.discarded == made


def test_a_template_without_asides_is_refused_with_the_fix() -> None:
    async def run() -> Played:
        small, large = judged(good())
        request, _ = events_of(small, large)
        from dataclasses import replace

        from langchain_glimprouter.routing.router import Router

        prompts = {role: replace(one, aside=None) for role, one in request.prompts.items()}
        events = Router({"small": small, "large": large}).run(
            replace(request, prompts=prompts), SpecReason()
        )
        return Played([event async for event in events], request, small, large)

    with pytest.raises(ConfigurationError, match="chat_template="):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SpecReason(10), "accept=10"),
        (lambda: SpecReason(math.nan), "accept=nan"),
        (lambda: SpecReason(first_n_steps_large=-1), "first_n_steps_large=-1"),
        (lambda: RSD(1.5), "accept=1.5"),
        (lambda: RSD(scorer=3), "scorer=3"),  # type: ignore[arg-type]
        (lambda: RSD(scorer=JudgeScorer), "scorer="),  # type: ignore[arg-type]
        (lambda: ModelScorer(Rewards(), template="{problem}"), "steps"),
        (lambda: SpecCoT(0), "drafts=0"),
        (lambda: SpecCoT(10), "drafts=10"),
        (lambda: SpecCoT(2.5), "drafts=2.5"),  # type: ignore[arg-type]
        (lambda: SpecCoT(temperature=-1.0), "temperature=-1"),
        (lambda: SpecCoT(question="Which?"), "question"),
        (lambda: Judge(mode="best"), "mode='best'"),  # type: ignore[arg-type]
        (lambda: Judge(question=" "), "question"),
        (lambda: Judge(top_logprobs=0), "top_logprobs=0"),
    ],
)
def test_what_cannot_judge_is_refused(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("specreason", SpecReason()),
        ("SpecReason(5.5)", SpecReason(5.5)),
        ("rsd(0.4)", RSD(0.4)),
        ("speccot(5)", SpecCoT(5)),
        ("spec cot", SpecCoT()),
    ],
)
def test_policies_have_names(name: str, policy: Policy) -> None:
    assert named_policy(name, GlimpRouter()) == policy


@pytest.mark.parametrize("name", ["specreason(x)", "rsd(nan)", "rsd()", "speccot(0)", "specresaon"])
def test_names_that_cannot_work_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        named_policy(name, GlimpRouter())
