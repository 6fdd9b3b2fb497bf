"""Answers, and parts of them, that one model writes: grammars and tool calls."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.engines.base import GenerationDelta
from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.errors import EngineRequestError
from langchain_glimprouter.routing.options import TurnOptions
from langchain_glimprouter.routing.policies import Always, GlimpRouter, Reference
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.router import Router
from langchain_glimprouter.routing.thresholds import Fixed
from unit_tests.cuttings import cuttings
from unit_tests.turns import Played, Recorder, check_contexts, pair, play

GRAMMAR = {"json": {"type": "object"}}
SMALL = ["Small one.\n\n", ScriptedStep("Small two.\n\n", 2.0), "Small three.\n\n"]
LARGE = ["Large one.\n\n", "Large two.\n\n", "Large three.\n\n"]
ANSWER = '{"a":\n\n1}'


def constrained(played: Played) -> list[object]:
    return [call.request.constraint for call in played.small.log]


# -- grammars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer_by", "writer"), [("large", "L"), ("small", "S"), ("route", "L")])
async def test_one_model_writes_a_constrained_answer_in_one_request(
    answer_by: str, writer: str
) -> None:
    """The thought before it is routed, and free."""
    played = await play(*pair(SMALL, LARGE, ANSWER), constraint=GRAMMAR, answer_by=answer_by)
    assert played.writers == "slss" + writer
    assert played.trace.answer == ANSWER
    assert constrained(played) == [None, None, None, GRAMMAR]
    assert played.trace.steps[-1].reason == "answer"


@pytest.mark.parametrize("opening", ["none", "unknown"])
@pytest.mark.parametrize("answer_by", ["large", "small", "route"])
async def test_without_a_thought_no_policy_is_asked(opening: str, answer_by: str) -> None:
    script = [ScriptedStep("One.\n\n", 2.0), ScriptedStep("Two.\n\n", 2.0)]
    engines = pair(script, script, "One.\n\nTwo.\n\n")
    played = await play(
        *engines, opening=opening, answer_by=answer_by, constraint=GRAMMAR, max_step_tokens=1
    )
    assert played.texts == ["One.\n\nTwo.\n\n"]
    assert played.writers == ("S" if answer_by == "small" else "L")
    assert constrained(played) == [GRAMMAR]
    assert played.trace.stop_reason == "end_of_text"


async def test_a_pinned_model_writes_its_own_constrained_answer() -> None:
    played = await play(*pair(SMALL, LARGE, ANSWER), Always("small"), constraint=GRAMMAR)
    assert played.writers == "ssssS"
    assert constrained(played) == [None, GRAMMAR]
    assert played.large.starts == 0


def test_a_constrained_answer_that_nobody_claims_needs_the_large_model() -> None:
    class Small(GlimpRouter):
        roles = frozenset({"small"})

    routed = TurnOptions(answer_by="route")
    assert Router.roles(Small(), routed) == ("small",)
    grammar = TurnOptions(answer_by="route", constraint=GRAMMAR)
    assert Router.roles(Small(), grammar) == ("small", "large")
    assert Router.roles(Always("small"), grammar) == ("small",)


async def test_text_behind_the_end_tag_is_no_part_of_a_grammars_text() -> None:
    small = [ScriptedStep("</think>{", tokens=("</think>{",))]
    played = await play(*pair(small, [], "{1}"), constraint=GRAMMAR)
    assert played.trace.answer in ("{1}", "1}")  # the script goes on; a grammar would begin anew


async def test_a_constrained_answer_keeps_its_budget_and_stop_strings() -> None:
    played = await play(*pair([], [], "a b c d"), constraint=GRAMMAR, max_tokens=2)
    assert (played.trace.answer, played.trace.stop_reason) == ("a b", "max_tokens")
    played = await play(*pair([], [], "a b c d"), constraint=GRAMMAR, stop=("c",))
    assert (played.trace.answer, played.trace.stop_reason) == ("a b ", "stop")


async def test_a_grammar_is_never_begun_again_in_mid_text() -> None:
    class Broken(Recorder):
        async def deltas(self, request: object) -> object:  # type: ignore[override]
            yield GenerationDelta([self._vocabulary.token("{")], None, None, 0)

    small, _ = pair([], [], ANSWER)
    broken = Broken([], ANSWER, name="huge")
    broken.log = small.log
    with pytest.raises(EngineRequestError, match="large engine: .*grammar") as caught:
        await play(small, broken, constraint=GRAMMAR)
    assert caught.value.trace is not None
    assert caught.value.trace.answer == "{"


# -- what must not be split ----------------------------------------------------------------------

MARKER = "<tool_call>"
CALL = '<tool_call>\n\n{"a": "x\n\ny"}\n\n</tool_call>\n\nb\n\n'


@st.composite
def calls(draw: st.DrawFn) -> list[ScriptedStep]:
    """Some text, and a tool call full of blank lines, cut anywhere."""
    before = draw(st.sampled_from(["", "So.\n\n", "So it is. ", "a <tool b.\n\n", "x <"]))
    tokens = [token for token in draw(cuttings(st.just(before + CALL))) if token]
    return [ScriptedStep(before + CALL, draw(st.sampled_from([0.05, 2.0])), tuple(tokens))]


@given(
    calls(),
    st.sampled_from([("words", "words"), ("words", "characters"), ("characters", "characters")]),
    st.integers(1, 4),
    st.integers(1, 40),
    st.sampled_from(["none", "unknown"]),
    st.sampled_from([GlimpRouter(Fixed(1.0)), Reference(Fixed(1.0)), Always("large")]),
)
def test_a_tool_call_is_never_split(
    script: list[ScriptedStep],
    units: tuple[str, str],
    per_delta: int,
    max_step_tokens: int,
    opening: str,
    policy: Policy,
) -> None:
    """However it is cut into tokens: no delimiter, no limit and no other model come in between."""
    if policy.name == "reference":
        opening = "none"  # one token a request does not show whether it opens a thought
    whole = script[0].text
    engines = pair(script, script, units=units, tokens_per_delta=per_delta)
    for engine in engines:
        engine._script = scripted(engine, script[0])
    played = asyncio.run(
        play(
            *engines,
            policy,
            opening=opening,
            unsplit=(MARKER,),
            max_step_tokens=max_step_tokens,
            max_tokens=500,
        )
    )
    assert played.trace.text == whole
    marker = whole.index(MARKER)
    inside = [step for step in played.trace.steps if step.end > marker + len(MARKER)]
    assert len(inside) == 1
    assert inside[0].start <= marker
    assert inside[0].end == len(whole)
    if policy.name != "reference":
        check_contexts(played)


def scripted(engine: Recorder, step: ScriptedStep) -> object:
    """Play a step's own tokens from wherever the context ends, since its text has blank lines."""

    def script(request: object) -> object:
        vocabulary = engine._vocabulary
        text = vocabulary.decode(request.token_ids).rpartition("<|assistant|>")[2]  # type: ignore[attr-defined]
        position, tokens = 0, []
        for token in (*step.tokens, "<|end|>"):
            left = token[max(len(text) - position, 0) :] if token != "<|end|>" else token
            position += len(token)
            if left:
                tokens.append((vocabulary.token(left), step.entropy if not text else 0.05))
        return iter(tokens)

    return script


