"""Parts questions into those that thresholds are chosen on and those that are reported."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import TypeVar

from langchain_glimprouter.bench.tasks.base import Split

_Key = TypeVar("_Key")


def mark(text: str) -> str:
    """Return a fingerprint of a question's text; the same whatever its blanks and capitals."""
    return hashlib.sha256(" ".join(text.split()).casefold().encode(errors="replace")).hexdigest()


def half(text: str) -> Split:
    """Return the split of one of endlessly many questions: each gets half of them.

    The text alone decides, so that equal questions never land on both sides, under any seeds.
    """
    return "calibration" if int(mark(text)[-1], 16) % 2 else "test"


def parted(marked: Iterable[tuple[_Key, str]], share: float, split: Split, seed: int) -> list[_Key]:
    """Return the questions of one split, in an order that the seed decides.

    Which split a question is in does *not* depend on the seed: a threshold that was chosen under
    one seed must not meet its own questions under another. Questions with equal texts go together.

    Args:
        marked: Questions with their texts' marks.
        share: How much of the texts is kept for calibration.
        split: The part that is wanted.
        seed: Of the order.
    """
    groups: dict[str, list[_Key]] = {}
    for key, one in marked:
        groups.setdefault(one, []).append(key)
    order = sorted(groups)  # marks are as good as random numbers
    cut = int(share * len(order) + 1e-9)
    wanted = order[:cut] if split == "calibration" else order[cut:]
    random.Random(seed).shuffle(wanted)
    return [key for one in wanted for key in groups[one]]
