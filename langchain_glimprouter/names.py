"""Errors for misspelt names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigurationError:
    """Return an error for an unknown name, with the nearest known ones.

    Args:
        kind: What the name is of, for instance `option`.
        name: The unknown name.
        known: All names that exist.
    """
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(choices)}"
    return ConfigurationError(f"unknown {kind} {name!r}; {hint}")
