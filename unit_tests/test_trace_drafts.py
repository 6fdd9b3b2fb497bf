"""Drafts on a page: why they stayed, what they cost, and what was judged, in a chart."""

from __future__ import annotations

import html
import re

import pytest

from langchain_glimprouter.routing.trace import DraftTrace, RoutingTrace
from langchain_glimprouter.trace_chart import charts
from unit_tests.pages import check, heads, only_chart
from unit_tests.traces import drafted, played, trace


def test_drafts_tell_why_they_stayed() -> None:
    turn = drafted(
        DraftTrace(signal="score", value=8.0, threshold=7.0, accepted=True, seconds=0.125),
        DraftTrace(
            signal="score",
            value=3.0,
            threshold=7.0,
            accepted=False,
            seconds=0.125,
            judge_seconds=0.0625,
            rejected=["\n<b>Wrong</b>\n"],
        ),
    )
    read = check(turn.to_html(), [turn])
    assert read.drafts == ["<b>Wrong</b>"]
    assert heads(turn)[:2] == [
        "S small · step 0 · draft rated 8 ≥ 7 · 4 tokens · 0.25 s",
        "L large · step 1 · draft rated 3 < 7 · 4 tokens · 0.25 s (drafting 0.12 s, judging 62 ms)",
    ]
    shown = " ".join(re.sub(r"<[^>]*>", " ", turn.to_html()).split())
    for words in (
        "Drafts kept at 1 of 2 steps; 5 tokens rejected; 0.25 s drafting, 62 ms judging.",
        "1 rejected draft, 5 tokens",
        "probes rejected discarded",
        "The large model's score of each draft",
        "dashed: the least that a draft needs to be kept",
        "step 1, large: draft rated 3 &lt; 7",
    ):
        assert words in html.unescape(shown) or words in shown, words


def test_a_turn_without_drafts_has_no_word_of_them() -> None:
    page = trace([0.1, 2.0]).to_html()
    assert "rejected" not in page
    assert "<details" not in page
    assert "Drafts" not in page


def test_several_drafts_unfold_together() -> None:
    turn = drafted(
        DraftTrace(
            signal="selection",
            value=2.0,
            threshold=1.0,
            accepted=True,
            drafts=3,
            rejected=["One.\n\n", ""],
        )
    )
    assert check(turn.to_html(), [turn]).drafts == ["One.", "(nothing)"]
    assert "draft 2 of 3 chosen" in heads(turn)[0]
    assert [tick.label for tick in only_chart(turn).across] == ["0", "1", "2", "3"]


JUDGED = [
    ("step_entropy", 0.0, 2.5, 0.6, "nats"),
    ("step_perplexity", 1.0, 4.0, 1.5, "perplexity"),
    ("step_perplexity", 1.0, 5e300, 1.5, "perplexity"),
    ("overconfidence", 0.0, 1.0, 0.85, "of its tokens"),
    ("score", 0.0, 9.0, 7.0, "score, 0 to 9"),
    ("reward", 0.0, 1.0, 0.7, "reward, 0 to 1"),
    ("their own", -3.0, 3.0, 1.0, "their own"),
]


def _value(label: str) -> float:
    return float(label.removesuffix(" %")) / (100 if "%" in label else 1)


@pytest.mark.parametrize(("signal", "low", "high", "threshold", "unit"), JUDGED)
def test_the_chart_shows_what_decided(
    signal: str, low: float, high: float, threshold: float, unit: str
) -> None:
    values = [low, (low + high) / 2, high]
    turn = drafted(
        *(
            DraftTrace(signal=signal, value=value, threshold=threshold, accepted=value < high)
            for value in values
        )
    )
    check(turn.to_html(), [turn])
    chart = only_chart(turn)
    assert (chart.name, chart.signal.unit) == (signal, unit)
    first, second, third = (dot.y for dot in chart.dots)
    assert first > second > third
    labels = [_value(tick.label) for tick in chart.across]
    assert labels == sorted(labels)
    assert labels[0] <= low
    assert labels[-1] >= high
    assert 2 <= len(labels) <= 10
    (line,) = chart.threshold
    assert third <= line.y1 <= first
    assert all(chart.across[-1].place <= dot.y <= chart.across[0].place for dot in chart.dots)


def test_where_both_decide_both_are_shown() -> None:
    turn = played("two sided(0.6)", 20)
    assert {step.reason for step in turn.steps} >= {"entropy", "overconfidence"}
    glimpse, share = charts(turn)
    assert (glimpse.name, share.name) == ("entropy", "overconfidence")
    assert len(glimpse.dots) == sum(step.probe is not None for step in turn.steps)
    assert len(share.dots) == sum(step.draft is not None for step in turn.steps)


def test_a_draft_without_a_number_has_no_mark() -> None:
    turn = drafted(
        DraftTrace(signal="empty", accepted=False),
        DraftTrace(signal="score", threshold=7.0, accepted=False),
        DraftTrace(signal="reward", value=float("inf"), threshold=0.5, accepted=True),
    )
    assert charts(turn) == []
    check(turn.to_html(), [turn])
    assert "nothing drafted" in heads(turn)[0]
    assert "draft rejected: no room to ask for a score" in heads(turn)[1]


def test_steps_that_ended_strangely_say_so() -> None:
    turn = trace([0.1, 0.2, 0.3], texts=["a", "b", ""])
    turn.steps[0].ended_by, turn.steps[1].ended_by = "stripped", "length"
    turn.steps[2].ended_by = "closed"
    first, second, third = heads(turn)[:3]
    assert "its end of the thought was left out" in first
    assert "cut at max_step_tokens" in second
    assert third.endswith("ends the thought")


def test_traces_from_before_drafts_still_load() -> None:
    data = trace([0.1, 2.0]).model_dump()
    for step in data["steps"]:
        del step["draft"], step["tokens"]["rejected"]
    for share in ("small", "large"):
        del data["usage"][share]["rejected"]
    turn = RoutingTrace.model_validate(data)
    assert turn == trace([0.1, 2.0])
    check(turn.to_html(), [turn])