async def test_the_engine_is_not_stopped_within_a_tool_call() -> None:
    """The large model's request may end at a blank line; the next one runs to the end."""
    script = [ScriptedStep(CALL, 2.0)]
    small, large = pair(script, script)
    for engine in (small, large):
        engine._script = scripted(
            engine, ScriptedStep(CALL, 2.0, tuple(engine._vocabulary.pieces(CALL)))
        )
    played = await play(small, large, opening="none", unsplit=(MARKER,))
    assert played.writers == "L"
    assert played.texts == [CALL]
    assert len(large.calls) == 2
    assert not large.calls[1].request.stop_token_ids


async def test_a_tool_call_behind_a_thought_that_is_routed() -> None:
    answer = f"Let me see.\n\n{CALL}"
    script = [ScriptedStep("Think.\n\n")]
    options = {"answer_by": "route", "unsplit": (MARKER,), "max_step_tokens": 6}
    played = await play(*pair(script, script, answer), **options)
    assert played.texts[-2:] == ["Let me see.\n\n", CALL]
    unmarked = await play(*pair(script, script, answer), answer_by="route")
    assert len(unmarked.texts) > len(played.texts)


async def test_a_marker_in_the_token_that_closes_the_thought_counts() -> None:
    small = [ScriptedStep("</think>\n\n<tool", tokens=("</think>\n\n<tool",))]
    played = await play(
        *pair(small, [], CALL.removeprefix("<tool")), answer_by="route", unsplit=(MARKER,)
    )
    assert played.trace.answer.startswith("<tool")
    assert len([step for step in played.trace.steps if step.phase == "answer"]) == 1


async def test_a_marker_in_a_thought_is_only_a_thought() -> None:
    script = [f"So {MARKER}.\n\n", "Two.\n\n"]
    played = await play(*pair(script, script), unsplit=(MARKER,))
    assert played.texts[:2] == script


async def test_a_loop_inside_a_tool_call_is_left_alone() -> None:
    line = "the same line of some forty characters, again\n\n"
    script = [MARKER + line, *[line] * 6]
    played = await play(*pair(script, script), opening="none", unsplit=(MARKER,))
    assert played.texts == ["".join(script)]
    assert played.trace.stop_reason == "end_of_text"


async def test_where_the_beginning_of_a_call_is_unknown_the_answer_is_one_step() -> None:
    script = ["One.\n\n", ScriptedStep("Two.\n\n", 2.0)]
    played = await play(*pair(script, script), opening="none", unsplit=("",), max_step_tokens=1)
    assert (played.writers, played.texts) == ("S", ["One.\n\nTwo.\n\n"])
    played = await play(*pair(script[1:], script[1:]), opening="none", unsplit=("",))
    assert (played.writers, played.texts) == ("L", ["Two.\n\n"])
    assert not played.large.calls[0].request.stop_token_ids
