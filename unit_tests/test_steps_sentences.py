"""Sentences: where one ends, and where a period does not end one."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.steps.sentences import ABBREVIATIONS, Sentences
from unit_tests.cuttings import cuttings, texts
from unit_tests.test_steps_rules import joined, split

PROSE = texts(
    "\n", "\n\n", " ", ". ", ".", "!", "?", "…", '"', ")", "(", "**", "Dr", "e.g.", "U.S", "1",
    "12", "x", "yes", "Ph.D", "。", "- ", "ii",
)  # fmt: skip
WORD = re.compile(
    r"""(?P<open>[(\[{"'“‘«*_`$#>\-–—•]*)(?P<name>.*?)(?P<marks>[.!?…]+)[)\]}"'”’»*_`$]*"""
)
NAMES = {word[:-1] for word in ABBREVIATIONS}


def ends_sentence(word: str, line: str) -> bool:
    """Whether white space behind a word ends a sentence, given its line's text before it."""
    match = WORD.fullmatch(word)
    if match is None or not match["name"]:
        return False
    name, marks = match["name"], match["marks"]
    if marks == ".":
        first = not line.strip(" (\t[{\"'“‘«*_`$#>-–—•")
        label = re.fullmatch(r"(?i)\d+(\.\d+)*|[a-z]|[ivx]+", name)
        initials = re.fullmatch(r"[^\W\d_](\.[^\W\d_])+", name)
        return not (name.casefold() in NAMES or initials or (first and label))
    if set(marks) == {"!"}:
        return not (len(name) == 1 or name[-1] in "0123456789)]}")
    return True


def split_slowly(tokens: list[str]) -> list[str]:
    """The definition at white space, with nothing forgotten."""
    steps, begin, read = [], 0, ""
    for token in tokens:
        ends = False
        for character in token:
            shown = bool(read[begin:].strip())
            if character.isspace():
                word = re.split(r"\s", read)[-1]
                line = read[: len(read) - len(word)].rpartition("\n")[2]
                ends = ends or (shown and ends_sentence(word, line))
                ends = ends or (shown and character == "\n" and read.endswith("\n"))
            ends = ends or character in "。！？"
            read += character
        if ends:
            steps.append(read[begin:])
            begin = len(read)
    return [*steps, read[begin:]]


@given(cuttings(PROSE))
def test_steps_are_those_of_the_definition(tokens: list[str]) -> None:
    assert joined(split(tokens, Sentences(at_once=False))) == split_slowly(tokens)


WHOLE = [
    "It is 3.14 or so",
    "Use e.g. this, i.e. that",
    "As Dr. Smith and Prof. Lee et al. say",
    "1. Add the numbers",
    "a\n2. Add\n  3. More",
    "- 1. Add",
    "A. Four\nb. Five\nii. Six",
    "In the U.S. it is 5 a.m. now",
    "There are 5! ways and n! more, (n-1)! of them",
    "1, 2, ..., n and 1 + ... + n",
    "numpy.array(x) and v1.2.3 of example.com",
    "See Fig. 3 and Eq. 4 vs. Thm. 5",
    "She has a Ph.D. in maths",
]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("text", WHOLE)
def test_what_is_one_sentence(text: str, at_once: bool) -> None:
    """With tokens as the vocabularies of today's models cut them: a blank or a mark leads."""
    tokens = re.findall(r"\s*[^\W\d_]+|[^\w\s][^\W\d_]+|\d|\s*[^\w\s]+\n*|\s+", text)
    assert "".join(tokens) == text
    assert len(split(tokens, Sentences(at_once=at_once))) == 1, tokens
    assert len(split(list(text), Sentences(at_once=False))) == 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("I add. Then I stop.", ["I add. ", "Then I stop."]),
        ("Is it 3? Yes! It is 3. Good", ["Is it 3? ", "Yes! ", "It is 3. ", "Good"]),
        ('He said "no." Then (and so on.) he', ['He said "no." ', "Then (and so on.) ", "he"]),
        ("It is **3.** So", ["It is **3.** ", "So"]),
        ("Hmm... let me see", ["Hmm... ", "let me see"]),
        ("Step 1. Add\n\nMore", ["Step 1. ", "Add\n\n", "More"]),
        ("The answer is B. Next", ["The answer is B. ", "Next"]),
        ("a\nb. c\n2. d e. f", ["a\nb. c\n2. d e. ", "f"]),
        ("三加四。是七！好", ["三加四。", "是七！", "好"]),
        ("No line. \n\n \nNext", ["No line. ", "\n\n \nNext"]),
    ],
)
def test_sentences_in_single_characters(text: str, sentences: list[str]) -> None:
    assert joined(split(list(text), Sentences(at_once=False))) == sentences


@pytest.mark.parametrize(
    ("tokens", "at_once", "later"),
    [
        # a period that is surely the end leaves the next sentence's first word to the probe
        (["I", " add", ".", " Then", " I"], ["I add.", " Then I"], ["I add. Then", " I"]),
        (["I", " add", ".\n", "Then"], ["I add.\n", "Then"], ["I add.\n", "Then"]),
        (["It", " is", " 3", ".", " Then", " I"], ["It is 3. Then", " I"], ["It is 3. Then", " I"]),
        (["Find", " x", ".", " Then", " I"], ["Find x.", " Then I"], ["Find x. Then", " I"]),
        (["It", " is", " B", ".", " So", " I"], ["It is B. So", " I"], ["It is B. So", " I"]),
        (["U", ".", "S", ".", " law", " is"], ["U.S. law is"], ["U.S. law is"]),
        (["It", " is", " 3", ".", "1", "4", " or"], ["It is 3.14 or"], ["It is 3.14 or"]),
        (["So", " Dr", ".", " Lee", " is"], ["So Dr. Lee is"], ["So Dr. Lee is"]),
        (["A", " Ph", ".", "D", ".", " is"], ["A Ph.D. is"], ["A Ph.D. is"]),
        (["e", ".", "g", ".", " a", " b"], ["e.g. a b"], ["e.g. a b"]),
        (["Yes", '."', " Then", " I"], ['Yes."', " Then I"], ['Yes." Then', " I"]),
        (["Yes", ".", '"', " Then", " I"], ["Yes.", '" Then I'], ['Yes." Then', " I"]),
        (["Hmm", ".", ".", ".", " a", " b"], ["Hmm.", ".. a b"], ["Hmm... a", " b"]),
        (["No", ".", " No", ".", " I", "t"], ["No.", " No.", " It"], ["No. No", ". I", "t"]),
        # what at_once=False is for: a vocabulary without ` numpy` + `.array`
        (["numpy", ".", "array", " is"], ["numpy.", "array is"], ["numpy.array is"]),
    ],
)
def test_at_once_or_with_the_white_space(
    tokens: list[str], at_once: list[str], later: list[str]
) -> None:
    assert joined(split(tokens, Sentences())) == at_once
    assert joined(split(tokens, Sentences(at_once=False))) == later


def test_other_abbreviations() -> None:
    rule = Sentences(("Nr.",), at_once=False)
    assert joined(split(list("Nr. 5 and Dr. No"), rule)) == ["Nr. 5 and Dr. ", "No"]
    assert Sentences("Nr.") == Sentences(["Nr."])  # type: ignore[arg-type]
    assert Sentences(()).abbreviations == ()


@pytest.mark.parametrize("words", [("Dr",), ("",), (".",), ("a b.",), (3,), None])
def test_bad_abbreviations_are_refused(words: object) -> None:
    with pytest.raises(ConfigurationError, match=r"steps: abbreviations must be words"):
        Sentences(words)  # type: ignore[arg-type]


def test_no_text_is_needed_in_the_last_token() -> None:
    assert Sentences().delimiters == ()


def test_cost_does_not_grow_with_the_word() -> None:
    def seconds(count: int) -> float:
        splitter = Sentences().splitter()
        started = time.process_time()
        for _ in range(count):
            splitter.push("word")
        return time.process_time() - started

    seconds(100)
    assert min(seconds(20_000) for _ in range(3)) < 40 * min(seconds(2_000) for _ in range(3))
