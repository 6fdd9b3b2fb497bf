"""Markers in a stream: none is missed, no part of one is shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_glimprouter.routing.scanner import Scanner
from unit_tests.cuttings import cut_evenly, cuttings, texts

STREAMS = texts("</think>", "</", "<", "think>", "a", "ab", "aab", "b", "\n\n", "\n", "Q:", "x")
MARKERS = st.lists(
    st.sampled_from(["</think>", "aab", "ab", "b", "abx", "\n\nQ:", "aa", "\n", "xax"]),
    max_size=3,
    unique=True,
)


def scan(tokens: list[str], markers: list[str]) -> tuple[Scanner, str]:
    scanner = Scanner(markers)
    return scanner, "".join([scanner.push(token) for token in tokens])


@given(cuttings(STREAMS), MARKERS)
@example(["a", "bx"], ["abx", "b"])
@example(["aab"], ["b", "aab"])
def test_nothing_is_lost_and_every_marker_is_found(tokens: list[str], markers: list[str]) -> None:
    text = "".join(tokens)
    scanner, shown = scan(tokens, markers)
    assert shown + scanner.held + (scanner.found or "") + scanner.after == text
    assert (scanner.found is not None) == any(marker in text for marker in markers)
    assert not any(marker in shown for marker in markers)


@given(cuttings(STREAMS), MARKERS)
@example(["a", "bx"], ["abx", "b"])
@example(["abx"], ["abx", "b"])
@example(["xa", "ab"], ["b", "aab"])
def test_the_cutting_does_not_matter(tokens: list[str], markers: list[str]) -> None:
    by_token, shown = scan(tokens, markers)
    by_character, slowly = scan(list("".join(tokens)), markers)
    at_once, whole = scan(["".join(tokens)], markers)
    assert by_token.found == by_character.found == at_once.found
    assert shown == slowly == whole
    assert by_token.held == by_character.held == at_once.held
    assert by_token.after == by_character.after == at_once.after


@given(cuttings(STREAMS), MARKERS)
def test_what_is_shown_stays_shown_whatever_comes(tokens: list[str], markers: list[str]) -> None:
    """No end of what was shown turns out to be a marker's beginning."""
    scanner, shown, text = Scanner(markers), "", ""
    for token in tokens:
        shown += scanner.push(token)
        text += token
        for marker in markers:
            for length in range(len(marker) + 1):
                _, whole = scan([text + marker[length:]], markers)
                assert whole.startswith(shown)


@given(cuttings(STREAMS), MARKERS)
def test_no_more_is_held_back_than_needed(tokens: list[str], markers: list[str]) -> None:
    scanner, _ = scan(tokens, markers)
    if scanner.found is None:
        assert not scanner.held or any(marker.startswith(scanner.held) for marker in markers)
    else:
        assert scanner.held == ""


@pytest.mark.parametrize("size", range(1, 12))
def test_the_end_of_a_thought(size: int) -> None:
    scanner, shown = scan(
        list(cut_evenly("So <b>3</b> it is.</think>\n\nThree", size)), ["</think>"]
    )
    assert shown == "So <b>3</b> it is."
    assert (scanner.found, scanner.after) == ("</think>", "\n\nThree")


def test_flush_gives_what_was_held_once() -> None:
    scanner, shown = scan(["a <", "/thi"], ["</think>"])
    assert shown == "a "
    assert scanner.flush() == "</thi"
    assert scanner.flush() == ""
    assert scanner.push("nk>") == "nk>"
    assert scanner.found is None


def test_without_markers_everything_passes() -> None:
    scanner, shown = scan(["a", "", "b</think>"], [])
    assert shown == "ab</think>"
    assert scanner.held == ""
    assert scanner.found is None
