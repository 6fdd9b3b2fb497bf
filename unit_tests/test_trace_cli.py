"""The command `glimprouter trace`: lists, single turns and pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import Result

from unit_tests import command
from unit_tests.pages import check
from unit_tests.traces import played, traces


def run(*arguments: object, columns: int = 160) -> Result:
    return command.run("trace", *arguments, columns=columns)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(turn.model_dump_json() + "\n" for turn in traces(3, 4)))
    return file


def test_the_command_lists_turns_and_shows_them(file: Path) -> None:
    listed = run(file).output
    assert "3 turns of glimprouter" in listed
    assert "rejected" not in listed
    assert "ended by" not in listed
    assert "--turn N" in listed
    assert listed.count("hand-offs,") == 0
    shown = run(file, "--all").output
    assert "3 turns" in shown
    assert shown.count("hand-offs,") == 3
    only = run(file, "--turn", 2).output
    assert "3 turns" not in only
    assert only.count("hand-offs,") == 1
    refused = run(file, "--turn", 4)
    assert refused.exit_code == 2
    assert "holds 3 turns; give 1 to 3" in refused.output
    refused = run(file, "--turn", 1, "--all")
    assert refused.exit_code == 2
    assert "leave one out" in refused.output


@pytest.mark.parametrize("columns", [80, 160])
def test_the_command_lists_fifty_turns_with_drafts(tmp_path: Path, columns: int) -> None:
    turns = [played(("specreason(7)", "glimprouter")[n % 2], 4, seed=n) for n in range(50)]
    turns[7].stop_reason = "cancelled"
    file = tmp_path / "turns.json"
    file.write_text(f"[{','.join(turn.model_dump_json() for turn in turns)}]")
    lines = run(file, columns=columns).output.splitlines()
    assert lines[0].strip() == "50 turns"
    names = lines[1].split()
    assert names[:7] == ["turn", "policy", "steps", "large", "hand-offs", "tokens", "rejected"]
    for number, (line, turn) in enumerate(zip(lines[2:], turns, strict=False), 1):
        cells = line.split()
        assert cells[:2] == [str(number), turn.policy]
        assert int(cells[6]) == turn.usage.small.rejected
        assert cells[7] == f"{turn.seconds:.1f}"
        assert cells[8] == turn.stop_reason
    assert any(turn.usage.small.rejected for turn in turns)
    number = 1 + next(n for n, turn in enumerate(turns) if turn.usage.small.rejected)
    shown = run(file, "--turn", number, columns=columns).output
    assert "rejected" in shown
    assert re.search(r"large +draft rated [4-6] < 7 ", shown)
    assert "Drafts kept at" in shown
    out = tmp_path / "turns.html"
    assert run(file, "--html", out).exit_code == 0
    check(out.read_text(encoding="utf-8"), turns)


def test_the_command_writes_a_page(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "turns.html"
    assert run(file, "--html", out).exit_code == 0
    check(out.read_text(encoding="utf-8"), traces(3, 4))
    assert run(file, "--html", tmp_path / "none" / "x.html").exit_code == 1
