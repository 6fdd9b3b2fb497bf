"""Writes what a study found: numbers, a report to read, and pictures."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.markdown import as_markdown
from langchain_glimprouter.bench.pages import pareto_html
from langchain_glimprouter.bench.plots import entropy_png, pareto_png
from langchain_glimprouter.bench.results import results_of
from langchain_glimprouter.bench.tables import terminal_table
from langchain_glimprouter.routing.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from langchain_glimprouter.bench.journal import Journal


def write_reports(journal: Journal, folder: Path, console: Console | None = None) -> list[Path]:
    """Write all reports of a study.

    Args:
        journal: Its record.
        folder: Where to.
        console: Shows the table.

    Returns:
        The files.

    Raises:
        ConfigurationError: If nothing was run yet, or plotting libraries are missing.
        OSError: If a file cannot be written.
    """
    results = results_of(journal)
    numbers, report = folder / "results.json", folder / "report.md"
    write_whole(numbers, json.dumps(_plain(results.as_json()), indent=1, ensure_ascii=False) + "\n")
    write_whole(report, as_markdown(results))
    if console is not None:
        console.print(terminal_table(results, console))
    written = [numbers, report]
    if any(arm.questions > arm.errors for arm in results.arms):
        written += [folder / "pareto.png", folder / "pareto.html"]
        written[2].write_bytes(pareto_png(results))
        write_whole(written[3], pareto_html(results))
    if (picture := entropy_png(results, journal)) is not None:
        written.append(folder / "entropy.png")
        written[-1].write_bytes(picture)
    return written


def _plain(value: Any) -> Any:
    """Return plain data without what JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
