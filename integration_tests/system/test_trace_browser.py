"""Turns as pages in a real browser: what a user sees, at 3 and at 300 steps."""

from __future__ import annotations

import html
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration_tests.system.browser import NAMES, Browser, Tab, find_browser
from langchain_glimprouter.routing.trace import DraftTrace, RoutingTrace
from langchain_glimprouter.trace_html import traces_page
from unit_tests.traces import played, trace

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
POLICIES = ("glimprouter", "specreason(7)", "always large")
SECONDS = 5.0  # to render 300 steps; a fraction of one on an idle machine

# What a page looks like, by the browser's own measure. Every list names what is wrong.
LOOKS = r"""(() => {
  const wide = document.documentElement.clientWidth;
  const name = (e) => `${e.tagName.toLowerCase()}.${e.className} “${e.textContent.slice(0, 40)}”`;
  const shown = (e) => e.checkVisibility() && getComputedStyle(e).visibility === "visible";
  const texts = [...document.querySelectorAll("body *")].filter((e) => shown(e) &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const boxes = (e) => {  // of the text itself, line by line
    const range = document.createRange();
    return [...e.childNodes].filter((n) => n.nodeType === 3 && n.data.trim()).flatMap((n) => {
      range.selectNodeContents(n);
      return [...range.getClientRects()];
    });
  };
  const clipped = texts.filter((e) => {
    const pane = e.closest(".wide");  // scrolls: what lies to the right of it can be reached
    const [left, right] = pane === null ? [0, wide] :
      [pane.getBoundingClientRect().left - pane.scrollLeft,
       pane.getBoundingClientRect().left - pane.scrollLeft + pane.scrollWidth];
    return boxes(e).some((box) => box.left < left - 0.5 || box.right > right + 0.5) ||
      (pane !== null && pane.scrollHeight > pane.clientHeight + 1) ||
      (getComputedStyle(e).overflow !== "visible" && e.scrollWidth > e.clientWidth + 1);
  });
  const touching = [...document.querySelectorAll("svg")].flatMap((svg) => {
    const labels = [...svg.querySelectorAll("text")].map((e) => [e, e.getBoundingClientRect()]);
    return labels.flatMap(([e, a], n) => labels.slice(n + 1).filter(([, b]) =>
      a.left < b.right && b.left < a.right && a.top < b.bottom - 1 && b.top < a.bottom - 1
    ).map(([f]) => `${e.textContent} / ${f.textContent}`));
  });
  const rgb = (color) => color.match(/[\d.]+/g).map(Number);
  const ground = (e) => {
    for (let at = e; at !== null; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const light = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
  const faint = texts.filter((e) => {
    const style = getComputedStyle(e);
    const ink = light(rgb(e instanceof SVGElement ? style.fill : style.color));
    const [low, high] = [ink, light(ground(e))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05) < 4.5;
  });
  const small = texts.filter((e) => {
    const scale = e instanceof SVGElement ? e.getScreenCTM().a : 1;
    return parseFloat(getComputedStyle(e).fontSize) * scale < 10;
  });
  const marks = [...document.querySelectorAll("svg circle, svg rect")];
  const astray = marks.filter((e) => {
    const [box, frame] = [e, e.closest("svg")].map((one) => one.getBoundingClientRect());
    return !shown(e) || box.width < 3 || box.height < 3 || box.left < frame.left - 6 ||
      box.right > frame.right + 6 || box.top < frame.top - 1 || box.bottom > frame.bottom;
  });
  return {
    overflow: document.documentElement.scrollWidth - wide,
    clipped: clipped.map(name), touching, faint: faint.map(name), small: small.map(name),
    astray: astray.map((e) => e.outerHTML),
    marks: marks.map((e) => {
      const [box, frame] = [e, e.closest("svg")].map((one) => one.getBoundingClientRect());
      return [(box.left + box.width / 2 - frame.left) / frame.width, box.top + box.height / 2];
    }),
    steps: document.querySelectorAll("section.step").length,
    charts: document.querySelectorAll("svg").length,
    lines: document.querySelectorAll("svg line.tau").length,
  };
})()"""
FINE: dict[str, Any] = {
    "overflow": 0,
    **{name: [] for name in ("clipped", "touching", "faint", "small", "astray")},
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(NAMES)}, or name it in $CHROME")
    with Browser(program, tmp_path_factory.mktemp("browser")) as started:
        try:
            started.send("Browser.getVersion")
        except OSError as error:  # a distribution's stand-in for a browser, for instance
            if "CHROME" in os.environ:
                raise
            pytest.skip(f"{program} is no browser that starts here: {error}")
        yield started


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    with browser.tab() as opened:
        yield opened


