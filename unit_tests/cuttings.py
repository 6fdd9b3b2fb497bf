"""Texts, and every way of cutting them into tokens."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st


def texts(*pieces: str, most: int = 12) -> st.SearchStrategy[str]:
    """Texts made of the given pieces, so that what matters is met often."""
    return st.lists(st.sampled_from(pieces), max_size=most).map("".join)


@st.composite
def cuttings(draw: st.DrawFn, whole: st.SearchStrategy[str]) -> list[str]:
    """A text cut into tokens, some of which may be empty (half a character)."""
    text = draw(whole)
    borders = draw(st.lists(st.integers(0, len(text)), max_size=len(text) + 3))
    edges = [0, *sorted(borders), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def cut_evenly(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
