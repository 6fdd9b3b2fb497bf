"""Messages to templates and back: nothing is dropped, nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_glimprouter.engines.scripted_vocabulary import ScriptedVocabulary
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.messages.convert import (
    reasoning_of,
    session_key,
    to_template_messages,
)
from langchain_glimprouter.messages.prompt import find_aside, render_prompts
from unit_tests.models import ANSWER, THOUGHT, router

TAGS = ("<think>", "</think>")


def convert(message: BaseMessage) -> dict[str, Any]:
    (converted,) = to_template_messages([message])
    return converted


@pytest.mark.parametrize(
    ("message", "converted"),
    [
        (SystemMessage("Be brief."), {"role": "system", "content": "Be brief."}),
        (HumanMessage("Hi"), {"role": "user", "content": "Hi"}),
        (
            HumanMessage(["Hi", {"type": "text", "text": " you"}]),
            {"role": "user", "content": "Hi you"},
        ),
        (AIMessage("Yes"), {"role": "assistant", "content": "Yes"}),
        (ChatMessage(content="Yes", role="critic"), {"role": "critic", "content": "Yes"}),
        (FunctionMessage(content="3", name="add"), {"role": "tool", "content": "3", "name": "add"}),
        (
            ToolMessage("7", tool_call_id="1", name="add"),
            {"role": "tool", "content": "7", "tool_call_id": "1", "name": "add"},
        ),
        (
            ToolMessage("7", tool_call_id="1"),
            {"role": "tool", "content": "7", "tool_call_id": "1"},
        ),
        (
            ToolMessage("no such file", tool_call_id="1", status="error"),
            {"role": "tool", "content": "Error: no such file", "tool_call_id": "1"},
        ),
        (
            ToolMessage("Error: no such file", tool_call_id="1", status="error"),
            {"role": "tool", "content": "Error: no such file", "tool_call_id": "1"},
        ),
        (
            ToolMessage([{"type": "json", "json": {"a": 1}}], tool_call_id="1"),
            {"role": "tool", "content": '{"a": 1}', "tool_call_id": "1"},
        ),
    ],
)
def test_one_message(message: BaseMessage, converted: dict[str, Any]) -> None:
    assert convert(message) == converted


REASONINGS = [
    AIMessage("7", additional_kwargs={"reasoning_content": "3 + 4"}),
    AIMessage([{"type": "reasoning", "reasoning": "3 + 4"}, {"type": "text", "text": "7"}]),
    AIMessage(
        [
            {"type": "reasoning", "reasoning": "3 "},
            {"type": "reasoning", "reasoning": "+ 4"},
            {"type": "text", "text": "7"},
        ]
    ),
    AIMessage([{"type": "thinking", "thinking": "3 + 4"}, "7"]),
]


@pytest.mark.parametrize("message", REASONINGS)
def test_reasoning_goes_back_in_either_form(message: AIMessage) -> None:
    assert convert(message) == {
        "role": "assistant",
        "content": "7",
        "reasoning_content": "3 + 4",
    }
    assert reasoning_of(message) == "3 + 4"


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_our_own_messages_go_back_whole(version: str) -> None:
    message = router(output_version=version).invoke("What is 3 + 4?")
    assert convert(message) == {
        "role": "assistant",
        "content": ANSWER,
        "reasoning_content": THOUGHT,
    }
    chunks = list(router(output_version=version).stream("What is 3 + 4?"))
    assert convert(sum(chunks[1:], chunks[0])) == convert(message)


def test_tool_calls_go_back_also_those_that_failed_to_parse() -> None:
    message = AIMessage(
        [{"type": "text", "text": "Let me add."}, {"type": "tool_use", "id": "1", "name": "add"}],
        tool_calls=[{"name": "add", "args": {"a": 3}, "id": "1"}],
        invalid_tool_calls=[{"name": "sub", "args": "{a: 3", "id": "2", "error": "bad JSON"}],
    )
    assert convert(message) == {
        "role": "assistant",
        "content": "Let me add.",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 3}}},
            {"id": "2", "type": "function", "function": {"name": "sub", "arguments": "{a: 3"}},
        ],
    }


IMAGES = [
    {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}},
    {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
    {"type": "audio", "url": "https://x.org/a.mp3"},
    {"type": "file", "url": "https://x.org/a.pdf"},
    {"image": "AAAA"},
]


@pytest.mark.parametrize("block", IMAGES)
@pytest.mark.parametrize("kind", [HumanMessage, SystemMessage, AIMessage])
def test_images_are_refused_with_a_sentence(block: dict[str, Any], kind: Any) -> None:
    message = kind([{"type": "text", "text": "See:"}, block])
    with pytest.raises(
        ConfigurationError, match=r"messages: .*text models; send text only"
    ) as caught:
        to_template_messages([HumanMessage("Hi"), message])
    assert repr(block.get("type")) in str(caught.value)


def test_no_messages_and_strange_messages_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="messages is empty"):
        to_template_messages([])
    with pytest.raises(ConfigurationError, match="RemoveMessage"):
        to_template_messages([RemoveMessage("1")])


def test_a_conversation_keeps_its_session() -> None:
    """So that a load balancer finds the replica whose prefix cache knows it."""
    system, one, two = SystemMessage("Be brief."), HumanMessage("One?"), HumanMessage("Two?")
    first = session_key(to_template_messages([system, one]))
    later = session_key(to_template_messages([system, one, AIMessage("1"), two]))
    assert first == later
    assert first != session_key(to_template_messages([system, two]))
    assert first != session_key(to_template_messages([one]))


# -- prompts -------------------------------------------------------------------------------------


class Template(ScriptedVocabulary):
    """Ends its prompt in a given way."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end = end
        self.variables: dict[str, Any] = {}

    def render(self, messages: Any, *, tools: Any = None, **variables: Any) -> str:
        if len(messages) == 1:
            self.variables = variables
        return super().render(messages, tools=tools, enable_thinking=False) + self.end


