"""Steps by their number of tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_glimprouter.routing.steps.base import Splitter, Steps
    from langchain_glimprouter.routing.steps.named import StepRule

_GRACE = 8
"""Tokens by which a step may grow to end on a whole character or tag; no character takes more."""

_TAIL = 16
_TAG = re.compile(r"<[^<>\s]*\Z")


@dataclass(frozen=True, slots=True)
class MaxTokens:
    """Steps of a fixed number of tokens, whatever their text.

    Only for such steps the borders depend on how the text is cut into tokens. A step grows by up to
    eight tokens rather than end inside a character, or inside what may be a tag (`<…`).

    Attributes:
        tokens: Tokens of a step, the writer's own.

    Raises:
        ConfigurationError: If that is no whole number, 1 or more.
    """

    tokens: int

    def __post_init__(self) -> None:
        """Refuse what is no number of tokens."""
        _check_count(self.tokens, "MaxTokens(64)")

    @property
    def delimiters(self) -> tuple[str, ...]:
        """There is none."""
        return ()

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _CountingSplitter(self.tokens)


class _CountingSplitter:
    __slots__ = ("_count", "_most", "_tail")

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._tail = ""  # of the text, across steps

    def push(self, text: str) -> bool:
        self._count += 1
        self._tail = (self._tail + text)[-_TAIL:]
        if self._count < self._most:
            return False
        unfinished = not text or _TAG.search(self._tail) is not None
        return not unfinished or self._count >= self._most + _GRACE

    def restart(self) -> None:
        self._count = 0


@dataclass(frozen=True, slots=True)
class MinTokens:
    """Another rule, but a step of fewer tokens than that merges with the next.

    A step end is ignored until the step has so many tokens. (In one published trace 19 % of the
    steps had eight tokens or fewer.)

    Attributes:
        rule: The other rule, in any form that the option `steps` takes.
        tokens: Fewest tokens of a step, the writer's own; only what ends a thought or an answer may
            end a step before.

    Raises:
        ConfigurationError: If there is no such rule, or the number cannot work.
    """

    rule: StepRule
    tokens: int

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        from langchain_glimprouter.routing.steps.named import as_steps  # it knows this rule

        _check_count(self.tokens, "MinTokens('newline', 8)")
        rule = as_steps(self.rule)
        if isinstance(rule, MaxTokens) and rule.tokens < self.tokens:
            msg = (
                f"steps: no step has at most {rule.tokens} tokens and at least {self.tokens}: "
                f"give MinTokens another rule, or fewer tokens"
            )
            raise ConfigurationError(msg)
        object.__setattr__(self, "rule", rule)

    @property
    def delimiters(self) -> tuple[str, ...]:
        """Those of the other rule."""
        return cast("Steps", self.rule).delimiters

    def splitter(self) -> Splitter:
        """Return a splitter for one turn."""
        return _MergingSplitter(cast("Steps", self.rule).splitter(), self.tokens)


class _MergingSplitter:
    __slots__ = ("_count", "_inner", "_least")

    def __init__(self, inner: Splitter, least: int) -> None:
        self._inner = inner
        self._least = least
        self._count = 0

    def push(self, text: str) -> bool:
        self._count += 1
        return self._inner.push(text) and self._count >= self._least

    def restart(self) -> None:
        self._count = 0
        self._inner.restart()


def _check_count(tokens: object, example: str) -> None:
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        msg = f"steps: {tokens!r} is no number of tokens: give 1 or more, for instance {example}"
        raise ConfigurationError(msg)
