"""vLLM's own parsers, through our adapter, say the same as ours without vLLM."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from langchain_glimprouter.engines.vocabulary import HFVocabulary, load_vocabulary
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.messages.hermes import Hermes
from langchain_glimprouter.messages.think_tags import tags_of_parser
from langchain_glimprouter.messages.tool_format import CallDelta, find_format
from langchain_glimprouter.messages.tool_use import settle_tools
from langchain_glimprouter.messages.vllm_format import VLLMFormat
from unit_tests.test_tool_formats import ADD, NOW, check, merged
from unit_tests.tool_texts import TEXTS

USE = settle_tools([ADD, NOW])


@pytest.fixture(scope="module")
def vocabulary(qwen_small: Path) -> HFVocabulary:
    return load_vocabulary(str(qwen_small))


@pytest.fixture(scope="module")
def hermes(vocabulary: HFVocabulary) -> VLLMFormat:
    found = find_format(vocabulary, template=None, name=None)
    assert isinstance(found, VLLMFormat)  # by the tags in Qwen's own chat template
    assert found.name == "hermes"
    assert found.markers == Hermes().markers
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_whole_and_streamed(hermes: VLLMFormat, vocabulary: HFVocabulary, name: str) -> None:
    text = TEXTS[name]
    check(text, hermes.read(USE, text.text))
    ids = vocabulary.encode(text.text, special=True)
    draw = random.Random(name)
    for most in (1, 1, 3, 40):
        reader, decoder = hermes.reader(USE), vocabulary.decoder()
        pieces: list[str | CallDelta] = []
        rest = list(ids)
        while rest:
            count = draw.randint(1, most)
            chunk = "".join(decoder.push(token) for token in rest[:count])
            del rest[:count]
            pieces += reader.push(chunk)
        pieces += reader.finish()
        check(text, merged(pieces))


def test_other_formats(vocabulary: HFVocabulary) -> None:
    xml = VLLMFormat("qwen3_coder", vocabulary.tokenizer, vocabulary)
    call = "<function=add>\n<parameter=a>\n1\n</parameter>\n</function>"
    text = f"Well.\n<tool_call>\n{call}\n</tool_call>"
    read = xml.read(USE, text)
    assert [(call["name"], call["args"]) for call in read.calls] == [("add", {"a": 1})]
    reader = xml.reader(USE)
    pieces: list[str | CallDelta] = []
    decoder = vocabulary.decoder()
    for token in vocabulary.encode(text, special=True):
        pieces += reader.push(decoder.push(token))
    streamed = merged([*pieces, *reader.finish()])
    assert [(call["name"], call["args"]) for call in streamed.calls] == [("add", {"a": 1})]
    assert streamed.content.strip() == "Well."
    constraint: Any = xml.constraint(settle_tools([ADD, NOW], "any"))
    assert "<function=add>" in json.dumps(json.loads(constraint["structural_tag"]))
    together = xml.constraint(settle_tools([ADD], response_format={"type": "json_object"}))
    assert together is not None


def test_what_a_format_cannot_do(vocabulary: HFVocabulary) -> None:
    pythonic = VLLMFormat("pythonic", vocabulary.tokenizer, vocabulary)
    form = {"title": "Person", "type": "object", "properties": {"name": {"type": "string"}}}
    with pytest.raises(ConfigurationError, match="response_format and tools together"):
        pythonic.constraint(settle_tools([ADD], response_format=form))
    with pytest.raises(ConfigurationError, match=r"tool_parser.*'hermes'"):
        find_format(vocabulary, template=None, name="hermess")


def test_tags_of_reasoning_parsers(vocabulary: HFVocabulary) -> None:
    assert tags_of_parser("qwen3", vocabulary) == ("<think>", "</think>")
    with pytest.raises(ConfigurationError, match=r"reasoning_parser.*'qwen3'"):
        tags_of_parser("qwen33", vocabulary)
    with pytest.raises(ConfigurationError, match="think_tags"):
        tags_of_parser("openai_gptoss", vocabulary)
