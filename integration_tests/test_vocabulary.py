"""Real tokenizers: what goes in comes out, a token at a time."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from langchain_glimprouter.engines.vocabulary import HFVocabulary, load_vocabulary

TEXTS = st.lists(
    st.text(max_size=20)
    | st.sampled_from(
        ["\n\n", ".\n\n", "</think>", "<|im_end|>", "日本語", "👩‍👩‍👧", "```py\n", "  x = 1\n"]
    ),
    max_size=8,
).map("".join)


@pytest.fixture(params=["smollm", "qwen_small"])
def vocabulary(request: pytest.FixtureRequest) -> HFVocabulary:
    return load_vocabulary(str(request.getfixturevalue(request.param)))


relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


@relaxed
@given(data=st.data())
def test_pushes_of_any_ids_are_the_decoded_text(
    vocabulary: HFVocabulary, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, vocabulary.size - 1), max_size=80))
    decoder = vocabulary.decoder()
    pushed = "".join(map(decoder.push, ids))
    assert vocabulary.decode(ids) in {pushed, pushed + "\ufffd"}


@relaxed
@given(text=TEXTS)
def test_text_comes_back_and_forges_nothing(vocabulary: HFVocabulary, text: str) -> None:
    if vocabulary.tokenizer.backend_tokenizer.normalizer is not None:
        text = vocabulary.tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    # SmolLM2 has no token for a few bytes, which only characters that nobody uses contain.
    single = {token[0] for token in vocabulary._byte_table or () if len(token) == 1}
    assume(single.issuperset(text.encode()))
    plain = vocabulary.encode(text)
    assert not vocabulary.tokenizer.added_tokens_decoder.keys() & set(plain)
    for ids in (plain, vocabulary.encode(text, special=True)):
        decoder = vocabulary.decoder()
        assert "".join(map(decoder.push, ids)) == text
        assert vocabulary.decode(ids) == text


@relaxed
@given(text=TEXTS, cut=st.integers(0, 40))
def test_a_decoder_goes_on_behind_its_context(
    vocabulary: HFVocabulary, text: str, cut: int
) -> None:
    ids = vocabulary.encode(text, special=True)
    first = vocabulary.decoder()
    before = "".join(map(first.push, ids[:cut]))
    second = vocabulary.decoder(ids[:cut])
    assert before + "".join(map(second.push, ids[cut:])) == vocabulary.decode(ids)


def test_ids_containing_a_blank_line_are_all_of_them(vocabulary: HFVocabulary) -> None:
    found = vocabulary.ids_containing("\n\n")
    everything = range(len(vocabulary.tokenizer))
    assert found == {i for i in everything if "\n\n" in vocabulary.decode([i])}


def test_ends_of_text_and_size(smollm: str, qwen_small: str) -> None:
    small, qwen = load_vocabulary(str(smollm)), load_vocabulary(str(qwen_small))
    assert small.tokenizer.convert_tokens_to_ids("<|im_end|>") in small.eos_ids
    assert qwen.tokenizer.convert_tokens_to_ids("<|im_end|>") in qwen.eos_ids
    assert small.size == 49152
    assert qwen.size >= 151646


def test_fingerprints_compare_what_ids_mean(smollm: str, qwen_small: str, qwen_large: str) -> None:
    small, large = load_vocabulary(str(qwen_small)), load_vocabulary(str(qwen_large))
    assert small is not large
    assert small.fingerprint == large.fingerprint
    assert small.fingerprint != load_vocabulary(str(smollm)).fingerprint


def test_rendering_ends_where_the_model_answers(vocabulary: HFVocabulary) -> None:
    text = vocabulary.render([{"role": "user", "content": "Hi </s>"}])
    assert text.endswith("<|im_start|>assistant\n")
    assert "Hi </s>" in text
    ids = vocabulary.encode(text, special=True)
    assert vocabulary.decode(ids) == text
    assert ids[0] == vocabulary.tokenizer.convert_tokens_to_ids("<|im_start|>")


@pytest.mark.usefixtures("quiet")
def test_a_push_costs_the_same_behind_any_length(vocabulary: HFVocabulary) -> None:
    ids = vocabulary.encode("The quick brown fox, 日本語 and so on.\n\n" * 2000)
    decoder = vocabulary.decoder()

    def seconds(part: list[int]) -> float:
        started = time.perf_counter()
        for token_id in part:
            decoder.push(token_id)
        return time.perf_counter() - started

    seconds(ids[:1000])
    early = min(seconds(ids[:2000]) for _ in range(3))
    seconds(ids)
    late = min(seconds(ids[:2000]) for _ in range(3))
    assert late < 2 * early + 0.005
