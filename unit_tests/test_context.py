"""Contexts: both models know the whole text, in ids that never change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter.routing.context import Contexts
from langchain_glimprouter.routing.options import Prompt
from unit_tests.turns import Vocabulary

PROMPT = "<|user|>Hi<|end|><|assistant|><think>\n"
ROLES = st.sampled_from(["small", "large"])
TOKENS = st.sampled_from(
    ["a", " b", ".\n\n", "</think>", "</", "think>", "<think>", "é", "<|end|>"]
)
ACTIONS = st.lists(
    st.tuples(ROLES, st.lists(TOKENS, max_size=4)) | st.sampled_from(["sync", "insert"]),
    max_size=12,
)


def contexts(small: Vocabulary, large: Vocabulary) -> Contexts:
    vocabularies = {"small": small, "large": large}
    prompts: Any = {
        role: Prompt(PROMPT, Vocabulary(vocabulary.unit).encode(PROMPT, special=True))
        for role, vocabulary in vocabularies.items()
    }
    pair: Any = SimpleNamespace(
        vocabularies=vocabularies,
        engines=vocabularies,
        shared_vocabulary=small.fingerprint == large.fingerprint,
    )
    return Contexts(pair, prompts, ("<think>", "</think>"))


@given(ACTIONS, st.sampled_from([("words", "words"), ("words", "characters")]))
def test_both_know_the_whole_text_and_no_id_ever_changes(
    actions: list[Any], units: tuple[Any, Any]
) -> None:
    vocabularies = {"small": Vocabulary(units[0]), "large": Vocabulary(units[1])}
    state = contexts(vocabularies["small"], vocabularies["large"])
    foreign = {"small": "", "large": ""}
    text = ""
    for action in actions:
        before = {role: list(ids) for role, ids in state.token_ids.items()}
        if action == "sync":
            state.sync()
        elif action == "insert":
            state.insert("\n</think>\n\n")
            text += "\n</think>\n\n"
            for role in foreign:
                foreign[role] += "\n</think>\n\n"
        else:
            writer, tokens = action
            other = "large" if writer == "small" else "small"
            for token in tokens:
                token_id = vocabularies[writer].token(token)
                assert state.append(writer, token_id) == token
                assert state.token_ids[writer][-1] == token_id  # as the model wrote it
                text += token
                foreign[other] += token
        for role, ids in state.token_ids.items():
            assert ids[: len(before[role])] == before[role]
    state.sync()
    for role, ids in state.token_ids.items():
        vocabulary = vocabularies[role]
        assert vocabulary.decode(ids) == PROMPT + text
        assert state.text(role) == PROMPT + text
        if units[0] != units[1]:  # everything foreign is encoded, once
            assert "".join(vocabulary.encoded) == foreign[role]
    if units[0] == units[1]:
        assert state.token_ids["small"] == state.token_ids["large"]


def test_tags_cross_over_as_tags_and_other_special_tokens_as_text() -> None:
    """A model's text must not forge the end of a turn in the other's eyes."""
    small, large = Vocabulary("words"), Vocabulary("characters")
    state = contexts(small, large)
    for token in ("a", "</think>", "<|end|>"):
        state.append("small", small.token(token))
    state.sync()
    added = state.token_ids["large"][-9:]
    assert added[:2] == [large.token("a"), large.token("</think>")]
    assert added[2:] == [large.token(character) for character in "<|end|>"]
    assert large.token("<|end|>") not in added


@pytest.mark.parametrize("units", [("words", "words"), ("words", "characters")])
def test_prompts_are_told_apart(units: tuple[Any, Any]) -> None:
    one = contexts(Vocabulary(units[0]), Vocabulary(units[1]))
    other = contexts(Vocabulary(units[0]), Vocabulary(units[1]))
    assert one.prompt_key == other.prompt_key
    other.prompts = {"small": Prompt("Else", [])}
    del other.__dict__["prompt_key"]
    assert one.prompt_key != other.prompt_key
