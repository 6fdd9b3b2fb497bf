"""A conversation as each model's own chat template renders it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.messages.tool_prompt import with_tools_as_text
from langchain_glimprouter.routing.options import Opening, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.engines.base import Vocabulary


_ASIDES: WeakKeyDictionary[Vocabulary, dict[str, tuple[str, str] | None]] = WeakKeyDictionary()
_PLAIN = ({"role": "user", "content": "Hello."},)
_ANY_TOOL = (
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
)


class Rendering(NamedTuple):
    """A conversation, ready for the models.

    Attributes:
        prompts: By role.
        opening: How they leave the thought.
        generic: Models whose template knows no tools, so that plain messages told of them.
    """

    prompts: dict[Role, Prompt]
    opening: Opening
    generic: frozenset[Role]


def render_prompts(
    vocabularies: Mapping[Role, Vocabulary],
    messages: Sequence[Mapping[str, Any]],
    *,
    thinking: bool | None,
    tags: tuple[str, str],
    template_kwargs: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]] = (),
    constrained: bool = False,
) -> Rendering:
    """Render a conversation for every model, and agree on whether it thinks.

    Where one template opens a thought, it is opened for the other model too, since both write one
    thought.

    Args:
        vocabularies: By role.
        messages: OpenAI-style messages.
        thinking: Whether there is a thought; `None` leaves it to the templates and the models.
        tags: How the models mark a thought.
        template_kwargs: Further variables of the templates.
        tools: OpenAI-style tool schemas.
        constrained: Whether the answer follows a grammar, which must not begin before the thought
            is over; so it cannot be left to the models whether they think.

    Raises:
        ConfigurationError: If a template refuses the messages.
    """
    options = dict(template_kwargs)
    if thinking is not None:
        options.setdefault("enable_thinking", thinking)
    texts: dict[Role, str] = {}
    generic: set[Role] = set()
    for role, vocabulary in vocabularies.items():
        if _knows_tools(vocabulary, messages, tools, options):
            texts[role] = vocabulary.render(messages, tools=tools or None, **options)
        else:
            generic.add(role)
            texts[role] = vocabulary.render(with_tools_as_text(messages, tools), **options)
    states = {role: _opening(text, tags) for role, text in texts.items()}
    opening = _agree(set(states.values()), thinking)
    if constrained and opening == "unknown":
        sources = [options.get("chat_template") or v.chat_template for v in vocabularies.values()]
        opening = "opened" if any("enable_thinking" in (text or "") for text in sources) else "none"
    start, end = tags
    for role, state in states.items():
        if opening == "opened" and state != "opened":
            texts[role] += "\n" if state == "tag" else f"{start}\n"
        elif opening == "none" and state in ("opened", "tag"):
            texts[role] += f"\n\n{end}\n\n" if state == "tag" else f"\n{end}\n\n"
    prompts = {
        role: Prompt(
            text,
            vocabularies[role].encode(text, special=True),
            find_aside(vocabularies[role], options, tags),
        )
        for role, text in texts.items()
    }
    return Rendering(prompts, opening, frozenset(generic))


def find_aside(
    vocabulary: Vocabulary, options: Mapping[str, Any], tags: tuple[str, str]
) -> tuple[str, str] | None:
    """Return what a template puts around a question about the model's own unfinished text.

    The question is answered without a thought.

    Args:
        vocabulary: Renders.
        options: Further variables of the template.
        tags: How the models mark a thought.
    """
    known = _ASIDES.setdefault(vocabulary, {})
    key = json.dumps([options, tags], sort_keys=True, default=repr)
    if key not in known:
        known[key] = _find_aside(vocabulary, {**options, "enable_thinking": False}, tags)
    return known[key]


def _find_aside(
    vocabulary: Vocabulary, options: Mapping[str, Any], tags: tuple[str, str]
) -> tuple[str, str] | None:
    written, asked = "GLIMPSED-TEXT", "GLIMPSED-QUESTION"
    messages = (
        *_PLAIN,
        {"role": "assistant", "content": written},
        {"role": "user", "content": asked},
    )
    try:
        text = vocabulary.render(messages, **options)
    except ConfigurationError:
        return None
    _, found, rest = text.partition(written)
    before, found_too, behind = rest.partition(asked)
    if not (found and found_too):
        return None
    if _opening(behind, tags) in ("opened", "tag"):
        behind += f"\n{tags[1]}\n\n"
    return before, behind


def _knows_tools(
    vocabulary: Vocabulary,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> bool:
    """Whether a template shows tools, or there is nothing to show."""
    if tools:
        return vocabulary.render(_PLAIN, tools=tools, **options) != vocabulary.render(
            _PLAIN, **options
        )
    if not any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
        return True
    return vocabulary.render(_PLAIN, tools=_ANY_TOOL, **options) != vocabulary.render(
        _PLAIN, **options
    )


def _agree(states: set[Opening], thinking: bool | None) -> Opening:
    if thinking is False:
        return "none"
    if states == {"tag"}:
        return "tag"
    if thinking or states & {"opened", "tag"}:
        return "opened"
    if "none" in states:
        return "none"
    return "unknown"


def _opening(text: str, tags: tuple[str, str]) -> Opening:
    start, end = tags
    stripped = text.rstrip()
    if stripped.endswith(start):
        return "opened" if text.endswith("\n") else "tag"
    return "none" if stripped.endswith(end) else "unknown"