def show(tab: Tab, folder: Path, page: str, *, width: int = 1280, scheme: str = "light") -> Path:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    tab.look(width, scheme=scheme)
    tab.open(file)
    return file


def judged(turn: RoutingTrace) -> list[tuple[float, float]]:
    """Of each step that a number judged: the middle of its column, and the number."""
    return [
        ((step.index + 0.5) / len(turn.steps), value)
        for step in turn.steps
        if (probe := step.draft or step.probe) is not None
        and (value := probe.value if isinstance(probe, DraftTrace) else probe.entropy) is not None
    ]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [3, 300])
def test_all_is_there_and_can_be_read(tab: Tab, tmp_path: Path, policy: str, count: int) -> None:
    turn = played(policy, count)
    file = show(tab, tmp_path, turn.to_html())
    loaded = tab.run(
        "document.body.getBoundingClientRect() && "
        'performance.getEntriesByType("navigation")[0].loadEventEnd'
    )
    assert 0.0 < loaded < 1000 * SECONDS
    for width in WIDTHS:
        for scheme in SCHEMES:
            tab.look(width, scheme=scheme)
            seen = tab.run(LOOKS)
            assert {name: seen[name] for name in FINE} == FINE, (width, scheme)
            assert seen["steps"] == len(turn.steps) >= count
            places, heights = zip(*seen["marks"], strict=True) if seen["marks"] else ((), ())
            columns, values = zip(*judged(turn), strict=True) if seen["marks"] else ((), ())
            assert places == pytest.approx(columns, abs=0.002)
            order = sorted(zip(values, heights, strict=True), key=lambda one: (one[0], -one[1]))
            assert all(one[1] >= other[1] - 0.1 for one, other in itertools.pairwise(order))
            assert bool(judged(turn)) == (policy != "always large")
            charts = int(policy != "always large")
            assert (seen["charts"], seen["lines"]) == (charts, charts)
    assert tab.asked == [file.as_uri()]
    assert tab.problems == []


def shows(tab: Tab, selector: str) -> str | None:
    """Text of an element, if it is seen and lies within the window."""
    text: str | None = tab.run(
        f"""(() => {{
            const found = document.querySelector({selector!r});
            const box = found.getBoundingClientRect();
            const inside = box.left >= 0 && box.right <= document.documentElement.clientWidth;
            return found.checkVisibility() && inside ? found.innerText : null;
        }})()"""
    )
    return text


@pytest.mark.parametrize("width", WIDTHS)
def test_candidates_show_under_the_mouse_and_the_focus(
    tab: Tab, tmp_path: Path, width: int
) -> None:
    likeliest = [(f" candidate{'x' * 40 * n}\n", 0.5 / 2**n) for n in range(5)]
    show(tab, tmp_path, trace([0.5, 2.0, 0.1], candidates=likeliest).to_html(), width=width)
    tip = "#t1-s0 .tip"
    assert shows(tab, tip) is None
    tab.point_at("#t1-s0 .head")
    said = shows(tab, tip)
    assert said is not None
    assert said.count("“␣candidate") == 5
    assert "true entropy 0.400 to 0.600" in said
    seen = tab.run(LOOKS)
    assert {name: seen[name] for name in FINE} == FINE
    tab.point_at("h1")
    assert shows(tab, tip) is None
    for _ in range(9):  # marks, and whatever scrolls, come first
        tab.press_tab()
        if tab.run('document.activeElement.matches("#t1-s0 .head")'):
            break
    assert shows(tab, tip) is not None


