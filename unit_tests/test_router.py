"""Turns that can be foretold: random scripts, and who writes which step of them."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.routing.policies import GlimpRouter
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.turns import Opener, Played, check_contexts, pair, play

UNITS = st.sampled_from(
    [
        ("words", "words"),
        ("characters", "characters"),
        ("words", "characters"),
        ("characters", "words"),
    ]
)
ENTROPIES = st.sampled_from([0.0, 0.3, 0.9, 1.1, 2.0, 2.9])
THRESHOLDS = st.sampled_from([0.0, 0.5, 1.0, 2.5, math.inf])
WORDS = st.sampled_from(["so", "it", "is", "née", "7.", "<b>", "a\nb"])
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
ROUTINE = 0.05  # of `</think>`, whose step no script names


@dataclass
class Scripts:
    """Two aligned scripts, and what a router must make of them."""

    small: list[ScriptedStep]
    large: list[ScriptedStep]
    answer: str

    def expected(self, threshold: float, first_large: int = 0) -> tuple[str, list[str]]:
        """Return the writers of the thought's steps, and their texts."""
        writers = ""
        texts: list[str] = []
        while True:
            index = len(texts)
            entropy = self.small[index].entropy if index < len(self.small) else ROUTINE
            writer = "l" if index < first_large or entropy > threshold else "s"
            script = self.small if writer == "s" else self.large
            writers += writer
            if index >= len(script):
                return writers, [*texts, ""]  # `</think>`
            texts.append(script[index].text)


@st.composite
def scripts(draw: st.DrawFn) -> Scripts:
    def script(prefix: str) -> list[ScriptedStep]:
        return [
            ScriptedStep(f"{prefix}{index} {draw(TEXTS)}\n\n", draw(ENTROPIES))
            for index in range(draw(st.integers(0, 6)))
        ]

    return Scripts(script("s"), script("l"), draw(TEXTS))


def run(
    scripts: Scripts, units: tuple[str, str], per_delta: int, policy: GlimpRouter, **options: object
) -> Played:
    small, large = pair(
        scripts.small, scripts.large, scripts.answer, units=units, tokens_per_delta=per_delta
    )
    played = asyncio.run(play(small, large, policy, loop_guard=False, **options))
    check_contexts(played)
    return played


@given(scripts(), UNITS, THRESHOLDS, st.integers(1, 5), st.integers(0, 3))
def test_every_step_is_written_by_the_model_that_its_entropy_calls_for(
    scripts: Scripts, units: tuple[str, str], threshold: float, per_delta: int, first_large: int
) -> None:
    policy = GlimpRouter(Fixed(threshold), first_n_steps_large=first_large)
    played = run(scripts, units, per_delta, policy)
    writers, texts = scripts.expected(threshold, first_large)
    assert played.writers == writers + "L"
    assert played.texts == [*texts, scripts.answer]
    trace = played.trace
    assert (trace.thought_end, trace.stop_reason, trace.forced_close) == (
        "closed",
        "end_of_text",
        False,
    )
    reasons = [step.reason for step in trace.steps if step.phase == "thinking"]
    assert reasons[:first_large] == ["first_steps"] * min(first_large, len(writers))
    assert set(reasons[first_large:]) <= {"entropy"}
    assert trace.intervention_rate == writers.count("l") / len(writers)
    assert trace.prompt_tokens == len(played.request.prompts["large"].token_ids)


@given(scripts(), UNITS, THRESHOLDS, st.integers(1, 5))
def test_a_routine_step_costs_no_request(
    scripts: Scripts, units: tuple[str, str], threshold: float, per_delta: int
) -> None:
    """The small model is asked once at the start and once behind each step of the large model.

    Where most steps were handed over, it is asked for the probe alone, and again if it may go on.
    """
    played = run(scripts, units, per_delta, GlimpRouter(Fixed(threshold)))
    writers, _ = scripts.expected(threshold)
    alone = [
        2 * writers[:index].count("l") > index and writers[index - 1] == "l"
        for index in range(len(writers))
    ]
    again = sum(
        probed and writer == "s" for probed, writer in zip(alone[:-1], writers, strict=False)
    )
    assert len(played.small.calls) == 1 + writers[:-1].count("l") + again
    asked_alone = [call for call in played.small.calls if call.request.max_tokens == 1]
    assert len(asked_alone) == sum(alone)
    assert played.trace.usage.small.probe == writers.count("l")
    if units[1] == "characters":
        # Where no single token contains the delimiter, the engine cannot stop by itself.
        assert len(played.large.calls) == writers.count("l") + 1


