"""Turns as HTML pages: whole, escaped, without network, readable at 3 and at 300 steps."""

from __future__ import annotations

import asyncio
import html
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from langchain_glimprouter.cli import app
from langchain_glimprouter.routing.trace import RoutingTrace
from langchain_glimprouter.trace_chart import HEIGHT, WIDTH, entropy_chart
from langchain_glimprouter.trace_html import traces_page
from unit_tests.test_router import Scripts, scripts
from unit_tests.traces import trace, traces
from unit_tests.turns import pair, play

VOID = {"meta", "br"}
ALLOWED = VOID | {
    *("html", "head", "title", "style", "body", "h1", "h2", "p", "div", "span", "section"),
    *("article", "nav", "table", "tr", "th", "td", "bdi", "i"),
    *("svg", "line", "text", "a", "circle", "rect", "path"),
}


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed, in order, and of a known kind."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []  # of the steps
        self.tips: list[str] = []
        self.titles: list[str] = []
        self.declared: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_decl(self, decl: str) -> None:
        self.declared.append(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert len(dict(attrs)) == len(attrs)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(self.found[-1])
        match dict(attrs).get("class"):
            case "text":
                self.texts.append("")
            case "tip":
                self.tips.append("")
        if tag == "title":
            self.titles.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        classes = [attributes.get("class") for _, attributes in self.open]
        if "text" in classes:
            self.texts[-1] += data
        if "tip" in classes:
            self.tips[-1] += data
        if self.open and self.open[-1][0] == "title":
            self.titles[-1] += data

    def of(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.found
            if name == tag and (kind is None or kind in (attributes.get("class") or "").split())
        ]


def check(page: str, turns: list[RoutingTrace]) -> Page:
    """What holds for every page."""
    read = Page(page)
    assert read.declared == ["DOCTYPE html"]
    page.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    ids = [str(attributes["id"]) for _, attributes in read.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [str(attributes["href"]) for _, attributes in read.found if "href" in attributes]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)
    assert not any(
        name in attributes
        for _, attributes in read.found
        for name in ("src", "srcset", "action", "data", "xlink:href", "background")
    )
    assert not re.search(
        r"url\(|@import|expression\(", re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]
    )
    assert len(read.of("article")) == len(turns)
    steps = [step for turn in turns for step in turn.steps]
    assert [str(one["class"]).split()[1] for one in read.of("section")] == [
        step.writer for step in steps
    ]
    assert len(read.texts) == len(steps)
    probed = [step for step in steps if step.probe is not None]
    assert len(read.of("circle")) + len(read.of("rect")) == len(probed)
    assert len(read.of("rect")) == sum(step.writer == "large" for step in probed)
    return read


