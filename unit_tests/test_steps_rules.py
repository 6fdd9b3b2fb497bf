"""What holds for every rule of steps: ownership, saving, copies, and the rule behind the tokens."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.steps import (
    BlankLines,
    CueWords,
    EndsWhen,
    MaxTokens,
    MinTokens,
    Newlines,
    Sentences,
    Splitter,
    Steps,
    Whole,
)
from unit_tests.cuttings import cuttings, texts

TEXT = texts(
    "\n", "\n\n", " ", "So", "So, ", "wait", "Wait", ".", "!", "a", "Dr", "3", "14", "**", "é",
    "```", "。", "<", "word ",
)  # fmt: skip


def semicolon(text: str) -> bool:
    return text.endswith((";", "a"))


BY_TEXT: list[Steps] = [
    BlankLines(),
    BlankLines(inside_code=False),
    Newlines(),
    CueWords(),
    CueWords(("wait", "So,", "a w")),
    Sentences(at_once=False),
]
"""Rules whose borders depend on the text alone, up to the end of the token."""

BY_TOKEN: list[Steps] = [
    Sentences(),
    MaxTokens(3),
    MinTokens(Newlines(), 4),
    MinTokens(CueWords(), 2),
    MinTokens(Sentences(), 5),
    MinTokens(semicolon, 2),
    EndsWhen(semicolon),
]
RULES = st.sampled_from([*BY_TEXT, *BY_TOKEN])


def split(tokens: list[str], rule: Steps) -> list[list[str]]:
    """The tokens of each step, as the router cuts them."""
    splitter = rule.splitter()
    steps: list[list[str]] = [[]]
    for token in tokens:
        steps[-1].append(token)
        if splitter.push(token):
            splitter.restart()
            steps.append([])
    return steps


def joined(steps: list[list[str]]) -> list[str]:
    return ["".join(step) for step in steps]


@given(cuttings(TEXT | st.text(max_size=40)), RULES)
def test_every_token_is_in_one_step_and_no_step_is_empty(tokens: list[str], rule: Steps) -> None:
    steps = split(tokens, rule)
    assert [token for step in steps for token in step] == tokens
    for step in steps[:-1]:
        assert step
        assert "".join(step).strip() or isinstance(rule, MaxTokens)


@given(cuttings(TEXT), st.sampled_from(BY_TEXT))
def test_borders_of_tokens_only_lengthen_the_first_step(tokens: list[str], rule: Steps) -> None:
    """It ends in the token that brings the character with which it ends, however text is cut."""
    first, *rest = joined(split(list("".join(tokens)), rule))
    cut_first = joined(split(tokens, rule))[0]
    assert cut_first.startswith(first)
    if rest:
        borders = [sum(map(len, tokens[: count + 1])) for count in range(len(tokens))]
        assert len(cut_first) == next(border for border in borders if border >= len(first))


def live(
    splitter: Splitter, tokens: list[str], data: st.DataObject
) -> tuple[list[str], list[bool]]:
    """Steps as in a turn, some cut by their length, some going on past their end."""
    steps, ends = [""], []
    for token in tokens:
        steps[-1] += token
        ends.append(splitter.push(token))
        if data.draw(st.sampled_from([ends[-1], ends[-1], ends[-1], True, False])):
            splitter.restart()
            steps.append("")
    return steps, ends


@given(cuttings(TEXT), cuttings(TEXT), RULES, st.data())
def test_a_saved_turn_goes_on_as_it_would_have(
    before: list[str], after: list[str], rule: Steps, data: st.DataObject
) -> None:
    splitter, resumed = rule.splitter(), rule.splitter()
    steps, _ = live(splitter, before, data)
    splitter.restart()
    for step in steps:
        resumed.push(step)
        resumed.restart()
    for token in after:
        ends = splitter.push(token)
        assert resumed.push(token) == ends
        if ends:
            splitter.restart()
            resumed.restart()


@given(cuttings(TEXT), cuttings(TEXT), cuttings(TEXT), RULES)
def test_copies_in_mid_step_go_their_own_ways(
    before: list[str], draft: list[str], after: list[str], rule: Steps
) -> None:
    splitter, twin = rule.splitter(), rule.splitter()
    for token in before:
        splitter.push(token)
        twin.push(token)
    drafted = copy.deepcopy(splitter)
    reference = copy.deepcopy(twin)
    assert [drafted.push(token) for token in draft] == [reference.push(token) for token in draft]
    assert [splitter.push(token) for token in after] == [twin.push(token) for token in after]


@pytest.mark.parametrize("rule", [*BY_TEXT, *BY_TOKEN, Whole()])
def test_rules_keep_the_protocol_and_are_plain_values(rule: Steps) -> None:
    assert isinstance(rule, Steps)
    assert rule.splitter() is not rule.splitter()
    twin = pickle.loads(pickle.dumps(rule))
    assert twin == rule
    assert hash(twin) == hash(rule)


@given(cuttings(TEXT), st.integers(1, 9), st.sampled_from([*BY_TEXT, Sentences()]))
def test_short_steps_merge_with_the_next(tokens: list[str], least: int, inner: Steps) -> None:
    steps = split(tokens, MinTokens(inner, least))
    assert all(len(step) >= least for step in steps[:-1])
    if least == 1:
        assert steps == split(tokens, inner)


def test_a_merged_step_ends_where_a_later_one_would() -> None:
    rule = MinTokens(Newlines(), 4)
    tokens = ["a", "\n", "b", "\n", "c", " d", " e\n", "f"]
    assert joined(split(tokens, rule)) == ["a\nb\n", "c d e\nf"]
    assert rule.delimiters == ("\n",)


@given(cuttings(TEXT), st.integers(1, 9))
def test_a_maximum_of_tokens_is_exact_on_whole_characters(tokens: list[str], most: int) -> None:
    """Steps grow by a few tokens to end on a character, and before or behind a tag."""
    steps = split(tokens, MaxTokens(most))
    for step in steps[:-1]:
        assert most <= len(step) <= most + 8
        assert len(step) == most or not step[most - 1] or "<" in "".join(tokens)
    assert len(steps[-1]) <= most + 8


def test_no_step_of_tokens_ends_inside_a_character_or_a_tag() -> None:
    rule = MaxTokens(2)
    assert split(["a", "", "", "é", "b", "c"], rule) == [["a", "", "", "é"], ["b", "c"], []]
    assert split(["a", " <", "/th", "ink", ">", "b", "c"], rule) == [
        ["a", " <", "/th", "ink", ">"],
        ["b", "c"],
        [],
    ]
    assert split(["a", " <", " b", "c"], rule) == [["a", " <", " b"], ["c"]]
    endless = split(["<"] + ["x"] * 30, rule)
    assert len(endless[0]) == 10


def test_newlines() -> None:
    tokens = ["\n", "One", "\n", "\n", "Two", ".\nThree", "\n\n", "Four"]
    assert joined(split(tokens, Newlines())) == ["\nOne\n", "\nTwo.\nThree", "\n\nFour"]
    assert Newlines().delimiters == ("\n",)
    code = ["```", "\n", "x", "\n", "```", "\n", "y"]
    assert joined(split(code, Newlines(inside_code=False))) == ["```\nx\n```\n", "y"]


# -- functions -----------------------------------------------------------------------------------


def test_a_function_sees_the_text_of_its_step_behind_every_token() -> None:
    seen: list[str] = []

    def ends(text: str) -> bool:
        seen.append(text)
        return text.endswith(";")

    assert joined(split(["a", "", "b", ";", " c", ";"], EndsWhen(ends))) == ["ab;", " c;", ""]
    assert seen == ["a", "ab", "ab;", " c", " c;"]


def test_a_function_is_shared_by_copies() -> None:
    class Heavy:
        def __deepcopy__(self, memo: object) -> Heavy:
            raise AssertionError

        def ends(self, text: str) -> bool:
            return text == "ab"

    splitter = EndsWhen(Heavy().ends).splitter()
    splitter.push("a")
    twin = copy.deepcopy(splitter)
    assert not twin.push("x")
    assert splitter.push("b")


def test_a_function_that_forgets_to_return_says_so() -> None:
    with pytest.raises(ConfigurationError, match="returned None: return True where the step ends"):
        EndsWhen(lambda text: None).splitter().push("a")  # type: ignore[arg-type,return-value]


def test_what_a_function_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        EndsWhen(lambda text: bool(1 / 0)).splitter().push("a")


async def coroutine(text: str) -> bool:
    return bool(text)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (coroutine, "coroutine function: give a plain one"),
        (lambda: True, r"does not take a step's text alone"),
        (lambda text, more: more, r"does not take a step's text alone"),
        (str, "no function of a step's text"),
        (7, "no function of a step's text"),
    ],
)
def test_what_cannot_be_asked_is_refused(function: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        EndsWhen(function)  # type: ignore[arg-type]


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None, "9"])
def test_what_is_no_number_of_tokens_is_refused(count: object) -> None:
    with pytest.raises(ConfigurationError, match=r"no number of tokens: give 1 or more"):
        MaxTokens(count)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"no number of tokens: .*MinTokens\('newline', 8"):
        MinTokens(Newlines(), count)  # type: ignore[arg-type]


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most 4 tokens and at least 8"):
        MinTokens(4, 8)
    assert MinTokens(8, 8).rule == MaxTokens(8)


def test_a_minimum_takes_every_form_of_a_rule() -> None:
    assert MinTokens("newline", 8) == MinTokens(Newlines(), 8)
    assert MinTokens(semicolon, 8) == MinTokens(EndsWhen(semicolon), 8)
    with pytest.raises(ConfigurationError, match="did you mean 'newline'"):
        MinTokens("newlin", 8)
