"""Cue words: a step ends behind the cue that begins a line."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.steps.cues import CUES, CueWords
from unit_tests.cuttings import cuttings, texts
from unit_tests.test_steps_rules import joined, split

PROSE = texts(
    "\n", " ", "So", "so", "W", "ait", "Wait,", "what", ",", "-", "a", "**", "3", "é", "."
)
RULES = st.sampled_from(
    [CueWords(), CueWords(("So", "Wait, what")), CueWords(("Wait,", "a", "so a"))]
)
_MARKUP = "*_#>\\-–—•\"'“‘("


def completed(read: str, rule: CueWords) -> bool:
    """Whether a cue is complete with the last character read, and none was on its line before."""
    start = read.rfind("\n", 0, len(read) - 1) + 1
    line = read[start:]
    return is_cue(line, rule) and not any(is_cue(line[:end], rule) for end in range(len(line)))


def is_cue(line: str, rule: CueWords) -> bool:
    for cue in rule.cues:
        behind = r"[^\w'’-]" if cue[-1].isalnum() else ""
        if re.fullmatch(rf"[\s{_MARKUP}]*{re.escape(cue)}({behind})", line, re.IGNORECASE):
            return True
    return False


def split_slowly(tokens: list[str], rule: CueWords) -> list[str]:
    """The definition, a character at a time, with nothing forgotten."""
    steps, begin, read = [], 0, ""
    for token in tokens:
        ends = False
        for character in token:
            read += character
            start = read.rfind("\n", 0, len(read) - 1) + 1
            ends = ends or (completed(read, rule) and shows(read, begin, start))
        if ends:
            steps.append(read[begin:])
            begin = len(read)
    return [*steps, read[begin:]]


def shows(read: str, begin: int, end: int) -> bool:
    """Whether a text shows more than marks before lines, between two places."""
    for match in re.finditer(rf"(?m)^[\s{_MARKUP}]*", read):
        read = read[: match.start()] + " " * len(match[0]) + read[match.end() :]
    return bool(read[begin:end].strip())


@given(cuttings(PROSE), RULES)
@example(["a\n", "So", ",", " b"], CueWords())
@example(["So, a\n", "So what\n", "so-so", "\nSo"], CueWords())
@example(["a\nW", "\n", "Wait, a\nSo, b"], CueWords())
@example(["a\n", "So,\nW", "\n", "So,", "b"], CueWords())
def test_steps_are_those_of_the_definition(tokens: list[str], rule: CueWords) -> None:
    assert joined(split(tokens, rule)) == split_slowly(tokens, rule)


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [
        (["I", " add", ".\n", "Wait", ",", " no"], ["I add.\nWait,", " no"]),
        (["I", " add", ".\n", "So", " the", " sum"], ["I add.\nSo the", " sum"]),
        (["So", ",", " I", " add", "."], ["So, I add."]),  # only a cue would be before it
        (["\n\n", "**", "Wait", "**", " a"], ["\n\n**Wait** a"]),
        (["a\n", "Wait", ",\n", "So", ",\n", "b"], ["a\nWait,\n", "So,\nb"]),
        (["a\n", "Wait", ", b\n", "So", ",", " c"], ["a\nWait, b\n", "So, c"]),
        (["a\n", "Sofia", " is"], ["a\nSofia is"]),
        (["a\n", "So", "fia", " is"], ["a\nSofia is"]),
        (["a\n", "So-called", " b"], ["a\nSo-called b"]),
        (["a", " So", ",", " b"], ["a So, b"]),  # not at a line's beginning
        (["a\n\n", "- **", "First", "**", ": b"], ["a\n\n- **First**", ": b"]),
        (["a\n", "therefore", "\n", "b"], ["a\ntherefore\n", "b"]),
        (["a\nWait, b"], ["a\nWait, b", ""]),  # all in one token
        (["a\nWait"], ["a\nWait"]),  # not over yet
    ],
)
def test_examples(tokens: list[str], steps: list[str]) -> None:
    assert joined(split(tokens, CueWords())) == steps


def test_a_cue_may_bring_its_own_end() -> None:
    tokens = ["a\n", "Wait", " b\n", "Wait", ",", " c"]
    assert joined(split(tokens, CueWords(("Wait,",)))) == ["a\nWait b\nWait,", " c"]


def test_a_cue_may_have_several_words() -> None:
    tokens = ["a\n", "On", " the", " other", " hand", ",", " b"]
    assert len(split(tokens, CueWords(("On the other hand",)))[0]) == 6
    assert len(split(tokens, CueWords(("On the other side",)))) == 1


def test_a_step_cut_in_mid_line_is_no_beginning_of_a_line() -> None:
    splitter = CueWords().splitter()
    assert not splitter.push("a\nb and")
    splitter.restart()
    assert not splitter.push(" ")
    assert not splitter.push("So, c\n")
    assert splitter.push("So, d")
    splitter.restart()
    assert not splitter.push("**\n")
    assert splitter.push("So, e")


def test_no_text_is_needed_in_the_last_token() -> None:
    assert CueWords().delimiters == ()
    assert len(set(CUES)) == len(CUES)


@pytest.mark.parametrize("cues", [(), ("",), ("Wait", ""), (",",), ("a\nb",), (3,), None, 7])
def test_bad_cues_are_refused(cues: object) -> None:
    with pytest.raises(ConfigurationError, match=r"steps: cues must be words .*CueWords\("):
        CueWords(cues)  # type: ignore[arg-type]


def test_cues_may_be_written_as_one_string_or_a_list() -> None:
    assert CueWords("Wait") == CueWords(["Wait"]) == CueWords(("Wait",))  # type: ignore[arg-type]
