"""One turn: how a thought opens and closes, who answers, where an answer stops."""

from __future__ import annotations

import pytest

from langchain_glimprouter.engines.scripted import ScriptedStep
from langchain_glimprouter.engines.scripted_vocabulary import END
from langchain_glimprouter.routing.events import StepFinished, StepStarted, TokenDelta
from langchain_glimprouter.routing.steps import BlankLines
from unit_tests.turns import PROMPT, check_contexts, pair, play

SMALL = [ScriptedStep("Small one.\n\n"), ScriptedStep("Small two.\n\n", 2.0), "Small three.\n\n"]
LARGE = ["Large one.\n\n", "Large two.\n\n", "Large three.\n\n"]


async def test_a_turn_from_end_to_end() -> None:
    played = await play(*pair(SMALL, LARGE, "The answer\n\nis seven."))
    assert played.texts == [
        "Small one.\n\n",
        "Large two.\n\n",
        "Small three.\n\n",
        "",
        "The answer\n\nis seven.",
    ]
    assert played.writers == "slssL"
    trace = played.trace
    assert trace.usage.hand_offs == 3
    assert trace.intervention_rate == 1 / 4
    assert (trace.small, trace.large, trace.policy) == ("tiny", "huge", "glimprouter")
    assert [step.ended_by for step in trace.steps] == [
        *["delimiter"] * 3,
        "closed",
        "end_of_text",
    ]
    assert trace.seconds >= sum(step.seconds for step in trace.steps) > 0
    check_contexts(played)
    assert "</think>" not in played.shown


async def test_text_streams_as_it_comes() -> None:
    played = await play(*pair(["One two three.\n\n"], [], "Four five."))
    deltas = [event.text for event in played.events if isinstance(event, TokenDelta)]
    assert deltas == ["One", " two", " three.\n\n", "Four", " five."]


async def test_the_answer_sees_the_whole_thought() -> None:
    played = await play(*pair(SMALL, LARGE))
    context = played.large._vocabulary.decode(played.large.calls[-1].context)
    assert context == (f"{PROMPT}<think>\nSmall one.\n\nLarge two.\n\nSmall three.\n\n</think>")


# -- the end of a thought ------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [("</think>\n\nSeven",), ("</", "think", ">\n\nSeven")])
@pytest.mark.parametrize("units", [("words", "words"), ("words", "characters")])
async def test_text_behind_the_end_tag_belongs_to_the_answer(
    tokens: tuple[str, ...], units: tuple[str, str]
) -> None:
    """One token may end the thought and begin the answer; nothing of it is lost or shown twice."""
    small = ["One.\n\n", ScriptedStep("".join(tokens), tokens=tokens)]
    played = await play(*pair(small, [], "Seven it is.", units=units))
    assert played.trace.thought == "One.\n\n"
    assert played.trace.answer == "Seven it is."
    assert played.trace.thought_end == "closed"
    assert not played.trace.forced_close
    check_contexts(played)


async def test_a_tag_in_pieces_is_never_shown_in_part() -> None:
    tokens = ("Done <b", ">", "<", "/th", "ink", ">")
    small = [ScriptedStep("".join(tokens), tokens=tokens)]
    played = await play(*pair(small, []))
    assert [event.text for event in played.events if isinstance(event, TokenDelta)] == [
        "Done <b",
        ">",
        "Seven.",
    ]


async def test_half_a_tag_at_the_end_of_text_is_text() -> None:
    small = [ScriptedStep("1 </", tokens=("1", " </", END))]
    played = await play(*pair(small, []))
    assert played.trace.thought == "1 </"
    assert played.trace.thought_end == "end_of_text"
    assert played.trace.forced_close


@pytest.mark.parametrize("entropy", [0.05, 2.0])
async def test_end_of_text_as_a_steps_first_token(entropy: float) -> None:
    """A confident model may end; an unsure one is not let to: the large model decides."""
    small = ["One.\n\n", ScriptedStep(END, entropy, tokens=(END,))]
    played = await play(*pair(small, LARGE))
    trace = played.trace
    if entropy < 1:
        assert played.texts == ["One.\n\n", "", "Seven."]
        assert (trace.thought_end, trace.forced_close) == ("end_of_text", True)
        assert trace.steps[1].tokens.decode == 1
    else:
        assert played.texts[:2] == ["One.\n\n", "Large two.\n\n"]
    closed = played.large._vocabulary.decode(played.large.calls[-1].context)
    assert closed.endswith("</think>\n\n" if trace.forced_close else "</think>")


async def test_a_thought_that_ends_without_its_tag_is_closed_for_the_answer() -> None:
    small = [ScriptedStep("One.", tokens=("One.", END))]
    for units in (("words", "words"), ("words", "characters")):
        played = await play(*pair(small, [], units=units))
        context = played.large._vocabulary.decode(played.large.calls[-1].context)
        assert context == f"{PROMPT}<think>\nOne.\n</think>\n\n"
        assert played.trace.thought == "One."


async def test_an_empty_thought() -> None:
    played = await play(*pair([], [], "Seven."))
    assert played.texts == ["", "Seven."]
    assert played.trace.thought == ""
    assert played.trace.thought_end == "closed"


async def test_a_prompt_may_end_right_behind_the_tag() -> None:
    small = [ScriptedStep("\nOne.\n\n", 0.9, ("\n", "One.\n\n")), "Two.\n\n"]
    played = await play(*pair(small, LARGE), opening="tag")
    assert played.texts[0] == "One.\n\n"  # the template's newline is no step's
    assert played.trace.steps[0].probe is not None
    assert played.trace.steps[0].probe.candidates[0][0] == "One.\n\n"


