"""Reads files of questions: JSON Lines, JSON, CSV and Parquet, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.trace_files import read_records


@dataclass(frozen=True, slots=True)
class Record:
    """A row.

    Attributes:
        fields: Its fields by name.
        place: Where it stands, for messages.
    """

    fields: Mapping[str, Any]
    place: str

    def text(self, *names: str) -> str:
        """Return a field that must be there: the first of several names for it.

        Raises:
            ConfigurationError: If none is there, or it is empty, or no text.
        """
        for name in names:
            value = self.fields.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                msg = f"{self.place}: {name!r} must be text, not {json.dumps(value)[:60]}"
                raise ConfigurationError(msg)
            text = str(value).strip()
            if text:
                return text
            msg = f"{self.place}: {name!r} is empty"
            raise ConfigurationError(msg)
        wanted = " or ".join(repr(name) for name in names)
        there = ", ".join(str(name) for name in self.fields) or "nothing"
        msg = f"{self.place}: the field {wanted} is missing; there is {there}"
        raise ConfigurationError(msg)

    def pick(self, *names: str) -> dict[str, Any]:
        """Return those of the fields that are there."""
        return {name: self.fields[name] for name in names if self.fields.get(name) is not None}


def records(file: Path) -> Iterator[Record]:
    """Yield the rows of a file; the ending of its name tells how to read it.

    Raises:
        ConfigurationError: If it is missing, malformed or of another kind; the message tells the
            line.
    """
    readers = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        msg = f"--data {file} cannot be read: give a file that ends in {', '.join(readers)}"
        raise ConfigurationError(msg)
    if not file.is_file():
        what = "is a folder: give a file" if file.is_dir() else "does not exist"
        msg = f"--data {file} {what}"
        raise ConfigurationError(msg)
    return reader(file)


def _json_lines(file: Path) -> Iterator[Record]:
    # Not by `read_records`, which holds the whole text: LiveCodeBench's files have up to 1.3 GB.
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            place = f"{file}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                value = json.loads(line) if line.strip() else None
            except UnicodeDecodeError as error:
                msg = f"{place}: no text in UTF-8 (byte {error.start} of the line)"
                raise ConfigurationError(msg) from None
            except (json.JSONDecodeError, RecursionError) as error:
                said = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                msg = f"{place}: no JSON: {said}"
                raise ConfigurationError(msg) from None
            if line.strip():
                if not isinstance(value, dict):
                    msg = f"{place}: {json.dumps(value)[:40]} is no JSON object"
                    raise ConfigurationError(msg)
                yield Record(value, place)


def _json(file: Path) -> Iterator[Record]:
    for number, (line, value) in enumerate(read_records(file), start=1):
        yield Record(value, f"{file}, record {number} (line {line})")


def _csv(file: Path) -> Iterator[Record]:
    place = f"{file}, line 1"
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, strict=True)
            if rows.fieldnames is None:
                return
            place = f"{file}, line {rows.line_num + 1}"
            for row in rows:
                if None in row:
                    msg = f"{place}: more cells than the header has columns"
                    raise ConfigurationError(msg)
                yield Record({name: cell for name, cell in row.items() if cell is not None}, place)
                place = f"{file}, line {rows.line_num + 1}"
    except csv.Error as error:
        msg = f"{place}: no CSV: {error}"
        raise ConfigurationError(msg) from None
    except UnicodeDecodeError as error:
        msg = f"{place} or below: no text in UTF-8: {error.reason}"
        raise ConfigurationError(msg) from None


def _parquet(file: Path) -> Iterator[Record]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        msg = (
            f"{file} needs pyarrow to be read: pip install pyarrow, or give the questions as JSON "
            f"Lines (--data)"
        )
        raise ConfigurationError(msg) from None
    try:
        with parquet.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, f"{file}, row {number}")
    except pa.ArrowException as error:
        msg = f"{file} is no Parquet file: {error}"
        raise ConfigurationError(msg) from None
