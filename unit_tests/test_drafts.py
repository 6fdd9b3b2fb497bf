"""Policies that draft a whole step and judge it by the draft's own numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.policies import (
    GlimpRouter,
    StepEntropy,
    StepPerplexity,
    TwoSided,
)
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.steps import BlankLines
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.turns import OPENED, Recorder, check_contexts, pair, play

INNER = 0.05  # nats: what scripted engines show behind a step's first token
NEVER = Fixed(math.inf)


def scripts(entropies: Sequence[float], **options: Any) -> tuple[Recorder, Recorder]:
    small = [ScriptedStep(f"s{index} x.\n\n", value) for index, value in enumerate(entropies)]
    return pair(small, [f"l{index} y z.\n\n" for index in range(len(entropies))], **options)


async def test_drafts_that_stay_run_on_in_one_request() -> None:
    small, large = scripts([0.1] * 20)
    played = await play(small, large, StepEntropy(Fixed(1.0)))
    assert played.writers == "s" * 21 + "L"  # the end tag is a step of its own
    assert (len(small.calls), len(large.calls)) == (1, 1)
    assert played.trace.usage.small.rejected == 0
    assert played.trace.usage.small.discarded == 0


async def test_a_draft_above_the_threshold_is_written_anew() -> None:
    played = await play(*scripts([0.1, 2.0, 0.1]), StepEntropy(Fixed(1.0)))
    assert played.writers == "slssL"
    assert played.texts[:2] == ["s0 x.\n\n", "l1 y z.\n\n"]
    draft = played.trace.steps[1].draft
    assert draft is not None
    assert (draft.signal, draft.accepted, draft.threshold) == ("step_entropy", False, 1.0)
    assert draft.value == draft.entropy == pytest.approx((2.0 + INNER) / 2, abs=1e-6)
    assert draft.rejected == ["s1 x.\n\n"]
    assert draft.tokens == played.trace.steps[1].tokens.rejected == 2
    assert played.trace.usage.small.rejected == 2
    assert played.trace.steps[1].probe is not None
    assert played.trace.steps[1].probe.entropy == pytest.approx(2.0, abs=1e-6)
    assert played.trace.steps[0].draft is not None
    assert played.trace.steps[0].draft.rejected == []


async def test_perplexity_is_that_of_the_written_tokens() -> None:
    small, large = scripts([0.1, 2.5])
    played = await play(small, large, StepPerplexity(Fixed(1.5)))
    drafts = [step.draft for step in played.trace.steps[:2]]
    for draft, entropy in zip(drafts, (0.1, 2.5), strict=True):
        assert draft is not None
        first, second = (_likeliest(value) for value in (entropy, INNER))
        assert draft.value == pytest.approx(math.exp(-(first + second) / 2), rel=1e-6)
        assert draft.signal == "step_perplexity"
    assert played.writers[:2] == "sl"


def _likeliest(entropy: float) -> float:
    """Log-probability of the token that a scripted engine writes at an entropy."""
    from langchain_glimprouter.engines.scripted_writing import _logprobs

    return _logprobs(entropy, 20)[0]


async def test_an_infinite_threshold_measures_and_keeps_all() -> None:
    played = await play(*scripts([2.9, 0.1, 2.9]), StepEntropy(NEVER))
    assert played.writers == "ssssL"
    for step in played.trace.steps[:-1]:
        assert step.probe is not None
        assert step.draft is not None
        assert step.draft.threshold is None
        assert None not in (step.draft.entropy, step.draft.perplexity, step.draft.overconfidence)


# -- two sides -----------------------------------------------------------------------------------


async def test_unsure_steps_go_over_by_their_first_token() -> None:
    small, large = scripts([0.1, 2.0, 0.1])
    played = await play(small, large, TwoSided(Fixed(1.0), overconfidence=1.0))
    assert played.writers == "slssL"
    step = played.trace.steps[1]
    assert (step.reason, step.draft) == ("entropy", None)
    assert (step.tokens.probe, step.tokens.rejected) == (1, 0)


async def test_overconfident_steps_go_over_as_a_whole() -> None:
    steps = [ScriptedStep("sure sure sure.\n\n", 0.01), ScriptedStep("not sure.\n\n", 0.9)]
    small, large = pair(steps, ["l0.\n\n", "l1.\n\n"])
    played = await play(small, large, TwoSided(Fixed(1.0), overconfidence=0.6))
    first, second = played.trace.steps[:2]
    assert first.draft is not None
    assert second.draft is not None
    assert (first.writer, first.reason) == ("large", "overconfidence")
    assert (first.draft.value, second.draft.value) == (1.0, 0.5)
    assert second.writer == "small"
    assert second.draft.threshold == 0.6
    assert second.probe is not None
    assert second.probe.threshold == 1.0


@pytest.mark.parametrize("run", [0, 1, 2, 3])
async def test_hesitation_in_a_row_calls_the_large_model_once(run: int) -> None:
    texts = ["Wait, x.\n\n", "Hmm y.\n\n", "Waiting is no hesitation.\n\n", "So.\n\n", "End.\n\n"]
    small, large = pair(texts, [f"l{index}.\n\n" for index in range(5)])
    policy = TwoSided(Fixed(3.0), overconfidence=1.0, hesitation_steps=run)
    played = await play(small, large, policy)
    assert played.writers == {0: "ssssssL", 1: "slssssL", 2: "sslsssL", 3: "ssssssL"}[run]
    if run == 2:
        assert played.trace.steps[2].reason == "hesitation"
        assert played.trace.steps[2].tokens.rejected == 0


# -- all of them ---------------------------------------------------------------------------------

POLICIES: list[Policy] = [
    StepEntropy(Fixed(0.7)),
    StepPerplexity(Fixed(1.4)),
    TwoSided(Fixed(1.5), overconfidence=0.6),
    StepEntropy(Fixed(0.7), first_n_steps_large=2),
]


@given(
    entropies=st.lists(st.floats(0.0, 2.9), max_size=8),
    policy=st.sampled_from(POLICIES),
    units=st.sampled_from(
        [("words", "words"), ("characters", "characters"), ("words", "characters")]
    ),
    opening=st.sampled_from(["opened", "tag", "none", "unknown"]),
    budget=st.sampled_from([3, 12, 1000]),
    step_tokens=st.sampled_from([1, 3, 512]),
)
async def test_every_token_has_one_place(
    entropies: list[float],
    policy: Policy,
    units: tuple[str, str],
    opening: Any,
    budget: int,
    step_tokens: int,
) -> None:
    small, large = scripts(entropies, units=units)
    options = {
        "max_thinking_tokens": budget,
        "max_tokens": budget,
        "max_step_tokens": step_tokens,
        "loop_guard": False,
    }
    played = await play(small, large, policy, opening, **options)
    check_contexts_of_drafts(played)


def check_contexts_of_drafts(played: Any) -> None:
    """What each model reads next is what it read before, and what was kept since."""
    for engine in (played.small, played.large):
        own = [call for call in engine.calls if call.request.max_tokens > 1]
        for one, other in itertools.pairwise(own):
            assert other.context[: len(one.context)] == one.context


async def test_nothing_but_the_last_token_is_ever_encoded_twice() -> None:
    check_contexts(await play(*scripts([0.1] * 5), StepEntropy(Fixed(1.0))))


async def test_the_loop_guard_and_step_limits_work_on_drafts() -> None:
    small, large = pair(["same.\n\n"] * 9, ["same.\n\n"] * 9)
    played = await play(small, large, StepEntropy(Fixed(1.0)))
    assert played.trace.thought_end == "loop"
    small, large = pair(["a b c d e f.\n\n"], ["l.\n\n"])
    played = await play(small, large, StepEntropy(Fixed(1.0)), max_step_tokens=2)
    assert played.texts[:3] == ["a b", " c d", " e f.\n\n"]
    assert played.trace.steps[0].ended_by == "length"


async def test_other_step_rules_work_on_drafts() -> None:
    small, large = pair(["a;b;c;\n\n"], ["l.\n\n"], units=("characters", "characters"))
    rule = BlankLines((";",))
    played = await play(small, large, StepEntropy(Fixed(1.0)), steps=rule)
    assert played.texts[:3] == ["a;", "b;", "c;"]


async def test_a_model_that_opens_its_thought_is_drafted_behind_the_tag() -> None:
    from unit_tests.turns import Opener

    small, large = pair([ScriptedStep("s x.\n\n", 0.1)], ["l.\n\n"], kind=Opener)
    small.opening = ("<think>", "\n")
    played = await play(small, large, StepEntropy(Fixed(1.0)), "unknown")
    assert played.trace.thought == "s x.\n\n"
    assert played.trace.steps[0].draft is not None
    assert played.trace.steps[0].draft.tokens == 2


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: StepEntropy(top_logprobs=1), "top_logprobs=1"),
        (lambda: StepPerplexity(first_n_steps_large=-1), "first_n_steps_large=-1"),
        (lambda: TwoSided(overconfidence=0.0), "overconfidence=0.0"),
        (lambda: TwoSided(overconfidence=math.nan), "overconfidence=nan"),
        (lambda: TwoSided(hesitation_steps=-1), "hesitation_steps=-1"),
        (lambda: TwoSided(hesitation="wait"), "hesitation='wait'"),  # type: ignore[arg-type]
        (lambda: TwoSided(top_logprobs=0), "top_logprobs=0"),
    ],
)
def test_what_cannot_judge_is_refused(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


async def test_glimprouter_itself_writes_no_draft() -> None:
    played = await play(*scripts([0.1, 2.0]), GlimpRouter(Fixed(1.0)), OPENED)
    assert all(step.draft is None for step in played.trace.steps)
    assert played.trace.usage.small.rejected == 0