async def test_text_in_the_opening_token_is_the_first_steps() -> None:
    small = [ScriptedStep("<think>So 1.\n\n", 0.05, ("<think>So", " 1.\n\n")), "Two.\n\n"]
    played = await play(*pair(small, LARGE), opening="unknown", answer_by="small")
    assert played.texts[0] == "So 1.\n\n"
    assert played.trace.steps[0].probe is not None
    assert played.trace.steps[0].probe.candidates[0][0] == " 1.\n\n"


# -- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer_by", "writers"), [("large", "sssL"), ("small", "sssS"), ("route", "sssSS")]
)
async def test_who_answers(answer_by: str, writers: str) -> None:
    small, large = pair(["One.\n\n", "Two.\n\n"], [], "It is\n\nseven.")
    played = await play(small, large, answer_by=answer_by)
    assert played.writers == writers
    assert played.trace.answer == "It is\n\nseven."
    if answer_by != "route":
        assert played.trace.steps[-1].reason == "answer"
        assert len(played.trace.routed_steps) == 3


async def test_white_space_before_the_answer_is_dropped() -> None:
    played = await play(*pair(["One.\n\n"], [], "\n\n \nSeven.\n"))
    assert played.trace.answer == "Seven.\n"


STOPS = [
    (("Stop",), "Say", ["Say", " ", "Stop", " it"]),
    (("Stop",), "Say", ["Say", " St", "op it"]),
    (("\n\nQ:",), "Say.", ["Say.", "\n", "\nQ", ": more"]),
    (("Q:", "A:"), "Say ", ["Say", " A", ":", " Q:"]),
    (("S",), "", ["Say", " more"]),
]


@pytest.mark.parametrize(("stop", "answer", "tokens"), STOPS)
@pytest.mark.parametrize("opening", ["opened", "none"])
async def test_stop_strings_across_tokens(
    stop: tuple[str, ...], answer: str, tokens: list[str], opening: str
) -> None:
    """The stop string is not part of the answer, and neither is any piece of it."""
    if opening == "none":
        script = [ScriptedStep("".join(tokens), tokens=tuple(tokens))]
        played = await play(*pair(script, []), opening="none", stop=stop)
    else:
        played = await play(*pair([], [], "".join(tokens)), stop=stop)
    assert played.trace.answer.rstrip() == answer.rstrip()
    assert played.trace.stop_reason == "stop"
    assert played.trace.steps[-1].ended_by == "stop"


async def test_stop_strings_do_not_end_a_thought() -> None:
    played = await play(*pair(["Stop here.\n\n"], [], "Go. Stop."), stop=("Stop",))
    assert played.trace.thought == "Stop here.\n\n"
    assert played.trace.answer == "Go. "


async def test_what_might_have_become_a_stop_string_is_shown_at_the_end() -> None:
    played = await play(*pair([], [], "Seven Sto"), stop=("Stop",))
    assert played.trace.answer == "Seven Sto"
    assert played.trace.stop_reason == "end_of_text"


async def test_a_stop_string_may_begin_like_a_delimiter() -> None:
    """A blank line is held back until it is no stop string; it is shown with the next step."""
    script = ["One.\n\n", ScriptedStep("Two.\n\n", 2.0), "Three."]
    large = ["", "Large two.\n\n"]
    played = await play(*pair(script, large), opening="none", stop=("\n\nHuman:",))
    assert played.trace.text == "One.\n\nLarge two.\n\nThree."
    assert [text.strip() for text in played.texts] == ["One.", "Large two.", "Three."]
    assert played.writers == "SLS"


# -- steps ---------------------------------------------------------------------------------------


async def test_a_token_may_hold_a_delimiter_in_its_middle() -> None:
    small = [ScriptedStep("One.\n\nTwo.\n\n", tokens=("One", ".\n\nTwo", ".\n\n")), "Three.\n\n"]
    played = await play(*pair(small, LARGE))
    assert played.texts[:2] == ["One.\n\nTwo", ".\n\n"]


async def test_delimiters_in_two_tokens_end_a_step_of_either_model() -> None:
    small = [ScriptedStep("One.\n\n", 2.0, ("One.", "\n", "\n")), "Two.\n\n", "Three.\n\n"]
    large = [ScriptedStep("LARGE.\n\n", 0.0, ("LARGE.", "\n", "\n"))]
    played = await play(*pair(small, large))
    assert played.texts[:2] == ["LARGE.\n\n", "Two.\n\n"]
    assert played.writers.startswith("ls")
    assert [step.tokens.decode for step in played.trace.steps[:2]] == [3, 1]


@pytest.mark.parametrize("inside_code", [True, False])
async def test_code_blocks(inside_code: bool) -> None:
    small = ["See:\n\n", "```\na\n\n", "b\n```\n\n", "End.\n\n"]
    rule = BlankLines(inside_code=inside_code)
    played = await play(*pair(small, []), steps=rule)
    assert len(played.texts) == (6 if inside_code else 5)
    assert ("```\na\n\nb\n```\n\n" in played.texts) is not inside_code


async def test_events_come_in_time() -> None:
    """A step is announced before its first text, and over before the next one is probed."""
    played = await play(*pair(SMALL, LARGE))
    kinds = [
        "s" if isinstance(event, StepStarted) else "f"
        for event in played.events
        if isinstance(event, StepStarted | StepFinished)
    ]
    assert "".join(kinds) == "sf" * len(played.trace.steps)