def test_a_page_shows_the_turn() -> None:
    turn = trace([0.1, 2.0, 0.3], texts=["One.\n\n", "  Two\n\n", "Three.\n\n"])
    read = check(turn.to_html(), [turn])
    assert read.texts == ["One.", "  Two", "Three.", "Seven."]
    assert len(read.tips) == 3
    assert re.sub(r"\s+", " ", read.tips[0]).strip() == "60.0 % “␣So” 30.0 % “Wait”"
    shown = " ".join(re.sub(r"<[^>]*>", " ", turn.to_html()).split())
    for words in (
        "the large model wrote 1 of 3 steps (33 %)",
        "S small · step 0 · H 0.100 ≤ τ 1.000 · 4 tokens · 0.25 s",
        "L large · step 1 · H 2.000 &gt; τ 1.000",
        "L large · step 3 · the answer, unrouted",
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


@settings(max_examples=40)
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


@settings(max_examples=25)
@given(scripts())
def test_every_turn_has_a_page(scripts: Scripts) -> None:
    engines = pair(scripts.small, scripts.large, scripts.answer)
    turn = asyncio.run(play(*engines, loop_guard=False)).trace
    check(turn.to_html(), [turn])


@pytest.mark.parametrize("count", [1, 3, 300])
def test_any_number_of_steps(count: int) -> None:
    turn = traces(1, count)[0]
    page = turn.to_html()
    check(page, [turn])
    assert len(page) < 12_000 + 900 * count
    chart = entropy_chart(turn)
    assert chart is not None
    places = [dot.x for dot in chart.dots]
    assert places == sorted(places)
    assert all(
        0.0 < dot.x < WIDTH and 0.0 < dot.high <= dot.y <= dot.low < HEIGHT for dot in chart.dots
    )
    assert 2 <= len(chart.across) <= 8
    assert 1 <= len(chart.along) <= 13
    if count == 300:
        columns = [b - a for a, b in itertools.pairwise(places)]
        assert min(columns) > 1.5 * min(dot.size for dot in chart.dots)


@pytest.mark.parametrize("highest", [0.01, 1.0, 2.9, 11.9, 400.0])
def test_the_chart_has_room_for_every_entropy(highest: float) -> None:
    chart = entropy_chart(trace([0.0, highest / 2, highest], spread=50.0))
    assert chart is not None
    assert all(0.0 < dot.high <= dot.y <= dot.low for dot in chart.dots)
    assert float(chart.across[-1].label) >= highest
    assert len(chart.across) <= 9


def test_a_moving_threshold_is_a_line_of_steps() -> None:
    turn = trace([0.1, 0.2, None, 0.3])
    for step, tau in zip(turn.steps, (1.0, 0.5, None, None), strict=False):
        if step.probe is not None:
            step.probe.threshold = tau
    chart = entropy_chart(turn)
    assert chart is not None
    assert re.fullmatch(r"M44\.0 \S+H\S+L\S+ \S+H\S+", chart.threshold)
    assert "τ ∞" in turn.to_html()


def test_turns_without_steps_or_probes_have_a_page() -> None:
    for turn in (trace([]), trace([None, None], policy="always large"), trace([], answer="")):
        read = check(turn.to_html(), [turn])
        assert read.of("svg") == []


def test_several_turns_have_a_list(tmp_path: Path) -> None:
    turns = traces(12, 5)
    read = check(traces_page(turns), turns)
    assert [link["href"] for link in read.of("a") if "class" not in link] == [
        f"#t{number}" for number in range(1, 13)
    ]


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


# -- the command ---------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["trace", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(turn.model_dump_json() + "\n" for turn in traces(3, 4)))
    return file


def test_the_command_lists_turns_and_shows_them(file: Path) -> None:
    shown = run(file).output
    assert "3 turns" in shown
    assert shown.count("hand-offs,") == 3
    only = run(file, "--turn", 2).output
    assert "3 turns" not in only
    assert only.count("hand-offs,") == 1
    refused = run(file, "--turn", 4)
    assert refused.exit_code == 2
    assert "holds 3 turns; give 1 to 3" in refused.output


def test_the_command_writes_a_page(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "turns.html"
    assert run(file, "--html", out).exit_code == 0
    check(out.read_text(encoding="utf-8"), traces(3, 4))
    assert run(file, "--html", tmp_path / "none" / "x.html").exit_code == 1


# -- a real browser ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("count", [3, 300])
def test_a_browser_shows_it_and_fetches_nothing(count: int, scheme: Any, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="no browser here")
    turn = traces(1, count)[0]
    file = tmp_path / "turn.html"
    file.write_text(turn.to_html(), encoding="utf-8")
    with playwright.sync_playwright() as play_wright:
        try:
            browser = play_wright.chromium.launch()
        except playwright.Error as error:
            pytest.skip(f"no browser here: {error}")
        page = browser.new_page(color_scheme=scheme)
        asked: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(file.as_uri())
        assert asked == [file.as_uri()]
        assert problems == []
        assert page.locator("section.step").count() == count + 1
        width = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(width)
        tip = page.locator(".tip").first
        assert not tip.is_visible()
        page.locator(".head").first.hover()
        assert tip.is_visible()
        chart = page.locator("svg").bounding_box()
        assert chart is not None
        assert chart["height"] > 100
        browser.close()
