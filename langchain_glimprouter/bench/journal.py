"""The record of a study: a file that grows by whole lines, and is read to go on."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from langchain_glimprouter.bench.records import (
    Done,
    Failed,
    Header,
    Line,
    Match,
    Probes,
    Tau,
    Variant,
)
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.routing.files import append_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LINE: TypeAdapter[Line] = TypeAdapter(Line)


class Journal:
    """What a study has found so far.

    A last line that was torn off (a power cut) is dropped; everything before it stays.

    Args:
        path: The file; it need not exist.

    Attributes:
        header: The first line, once there is one.
        variants: Further set-ups of the large engine, by name.
        probes: The calibration split's steps, by question.
        thresholds: Calibrated thresholds, by signal.
        matches: Random partners, by arm.
        turns: Finished turns, by arm and question.
        failures: Broken turns that did not succeed since, likewise.

    Raises:
        ConfigurationError: If the file is no study's; the message tells the line.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.variants: dict[str, Variant] = {}
        self.probes: dict[str, Probes] = {}
        self.thresholds: dict[str, Tau] = {}
        self.matches: dict[str, Match] = {}
        self.turns: dict[tuple[str, str], Done] = {}
        self.failures: dict[tuple[str, str], Failed] = {}
        self._whole: int | None = None  # bytes to keep, where the end is torn
        if path.exists():
            for number, text in self._lines():
                self._read(number, text)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        data = self.path.read_bytes()
        *whole, rest = data.split(b"\n")
        if rest:
            self._whole = len(data) - len(rest)
        yield from enumerate(whole, start=1)

    def _read(self, number: int, text: bytes) -> None:
        try:
            line = _LINE.validate_json(text)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            msg = f"{self.path}, line {number}: no record of a study: {said}"
            raise ConfigurationError(msg) from None
        if (self.header is None) != isinstance(line, Header):
            msg = f"{self.path}, line {number}: a study's record has one header, in its first line"
            raise ConfigurationError(msg)
        self._take(line)

    def _take(self, line: Line) -> None:
        match line:
            case Header():
                self.header = line
            case Variant():
                self.variants[line.name] = line
            case Probes():
                self.probes[line.question] = line
            case Tau():
                self.thresholds[line.signal] = line
            case Match():
                self.matches[line.arm] = line
            case Failed() if (line.arm, line.question) not in self.turns:
                self.failures[line.arm, line.question] = line
            case Done():
                self.turns[line.arm, line.question] = line
                self.failures.pop((line.arm, line.question), None)

    def append(self, line: Line) -> None:
        """Add a line to the file.

        Raises:
            OSError: If it cannot be written, for instance on a full disk; nothing was added, and
                what was there stays readable.
        """
        if self._whole is not None:
            os.truncate(self.path, self._whole)
            self._whole = None
        append_line(self.path, line.line())
        self._take(line)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the header, or see that it says the same.

        Raises:
            ConfigurationError: If the study has other settings; the message names them.
        """
        if self.header is None:
            now = datetime.now(UTC).replace(microsecond=0)
            self.append(Header(created=now, settings=dict(settings)))
            return
        self._compare("", self.header.settings, settings)

    def add_variant(self, name: str, settings: Mapping[str, Any]) -> None:
        """Write down a set-up of the large engine, or see that it is the same.

        Raises:
            ConfigurationError: If the study has another one of that name.
        """
        known = self.variants.get(name)
        if known is None:
            self.append(Variant(name=name, settings=dict(settings)))
            return
        self._compare(f"--large-variant {name}.", known.settings, settings)

    def _compare(
        self, prefix: str, recorded: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        old, new = _flat(recorded, prefix), _flat(settings, prefix)
        missing = "(unset)"
        found = [
            f"{name}: {old.get(name, missing)!r} there, {new.get(name, missing)!r} now"
            for name in sorted({*old, *new})
            if old.get(name, missing) != new.get(name, missing)
        ]
        if found:
            msg = (
                f"{self.path} was recorded with other settings, and results do not mix: "
                f"{'; '.join(found)}. Use those settings, or another --out"
            )
            raise ConfigurationError(msg)

    def rate(self, arm: str) -> float | None:
        """Return an arm's intervention rate over all its steps; `None` before there is one."""
        turns = self.turns_of(arm)
        routed = sum(turn.routed for turn in turns)
        return sum(turn.interventions for turn in turns) / routed if routed else None

    def turns_of(self, arm: str) -> list[Done]:
        """Return an arm's finished turns, in the order of their lines."""
        return [turn for (name, _), turn in self.turns.items() if name == arm]

    def tried(self, arm: str, question: str) -> bool:
        """Whether a turn was run, to whatever end."""
        return (arm, question) in self.turns or (arm, question) in self.failures


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
