"""A study's report to read: tables, and what they do and do not show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langchain_glimprouter.bench.arms import ALWAYS_LARGE, MAIN
from langchain_glimprouter.bench.tables import (
    END_COLUMNS,
    MAIN_COLUMNS,
    TOKEN_COLUMNS,
    end_row,
    main_row,
    percent,
    points,
    ratio,
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
        "## Does the signal beat chance?",
        _bullets(against_random(results)) or "No arm routes by a signal.",
        f"## Against `{ALWAYS_LARGE}`",
        _bullets(against_large(results)),
        "## Keep in mind" if caveats(results) else "",
        _bullets(caveats(results)),
        "## Thresholds",
        _thresholds(results),
        "## Tokens per question, mean",
        _table(TOKEN_COLUMNS, [row for arm in results.arms for row in token_rows(arm)]),
        "## How turns ended",
        _table(END_COLUMNS, [end_row(arm) for arm in results.arms]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def against_random(results: Results) -> list[str]:
    """Return of each routing arm whether its signal beats chance at the same rate."""
    return [_against_random(arm) for arm in results.arms if arm.routes]


def against_large(results: Results) -> list[str]:
    """Return of each other arm what it costs and saves against the large model alone."""
    large = results.arm(ALWAYS_LARGE)
    if large is None:
        return [f"`{ALWAYS_LARGE}` is not among the arms, so nothing is compared with it."]
    others = [arm for arm in results.arms if arm is not large]
    return [_against_large(arm, large) for arm in others if arm.routes or arm.variant != MAIN]


def caveats(results: Results) -> list[str]:
    """Return what to keep in mind when reading the numbers."""
    found = []
    counts = {arm.questions for arm in results.arms}
    if len(counts) > 1:
        found.append(
            f"The study is not finished: its arms stand at {min(counts)} to {max(counts)} "
            f"questions. Differences are over the questions that both answered."
        )
    errors = sum(arm.errors for arm in results.arms)
    if errors:
        found.append(
            f"Turns that an engine broke off: {errors}. They count as wrong, and are tried again "
            f"when the study goes on."
        )
    routed = sum(arm.routes for arm in results.arms)
    if routed > 1:
        found.append(
            f"{routed} arms are compared. Of intervals of 95 %, one in twenty misses the truth by "
            f"chance."
        )
    return found


def _against_random(arm: ArmResult) -> str:
    difference, seconds = arm.vs_random, arm.seconds_vs_random
    if difference is None:
        return f"`{arm.label}`: no random arm at its rate was run, so its signal is not tested."
    rate = percent(arm.intervention_rate)
    partner = f"`{arm.partner}` (rate {percent(arm.partner_rate)})"
    if difference.lower > 0:
        said = f"**beats** {partner} at a rate of {rate}: {points(difference)} points"
    elif difference.upper < 0:
        said = f"is **worse** than {partner} at a rate of {rate}: {points(difference)} points"
    else:
        said = (
            f"is **not shown to beat** {partner} at a rate of {rate}: {points(difference)} points"
            f"{_few(difference)}"
        )
    if seconds is not None:
        said += f"; it takes {ratio(seconds)} of its time"
    gap = abs((arm.intervention_rate or 0.0) - (arm.partner_rate or 0.0))
    doubt = " The rates differ, so this is no fair match." if gap > _FAR else ""
    return f"`{arm.label}` {said}.{doubt}"


def _against_large(arm: ArmResult, large: ArmResult) -> str:
    difference, seconds = arm.vs_large, arm.seconds_vs_large
    if difference is None or seconds is None:
        return f"`{arm.label}` shares no finished question with `{ALWAYS_LARGE}`."
    tokens = arm.large.written / large.large.written if large.large.written else math.nan
    cost = f"it takes {ratio(seconds)} of its time and {tokens:.2f} of its large-model tokens"
    if difference.lower > 0:
        said = f"is **more accurate**: {points(difference)} points"
    elif difference.upper < 0:
        said = f"is **less accurate**: {points(difference)} points"
    else:
        said = f"is **not shown to differ**: {points(difference)} points{_few(difference)}"
    return f"`{arm.label}` {said}; {cost}."


def _few(difference: Estimate) -> str:
    """Return what the number of questions could have shown."""
    half, count = difference.half_width, difference.count
    said = f" ({count} questions show differences of {100 * half:.0f} points or more"
    if difference.value:
        needed = math.ceil(count * (half / abs(difference.value)) ** 2 / 10) * 10
        if needed > count:
            said += f"; this one would need {needed:,} or more"
    return said + ")"


def _setting(results: Results) -> str:
    settings = results.settings
    chat, machine, small, large = (settings[name] for name in ("chat", "machine", "small", "large"))
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    one = small["vocabulary"] == large["vocabulary"]
    vocabularies = "one vocabulary" if one else "two vocabularies"
    caches = "are emptied" if settings["caches_emptied"] else "stay warm"
    but = ", but for what all prompts begin with" if settings.get("shared_prefix_computed") else ""
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
            f"{caches} between arms{but}"
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
