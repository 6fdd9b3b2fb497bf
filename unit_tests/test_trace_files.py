"""Files of recorded turns: every way of putting them down, and what is wrong in which line."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_glimprouter import RoutingTrace
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.files import append_line, write_whole
from langchain_glimprouter.trace_files import read_records, read_traces
from unit_tests.traces import trace

ONE, TWO = trace([0.1, 2.0]), trace([1.0])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{ONE.model_dump_json()}\n{TWO.model_dump_json()}\n", [1, 2]),
        (f"\n\n{ONE.model_dump_json()}\r\n\n{TWO.model_dump_json()}", [3, 5]),
        (json.dumps([ONE.model_dump(), TWO.model_dump()]), [1, 1]),
        (f"{ONE.model_dump_json(indent=2)}\n{TWO.model_dump_json()}", None),
        (f"\ufeff{ONE.model_dump_json()}{TWO.model_dump_json()}", [1, 1]),
        (f'{{"trace": {ONE.model_dump_json()}, "correct": true}}\n{TWO.model_dump_json()}', [1, 2]),
    ],
)
def test_however_they_are_put_down(text: str, lines: list[int] | None, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_bytes(text.encode())
    found = list(read_traces(file))
    assert [one for _, one in found] == [ONE, TWO]
    if lines is not None:
        assert [line for line, _ in found] == lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"traces\.jsonl is empty: give at least one"),
        (" \n\n", "is empty"),
        ("[]", "is empty"),
        ('{"a": 1}\n{"b": \n', r"line 3: no JSON"),
        ('{"a": 1}\nnonsense', r"line 2: no JSON"),
        ('{"a": 1}\n\n7', r"line 3: 7 is no JSON object"),
        ("[" * 100_000, "line 1: no JSON: nested too deeply"),
    ],
)
def test_malformed_data_tells_the_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        list(read_records(file))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_bytes(b'{"a"\xff')
    with pytest.raises(ConfigurationError, match=r"no text in UTF-8 \(byte 4\)"):
        list(read_records(file))


def test_what_is_no_trace_tells_the_line_and_the_field(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    broken = {**TWO.model_dump(), "seconds": "long"}
    file.write_text(f"{ONE.model_dump_json()}\n{json.dumps(broken)}\n")
    found = read_traces(file)
    assert next(found)[1] == ONE
    with pytest.raises(ConfigurationError, match=r"line 2: no trace: seconds: .*ask --json"):
        next(found)


@given(st.lists(st.text(max_size=20).map(lambda text: {"question": text}), min_size=1, max_size=5))
def test_lines_come_back(tmp_path_factory: pytest.TempPathFactory, records: list[object]) -> None:
    file = tmp_path_factory.mktemp("records") / "x.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    assert list(read_records(file)) == list(enumerate(records, 1))


def test_a_file_is_written_as_a_whole(tmp_path: Path) -> None:
    file, link = tmp_path / "a.json", tmp_path / "link.json"
    write_whole(file, "old")
    file.chmod(0o640)
    link.symlink_to(file)
    write_whole(link, "néw\n")
    assert file.read_bytes() == "néw\n".encode()
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "\ud800")
    assert sorted(tmp_path.iterdir()) == [file, link]
    assert RoutingTrace.model_validate_json(ONE.model_dump_json()) == ONE


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    padding = json.dumps({"padding": "x" * 1_000_000})
    append_line(file, padding)
    append_line(file, '{"a": "é"}')
    whole = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left on device"):
            append_line(file, padding)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == whole
    append_line(file, '{"b": 2}')
    assert [record for _, record in read_records(file)][1:] == [{"a": "é"}, {"b": 2}]
