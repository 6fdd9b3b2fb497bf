"""The command `glimprouter bench`."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from langchain_glimprouter.bench.journal import Journal
from unit_tests import command
from unit_tests.studies import Sums, largest_file, made_up, scripted
from unit_tests.traces import traces

ARMS = ("-p", "always small", "-p", "always large", "-p", "glimprouter threshold=1.0")
OPTIONS = ("-n", "4", "--thinking", "--seed", "7")


def run(*arguments: object) -> Result:
    return command.run("bench", *arguments, columns=80)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Engines play scripts, and the task asks for sums; tells which engines were opened."""
    opened: list[tuple[str, dict[str, Any]]] = []

    def open_engine(model: str, arguments: dict[str, Any]) -> Any:
        opened.append((model, dict(arguments)))
        return scripted("small" if "tiny" in model else "large")

    monkeypatch.setattr("langchain_glimprouter.bench.engines.open_engine", open_engine)
    monkeypatch.setattr("langchain_glimprouter.bench.tasks.find_task", find_task)
    return opened


def find_task(name: str, *, path: object = None, options: object = None) -> Sums:
    del name, path, options
    return Sums()


MODELS = ("--small", "some/tiny", "--large", "some/huge")


def test_a_study_from_end_to_end(tmp_path: Path, scripts: list[Any]) -> None:
    out = tmp_path / "out"
    done = run(*MODELS, *ARMS, *OPTIONS, "--out", out, "--traces", tmp_path / "traces.jsonl")
    assert done.exit_code == 0, done.output
    names = {"study.jsonl", "results.json", "report.md", "pareto.png", "pareto.html"}
    assert {file.name for file in out.iterdir()} >= names
    for arm in ("always small", "always large", "glimprouter τ=1", "random(0."):
        assert arm in done.output
        assert arm in (out / "report.md").read_text(encoding="utf-8")
    header = Journal(out / "study.jsonl").header
    assert header is not None
    assert header.settings["task"] == "sums"
    assert header.settings["chat"]["seed"] == 7
    assert header.settings["versions"]["langchain-glimprouter"]
    assert header.settings["machine"]["cores"] >= 1
    assert [model for model, _ in scripts] == ["some/huge", "some/tiny"]
    replayed = run("--replay", tmp_path / "traces.jsonl", "--threshold", "0.5")
    assert replayed.exit_code == 0, replayed.output
    assert "routed steps" in replayed.output
    # The same command again does nothing twice.
    lines = (out / "study.jsonl").read_bytes()
    (out / "report.md").unlink()
    assert run(*MODELS, *ARMS, *OPTIONS, "--out", out).exit_code == 0
    assert (out / "study.jsonl").read_bytes() == lines
    assert (out / "report.md").exists()


def test_other_settings_are_refused(tmp_path: Path, scripts: list[Any]) -> None:
    assert run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path).exit_code == 0
    lines = (tmp_path / "study.jsonl").read_bytes()
    done = run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path, "--max-tokens", "99")
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "recorded with other settings" in said
    assert "chat.max_tokens: 2048 there, 99 now" in said
    done = run(*MODELS, *ARMS, "-n", 2, "--thinking", "--seed", 7, "--out", tmp_path)
    assert done.exit_code == 2
    assert "at least as many --questions" in " ".join(done.output.split())
    assert (tmp_path / "study.jsonl").read_bytes() == lines


def test_variants_take_the_large_engines_arguments(tmp_path: Path, scripts: list[Any]) -> None:
    done = run(
        *MODELS,
        *OPTIONS,
        *("--out", tmp_path, "-p", "always large", "-p", "always large @draft"),
        *("--engine-args", '{"dtype": "float32"}', "--large-engine-args", '{"block_size": 32}'),
        *("--large-variant", 'draft={"speculative_config": {"num_speculative_tokens": 3}}'),
    )
    assert done.exit_code == 0, done.output
    own = {"dtype": "float32", "block_size": 32}
    speculative = {"speculative_config": {"num_speculative_tokens": 3}}
    assert scripts == [
        ("some/huge", own),
        ("some/huge", {**own, **speculative}),
        ("some/tiny", {"dtype": "float32"}),
    ]
    journal = Journal(tmp_path / "study.jsonl")
    assert journal.variants["draft"].settings == speculative
    assert {arm for arm, _ in journal.turns} == {"always large", "always large @draft"}


