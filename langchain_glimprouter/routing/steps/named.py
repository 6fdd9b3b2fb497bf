"""Rules of steps by the forms that users write."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown
from langchain_glimprouter.routing.steps.base import Steps
from langchain_glimprouter.routing.steps.counts import MaxTokens, MinTokens
from langchain_glimprouter.routing.steps.cues import CueWords
from langchain_glimprouter.routing.steps.custom import EndsWhen
from langchain_glimprouter.routing.steps.lines import BlankLines, Newlines
from langchain_glimprouter.routing.steps.sentences import Sentences

StepRule: TypeAlias = Steps | str | int | Callable[[str], bool]
"""What says where steps end: a rule, its name, a number of tokens, or a function of the text."""

NAMES = ("blank line", "newline", "sentence", "cue words")
"""Rules with a name; a number in brackets merges shorter steps: `newline(8)`."""

_MAKERS: dict[str, Callable[[], Steps]] = {
    "blankline": BlankLines,
    "newline": Newlines,
    "sentence": Sentences,
    "cuewords": CueWords,
}
_CALL = re.compile(r"\s*([a-z _-]+?)\s*(?:\(\s*([^()]*?)\s*\))?\s*")


def rule_name(steps: Steps) -> str:
    """Return what tells one rule from another, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(steps))


def as_steps(steps: object) -> Steps:
    """Return the rule that `steps` means.

    Args:
        steps: A `Steps` object; one of `NAMES`, with a number of tokens in brackets where shorter
            steps are to merge with the next (`"newline(8)"`); a number: the tokens of every step;
            or a function that is given a step's text so far behind every token, and tells whether
            the step ends there (see `EndsWhen`).

    Raises:
        ConfigurationError: If it is none of these.
    """
    if isinstance(steps, str):
        return _named(steps)
    if not isinstance(steps, bool | type):
        if isinstance(steps, Steps):
            return steps
        if isinstance(steps, int):
            return MaxTokens(steps)
        if callable(steps):
            return EndsWhen(steps)
    msg = (
        f"steps={steps!r} is no rule: give one of the names {', '.join(NAMES)}, a number of "
        f"tokens, a function of the step's text, or for instance BlankLines(('\\n\\n',))"
    )
    raise ConfigurationError(msg)


def _named(name: str) -> Steps:
    if name.strip().isdecimal():
        return MaxTokens(int(name))
    if "\n" in name or not any(map(str.isalpha, name)):
        msg = (
            f"steps={name!r} is no name of a rule: texts that end a step go into "
            f"BlankLines(({name!r},)); names are {', '.join(NAMES)}"
        )
        raise ConfigurationError(msg)
    match = _CALL.fullmatch(name.lower())
    make = _MAKERS.get(re.sub(r"[ _-]", "", match[1])) if match else None
    if match is None or make is None:
        raise unknown("steps", name, NAMES)
    least: str | None = match[2]
    if least is None:
        return make()
    if not least.isdecimal() or int(least) < 1:
        msg = (
            f"steps={name!r}: the number in brackets is the fewest tokens of a step, 1 or more: "
            f"write for instance '{match[1]}(8)'"
        )
        raise ConfigurationError(msg)
    return MinTokens(make(), int(least))
