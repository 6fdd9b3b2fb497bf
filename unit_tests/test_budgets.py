"""Budgets, windows and loops: what ends a step, a thought or an answer before its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.errors import PromptTooLongError
from langchain_glimprouter.routing.policies import Always
from unit_tests.turns import OPENED, PROMPT, Vocabulary, check_contexts, pair, play

WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
LONG = f"{WORDS}\n\n"  # 26 tokens
THOUGHT = len(Vocabulary().encode(f"{PROMPT}<think>\n", special=True))


def sizes(played: object) -> list[int]:
    return [step.tokens.decode for step in played.trace.steps]  # type: ignore[attr-defined]


# -- max_thinking_tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("units", [("words", "words"), ("characters", "words")])
@pytest.mark.parametrize("per_delta", [1, 4])
async def test_a_thought_beyond_its_budget_is_closed(
    units: tuple[str, str], per_delta: int
) -> None:
    engines = pair([LONG] * 9, [], units=units, tokens_per_delta=per_delta)
    played = await play(*engines, max_thinking_tokens=33, loop_guard=False)
    trace = played.trace
    assert trace.usage.thinking_tokens == 33
    assert (trace.thought_end, trace.forced_close) == ("max_thinking_tokens", True)
    assert trace.answer == "Seven."
    assert trace.steps[-2].ended_by == "budget"
    context = played.large._vocabulary.decode(played.large.calls[-1].context)
    assert context == f"{PROMPT}<think>\n{trace.thought}\n</think>\n\n"
    assert played.small.calls[0].request.max_tokens == 33
    check_contexts(played)


@pytest.mark.parametrize("budget", range(1, 8))
async def test_no_budget_is_overrun_by_the_large_model(budget: int) -> None:
    small = [ScriptedStep(f"s{index} x.\n\n", 2.0) for index in range(9)]
    large = [f"l{index} x y.\n\n" for index in range(9)]
    played = await play(*pair(small, large), max_thinking_tokens=budget)
    assert played.trace.usage.thinking_tokens == budget
    assert played.trace.thought_end == "max_thinking_tokens"


async def test_text_held_back_at_the_budget_is_shown() -> None:
    small = [ScriptedStep("a </thi", tokens=("a", " <", "/thi"))]
    played = await play(*pair(small, []), max_thinking_tokens=2)
    assert played.trace.thought == "a <"


# -- max_tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer_by", ["large", "small", "route"])
@pytest.mark.parametrize("per_delta", [1, 4])
async def test_an_answer_ends_with_its_budget(answer_by: str, per_delta: int) -> None:
    engines = pair([], [], f"{WORDS}\n\nmore", tokens_per_delta=per_delta)
    played = await play(*engines, max_tokens=5, answer_by=answer_by)
    assert played.trace.answer == "a b c d e"
    assert played.trace.stop_reason == "max_tokens"
    assert played.trace.usage.answer_tokens == 5
    assert played.trace.steps[-1].ended_by == "budget"


async def test_the_budgets_are_apart() -> None:
    played = await play(*pair(["a b c d e f.\n\n"], [], WORDS), max_tokens=3)
    assert played.trace.usage.thinking_tokens == 7
    assert played.trace.usage.answer_tokens == 3


async def test_a_model_that_does_not_think_keeps_to_max_tokens() -> None:
    for opening in ("none", "unknown"):
        options = {"max_tokens": 7, "max_thinking_tokens": 3}
        played = await play(*pair([LONG] * 3, []), opening=opening, **options)
        assert played.trace.usage.answer_tokens == 7
        assert played.trace.stop_reason == "max_tokens"


# -- max_step_tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("units", [("words", "words"), ("words", "characters")])
async def test_a_long_step_is_cut_and_the_next_one_decided_anew(units: tuple[str, str]) -> None:
    """The engine goes on in the same request; only the decision is new."""
    small, large = pair([ScriptedStep(LONG, 0.3)], [], units=units)
    played = await play(small, large, max_step_tokens=10)
    assert sizes(played)[:3] == [10, 10, 6]
    assert [step.ended_by for step in played.trace.steps[:3]] == ["length", "length", "delimiter"]
    assert played.trace.thought == LONG
    assert len(small.calls) == 1
    entropies = [step.probe.entropy for step in played.trace.steps[:3] if step.probe]
    assert entropies == pytest.approx([0.3, 0.05, 0.05], abs=1e-6)
    check_contexts(played)


async def test_a_long_step_of_the_large_model_is_cut_too() -> None:
    small, large = pair([ScriptedStep("x\n\n", 2.0)], [LONG])
    played = await play(small, large, max_step_tokens=10)
    assert played.writers.startswith("l")
    assert sizes(played)[0] == 10
    assert large.calls[0].request.max_tokens < 20  # the engine is not left to run on
    assert played.trace.steps[1].probe is not None


async def test_an_answer_by_one_model_is_no_step_to_be_cut() -> None:
    played = await play(*pair([], [], LONG), max_step_tokens=10)
    assert sizes(played)[-1] == 27


async def test_no_step_is_cut_in_the_middle_of_a_tag() -> None:
    tokens = ("a", " b", " c </", "thi", "nk>")
    small = [ScriptedStep("".join(tokens), tokens=tokens)]
    played = await play(*pair(small, []), max_step_tokens=3)
    assert played.texts == ["a b c ", "Seven."]
    assert played.trace.thought_end == "closed"


class Halves(Vocabulary):
    """Characters of two tokens: `½x` begins what `¼x` ends."""

    def decode(self, token_ids: object) -> str:
        decoder = self.decoder()
        return "".join(decoder.push(token) for token in token_ids)  # type: ignore[attr-defined]

    def decoder(self, context: object = ()) -> object:  # type: ignore[override]
        texts = self._table.texts

        class Decoder:
            def push(self, token_id: int) -> str:
                text = texts[token_id]
                return "" if text[:1] == "½" else text.removeprefix("¼")

        return Decoder()


async def test_no_step_is_cut_in_the_middle_of_a_character() -> None:
    tokens = ("a", "b", "½é", "½é", "¼é", "c", "d", "e.\n\n")
    small, large = pair([ScriptedStep("abécde.\n\n", tokens=tokens)], [])
    for engine in (small, large):
        engine._vocabulary = Halves()
    played = await play(small, large, max_step_tokens=3)
    assert played.texts[:2] == ["abé", "cde.\n\n"]
    assert sizes(played)[:2] == [5, 3]


async def test_a_character_that_never_ends_does_not_keep_a_step_open() -> None:
    small, large = pair([ScriptedStep("é", tokens=("a", *["½é"] * 50))], [])
    for engine in (small, large):
        engine._vocabulary = Halves()
    played = await play(small, large, max_step_tokens=3)
    assert sizes(played)[0] == 3 + 8


# -- context windows -----------------------------------------------------------------------------


def windowed(
    small: int, large: int, steps: Sequence[str] = (LONG,) * 40, answer: str = "Seven."
) -> tuple[Any, Any]:
    engines = pair(steps, [], answer)
    engines[0]._window, engines[1]._window = small, large
    return engines


@pytest.mark.parametrize(("small", "large", "answer"), [(80, 1000, WORDS), (1000, 80, "Seven.")])
async def test_the_narrower_window_ends_the_thought_with_room_for_the_answer(
    small: int, large: int, answer: str
) -> None:
    engines = windowed(small, large, answer=answer)
    played = await play(*engines, max_thinking_tokens=500, loop_guard=False, max_tokens=40)
    trace = played.trace
    assert (trace.thought_end, trace.forced_close) == ("context_window", True)
    assert trace.answer == answer
    assert trace.stop_reason == "end_of_text"
    assert 80 - THOUGHT - 40 < trace.usage.thinking_tokens < 80 - THOUGHT


async def test_the_only_model_keeps_room_for_its_answer() -> None:
    played = await play(*windowed(80, 3, answer=WORDS), Always("small"), max_tokens=40)
    assert played.trace.thought_end == "context_window"
    assert len(played.trace.answer) > 20


async def test_an_answer_beyond_the_window_says_so() -> None:
    engines = windowed(1000, 60, ["a b.\n\n"], LONG * 9)
    played = await play(*engines)
    assert played.trace.stop_reason == "context_window"
    assert played.trace.steps[-1].ended_by == "budget"
    assert len(played.large.calls[-1].context) + played.trace.usage.answer_tokens == 60


async def test_a_step_may_outgrow_the_other_models_window() -> None:
    """A word here is many characters there; the engine is never asked for what cannot fit."""
    small, large = pair(["word " * 30 + "\n\n"] * 4, [], units=("words", "characters"))
    large._window = 300
    played = await play(small, large, loop_guard=False)
    assert played.trace.thought_end == "context_window"
    assert all(len(call.context) < 300 for call in large.calls)


async def test_a_prompt_that_fills_the_window_leaves_an_answer_its_room() -> None:
    engines = windowed(1000, THOUGHT + 12)
    played = await play(*engines)
    assert played.trace.thought_end == "context_window"
    assert played.trace.usage.thinking_tokens == 0
    assert played.trace.answer


@pytest.mark.parametrize(("role", "window"), [("small", 5), ("large", THOUGHT), ("large", 3)])
async def test_a_prompt_too_long_says_for_which_model_and_by_how_much(
    role: str, window: int
) -> None:
    small, large = windowed(*((window, 99) if role == "small" else (99, window)))
    name = {"small": "tiny", "large": "huge"}[role]
    with pytest.raises(PromptTooLongError) as caught:
        await play(small, large)
    message = str(caught.value)
    assert f"{role} model '{name}'" in message
    assert f"{THOUGHT} tokens" in message
    assert f"{THOUGHT - window + 1} more" in message
    assert "shorten" in message
    assert small.starts == large.starts == 0  # said before an engine starts


async def test_a_prompt_with_one_token_of_room_is_taken() -> None:
    engines = windowed(99, THOUGHT + 1)
    played = await play(*engines)
    assert played.trace.stop_reason == "context_window"
    assert played.trace.answer == ""


async def test_the_window_of_a_model_that_takes_no_part_does_not_matter() -> None:
    small, large = windowed(1000, 3, ["a b.\n\n"])
    played = await play(small, large, Always("small"))
    assert played.trace.answer == "Seven."
    assert large.starts == 0


# -- loops ---------------------------------------------------------------------------------------


async def test_a_thought_that_loops_is_ended() -> None:
    played = await play(*pair([LONG] * 20, []))
    assert played.texts == [LONG, LONG, "Seven."]
    assert (played.trace.thought_end, played.trace.forced_close) == ("loop", True)


async def test_a_routed_answer_that_loops_is_ended() -> None:
    played = await play(*pair([LONG] * 20, []), opening="none")
    assert played.texts == [LONG, LONG]
    assert played.trace.stop_reason == "loop"


async def test_the_loop_guard_can_be_off() -> None:
    played = await play(*pair([LONG] * 5, []), opening=OPENED, loop_guard=False)
    assert played.trace.thought_end == "closed"
    assert played.writers == "ssssssL"
