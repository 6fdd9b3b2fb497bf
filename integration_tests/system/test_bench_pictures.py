"""A bench's pictures: something is on them, nothing covers anything, nothing is fetched."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_glimprouter.bench.pages import pareto_html
from langchain_glimprouter.bench.plots import entropy_png, pareto_png
from langchain_glimprouter.bench.report import write_reports
from langchain_glimprouter.bench.results import Results, results_of
from unit_tests.studies import PICTURED, made_up, pictured


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return results_of(pictured(tmp_path))


def pixels(png: bytes) -> Any:
    from matplotlib.image import imread

    return imread(io.BytesIO(png))[..., :3]


def colors(image: Any) -> int:
    """How many there are; one number a pixel is much quicker to sort than three."""
    return len(np.unique((image * 255).round().astype(np.uint32) @ [1 << 16, 1 << 8, 1]))


def test_the_plot_shows_every_family(results: Results) -> None:
    image = pixels(pareto_png(results))
    height, width, _ = image.shape
    assert width >= 1200
    assert height >= 500
    for panel in (image[:, : width // 2], image[:, width // 2 :]):
        for color in ("000000", "7f7f7f", "0072B2", "D55E00", "009E73"):
            wanted = np.array([int(color[place : place + 2], 16) / 255 for place in (0, 2, 4)])
            found = (np.abs(panel - wanted).max(axis=-1) < 0.02).sum()
            assert found > 30, color


def test_the_histogram_shows_both_splits(results: Results, tmp_path: Path) -> None:
    from langchain_glimprouter.bench.journal import Journal

    png = entropy_png(results, Journal(tmp_path / "study.jsonl"))
    assert png is not None
    image = pixels(png)
    assert colors(image) > 20
    (tmp_path / "other").mkdir()
    bare = made_up(tmp_path / "other", {"always large": "+"})
    assert entropy_png(results_of(bare), bare) is None


@pytest.mark.parametrize(
    "marks",
    [{"always large": "+"}, {"always large": "!", "glimprouter": "-"}, {"random(0.3)": "--"}],
)
def test_the_least_study_has_pictures(tmp_path: Path, marks: dict[str, str]) -> None:
    found = results_of(made_up(tmp_path, marks))
    assert colors(pixels(pareto_png(found))) > 20
    assert "Plotly.newPlot(" in pareto_html(found)


def test_long_names_stay_on_the_picture(results: Results, tmp_path: Path) -> None:
    from langchain_glimprouter.bench.journal import Journal

    results.settings["task"] = "chain_sum?" + "&".join(f"option_{n}={n}" for n in range(9))
    for role in ("small", "large"):
        results.settings[role] = {"model": f"The-{role}-Model-Of-Somebody-135M-Instruct"}
    histogram = entropy_png(results, Journal(tmp_path / "study.jsonl"))
    assert histogram is not None
    for png in (histogram, pareto_png(results)):
        assert (pixels(png)[:, -2:] == 1.0).all()  # nothing runs over the edge


def test_a_study_of_failures_has_no_pictures_but_a_report(tmp_path: Path) -> None:
    made = made_up(tmp_path, {"always large": "!!"})
    names = {file.name for file in write_reports(made, tmp_path)}
    assert names == {"results.json", "report.md"}
    assert "They count as wrong" in (tmp_path / "report.md").read_text(encoding="utf-8")


class Fetches(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        given = dict(attrs)
        for name in ("src", "href", "data", "srcset", "action", "poster"):
            if given.get(name):
                self.found.append(f"{tag} {name}={given[name]}")
        if "import" in (given.get("style") or "") or "url(" in (given.get("style") or ""):
            self.found.append(str(given["style"]))


def test_the_page_is_whole_and_fetches_nothing(results: Results) -> None:
    page = pareto_html(results)
    parser = Fetches()
    parser.feed(page)
    assert parser.found == []
    assert parser.scripts >= 2  # plotly itself, and the figure
    figure = page[page.index("Plotly.newPlot(") :]
    for name in PICTURED:
        assert name in figure
    assert not re.search(r"https?://", figure)
    assert "mapbox" not in figure


def test_labels_are_escaped(tmp_path: Path) -> None:
    made = made_up(tmp_path, {"always large": "+-"})
    results = results_of(made)
    results.settings["task"] = "<script>alert(1)</script>"
    assert "<script>alert" not in pareto_html(results)
