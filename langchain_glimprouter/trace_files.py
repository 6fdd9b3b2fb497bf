"""Files of recorded turns: one trace, a JSON list of them, or one after the other."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.trace import RoutingTrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOT_SPACE = re.compile(r"\S")


def read_records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON file with the lines they begin on.

    One object, a list of objects, one object a line (JSON Lines), and several objects of several
    lines each are all read.

    Args:
        file: The file, in UTF-8.

    Raises:
        ConfigurationError: If it is empty, or no JSON objects; the message tells the line.
        OSError: If it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{file} is no text in UTF-8 (byte {error.start}): give JSON, or JSON Lines"
        raise ConfigurationError(msg) from None
    decoder = json.JSONDecoder()
    place = found = 0
    line, counted = 1, 0
    while True:
        following = _NOT_SPACE.search(text, place)
        if following is None:
            break
        place = following.start()
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError) as error:
            said, at = (
                (error.msg, error.lineno)
                if isinstance(error, json.JSONDecodeError)
                else ("nested too deeply", line)
            )
            msg = f"{file}, line {at}: no JSON: {said}"
            raise ConfigurationError(msg) from None
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                msg = f"{file}, line {line}: {json.dumps(one)[:40]} is no JSON object"
                raise ConfigurationError(msg)
            found += 1
            yield line, one
        place = end
    if not found:
        msg = f"{file} is empty: give at least one JSON object"
        raise ConfigurationError(msg)


def read_traces(file: Path) -> Iterator[tuple[int, RoutingTrace]]:
    """Yield the recorded turns of a file with the lines they begin on.

    A record may be the trace itself, as `glimprouter ask --json` and `on_trace` give it, or hold it
    as `trace`, beside other things.

    Args:
        file: See `read_records`.

    Raises:
        ConfigurationError: If something in it is no trace; the message tells the line.
        OSError: If it cannot be read.
    """
    for line, record in read_records(file):
        yield line, as_trace(file, line, record)


def as_trace(file: Path, line: int, record: dict[str, Any]) -> RoutingTrace:
    """Return the trace of a record.

    Raises:
        ConfigurationError: If it is none.
    """
    inner = record.get("trace", record)
    try:
        return RoutingTrace.model_validate(inner)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the record"
        msg = (
            f"{file}, line {line}: no trace: {where}: {first['msg']}; 'glimprouter ask --json' and "
            f"ChatGlimpRouter(on_trace=…) give traces"
        )
        raise ConfigurationError(msg) from None
