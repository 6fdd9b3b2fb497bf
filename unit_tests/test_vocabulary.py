"""Vocabularies over small tokenizers built here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from langchain_glimprouter.engines.base import Vocabulary
from langchain_glimprouter.engines.decoding import WindowDecoder
from langchain_glimprouter.engines.vocabulary import HFVocabulary, load_vocabulary
from langchain_glimprouter.errors import ConfigurationError

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if tools %}[{{ tools | length }}]"
    "{% endif %}{% if add_generation_prompt %}<assistant>{% if think %}<think>{% endif %}"
    "{% endif %}"
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["héllo wörld", "日本語", "👩‍👩‍👧 ok", "a\n\nb", "  two  spaces", "</think><|end|>"]
)


def byte_level(*added: AddedToken) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), (".", "ĊĊ"), ("t", "h"), ("th", "e"), ("Ġ", "the"), ("æ", "Ĺ")]
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        list(added)
        or [
            AddedToken("<|end|>", special=True, normalized=False),
            AddedToken("</think>", special=False, normalized=False),
            AddedToken("｜é x｜", special=False, normalized=False),
        ]
    )
    return tokenizer


def sentence_piece() -> Tokenizer:
    letters = "▁abcdehlort.\n"
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {token: number for number, token in enumerate([*tokens, "▁t", "▁a", "▁the"])}
    merges = [("▁", "t"), ("▁", "a")]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def vocabulary(tokenizer: Tokenizer, **kwargs: Any) -> HFVocabulary:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return HFVocabulary(fast, len(fast) + 7, frozenset({1}), **kwargs)


BYTES = vocabulary(byte_level(), chat_template=TEMPLATE)
PIECES = vocabulary(sentence_piece())


def test_it_is_a_vocabulary() -> None:
    checked: Vocabulary = BYTES
    assert checked.size == len(BYTES.tokenizer) + 7
    assert checked.eos_ids == {1}


@given(st.lists(st.integers(0, BYTES.size - 1), max_size=60))
@example([169, 94])  # ED A1, half a surrogate: Python keeps it open, though no byte completes it
def test_byte_level_pushes_are_the_decoded_text(ids: list[int]) -> None:
    """Any ids: invalid bytes, padded ids and added tokens included."""
    decoder = BYTES.decoder()
    pushed = "".join(map(decoder.push, ids))
    whole = BYTES.decode(ids)
    # What is missing is a character that may still be completed.
    assert whole in (pushed, pushed + "\ufffd", pushed + "\ufffd\ufffd")


@given(st.lists(TEXTS, max_size=5))
def test_pushes_give_text_back_whole(texts: list[str]) -> None:
    ids = [token for text in texts for token in BYTES.encode(text)]
    decoder = BYTES.decoder()
    assert "".join(map(decoder.push, ids)) == "".join(texts)


@given(TEXTS, TEXTS)
def test_a_decoder_goes_on_behind_its_context(before: str, after: str) -> None:
    ids = BYTES.encode(before + after)
    for cut in range(len(ids)):
        decoder = BYTES.decoder(ids[:cut])
        rest = "".join(map(decoder.push, ids[cut:]))
        assert (before + after).endswith(rest)
        assert BYTES.decode(ids[:cut]).rstrip("\ufffd") + rest == before + after or "\ufffd" in (
            before + after
        )


def test_a_character_comes_with_the_token_that_completes_it() -> None:
    decoder = BYTES.decoder()
    assert [decoder.push(token) for token in BYTES.encode("a語b")] == ["a", "", "", "語", "b"]


@given(st.text(st.sampled_from("abcdehlort .\n語é👩 "), max_size=30))
def test_sentence_piece_pushes_are_the_decoded_text(text: str) -> None:
    ids = PIECES.encode(text)
    decoder = PIECES.decoder()
    assert "".join(map(decoder.push, ids)) == PIECES.decode(ids)


@given(st.text(st.sampled_from("abcdehlort .\n語é👩 "), max_size=30), st.integers(0, 40))
def test_sentence_piece_keeps_the_space_at_a_seam(text: str, cut: int) -> None:
    ids = PIECES.encode("a" + text)
    cut = 1 + min(cut, len(ids) - 1)
    whole = PIECES.decode(ids)
    start = PIECES.decoder()
    before = "".join(map(start.push, ids[:cut]))
    decoder = PIECES.decoder(ids[:cut])
    assert before + "".join(map(decoder.push, ids[cut:])) == whole


@given(st.lists(st.integers(0, PIECES.size - 1), min_size=1, max_size=120))
def test_invalid_bytes_never_stall_or_swallow_what_follows(ids: list[int]) -> None:
    decoder = PIECES.decoder()
    the = PIECES.tokenizer.convert_tokens_to_ids("▁the")
    assert "".join(map(decoder.push, [*ids, the, the])).endswith("the the")
    assert isinstance(decoder, WindowDecoder)
    assert len(decoder._window) < 40


def test_text_forges_no_added_token() -> None:
    text = "</think><|end|>｜é x｜"
    assert BYTES.decode(BYTES.encode(text)) == text
    added = set(BYTES.tokenizer.added_tokens_decoder)
    assert not added & set(BYTES.encode(text))
    assert set(BYTES.encode(text, special=True)) == added
    assert not {1, 2} & set(PIECES.encode("<s>a</s>"))
    assert {1, 2} <= set(PIECES.encode("<s>a</s>", special=True))


def test_added_white_space_stays_a_token() -> None:
    spaces = vocabulary(byte_level(AddedToken("    ", special=False, normalized=False)))
    assert spaces.encode("a    b") == spaces.encode("a    b", special=True)
    assert len(spaces.encode("a    b")) == 3


def test_encoding_adds_nothing_and_cuts_nothing() -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=10)
    assert len(vocabulary(tokenizer).encode("abcdef", special=True)) == 6
    assert len(vocabulary(tokenizer).encode("ab")) == 2


def test_ids_containing_looks_at_every_tokens_text() -> None:
    tokens = {BYTES.tokenizer.convert_ids_to_tokens(i) for i in BYTES.ids_containing("\n\n")}
    assert tokens == {"ĊĊ", ".ĊĊ"}
    assert BYTES.ids_containing("\n\n") is BYTES.ids_containing("\n\n")
    pieces = {PIECES.tokenizer.convert_ids_to_tokens(i) for i in PIECES.ids_containing(" t")}
    assert pieces == {"▁t", "▁the"}
    assert PIECES.tokenizer.convert_tokens_to_ids("<0x0A>") in PIECES.ids_containing("\n")


def test_fingerprint_compares_tokens_not_names_or_padding() -> None:
    cutting = byte_level()
    cutting.enable_truncation(3)
    same = HFVocabulary(
        PreTrainedTokenizerFast(tokenizer_object=cutting), 99_999, frozenset(), "other", name="x"
    )
    assert same.fingerprint == BYTES.fingerprint
    assert vocabulary(byte_level(AddedToken("<x>"))).fingerprint != BYTES.fingerprint
    assert PIECES.fingerprint != BYTES.fingerprint


def test_render_uses_the_template_with_its_variables() -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert BYTES.render(messages) == "<user>hi<assistant>"
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert BYTES.render(messages, tools=[tool], think=True) == "<user>hi[1]<assistant><think>"


def test_render_errors_name_the_fix() -> None:
    messages = [{"role": "system", "content": "hi"}]
    with pytest.raises(ConfigurationError, match="`chat_template=`"):
        PIECES.render(messages)
    with pytest.raises(ConfigurationError, match="no system here"):
        BYTES.render(messages)
    with pytest.raises(ConfigurationError, match="refuses"):
        vocabulary(byte_level(), chat_template="{{ messages[0].content + 1 }}").render(messages)
    with pytest.raises(ConfigurationError, match="refuses"):
        vocabulary(byte_level(), chat_template="{% if %}").render(messages)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fast = PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="<|end|>")
    fast.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "none", "vocab_size": 300, "eos_token_id": 5})
    )
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [6, 7]}))
    return tmp_path


def test_load_reads_size_and_every_end_of_text(folder: Path) -> None:
    loaded = load_vocabulary(str(folder))
    end = loaded.tokenizer.convert_tokens_to_ids("<|end|>")
    assert loaded.size == 300
    assert loaded.eos_ids == {5, 6, 7, end}
    assert loaded.fingerprint == BYTES.fingerprint
    assert loaded.chat_template is None
    assert load_vocabulary(str(folder)) is loaded
    assert load_vocabulary(str(folder), size=400).size == 400


def test_load_takes_a_template_as_text_or_file(folder: Path) -> None:
    file = folder / "mine.jinja"
    file.write_text(TEMPLATE)
    assert load_vocabulary(str(folder), chat_template=TEMPLATE).chat_template == TEMPLATE
    assert load_vocabulary(str(folder), chat_template=str(file)).chat_template == TEMPLATE
    with pytest.raises(ConfigurationError, match=r"`chat_template='nowhere.jinja'`"):
        load_vocabulary(str(folder), chat_template="nowhere.jinja")


def test_load_errors_say_what_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError, match="no file or folder at '/nowhere/model'"):
        load_vocabulary("/nowhere/model")
    with pytest.raises(ConfigurationError, match=r"`tokenizer='\./nowhere'`"):
        load_vocabulary(str(tmp_path), tokenizer="./nowhere")
    with pytest.raises(ConfigurationError, match="config"):
        load_vocabulary(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError):
        load_vocabulary(str(tmp_path))
    with pytest.raises(ConfigurationError, match="Hugging Face hub"):
        load_vocabulary("nobody/nothing-at-all")


@settings(max_examples=20)
@given(st.integers(1, 5))
def test_cost_per_push_does_not_grow(factor: int) -> None:
    decoder = PIECES.decoder()
    assert isinstance(decoder, WindowDecoder)
    for token in PIECES.encode("the hello " * 50 * factor):
        decoder.push(token)
        assert len(decoder._window) <= 17