@given(
    scripts(),
    UNITS,
    THRESHOLDS,
    st.integers(1, 5),
    st.sampled_from(["<think> \n", "<think>", "<think>\n", "\n <think>\n \n", *["<think>\n"] * 3]),
    st.booleans(),
)
def test_a_model_may_open_the_thought_itself(
    scripts: Scripts,
    units: tuple[str, str],
    threshold: float,
    per_delta: int,
    opening: str,
    spelled: bool,
) -> None:
    """`<think>` is a token, or some, that is never probed nor shown, whoever wrote it."""
    engines = pair(
        scripts.small,
        scripts.large,
        scripts.answer,
        units=units,
        kind=Opener,
        tokens_per_delta=per_delta,
    )
    for engine in engines:
        engine.opening = tuple(opening) if spelled else (opening,)
    policy = GlimpRouter(Fixed(threshold))
    played = asyncio.run(play(*engines, policy, "unknown", loop_guard=False))
    check_contexts(played)
    writers, texts = scripts.expected(threshold)
    assert played.writers == writers + "L"
    assert played.texts == [*texts, scripts.answer]
    trace = played.trace
    assert trace.thought_end == "closed"
    shown = sum(step.tokens.decode for step in trace.steps if step.phase == "thinking")
    assert trace.usage.thinking_tokens == shown + (len(opening) if spelled else 1)


@given(scripts(), UNITS, THRESHOLDS, st.integers(1, 5), st.sampled_from(["none", "unknown"]))
def test_models_that_do_not_think_have_their_answer_routed(
    scripts: Scripts, units: tuple[str, str], threshold: float, per_delta: int, opening: str
) -> None:
    played = run(scripts, units, per_delta, GlimpRouter(Fixed(threshold)), opening=opening)
    writers, texts = scripts.expected(threshold)
    assert played.writers == writers.upper()
    assert played.texts == texts
    trace = played.trace
    assert (trace.thought, trace.answer) == ("", trace.text)
    assert (trace.thought_end, trace.stop_reason) == (None, "end_of_text")
    assert trace.usage.thinking_tokens == 0


PIECES = st.sampled_from(
    [
        *("a", "b ", "é", "", "\n", "\n\n", ".\n\n", "x\n\ny"),
        *("<", "</", "think>", "</think>", "</think>\n\nSo"),
    ]
)


@st.composite
def wild_script(draw: st.DrawFn) -> list[ScriptedStep]:
    """Steps whose tokens end anywhere, hold delimiters and tags in their middle, or are empty."""
    pieces = st.lists(PIECES, min_size=1, max_size=8)
    return [
        ScriptedStep("".join(tokens), draw(ENTROPIES), tuple(tokens))
        for tokens in draw(st.lists(pieces, max_size=6))
    ]


@given(
    wild_script(),
    wild_script(),
    UNITS,
    st.sampled_from(["opened", "tag", "unknown", "none"]),
    st.sampled_from(["large", "small", "route"]),
    THRESHOLDS,
    st.integers(1, 5),
    st.integers(1, 12),
    st.sampled_from([(), ("So",), ("\n\nb",), ("<",)]),
)
def test_no_token_is_lost_whatever_the_models_write(
    small: list[ScriptedStep],
    large: list[ScriptedStep],
    units: tuple[str, str],
    opening: str,
    answer_by: str,
    threshold: float,
    per_delta: int,
    max_step_tokens: int,
    stop: tuple[str, ...],
) -> None:
    """`play` checks what must hold for every turn."""
    answer = "The</b> end.\n\nSo be it."
    engines = pair(small, large, answer, units=units, tokens_per_delta=per_delta)
    played = asyncio.run(
        play(
            *engines,
            opening=opening,
            threshold=threshold,
            answer_by=answer_by,
            max_step_tokens=max_step_tokens,
            max_thinking_tokens=60,
            max_tokens=40,
            stop=stop,
        )
    )
    check_contexts(played)
    trace = played.trace
    assert "</think>" not in trace.thought
    assert not any(text in trace.answer for text in stop)
    assert trace.usage.thinking_tokens <= 60 + 2
    assert trace.usage.answer_tokens <= 40 + 1


def test_the_policy_cannot_probe_without_entropy() -> None:
    with pytest.raises(ValueError, match="top_logprobs=1 shows no entropy"):
        GlimpRouter(top_logprobs=1)