def test_a_mark_leads_to_its_step(tab: Tab, tmp_path: Path) -> None:
    show(tab, tmp_path, trace([0.1] * 150 + [2.0] + [0.1] * 150).to_html())
    said = tab.run('document.querySelector("a.large title").textContent')
    assert "step 150, large: H 2.000 in [1.900, 2.100]" in said
    tab.click("a.large rect")
    place = tab.run('document.querySelector("#t1-s150").getBoundingClientRect().top')
    assert 0.0 <= place < 400.0
    assert tab.run("location.hash") == "#t1-s150"


@pytest.mark.parametrize("width", WIDTHS)
def test_dropped_drafts_unfold(tab: Tab, tmp_path: Path, width: int) -> None:
    turn = played("specreason(7)", 30)
    dropped = next(step for step in turn.steps if step.draft and step.draft.rejected)
    assert dropped.draft is not None
    show(tab, tmp_path, turn.to_html(), width=width)
    draft = f"#t1-s{dropped.index} .draft"
    assert shows(tab, draft) is None
    tab.click(f"#t1-s{dropped.index} summary")
    assert shows(tab, draft) == dropped.draft.rejected[0].strip("\n")
    seen = tab.run(LOOKS)
    assert {name: seen[name] for name in FINE} == FINE


def test_fifty_turns_on_one_page(tab: Tab, tmp_path: Path) -> None:
    policies = ("glimprouter", "specreason(7)", "two sided(0.96)", "speccot(3)", "step perplexity")
    turns = 5 * [played(policies[n % 5], 6, seed=n) for n in range(10)]
    file = show(tab, tmp_path, traces_page(turns))
    for width in WIDTHS:
        tab.look(width)
        seen = tab.run(LOOKS)
        assert {name: seen[name] for name in FINE} == FINE
    assert seen["charts"] == 60  # two for those that two signals decide
    tab.click('a[href="#t50"]')
    assert tab.run("location.hash") == "#t50"
    assert tab.asked == [file.as_uri()]
    assert tab.problems == []


def test_a_notebook_shows_it_in_a_frame(tab: Tab, tmp_path: Path) -> None:
    turn = played("glimprouter", 3)
    file = show(tab, tmp_path, f"<!DOCTYPE html><p>Out[1]:</p>{turn._repr_html_()}")
    nodes = [tab.send("DOM.getDocument", depth=-1, pierce=True)["root"]]
    steps = 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("children", [])
        nodes += [node["contentDocument"]] if "contentDocument" in node else []
        steps += node["localName"] == "section"
    assert steps == len(turn.steps)
    assert [url for url in tab.asked if url != "about:srcdoc"] == [file.as_uri()]
    assert tab.problems == []


# -- the checks themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ('<p style="width: 2000px">wide</p>', "overflow"),
        ('<div class="wide"><p style="margin-left: -50px">to the left</p></div>', "clipped"),
        ('<p style="color: #777">faint</p>', "faint"),
        ('<p style="font-size: 7px">small</p>', "small"),
        ('<svg height="20"><text y="9">one</text><text y="9">two</text></svg>', "touching"),
        ('<svg height="20"><circle cx="99999" r="4"></circle></svg>', "astray"),
    ],
)
def test_what_cannot_be_read_is_found(tab: Tab, tmp_path: Path, broken: str, found: str) -> None:
    page = trace([0.1]).to_html().replace("</body>", f"{broken}</body>")
    show(tab, tmp_path, page)
    assert tab.run(LOOKS)[found] not in (0, [])


@pytest.mark.parametrize("guarded", [True, False])
def test_requests_and_scripts_are_found(tab: Tab, tmp_path: Path, guarded: bool) -> None:
    page = trace([0.1]).to_html()
    elsewhere = '<img src="http://example.invalid/x.png"><script>throw 1</script>'
    if not guarded:
        page = page.replace("Content-Security-Policy", "none")
    file = show(tab, tmp_path, page.replace("</body>", f"{elsewhere}</body>"))
    assert tab.asked == [file.as_uri(), "http://example.invalid/x.png"]
    said = html.unescape(" ".join(tab.problems))
    assert ("Content Security Policy" in said) == guarded
    assert ("Uncaught" in said) == (not guarded)