def test_time_that_is_over_is_no_failure(tmp_path: Path, scripts: list[Any]) -> None:
    assert run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path).exit_code == 0
    done = run(*MODELS, *ARMS, "-n", 6, *OPTIONS[2:], "--out", tmp_path, "--limit-minutes", 0)
    assert done.exit_code == 0, done.output
    assert "the same command goes on" in done.output


def test_time_that_is_over_before_the_first_turn_is_no_failure(
    tmp_path: Path, scripts: list[Any]
) -> None:
    done = run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path, "--limit-minutes", 0)
    assert done.exit_code == 0, done.output
    assert "the same command goes on" in done.output
    assert {file.name for file in tmp_path.iterdir()} == {"study.jsonl"}


def test_without_arguments_it_helps() -> None:
    done = run()
    assert "--policy" in done.output
    for name in ("router", "overhead", "replay"):
        assert name in done.output
        assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "gsm_symbolic"), "--out is missing"),
        (("--out", "{out}"), "--small and --large are missing"),
        (("--out", "{out}", "--only-report"), "no finished turn"),
        (("--out", "{out}", "--threshold", "1.0"), "--threshold is for --replay"),
        ((*MODELS, "--out", "{out}", "--target-rate", "1"), "target_rate=1.0 cannot work"),
        ((*MODELS, "--out", "{out}", "-p", "glimrouter"), "did you mean 'glimprouter'"),
        ((*MODELS, "--out", "{out}", "-p", "glimprouter @fast"), "--large-variant"),
        ((*MODELS, "--out", "{out}", "--engine-args", "{x"), "--engine-args is no JSON"),
        ((*MODELS, "--out", "{out}", "--large-engine-args", "[1]"), "no JSON object"),
        ((*MODELS, "--out", "{out}", "--large-variant", "draft"), "NAME=JSON"),
        ((*MODELS, "--out", "{out}", "--large-variant", "main={}"), "other than 'main'"),
        ((*MODELS, "--out", "{out}", "--max-tokens", "0"), "max_tokens=0 cannot work"),
    ],
)
def test_bad_options_are_told(
    arguments: tuple[str, ...], said: str, tmp_path: Path, scripts: list[Any]
) -> None:
    done = run(*(word.replace("{out}", str(tmp_path)) for word in arguments))
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())


def test_a_folder_with_something_else_is_refused(tmp_path: Path, scripts: list[Any]) -> None:
    (tmp_path / "study.jsonl").write_text('{"question": "no"}\n')
    done = run(*MODELS, "--out", tmp_path)
    assert done.exit_code == 2
    assert "line 1: no record of a study" in " ".join(done.output.split())


def test_replay_is_the_subcommand(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("".join(one.model_dump_json() + "\n" for one in traces(4, 6)))
    assert run("--replay", file, "-t", "0.5").output == run("replay", file, "-t", "0.5").output


def test_two_benches_do_not_share_a_folder(tmp_path: Path, scripts: list[Any]) -> None:
    with (tmp_path / "study.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path)
        assert done.exit_code == 2
        assert "another bench is at work" in " ".join(done.output.split())
    assert run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path, "--limit-minutes", 0).exit_code == 0


def test_a_full_disk_ends_it_with_what_was_done(tmp_path: Path, scripts: list[Any]) -> None:
    with largest_file(5000):
        done = run(*MODELS, *ARMS, *OPTIONS, "--out", tmp_path)
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    kept = len(Journal(tmp_path / "study.jsonl").turns)
    assert 0 < kept < 12
    assert f"{kept} turns are kept" in said
    assert "error:" in said
    assert "study.jsonl" in "".join(done.output.split())


def test_reports_of_a_made_up_study(tmp_path: Path) -> None:
    made_up(tmp_path, {"always large": "++-", "glimprouter": "+--"})
    done = run("--only-report", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert [arm["label"] for arm in numbers["arms"]] == ["always large", "glimprouter"]
