"""Policies: who writes, what it costs, which engines it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.policies import Always, GlimpRouter, Random, Reference
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.policies.named import NAMES, named_policy, with_threshold
from langchain_glimprouter.routing.steps import BlankLines
from langchain_glimprouter.routing.thresholds import Fixed, Threshold
from unit_tests.turns import Opener, Recorder, check_contexts, pair, play


def scripts(entropies: Sequence[float]) -> tuple[Recorder, Recorder]:
    small = [ScriptedStep(f"s{index} x.\n\n", value) for index, value in enumerate(entropies)]
    return pair(small, [f"l{index} y z.\n\n" for index in range(len(entropies))])


# -- GlimpRouter ---------------------------------------------------------------------------------


async def test_a_routine_step_costs_no_request_and_no_token() -> None:
    small, large = scripts([0.1] * 30)
    played = await play(small, large)
    assert (len(small.calls), len(large.calls)) == (1, 1)
    assert played.trace.usage.small.probe == 0
    assert played.trace.usage.small.discarded == 0


async def test_a_hand_over_costs_one_token_and_two_requests() -> None:
    small, large = scripts([0.1, 2.0, 0.1, 0.1, 2.0, 2.0, 0.1])
    played = await play(small, large)
    assert played.writers == "slssllssL"
    assert played.trace.usage.small.probe == 3
    assert (len(small.calls), len(large.calls)) == (4, 4)
    assert all(call.request.top_logprobs == 20 for call in small.calls)
    assert all(call.request.top_logprobs == 0 for call in large.calls)


async def test_the_large_models_request_ends_itself_at_the_delimiter() -> None:
    small, large = scripts([2.0])
    large._vocabulary.token(" z.\n\n")  # known to the vocabulary, as a model's tokens are
    await play(small, large)
    assert large._vocabulary.token(" z.\n\n") in large.calls[0].request.stop_token_ids
    assert large.calls[0].produced[-1] == large._vocabulary.token(" z.\n\n")


async def test_equal_to_the_threshold_is_not_above() -> None:
    policy = GlimpRouter(Fixed(0.0))
    played = await play(*pair([ScriptedStep("s.\n\n", 0.0)], ["l.\n\n"]), policy)
    assert played.writers == "slL"  # the end tag's entropy is above 0


@pytest.mark.parametrize("count", [1, 2, 9])
async def test_first_steps_by_the_large_model_are_not_probed(count: int) -> None:
    small, large = scripts([0.1, 0.1, 2.0, 0.1])
    played = await play(small, large, GlimpRouter(first_n_steps_large=count))
    assert played.writers == {1: "lslssL", 2: "lllssL", 9: "lllllL"}[count]
    assert played.trace.steps[0].reason == "first_steps"
    assert len(large.calls) == {1: 3, 2: 3, 9: 2}[count]  # they run on in one request
    assert len(small.calls) == {1: 2, 2: 2, 9: 0}[count]


async def test_the_estimator_decides() -> None:
    small = [ScriptedStep("s.\n\n", 0.9)]
    writers = {}
    for estimator in ("renormalized", "lower", "upper"):
        played = await play(*pair(small, ["l.\n\n"]), GlimpRouter(Fixed(1.0), estimator=estimator))
        writers[estimator] = played.writers[0]
    assert writers["renormalized"] == writers["lower"] == "s"


async def test_a_threshold_may_change_with_what_the_turn_has_used() -> None:
    class Budget:
        """At most two steps by the large model."""

        def decide(self, entropy: Entropy, usage: object) -> tuple[str, float]:
            tau = 0.5 if usage.large.steps < 2 else float("inf")  # type: ignore[attr-defined]
            return ("large" if entropy.estimate > tau else "small"), tau

    budget: Any = Budget()
    assert isinstance(budget, Threshold)
    played = await play(*scripts([2.0] * 5), GlimpRouter(budget))
    assert played.writers == "llssssL"
    assert [step.probe.threshold for step in played.trace.steps[1:3] if step.probe] == [0.5, None]


async def test_probes_are_in_the_trace() -> None:
    played = await play(*scripts([0.3, 2.0]), GlimpRouter(Fixed(1.0), top_logprobs=7))
    first, second, *_ = played.trace.steps
    assert first.probe is not None
    assert second.probe is not None
    assert first.probe.entropy == pytest.approx(0.3, abs=1e-6)
    assert second.probe.candidates[0][0] == "s1"  # what the small model would have written
    assert len(second.probe.candidates) == 5
    assert second.tokens.probe == 1
    assert first.tokens.probe == 0
    assert small_request_width(played) == {7}


def small_request_width(played: object) -> set[int]:
    return {call.request.top_logprobs for call in played.small.calls}  # type: ignore[attr-defined]


# -- one model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["small", "large"])
async def test_one_model_alone_starts_no_other(role: str) -> None:
    small, large = scripts([2.0, 0.1])
    played = await play(small, large, Always(role), answer_by="large")  # type: ignore[arg-type]
    writer, other = (small, large) if role == "small" else (large, small)
    assert (writer.starts, other.starts) == (1, 0)
    assert len(writer.calls) == 2  # thought, answer
    assert writer.calls[0].request.top_logprobs == 0
    letter = role[0]
    assert played.writers == letter * 3 + letter.upper()
    assert played.trace.intervention_rate == (role == "large")
    assert played.trace.usage.hand_offs == 0
    assert played.trace.policy == f"always {role}"


# -- random --------------------------------------------------------------------------------------


async def test_random_writes_at_its_rate() -> None:
    steps = 0
    large = 0
    for seed in range(25):
        played = await play(*scripts([2.0] * 40), Random(0.3, seed), loop_guard=False)
        steps += len(played.trace.routed_steps)
        large += sum(step.writer == "large" for step in played.trace.routed_steps)
        assert all(step.probe is None for step in played.trace.steps)
    assert steps == 25 * 41
    assert 0.25 < large / steps < 0.35  # standard deviation 0.014


@pytest.mark.parametrize(("rate", "writer"), [(0.0, "s"), (1.0, "l")])
async def test_random_at_its_ends(rate: float, writer: str) -> None:
    played = await play(*scripts([0.1] * 5), Random(rate))
    assert played.writers == writer * 6 + "L"


async def test_random_draws_by_seed_and_prompt() -> None:
    async def writers(seed: int, prompt: str) -> str:
        text = f"<|user|>{prompt}<|end|><|assistant|>"
        played = await play(*scripts([0.1] * 30), Random(0.5, seed), prompt=text)
        check_contexts(played)
        return played.writers

    assert await writers(1, "a") == await writers(1, "a")
    assert await writers(1, "a") != await writers(2, "a")
    assert await writers(1, "a") != await writers(1, "b")


async def test_random_takes_a_request_only_at_hand_overs() -> None:
    small, large = scripts([0.1] * 30)
    played = await play(small, large, Random(0.3, 5))
    steps = played.trace.routed_steps
    runs = sum(
        step.writer == "small" and (index == 0 or steps[index - 1].writer == "large")
        for index, step in enumerate(steps)
    )
    assert len(small.calls) == runs
    assert played.trace.usage.small.probe == 0


# -- reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [("words", "words"), ("words", "characters")])
async def test_the_published_protocol_takes_two_requests_a_step(units: tuple[str, str]) -> None:
    steps = [ScriptedStep("s0 x.\n\n", 0.1), ScriptedStep("s1 x.\n\n", 2.0), "s2 x.\n\n"]
    small, large = pair(steps, ["", "l1 y z.\n\n"], units=units)
    played = await play(small, large, Reference(Fixed(1.0)))
    assert played.writers == "slssL"
    probes = [call.request for call in small.calls if call.request.max_tokens == 1]
    assert len(probes) == 4
    assert len(small.calls) + len(large.calls) == 2 * 4 + 1
    assert all(request.sampling.temperature == 0.0 for request in probes)
    assert all(request.top_logprobs == 20 for request in probes)
    writing = [call.request for call in small.log[:-1] if call.request.max_tokens > 1]
    assert {request.stop for request in writing} == {("\n\n",)}
    assert played.trace.usage.small.probe == 4
    # The whole text is encoded anew for every request.
    assert len(small._vocabulary.encoded) >= len(small.calls)


async def test_both_protocols_take_the_same_route() -> None:
    entropies = [0.1, 2.0, 0.1, 2.0, 2.0, 0.1]
    fused = await play(*scripts(entropies))
    published = await play(*scripts(entropies), Reference(Fixed(1.0)))
    assert fused.texts == published.texts
    assert fused.writers == published.writers


async def test_a_likely_hand_over_is_probed_alone() -> None:
    """An engine that runs on would compute tokens that nobody reads, while the large one begins."""
    small, large = scripts([2.0, 2.0, 0.1, 0.1, 0.1, 2.0])
    played = await play(small, large)
    assert played.writers.startswith("llsssl")
    limits = [call.request.max_tokens for call in small.calls]
    # open · alone · alone, and on · behind the last hand-over half of the steps are the small one's
    assert [limit == 1 for limit in limits] == [False, True, True, False, False]
    assert played.trace.usage.small.probe == 3


async def test_the_published_protocol_goes_on_where_a_stop_string_ended_no_step() -> None:
    """Its writer goes on, without a new probe."""
    small = ["s0.\n\n", ScriptedStep("```\ns1\n\n", 2.0), "s2\n```\n\n", "s3.\n\n"]
    large = ["l0.\n\n", "```\nl1\n\n", "l2\n```\n\n"]
    policy = Reference(Fixed(1.0), first_n_steps_large=1)
    played = await play(*pair(small, large), policy, steps=BlankLines(inside_code=False))
    assert played.texts[:3] == ["l0.\n\n", "```\nl1\n\nl2\n```\n\n", "s3.\n\n"]
    assert [step.reason for step in played.trace.steps[:2]] == ["first_steps", "entropy"]
    assert played.trace.usage.small.probe == len(played.trace.routed_steps) - 1


@pytest.mark.parametrize("opening", [("<think>", "\n"), ("<think>\n",), tuple("<think>\n")])
async def test_the_published_protocol_never_probes_the_tag(opening: tuple[str, ...]) -> None:
    small, large = pair([ScriptedStep("s0.\n\n", 2.0), "s1.\n\n"], ["l0.\n\n"], kind=Opener)
    small.opening = large.opening = opening
    played = await play(small, large, Reference(Fixed(1.0)), "unknown")
    if len(opening) < 3:  # else its first step goes unprobed: one token does not show the tag
        assert played.texts[:2] == ["l0.\n\n", "s1.\n\n"]
        first = played.trace.steps[0].probe
        assert first is not None
        assert first.candidates[0][0] == "s0.\n\n"
    assert "<think>" not in played.trace.text


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("glimprouter", GlimpRouter(Fixed(0.7), 2)),
        ("GlimpRouter", GlimpRouter(Fixed(0.7), 2)),
        ("reference", Reference(Fixed(0.7), 2)),
        ("always small", Always("small")),
        ("always_large", Always("large")),
        ("always-large", Always("large")),
        ("random(0.25)", Random(0.25, 3)),
        (" Random( 1 ) ", Random(1.0, 3)),
    ],
)
def test_names(name: str, policy: Policy) -> None:
    assert named_policy(name, GlimpRouter(Fixed(0.7), 2), seed=3) == policy
    assert isinstance(policy, Policy)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("glimrouter", "did you mean 'glimprouter'"),
        ("random", r"random\(0.25\)"),
        ("random()", r"random\(0.25\)"),
        ("random(often)", r"random\(0.25\)"),
        ("random(1.5)", "from 0 to 1"),
        ("random(-1)", "from 0 to 1"),
        ("random(nan)", "from 0 to 1"),
        ("always medium", "always"),
        ("reference(3)", "unknown policy"),
        ("", "unknown policy"),
        ("?", ", ".join(NAMES).replace("(", r"\(").replace(")", r"\)")[:9]),
    ],
)
def test_bad_names_get_a_hint(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        named_policy(name, GlimpRouter())


def test_only_probing_policies_take_a_threshold() -> None:
    assert with_threshold(Reference(), Fixed(2.0)) == Reference(Fixed(2.0))
    with pytest.raises(ConfigurationError, match=r"threshold has no meaning for .*random"):
        with_threshold(Random(0.5), Fixed(2.0))


@pytest.mark.parametrize("tau", [-0.1, float("nan"), -float("inf")])
def test_thresholds_are_not_negative(tau: float) -> None:
    with pytest.raises(ConfigurationError, match=r"threshold=.* 0 or above"):
        Fixed(tau)
