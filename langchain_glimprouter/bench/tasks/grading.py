"""Grades answers that are texts: maths, exact answers, choices, and reasoning-gym's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_glimprouter.bench.tasks.base import Grade
from langchain_glimprouter.bench.tasks.extract import (
    choice,
    decimal,
    final_answer,
    first_number,
    is_number,
    last_line,
    last_number,
    plain,
    same_text,
)
from langchain_glimprouter.bench.tasks.workers import GYM, MATHS

_LONGEST = 20_000  # characters at the end of an answer that are looked through


def _wrong(extracted: str | None, error: str | None = None) -> Grade:
    return Grade(correct=False, score=0.0, extracted=extracted, error=error)


def _right(extracted: str) -> Grade:
    return Grade(correct=True, score=1.0, extracted=extracted)


async def grade_maths(reference: str, answer: str) -> Grade:
    """Grade an answer by math-verify, which finds it, parses it and compares it by value.

    Args:
        reference: The right answer, in LaTeX or plain.
        answer: The whole text behind the thought.
    """
    answer = answer[-_LONGEST:]
    stated = final_answer(answer)
    if stated is not None and same_text(stated, reference):
        return _right(stated)
    if not answer.strip():
        return _wrong(None, "there is no answer")
    found = await asyncio.to_thread(MATHS.grade, reference, answer)
    return Grade(
        correct=found.score == 1.0,
        score=found.score,
        extracted=stated if stated is not None else found.extracted,
        error=found.error,
    )


async def grade_gym(
    name: str, config: Mapping[str, Any], entry: Mapping[str, Any], answer: str
) -> Grade:
    """Grade an answer by the `score_answer` of a reasoning-gym data set.

    Args:
        name: The data set.
        config: What it was made with.
        entry: The question as the data set gave it.
        answer: The whole text behind the thought.
    """
    candidates = gym_candidates(answer[-_LONGEST:], entry.get("answer"))
    if not candidates:
        return _wrong(None, "there is no answer")
    found = await asyncio.to_thread(GYM.grade, name, dict(config), dict(entry), candidates)
    return Grade(
        correct=found.score >= 1.0,
        score=found.score,
        extracted=found.extracted if found.extracted is not None else candidates[0],
        error=found.error,
    )


def gym_candidates(answer: str, reference: object) -> Sequence[str]:
    """Return the final answer in the ways in which a data set may want it written; best first.

    Args:
        answer: The whole text behind the thought.
        reference: The right answer, which tells whether a number is wanted.
    """
    stated = final_answer(answer)
    if isinstance(reference, str) and is_number(reference):
        number = first_number(stated) if stated is not None else last_number(answer)
        # Never the rest beside it: some sets take the first number that they find.
        ways = [number if number is None or "/" in reference else decimal(number)]
    elif stated is not None:
        ways = [stated, plain(stated)]
    else:  # a board or a list needs all lines, a word stands in the last
        several = isinstance(reference, str) and "\n" in reference.strip()
        ways = [answer.strip()] if several else [last_line(answer), answer.strip()]
    return [way for way in dict.fromkeys(ways) if way]


def grade_exact(reference: str, answer: str) -> Grade:
    """Grade an answer by its text; blanks, capitals and LaTeX's dress count for nothing."""
    answer = answer[-_LONGEST:]
    stated = final_answer(answer) or last_line(answer)
    if stated is None:
        return _wrong(None, "there is no answer")
    return _right(stated) if same_text(stated, reference) else _wrong(stated)


def grade_choice(reference: str, answer: str, letters: str, options: Sequence[str] = ()) -> Grade:
    """Grade the letter that an answer chooses; see `extract.choice`."""
    chosen = choice(answer[-_LONGEST:], letters, options)
    if chosen is None:
        why = "it chooses no letter" if answer.strip() else "there is no answer"
        return _wrong(None, why)
    return _right(chosen) if chosen == reference else _wrong(chosen)
