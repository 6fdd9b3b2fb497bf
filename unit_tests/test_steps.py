"""Steps: every way of cutting every text into tokens gives the same steps."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.steps import BlankLines, Steps, Whole
from unit_tests.cuttings import cut_evenly, cuttings, texts

PROSE = texts("\n", "\n\n", " ", "a", "b.", "\t", "é", "```", "`", "\r\n", "\n\n\n")
RULES = st.sampled_from(
    [
        BlankLines(),
        BlankLines(("\n",)),
        BlankLines(("\n\n", "b.")),
        BlankLines(("a", "b.", "\n\n\n")),
        BlankLines(("```",)),
        BlankLines(inside_code=False),
        BlankLines(("\n", "a\n\n\n\n"), inside_code=False),
    ]
)


def split(tokens: list[str], rule: Steps) -> list[str]:
    """The steps of a text, as the router cuts them."""
    splitter = rule.splitter()
    steps, open_step = [], ""
    for token in tokens:
        open_step += token
        if splitter.push(token):
            steps.append(open_step)
            open_step = ""
    return [*steps, open_step]


def split_slowly(tokens: list[str], rule: BlankLines) -> list[str]:
    """The definition, a character at a time, with nothing forgotten."""
    steps, step, read = [], "", ""
    for token in tokens:
        ends = False
        for character in token:
            step += character
            read += character
            coded = not rule.inside_code and fenced(read)
            visible = step.lstrip()
            if not ends and not coded and visible.endswith(rule.delimiters):
                ends = True
        if ends:
            steps.append(step)
            step = ""
    return [*steps, step]


def fenced(text: str) -> bool:
    """Whether a text ends inside a code fence."""
    return sum(line.lstrip().startswith("```") for line in text.split("\n")) % 2 == 1


@given(cuttings(PROSE), RULES)
@example(["a\n\n```py\n", "b"], BlankLines(inside_code=False))
@example(["```py\n", "x\n\n```\n", "b"], BlankLines(inside_code=False))
@example(["```py\nx\n\n```\n\nb"], BlankLines(inside_code=False))
@example(["```\n", "x\n", "```", "b"], BlankLines(("\n", "a\n\n\n\n"), inside_code=False))
@example(["\n\n", "a", "\n", "\n", "b"], BlankLines())
def test_steps_are_those_of_the_definition(tokens: list[str], rule: BlankLines) -> None:
    assert split(tokens, rule) == split_slowly(tokens, rule)


@given(cuttings(PROSE | st.text(max_size=40)), RULES)
def test_steps_tile_the_text_and_none_is_empty(tokens: list[str], rule: BlankLines) -> None:
    steps = split(tokens, rule)
    assert "".join(steps) == "".join(tokens)
    for step in steps[:-1]:
        assert step.strip()
        assert any(delimiter in step.lstrip() for delimiter in rule.delimiters)


@given(PROSE, RULES)
def test_single_characters_end_steps_right_behind_the_delimiter(
    text: str, rule: BlankLines
) -> None:
    for step in split(list(text), rule)[:-1]:
        assert step.endswith(rule.delimiters)


@given(cuttings(PROSE))
def test_borders_only_lengthen_a_step_up_to_its_last_token(tokens: list[str]) -> None:
    """The first step ends in the token in which the delimiter becomes complete."""
    rule = BlankLines()
    text = "".join(tokens)
    first, *rest = split(list(text), rule)
    cut_first, *_ = split(tokens, rule)
    assert cut_first.startswith(first)
    if rest:
        borders = [sum(map(len, tokens[: count + 1])) for count in range(len(tokens))]
        assert len(cut_first) == next(border for border in borders if border >= len(first))


@given(cuttings(PROSE), st.data())
def test_a_restart_forgets_half_a_delimiter(tokens: list[str], data: st.DataObject) -> None:
    splitter = BlankLines().splitter()
    count = data.draw(st.integers(0, len(tokens)))
    for token in tokens[:count]:
        splitter.push(token)
    splitter.restart()
    fresh = BlankLines().splitter()
    assert [splitter.push(token) for token in tokens[count:]] == [
        fresh.push(token) for token in tokens[count:]
    ]


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        (["One", ".\n\n", "Two"], [False, True, False]),
        (["One", ".", "\n", "\n", "Two"], [False, False, False, True, False]),
        (["One.\n", "\nTwo.\n", "\n", "Three"], [False, True, False, False]),
        (["One.\n\nTwo.\n\n", "Three"], [True, False]),
        (["\n", "\n\n", " \n\n", "One", "\n\n"], [False, False, False, False, True]),
        (["\n\nOne\n\n"], [True]),
        (["One", "\n \n", "Two"], [False, False, False]),
        (["One\n", "", "\n"], [False, False, True]),
        ([""], [False]),
    ],
)
def test_blank_lines(tokens: list[str], ends: list[bool]) -> None:
    splitter = BlankLines().splitter()
    assert [splitter.push(token) for token in tokens] == ends


CODE = "See:\n\n```python\nx = 1\n\ny = 2\n```\n\nDone.\n\nBye"


@pytest.mark.parametrize("size", range(1, 20))
def test_code_fences(size: int) -> None:
    assert split(list(CODE), BlankLines()) == [
        "See:\n\n",
        "```python\nx = 1\n\n",
        "y = 2\n```\n\n",
        "Done.\n\n",
        "Bye",
    ]
    steps = split(cut_evenly(CODE, size), BlankLines(inside_code=False))
    assert len(steps) <= 4
    assert not any("x = 1" in step and "y = 2" not in step for step in steps)


@pytest.mark.parametrize(
    ("code", "steps"),
    [
        ("```\na\n\nb", 1),  # never closed
        ("text ``` text\n\nmore", 2),  # backticks within a line are no fence
        ("  ```\na\n\nb\n  ```\n\nc", 2),  # indented, as in a list
        ("```a\n```\n\n```b\n\n```\n\nc", 3),
        ("````\na\n\nb\n````\n\nc", 2),
    ],
)
def test_what_a_fence_is(code: str, steps: int) -> None:
    rule = BlankLines(inside_code=False)
    assert len(split(list(code), rule)) == steps
    assert len(split_slowly(list(code), rule)) == steps


def test_a_fence_is_remembered_across_steps_cut_by_their_length() -> None:
    splitter = BlankLines(inside_code=False).splitter()
    assert not splitter.push("```\na")
    splitter.restart()
    assert not splitter.push("\n\nb\n\n")
    assert splitter.push("```\n\n")


@pytest.mark.parametrize("rule", [BlankLines(), BlankLines(inside_code=False)])
def test_cost_does_not_grow_with_the_line(rule: BlankLines) -> None:
    def seconds(count: int) -> float:
        splitter = rule.splitter()
        started = time.process_time()
        for _ in range(count):
            splitter.push("word ")
        return time.process_time() - started

    seconds(100)
    assert min(seconds(20_000) for _ in range(3)) < 40 * min(seconds(2_000) for _ in range(3))


@pytest.mark.parametrize("delimiters", [(), ("",), ("\n\n", ""), [], (3,), None, 7])
def test_bad_delimiters_are_refused(delimiters: object) -> None:
    with pytest.raises(ConfigurationError, match=r"steps: delimiters .* BlankLines\("):
        BlankLines(delimiters)  # type: ignore[arg-type]


def test_delimiters_may_be_written_as_one_string_or_a_list() -> None:
    """A string is not taken for its letters."""
    assert BlankLines("\n\n") == BlankLines(["\n\n"]) == BlankLines()  # type: ignore[arg-type]
    assert hash(BlankLines(["\n\n"])) == hash(BlankLines())  # type: ignore[arg-type]


def test_whole_never_splits() -> None:
    assert split(["a\n\n", "b\n\n\n", "```"], Whole()) == ["a\n\nb\n\n\n```"]
    assert Whole().delimiters == ()


@pytest.mark.parametrize("rule", [BlankLines(), Whole()])
def test_rules_keep_the_protocol(rule: Steps) -> None:
    assert isinstance(rule, Steps)
    one, other = rule.splitter(), rule.splitter()
    assert one is not other
