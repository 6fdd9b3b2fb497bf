"""A study's report to read: tables, and what they do and do not show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langchain_glimprouter.bench.arms import ALWAYS_LARGE
from langchain_glimprouter.bench.tables import (
    END_COLUMNS,
    MAIN_COLUMNS,
    TOKEN_COLUMNS,
    end_row,
    main_row,
    percent,
    points,
    signed,
    token_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_glimprouter.bench.results import ArmResult, Results
    from langchain_glimprouter.bench.statistics import Estimate

_FAR = 0.05  # a partner whose rate differs by more is no match


def as_markdown(results: Results) -> str:
    """Return the report."""
    parts = [
        f"# {results.settings['task']}: policies side by side",
        _setting(results),
        "## Results",
        _table(MAIN_COLUMNS, [main_row(arm) for arm in results.arms]),
        (
            "Means and medians are per question; brackets are intervals of 95 % (bootstrap over "
            "questions). “− always large” and “− random” are paired differences of accuracy in "
            "percentage points; “random” is the random policy at the rate nearest to the arm's "
            "own. “Large tokens” are all that the large model wrote, kept or not."
        ),
        "## What it shows",
        _bullets(findings(results)),
        "## Thresholds",
        _thresholds(results),
        "## Tokens per question, mean",
        _table(TOKEN_COLUMNS, [row for arm in results.arms for row in token_rows(arm)]),
        "## How turns ended",
        _table(END_COLUMNS, [end_row(arm) for arm in results.arms]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def findings(results: Results) -> list[str]:
    """Return what the numbers show, each in a sentence, and what they are too few to show."""
    found = [_against_random(arm) for arm in results.arms if arm.routes]
    large = results.arm(ALWAYS_LARGE)
    if large is None:
        found.append("`always large` is not among the arms, so nothing is compared with it.")
    else:
        found += [_against_large(arm, large) for arm in results.arms if arm.routes]
    counts = {arm.questions for arm in results.arms}
    if len(counts) > 1:
        found.append(
            f"The arms stand at different numbers of questions ({min(counts)} to {max(counts)}): "
            f"the study is not finished. Differences are over the questions that both answered."
        )
    routed = sum(arm.routes for arm in results.arms)
    if routed > 1:
        found.append(
            f"With {routed} routing arms, about one interval in twenty excludes 0 by chance."
        )
    return found


def _against_random(arm: ArmResult) -> str:
    difference = arm.vs_random
    if difference is None:
        return f"`{arm.label}`: no random arm at its rate was run, so its signal is not tested."
    rates = f"{percent(arm.intervention_rate)} of the steps"
    partner = f"`{arm.partner}` ({percent(arm.partner_rate)})"
    if difference.lower > 0:
        said = f"beats {partner} at {rates}: {points(difference)} points"
    elif difference.upper < 0:
        said = f"is **worse** than {partner} at {rates}: {points(difference)} points"
    else:
        said = (
            f"is not shown to beat {partner} at {rates}: {points(difference)} points"
            f"{_few(difference)}"
        )
    gap = abs((arm.intervention_rate or 0.0) - (arm.partner_rate or 0.0))
    doubt = " The rates differ, so this is no fair match." if gap > _FAR else ""
    return f"`{arm.label}` {said}.{doubt}"


def _against_large(arm: ArmResult, large: ArmResult) -> str:
    difference, seconds = arm.vs_large, arm.seconds_vs_large
    if difference is None or seconds is None:
        return f"`{arm.label}` shares no finished question with `{ALWAYS_LARGE}`."
    tokens = arm.large.written / large.large.written if large.large.written else math.nan
    cost = (
        f"it takes {seconds.value:.2f} [{seconds.lower:.2f}–{seconds.upper:.2f}] of its time and "
        f"{tokens:.2f} of its large-model tokens"
    )
    if difference.lower > 0:
        said = f"is more accurate than `{ALWAYS_LARGE}` ({points(difference)} points)"
    elif difference.upper < 0:
        said = f"is less accurate than `{ALWAYS_LARGE}` ({points(difference)} points)"
    else:
        said = (
            f"does not differ measurably from `{ALWAYS_LARGE}` in accuracy "
            f"({points(difference)} points{_few(difference)})"
        )
    return f"`{arm.label}` {said}; {cost}."


def _few(difference: Estimate) -> str:
    """Return what the number of questions could have shown."""
    half = difference.half_width
    count = difference.count
    said = f"; {count} questions tell only differences above about {100 * half:.0f} points"
    if difference.value:
        needed = math.ceil(count * (half / abs(difference.value)) ** 2 / 10) * 10
        said += f", and one of {signed(100 * difference.value, 1)} would take some {needed:,}"
    return said


def _setting(results: Results) -> str:
    settings = results.settings
    chat, machine, small, large = (settings[name] for name in ("chat", "machine", "small", "large"))
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    one = small["vocabulary"] == large["vocabulary"]
    vocabularies = "one vocabulary" if one else "two vocabularies"
    caches = "are emptied" if settings["caches_emptied"] else "stay warm"
    versions = [f"{name} {value}" for name, value in settings["versions"].items() if value]
    ends = chat.get("steps") or "blank lines"
    rows = [
        f"Small model {small['model']}, large model {large['model']}; {vocabularies}",
        (
            f"Temperature {chat['temperature']:g}; at most {chat['max_thinking_tokens']:,} tokens "
            f"of thought, {chat['max_tokens']:,} of answer, {chat['max_step_tokens']:,} a step; "
            f"steps end at {ends}"
        ),
        (
            f"Questions at once: {settings['concurrency']}, on which seconds depend. Prefix caches "
            f"{caches} between arms"
        ),
        f"{machine['cpu']}, {machine['cores']} cores, {gpus}; {', '.join(versions)}",
    ]
    rows += [f"@{name}: `{arguments}`" for name, arguments in results.variants.items()]
    return _bullets(rows)


def _thresholds(results: Results) -> str:
    if not results.thresholds:
        return "Every threshold was given; none was calibrated."
    target, count = (results.settings[name] for name in ("target_rate", "calibration_questions"))
    rows = [
        [
            arm.label,
            f"{tau['threshold']:.4g} [{tau['lower']:.3g}–{tau['upper']:.3g}]",
            percent(target),
            percent(tau["rate"]),
            percent(arm.intervention_rate),
        ]
        for arm in results.arms
        if arm.calibrated and (tau := results.thresholds.get(arm.signal or "")) is not None
    ]
    columns = ("policy", "τ", "target rate", "on the calibration split", "under routing, held out")
    return "\n\n".join(
        (
            _table(columns, rows),
            (
                f"τ is the quantile of its signal that sends {percent(target)} of the steps to the "
                f"large model, on {count} other questions whose thoughts the small model wrote "
                f"alone. No label and no held-out question was used. Under routing the "
                f"large model's steps change what the small one sees next, so the rate differs "
                f"from the target; compare arms by the rates they came to."
            ),
        )
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |"]
    lines.append("| --- |" + " ---: |" * (len(columns) - 1))
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
