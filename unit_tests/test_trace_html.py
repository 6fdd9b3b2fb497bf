"""Turns as HTML pages: whole, escaped, without network, readable at 3 and at 300 steps."""

from __future__ import annotations

import asyncio
import html
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_glimprouter.routing.policies import GlimpRouter, StepEntropy, TwoSided
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.thresholds import Fixed
from langchain_glimprouter.routing.trace import DraftTrace
from langchain_glimprouter.trace_chart import HEIGHT
from langchain_glimprouter.trace_html import traces_page
from unit_tests.pages import check, only_chart
from unit_tests.test_router import Scripts, scripts
from unit_tests.traces import drafted, trace, traces
from unit_tests.turns import pair, play


def test_a_page_shows_the_turn() -> None:
    turn = trace([0.1, 2.0, 0.3], texts=["One.\n\n", "  Two\n\n", "Three.\n\n"])
    read = check(turn.to_html(), [turn])
    assert read.texts == ["One.", "  Two", "Three.", "Seven."]
    assert len(read.tips) == 3
    assert re.sub(r"\s+", " ", read.tips[0]).strip() == (
        "60.0 % “␣So” 30.0 % “Wait”H_init 0.100 nats (true entropy 0.000 to 0.200)"
    )
    shown = " ".join(re.sub(r"<[^>]*>", " ", turn.to_html()).split())
    for words in (
        "The large model wrote 1 of 3 steps (33 %)",
        "S small · step 0 · H 0.100 ≤ τ 1.000 · 4 tokens · 0.25 s",
        "L large · step 1 · H 2.000 &gt; τ 1.000",
        "L large · step 3 · the answer, not routed",
        "S small: tiny",
        "L large: huge",
    ):
        assert words in shown
    assert "http:" not in turn.to_html()
    assert "https:" not in turn.to_html()
    assert "//" not in turn.to_html()


HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "</div></section></body>",
            "</style><img src=x onerror=alert(1)>",
            "{{ 7 * 7 }}{% raw %}",
            "]]>--><!--",
            "\x00\x1b[31m\x7f\x85\ud800\ufffe",
            "\u202eevil\u2066",
            "&lt;&amp;&#x3c;",
            "\"' onmouseover='x'",
            "</title><base href=//evil>",
        ]
    ),
)


@given(st.lists(HOSTILE, min_size=1, max_size=4), HOSTILE, HOSTILE)
def test_hostile_text_stays_text(texts: list[str], token: str, name: str) -> None:
    turn = trace(
        [0.5 + number for number in range(len(texts))],
        texts=texts,
        candidates=[(token, 0.5)],
        answer=token,
        policy=name,
        small=name or "x",
        large="<b>large</b>",
    )
    page = turn.to_html()
    read = check(page, [turn])
    plain = {
        index: text
        for index, text in enumerate([*texts, token])
        if text.isalnum() and text.isascii()
    }
    for index, text in plain.items():
        assert read.texts[index] == text
    assert "<b>" not in page
    frame = turn._repr_html_()
    found = re.fullmatch(
        r'<iframe title="turn" sandbox="" srcdoc="([^"]*)" style="[^"]*"></iframe>', frame
    )
    assert found is not None
    assert html.unescape(found[1]) == page


def test_hidden_characters_are_shown() -> None:
    turn = trace([0.1], texts=["a\x00b\rc\u202ed\te\ud800\n\n"])
    assert check(turn.to_html(), [turn]).texts[0] == "a␀b␍c⟦202E⟧d\te\ufffd"


POLICIES: list[Policy] = [
    GlimpRouter(),
    StepEntropy(Fixed(0.5)),
    TwoSided(overconfidence=0.6),
]


@settings(max_examples=25)
@given(scripts(), st.sampled_from(POLICIES))
def test_every_turn_has_a_page(scripts: Scripts, policy: Policy) -> None:
    engines = pair(scripts.small, scripts.large, scripts.answer)
    turn = asyncio.run(play(*engines, policy, loop_guard=False)).trace
    check(turn.to_html(), [turn])


@pytest.mark.parametrize("count", [1, 3, 300])
def test_any_number_of_steps(count: int) -> None:
    turn = traces(1, count)[0]
    page = turn.to_html()
    check(page, [turn])
    assert len(page) < 12_000 + 900 * count
    chart = only_chart(turn)
    places = [dot.x for dot in chart.dots]
    assert places == sorted(places)
    assert all(
        0.0 < dot.x < 100.0 and 0.0 < dot.high <= dot.y <= dot.low < HEIGHT for dot in chart.dots
    )
    assert 2 <= len(chart.across) <= 8
    assert 1 <= len(chart.along) <= 11
    if count == 300:
        columns = [chart.width * (b - a) / 100 for a, b in itertools.pairwise(places)]
        assert min(columns) > 1.3 * min(dot.size for dot in chart.dots)


@pytest.mark.parametrize("highest", [0.01, 1.0, 2.9, 11.9, 400.0])
def test_the_chart_has_room_for_every_entropy(highest: float) -> None:
    chart = only_chart(trace([0.0, highest / 2, highest], spread=50.0))
    assert all(0.0 < dot.high <= dot.y <= dot.low for dot in chart.dots)
    assert float(chart.across[-1].label) >= highest
    assert len(chart.across) <= 9


def test_a_moving_threshold_is_a_line_of_steps() -> None:
    turn = trace([0.1, 0.2, None, 0.3, 0.4, 0.5])
    taus = (1.0, 0.5, None, None, 0.5, 0.5)
    for step, tau in zip(turn.steps, taus, strict=False):
        if step.probe is not None:
            step.probe.threshold = tau
    lines = only_chart(turn).threshold
    column = 100 / len(turn.steps)
    ends = [(line.x1 / column, line.x2 / column) for line in lines]
    assert ends == [pytest.approx(end, abs=1e-3) for end in ((0, 1), (1, 1), (1, 2), (4, 6))]
    assert lines[0].y1 == lines[1].y1 < lines[1].y2 == lines[2].y1 == lines[3].y1
    assert "τ ∞" in turn.to_html()


def test_turns_without_steps_or_probes_have_a_page() -> None:
    for turn in (trace([]), trace([None, None], policy="always large"), trace([], answer="")):
        read = check(turn.to_html(), [turn])
        assert read.of("svg") == []


def test_several_turns_have_a_list(tmp_path: Path) -> None:
    turns = traces(12, 5)
    page = traces_page(turns)
    read = check(page, turns)
    assert [link["href"] for link in read.of("a") if "class" not in link] == [
        f"#t{number}" for number in range(1, 13)
    ]
    assert len(read.of("a", "back")) == 12
    assert '<th class="left">policy</th>' not in page
    mixed = [*turns, drafted(DraftTrace(signal="score", value=3.0, accepted=False, rejected=["x"]))]
    page = traces_page(mixed)
    check(page, mixed)
    assert '<th class="left">policy</th>' in page
    assert page.count("<th>rejected</th>") == 1


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out(scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", trace([0.1]).to_html(), re.DOTALL)[scheme]
    colors = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
    for ink in ("ink", "soft", "small", "large"):
        for ground in ("page", "raised"):
            pair = sorted((luminance(colors[ink]), luminance(colors[ground])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ink, ground)