def render(small: str, large: str, thinking: bool | None = None) -> tuple[str, str, str]:
    vocabularies: Any = {"small": Template(small), "large": Template(large)}
    messages = to_template_messages([HumanMessage("Hi")])
    prompts, opening, _ = render_prompts(
        vocabularies, messages, thinking=thinking, tags=TAGS, template_kwargs={"x": 1}
    )
    start = "<|user|>Hi<|end|><|assistant|>"
    for role, prompt in prompts.items():
        assert prompt.token_ids == vocabularies[role].encode(prompt.text, special=True)
        given = vocabularies[role].variables
        assert given["x"] == 1
        assert given.get("enable_thinking") is thinking
    ends = [prompts[role].text.removeprefix(start) for role in ("small", "large")]
    return opening, ends[0], ends[1]


OPEN, TAG, CLOSED = "<think>\n", "<think>", "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("small", "large", "thinking", "expected"),
    [
        ("", "", None, ("unknown", "", "")),
        (OPEN, OPEN, None, ("opened", OPEN, OPEN)),
        (TAG, TAG, None, ("tag", TAG, TAG)),
        (CLOSED, CLOSED, None, ("none", CLOSED, CLOSED)),
        # Where one opens a thought, both do: they write one thought.
        ("", OPEN, None, ("opened", OPEN, OPEN)),
        (OPEN, "", None, ("opened", OPEN, OPEN)),
        (TAG, OPEN, None, ("opened", OPEN, OPEN)),
        (TAG, "", None, ("opened", OPEN, OPEN)),
        (CLOSED, "", None, ("none", CLOSED, "")),
        ("", "", True, ("opened", OPEN, OPEN)),
        (TAG, "", True, ("opened", OPEN, OPEN)),
        ("", "", False, ("none", "", "")),
        (OPEN, "", False, ("none", CLOSED, "")),
        (TAG, CLOSED, False, ("none", CLOSED, CLOSED)),
        ("<think>\n\n", OPEN, None, ("opened", "<think>\n\n", OPEN)),
    ],
)
def test_templates_agree_on_the_thought(
    small: str, large: str, thinking: bool | None, expected: tuple[str, str, str]
) -> None:
    assert render(small, large, thinking) == expected


@pytest.mark.parametrize("end", ["", OPEN, TAG, CLOSED, "<think>\n\n"])
def test_a_question_in_between_is_answered_without_a_thought(end: str) -> None:
    vocabulary: Any = Template(end)
    before, behind = find_aside(vocabulary, {}, TAGS) or ("", "")
    assert before == "<|end|><|user|>"
    assert behind.startswith("<|end|><|assistant|>")
    answer = behind.removeprefix("<|end|><|assistant|>")
    assert not answer or answer.rstrip().endswith("</think>")
    assert find_aside(vocabulary, {}, TAGS) == (before, behind)


def test_a_template_that_hides_what_a_model_wrote_allows_no_question() -> None:
    class Hiding(Template):
        def render(self, messages: Any, *, tools: Any = None, **variables: Any) -> str:
            return super().render([m for m in messages if m["role"] != "assistant"])

    class Refusing(Template):
        def render(self, messages: Any, *, tools: Any = None, **variables: Any) -> str:
            if len(messages) > 1:
                msg = "one message only"
                raise ConfigurationError(msg)
            return super().render(messages)

    for kind in (Hiding, Refusing):
        vocabulary: Any = kind("")
        assert find_aside(vocabulary, {}, TAGS) is None


def test_a_question_about_the_tag_opens_nothing() -> None:
    vocabulary: Any = Template("")
    messages = to_template_messages([HumanMessage("What does <think> mean? </think>")])
    _, opening, _ = render_prompts(
        {"small": vocabulary}, messages, thinking=None, tags=TAGS, template_kwargs={}
    )
    assert opening == "unknown"
