"""A bench's interactive plot in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration_tests.system.browser import NAMES, Browser, Tab, find_browser
from langchain_glimprouter.bench.pages import pareto_html
from langchain_glimprouter.bench.results import results_of
from unit_tests.studies import PICTURED, pictured

SEEN = r"""(() => {
  const box = (e) => e.getBoundingClientRect();
  const names = [...document.querySelectorAll(".annotation-text")];
  const touching = names.flatMap((e, n) => names.slice(n + 1).filter((f) => {
    const [a, b] = [box(e), box(f)];
    return a.left < b.right - 1 && b.left < a.right - 1 &&
      a.top < b.bottom - 3 && b.top < a.bottom - 3;
  }).map((f) => `${e.textContent} / ${f.textContent}`));
  const frame = box(document.querySelector(".main-svg"));
  const outside = names.filter((e) =>
    box(e).left < frame.left || box(e).right > frame.right || box(e).top < frame.top);
  return {
    touching, outside: outside.map((e) => e.textContent), names: names.length,
    points: document.querySelectorAll(".scatterlayer .point").length,
    buttons: [...document.querySelectorAll(".modebar-btn")].map((e) => e.dataset.title),
  };
})()"""


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(NAMES)}, or name it in $CHROME")
    with Browser(program, tmp_path) as started, started.tab() as opened:
        yield opened


def test_names_are_apart_and_nothing_is_fetched(tab: Tab, tmp_path: Path) -> None:
    file = tmp_path / "pareto.html"
    file.write_text(pareto_html(results_of(pictured(tmp_path))), encoding="utf-8")
    tab.look(1400, 760)
    tab.open(file)
    seen = tab.run(SEEN)
    assert (seen["touching"], seen["outside"]) == ([], [])
    assert seen["names"] == 2 * len(PICTURED)
    assert seen["points"] >= 2 * len(PICTURED)
    assert not [name for name in seen["buttons"] if "hare" in name or "cloud" in name]
    assert tab.asked == [file.as_uri()]
    assert tab.problems == []
