"""The option `steps`: its forms, and every rule in whole turns under every policy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langchain_glimprouter import ChatGlimpRouter, ScriptedEngine, ScriptedStep
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.policies import Always, GlimpRouter, Random
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.policies.named import named_policy
from langchain_glimprouter.routing.steps import (
    BlankLines,
    CueWords,
    EndsWhen,
    MaxTokens,
    MinTokens,
    Newlines,
    Sentences,
    Steps,
    as_steps,
)
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests import command
from unit_tests.models import router
from unit_tests.test_readme import blocks, model
from unit_tests.test_thought import hopping
from unit_tests.turns import Played, pair, play, turn_request


def comma(text: str) -> bool:
    return text.endswith(",")


# -- forms -----------------------------------------------------------------------------------------

HI = [HumanMessage("Hi")]
FORMS: list[tuple[object, Steps]] = [
    ("blank line", BlankLines()),
    ("Blank-Line", BlankLines()),
    ("newline", Newlines()),
    ("sentence", Sentences()),
    ("cue words", CueWords()),
    ("cue_words", CueWords()),
    ("newline(8)", MinTokens(Newlines(), 8)),
    ("cue words ( 4 )", MinTokens(CueWords(), 4)),
    (64, MaxTokens(64)),
    ("64", MaxTokens(64)),
    (comma, EndsWhen(comma)),
    (Sentences(at_once=False), Sentences(at_once=False)),
]


@pytest.mark.parametrize(("given_", "rule"), FORMS)
def test_forms(given_: Any, rule: Steps) -> None:
    assert as_steps(given_) == rule
    chat = router(steps=given_)
    assert chat.settle(HI, {})[0].options.steps == rule
    assert router().settle(HI, {"steps": given_})[0].options.steps == rule


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("newlin", r"unknown steps 'newlin'; did you mean 'newline'\?"),
        ("sentences", r"did you mean 'sentence'\?"),
        ("paragraphs!", r"unknown steps 'paragraphs!'; known: blank line, cue words, newline"),
        ("\n", r"steps='\\n' is no name of a rule: .*BlankLines\(\('\\n',\)\)"),
        ("", r"steps='' is no name of a rule"),
        ("newline(0)", r"fewest tokens of a step, 1 or more: write for instance 'newline\(8\)'"),
        ("newline(many)", r"fewest tokens of a step"),
        (0, r"steps: 0 is no number of tokens"),
        (True, r"steps=True is no rule: give one of the names blank line, newline"),
        (None, r"steps=None is no rule"),
        (2.5, r"steps=2\.5 is no rule"),
        (CueWords, r"steps=.*CueWords.* is no rule"),
        (lambda: True, r"does not take a step's text alone"),
    ],
)
async def test_what_is_no_rule_is_refused_before_an_engine_starts(bad: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        router(steps=bad)
    chat: Any = router()
    with pytest.raises(ConfigurationError, match=words):
        await chat.ainvoke("Hi", steps=bad)
    assert chat.small.requests == chat.large.requests == []


def test_stop_strings_must_not_be_delimiters() -> None:
    with pytest.raises(ConfigurationError, match="also the delimiter of steps"):
        router(steps="newline(8)", stop=["\n"])
    assert router(steps="sentence", stop=["\n"]).stop == ["\n"]


def test_the_readme_runs() -> None:
    names: dict[str, Any] = {"model": model()}
    for block in blocks("Where steps end"):
        exec(block, names)


# -- the command -----------------------------------------------------------------------------------

URLS = ("--small", "http://127.0.0.1:9/v1", "--large", "http://127.0.0.1:10/v1")


def test_ask_takes_a_rule_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def scripted(small: str, large: str, **options: Any) -> ChatGlimpRouter:
        assert small != large
        script = ["One.\nTwo.\nThree.\n\n"]
        engines = {role: ScriptedEngine(script, "Four.", name=role) for role in ("small", "large")}
        return ChatGlimpRouter(**engines, **options)

    monkeypatch.setattr("langchain_glimprouter.chat_models.ChatGlimpRouter", scripted)
    counts = []
    for rule in ("blank line", "newline", "2"):
        arguments = ["ask", "Why?", *URLS, "--thinking", "--json", "--steps", rule]
        result = command.run(*arguments)
        assert result.exit_code == 0, result.output
        steps = json.loads(result.stdout)["steps"]
        counts.append(sum(step["phase"] == "thinking" for step in steps))
    assert counts == [2, 4, 2]  # the end tag is a step of its own, unless a step has room for it


def test_ask_knows_the_nearest_name() -> None:
    arguments = ["ask", "Why?", *URLS, "--steps", "newlin"]
    result = command.run(*arguments)
    assert result.exit_code == 2
    assert "did you mean 'newline'?" in result.output


# -- whole turns -----------------------------------------------------------------------------------

RULES: list[Steps] = [
    Newlines(),
    Sentences(),
    CueWords(),
    MaxTokens(3),
    EndsWhen(comma),
    MinTokens(Newlines(), 3),
    MinTokens(Sentences(at_once=False), 4),
]
UNITS = st.sampled_from(
    [
        ("words", "words"),
        ("characters", "characters"),
        ("words", "characters"),
        ("characters", "words"),
    ]
)
PIECES = st.lists(
    st.sampled_from(["So,", "it", "is", "née.", "7.", "\n", "Wait", "<b>", "no!", "a,"]),
    min_size=1,
    max_size=8,
).map(" ".join)
TEXTS = st.lists(PIECES, max_size=4)


def scripts(texts: list[str], entropy: float = 0.3) -> list[str | ScriptedStep]:
    # A scripted engine counts blank lines, so that each step may have one only.
    lines = [f"{index} {text}".rstrip("\n") for index, text in enumerate(texts)]
    return [ScriptedStep(f"{line}\n\n", entropy) for line in lines]


def check_borders(played: Played, rule: Steps) -> None:
    """Each step of the thought ends with the token at which the rule says so, and not before."""
    splitter = rule.splitter()
    for step in played.trace.steps:
        if step.phase != "thinking":
            break
        engine = played.small if step.writer == "small" else played.large
        tokens = engine._vocabulary.pieces(played.trace.step_text(step))
        ends = [splitter.push(token) for token in tokens]
        splitter.restart()
        assert not any(ends[:-1])
        assert step.ended_by in ("closed", "delimiter", "length", "budget", "stripped")
        if step.ended_by == "delimiter":
            assert ends[-1:] == [True]
        elif step.ended_by == "length":
            assert ends[-1:] == [False]


POLICIES = [
    "glimprouter",
    "always small",
    "always large",
    "random(0.5)",
    "reference",
    "step entropy",
    "step perplexity",
    "speccot(2)",
    "specreason(7)",
    "two sided(0.85)",
]


@pytest.mark.parametrize("name", POLICIES)
@given(
    small=TEXTS,
    large=TEXTS,
    rule=st.sampled_from(RULES),
    units=UNITS,
    threshold=st.sampled_from([0.0, 0.1, 9.0]),
    per_delta=st.integers(1, 4),
    most=st.sampled_from([6, 512]),
)
def test_every_rule_works_under_every_policy(
    name: str,
    small: list[str],
    large: list[str],
    rule: Steps,
    units: tuple[str, str],
    threshold: float,
    per_delta: int,
    most: int,
) -> None:
    policy = named_policy(name, GlimpRouter(Fixed(threshold)), seed=7)
    engines = pair(scripts(small), scripts(large), "So.", units=units, tokens_per_delta=per_delta)
    played = asyncio.run(
        play(
            *engines, policy, steps=rule, max_step_tokens=most, loop_guard=False,
            max_thinking_tokens=150,
        )
    )  # fmt: skip
    assert played.trace.answer
    check_borders(played, rule)


@given(TEXTS, st.sampled_from(RULES), UNITS, st.sets(st.integers(0, 20)), st.booleans())
def test_saved_between_any_two_steps_a_turn_ends_the_same(
    texts: list[str],
    rule: Steps,
    units: tuple[str, str],
    breaks: set[int],
    thinks: bool,
) -> None:
    """Both models follow one script, so that only who writes which step is left to differ."""

    def make() -> tuple[Any, Any]:
        return pair(scripts(texts), scripts(texts), "So be it.", units=units)

    policy = Random(0.5, 7)
    options: dict[str, Any] = {
        "opening": "opened" if thinks else "none",
        "steps": rule,
        "loop_guard": False,
    }
    asyncio.run(play(*make(), policy, **options))
    plain = asyncio.run(play(*make(), policy, **options)).trace
    trace, _, _ = asyncio.run(hopping(make, turn_request(*make(), **options), policy, breaks))
    assert trace.text == plain.text
    assert [(step.end, step.writer, step.ended_by) for step in trace.steps] == [
        (step.end, step.writer, step.ended_by) for step in plain.steps
    ]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("policy", [GlimpRouter(Fixed(0.0)), Random(1.0)])
async def test_a_step_of_the_large_model_is_cut_where_its_engine_runs_on(
    rule: Steps, policy: Policy
) -> None:
    text = "Now, add.\nWait, 3 and 4.\nSo, seven, or so.\nThen, stop.\n\n"
    small, large = pair([ScriptedStep(text, 2.0)], [text])
    played = await play(small, large, policy, steps=rule)
    check_borders(played, rule)
    assert played.trace.thought == text
    assert sum(step.phase == "thinking" for step in played.trace.steps) > 2
    assert played.trace.usage.large.discarded <= len(large.calls)  # what comes before the close
    for call in large.calls:
        answers = call is large.calls[-1]
        assert bool(call.request.stop_token_ids) == (bool(rule.delimiters) and not answers)


async def test_a_cue_word_is_the_last_of_its_step_and_the_probe_is_what_follows() -> None:
    text = "Add three.\nWait, it is four.\n\n"
    tokens = ("Add", " three", ".\n", "Wait", ",", " it", " is", " four", ".\n\n")
    small = [ScriptedStep(text, 0.2, tokens=tokens)]
    played = await play(*pair(small, []), steps=CueWords())
    assert played.texts[:2] == ["Add three.\nWait,", " it is four.\n\n"]
    probe = played.trace.steps[1].probe
    assert probe is not None
    assert probe.candidates[0][0] == " it"


async def test_always_writes_in_one_request_whatever_the_rule() -> None:
    for rule in RULES:
        small, large = pair([], scripts(["So, it is.\nWait, no."]))
        await play(small, large, Always("large"), steps=rule)
        assert len(large.calls) == 1 + 1  # thought and answer


def test_a_function_that_fails_ends_the_turn_and_frees_the_engines() -> None:
    def broken(text: str) -> bool:
        raise LookupError(text)

    chat = router(steps=broken)
    with pytest.raises(LookupError, match="Three"):
        chat.invoke("What is 3 + 4?")
    assert chat.small.running == chat.large.running == 0  # type: ignore[union-attr]
    assert chat.invoke("What is 3 + 4?", steps="sentence").content
