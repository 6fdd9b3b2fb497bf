"""Before the first step: `<think>` is no step's first token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.routing.opening import ThoughtOpening
from unit_tests.cuttings import cuttings, texts

TAG = "<think>"


def read(tokens: list[str], opening: ThoughtOpening) -> tuple[str, str, str]:
    """Return what was kept, and what was released, and what still waits."""
    kept, waiting = "", ""
    for index, token in enumerate(tokens):
        waiting += token
        verdict = opening.push(token)
        if verdict == "keep":
            kept, waiting = kept + waiting, ""
        elif verdict == "release":
            return kept, waiting + "".join(tokens[index + 1 :]), ""
    return kept, "", waiting


@pytest.mark.parametrize(
    ("tokens", "kept", "spare"),
    [
        (["<think>", "\n", "Okay"], "<think>\n", ""),
        (["<think>\n", "Okay"], "<think>\n", ""),
        (["<think>", "\n\n", "\n", "Okay"], "<think>\n\n\n", ""),
        (["<", "think", ">", "\n", "Okay"], "<think>\n", ""),
        (["<th", "ink>\n", "Okay"], "<think>\n", ""),
        (["\n", "<think>", "Okay"], "\n<think>", ""),
        (["<think>\nOk", "ay"], "<think>\nOk", "Ok"),
        (["<thi", "nk>Ok", "ay"], "<think>Ok", "Ok"),
        (["<think></think>", "Okay"], "<think></think>", "</think>"),
        (["<think>So.", "\n\n", "Okay"], "<think>So.", "So."),
    ],
)
def test_the_tag_is_kept_apart(tokens: list[str], kept: str, spare: str) -> None:
    opening = ThoughtOpening(TAG, opened=False)
    got, released, _ = read(tokens, opening)
    assert (got, got + released) == (kept, "".join(tokens))
    assert opening.opened
    assert opening.spare == spare


@pytest.mark.parametrize(
    "tokens", [["Okay"], ["<b>", "x"], ["<", "b>"], ["\n", "Okay"], ["<thinking>"], ["</think>"]]
)
def test_other_text_is_released_whole(tokens: list[str]) -> None:
    opening = ThoughtOpening(TAG, opened=False)
    assert read(tokens, opening) == ("", "".join(tokens), "")
    assert not opening.opened
    assert opening.spare == ""


def test_behind_a_tag_in_the_prompt_only_white_space_is_kept() -> None:
    opening = ThoughtOpening(TAG, opened=True)
    assert read(["\n", "\n", "So", "\n"], opening) == ("\n\n", "So\n", "")
    assert ThoughtOpening(TAG, opened=True).push("") == "release"  # half a character, not blank


@given(cuttings(texts("<think>", "<", "think", ">", "\n", "a", "<thi", most=8)))
def test_every_token_is_kept_or_released_or_waits(tokens: list[str]) -> None:
    opening = ThoughtOpening(TAG, opened=False)
    kept, released, waiting = read(tokens, opening)
    text = "".join(tokens)
    assert kept + released + waiting == text
    assert opening.opened == text.lstrip().startswith(TAG) or len(tokens) > 16
    if opening.opened:
        assert kept.lstrip().startswith(TAG)
        assert kept.lstrip()[len(TAG) :].lstrip() == opening.spare
    else:
        assert not kept


@given(st.lists(st.sampled_from(["", " ", "\n"]), min_size=40, max_size=40))
def test_waiting_has_an_end(tokens: list[str]) -> None:
    opening = ThoughtOpening(TAG, opened=False)
    assert "release" in [opening.push(token) for token in tokens]


@given(
    cuttings(texts("<think>", "<", "th", "\n", "a", most=4)), st.sampled_from(["", "<", "\n<th"])
)
def test_a_restart_forgets_a_dropped_attempt(tokens: list[str], dropped: str) -> None:
    restarted = ThoughtOpening(TAG, opened=False)
    restarted.push(dropped)
    restarted.restart()
    fresh = ThoughtOpening(TAG, opened=False)
    assert [restarted.push(token) for token in tokens] == [fresh.push(token) for token in tokens]


def test_a_restart_remembers_what_was_kept() -> None:
    opening = ThoughtOpening(TAG, opened=False)
    assert opening.push("<think>So") == "keep"
    opening.restart()
    assert opening.opened
    assert opening.spare == "So"
    assert opening.push("\n\n") == "release"  # not between the tag and the text any more


def test_which_prompts_need_it() -> None:
    assert ThoughtOpening.of("opened", TAG) is None
    assert ThoughtOpening.of("none", TAG) is None
    behind_tag, unknown = ThoughtOpening.of("tag", TAG), ThoughtOpening.of("unknown", TAG)
    assert behind_tag is not None
    assert behind_tag.opened
    assert unknown is not None
    assert not unknown.opened
