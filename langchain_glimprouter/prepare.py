"""From a settled call to what the router takes: prompts, the answer's format, its grammar."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.messages.convert import last_question, session_key
from langchain_glimprouter.messages.prompt import Rendering, render_prompts
from langchain_glimprouter.messages.think_tags import tags_of_parser, tags_of_templates
from langchain_glimprouter.messages.tool_format import answer_schema, find_format
from langchain_glimprouter.routing.options import TurnOptions, TurnRequest

if TYPE_CHECKING:
    from langchain_glimprouter.engines.base import Vocabulary
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.settings import Call


def prepare(
    call: Call, conversation: Sequence[Mapping[str, Any]], vocabularies: Mapping[Role, Vocabulary]
) -> TurnRequest:
    """Render a conversation for the models of a call, and find out how they answer.

    `call.answer` knows the format of tool calls afterwards.

    Args:
        call: The call.
        conversation: OpenAI-style messages.
        vocabularies: Those of the models that the call may need.

    Raises:
        ConfigurationError: If a chat template refuses the messages, or the answer's format is
            unknown or cannot be enforced.
    """
    use = call.answer.use
    tags = _think_tags(call, vocabularies)
    rendering = render_prompts(
        vocabularies,
        conversation,
        thinking=call.thinking,
        tags=tags,
        template_kwargs=call.template_kwargs,
        tools=use.shown,
        constrained=use.constrained,
    )
    options = replace(call.options, think_tags=tags)
    if options.session_id is None:
        options = replace(options, session_id=session_key(conversation))
    if use.shown:
        options = _with_tools(call, options, rendering, vocabularies)
    elif use.schema is not None:
        options = replace(options, constraint=answer_schema(use.schema))
    return TurnRequest(rendering.prompts, rendering.opening, options, last_question(conversation))


def _think_tags(call: Call, vocabularies: Mapping[Role, Vocabulary]) -> tuple[str, str]:
    if call.reasoning_parser is not None:
        return tags_of_parser(call.reasoning_parser, next(iter(vocabularies.values())))
    if call.tags_given:
        return call.options.think_tags
    return tags_of_templates(_template(call, vocabulary) for vocabulary in vocabularies.values())


def _template(call: Call, vocabulary: Vocabulary) -> str:
    return str(call.template_kwargs.get("chat_template") or vocabulary.chat_template or "")


def _with_tools(
    call: Call,
    options: TurnOptions,
    rendering: Rendering,
    vocabularies: Mapping[Role, Vocabulary],
) -> TurnOptions:
    for unaware in rendering.generic:
        warnings.warn(
            f"tools: the chat template of the {unaware} model knows none, so it gets them as text "
            f"in Hermes' format; a template that knows them (chat_template=) works better",
            UserWarning,
            stacklevel=2,
        )
    use = call.answer.use
    formats = {
        role: find_format(
            vocabulary,
            template=_template(call, vocabulary),
            name=call.tool_parser,
            generic=role in rendering.generic,
        )
        for role, vocabulary in vocabularies.items()
    }
    writer = call.policy.answer_by or options.answer_by
    role: Role = "large" if writer == "route" else writer
    chosen = formats.get(role) or next(iter(formats.values()))
    routed = writer == "route" or rendering.opening in ("none", "unknown")
    names = {role: form.name for role, form in formats.items()}
    constraint = chosen.constraint(use)
    if routed and constraint is None and len(set(names.values())) > 1:
        msg = (
            f"tools: small and large write tool calls in different formats ({names['small']!r}, "
            f"{names['large']!r}), and both may answer; pin one with model='large', or give both "
            f"one format with tool_parser= and chat_template="
        )
        raise ConfigurationError(msg)
    call.answer.format = chosen
    # Where a call's beginning is unknown, the whole answer is one step.
    bare = tuple(f'"name": "{name}"' for name in use.names)
    unsplit = (*chosen.markers, *bare) if chosen.markers else ("",)
    return replace(options, constraint=constraint, unsplit=unsplit)
