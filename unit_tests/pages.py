"""Reads pages of turns strictly, and checks what holds for each."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from langchain_glimprouter.routing.trace import RoutingTrace
from langchain_glimprouter.trace_chart import Chart, charts

VOID = {"meta", "br"}
ALLOWED = VOID | {
    *("html", "head", "title", "style", "body", "h1", "h2", "p", "div", "span", "section"),
    *("article", "nav", "table", "tr", "th", "td", "bdi", "i", "details", "summary"),
    *("svg", "line", "text", "a", "circle", "rect", "path"),
}


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed, in order, and of a known kind."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []  # of the steps
        self.drafts: list[str] = []  # that were dropped
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
            case "draft":
                self.drafts.append("")
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
        if "draft" in classes:
            self.drafts[-1] += data
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
    marked = [dot for turn in turns for chart in charts(turn) for dot in chart.dots]
    assert len(read.of("circle")) + len(read.of("rect")) == len(marked)
    assert len(read.of("rect")) == sum(dot.writer == "large" for dot in marked)
    rejected = [step.draft.rejected for step in steps if step.draft is not None]
    assert len(read.drafts) == sum(len(one) for one in rejected if any(map(str.strip, one)))
    return read


def only_chart(turn: RoutingTrace) -> Chart:
    (chart,) = charts(turn)
    return chart


def heads(turn: RoutingTrace) -> list[str]:
    """First lines of the thought's steps, without what hovering shows."""
    page = re.sub(r'<span class="tip".*?</span>\n', "", turn.to_html(), flags=re.DOTALL)
    found = re.findall(r'<div class="head"[^>]*>(.*?)</div>', page, re.DOTALL)
    plain = [html.unescape(re.sub(r"<[^>]*>", "", head)) for head in found]
    return [" ".join(head.split()) for head in plain]
