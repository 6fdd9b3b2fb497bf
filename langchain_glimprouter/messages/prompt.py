"""A conversation as each model's own chat template renders it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_glimprouter.routing.options import Opening, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.engines.base import Vocabulary
    from langchain_glimprouter.errors import Role


def render_prompts(
    vocabularies: Mapping[Role, Vocabulary],
    messages: Sequence[Mapping[str, Any]],
    *,
    thinking: bool | None,
    tags: tuple[str, str],
    template_kwargs: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[dict[Role, Prompt], Opening]:
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

    Raises:
        ConfigurationError: If a template refuses the messages.
    """
    options = dict(template_kwargs)
    if thinking is not None:
        options.setdefault("enable_thinking", thinking)
    texts = {
        role: vocabulary.render(messages, tools=tools, **options)
        for role, vocabulary in vocabularies.items()
    }
    states = {role: _opening(text, tags) for role, text in texts.items()}
    opening = _agree(set(states.values()), thinking)
    start, end = tags
    for role, state in states.items():
        if opening == "opened" and state != "opened":
            texts[role] += "\n" if state == "tag" else f"{start}\n"
        elif opening == "none" and state in ("opened", "tag"):
            texts[role] += f"\n\n{end}\n\n" if state == "tag" else f"\n{end}\n\n"
    prompts = {
        role: Prompt(text, vocabularies[role].encode(text, special=True))
        for role, text in texts.items()
    }
    return prompts, opening


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
