"""How models mark a thought, by vLLM's reasoning parsers or by their chat templates."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_glimprouter.engines.base import Vocabulary

THINK = ("<think>", "</think>")

_SIGNS = (
    ("<seed:think>", ("<seed:think>", "</seed:think>")),
    ("[THINK]", ("[THINK]", "[/THINK]")),
    ("<|START_THINKING|>", ("<|START_THINKING|>", "<|END_THINKING|>")),
)
_KNOWN = {  # what a server-only installation knows of vLLM's parsers
    **dict.fromkeys(("deepseek_r1", "qwen3", "glm45", "nemotron_v3", "step3p5"), THINK),
    "seed_oss": _SIGNS[0][1],
    "mistral": _SIGNS[1][1],
}


def tags_of_parser(name: str, vocabulary: Vocabulary) -> tuple[str, str]:
    """Return the tags of one of vLLM's reasoning parsers.

    Args:
        name: vLLM's name of the parser.
        vocabulary: The model's.

    Raises:
        ConfigurationError: If there is no such parser, or it goes by no pair of tags.
    """
    tokenizer = getattr(vocabulary, "tokenizer", None)
    if importlib.util.find_spec("vllm") is None or tokenizer is None:
        if name not in _KNOWN:
            raise unknown("reasoning_parser", name, _KNOWN)
        return _KNOWN[name]
    from vllm.reasoning import ReasoningParserManager

    known = {*ReasoningParserManager.reasoning_parsers, *ReasoningParserManager.lazy_parsers}
    if name not in known:
        raise unknown("reasoning_parser", name, known)
    try:
        parser = ReasoningParserManager.get_reasoning_parser(name)(tokenizer)
        start = getattr(parser, "reasoning_start_str", None) or getattr(parser, "start_token", None)
        end = getattr(parser, "reasoning_end_str", None) or getattr(parser, "end_token", None)
    except Exception as error:
        msg = (
            f"reasoning_parser={name!r} does not fit this model: {error}; choose another, or give "
            f"think_tags="
        )
        raise ConfigurationError(msg) from error
    if not isinstance(start, str) or not isinstance(end, str) or not start or not end:
        msg = (
            f"reasoning_parser={name!r} goes by no pair of tags, which routing needs; give "
            f"think_tags=, if the model has them"
        )
        raise ConfigurationError(msg)
    return start, end


def tags_of_templates(templates: Iterable[str]) -> tuple[str, str]:
    """Return the tags that chat templates write; `<think>` where they write none."""
    sources = list(templates)
    if any(THINK[0] in source for source in sources):
        return THINK
    for sign, tags in _SIGNS:
        if any(sign in source for source in sources):
            return tags
    return THINK
