"""The tests of a programming problem, in LiveCodeBench's format (arXiv 2403.07974)."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn

from langchain_glimprouter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_glimprouter.bench.tasks.records import Record

_LARGEST = 1 << 30  # bytes of a problem's tests, unpacked


@dataclass(frozen=True, slots=True)
class CodeTest:
    """One test.

    Attributes:
        input: What stdin holds, or a function's arguments, one JSON value a line.
        output: What stdout should hold, or the result as JSON.
    """

    input: str
    output: str

    def arguments(self) -> list[Any]:
        """Return the arguments of a function."""
        return [json.loads(line) for line in self.input.split("\n") if line.strip()]


@dataclass(frozen=True, slots=True)
class CodeTests:
    """All tests of a problem, still packed: unpacked, a set of problems would fill the memory.

    Attributes:
        public: JSON, as in the data.
        private: JSON, or JSON in a pickle, packed by zlib, in base64.
        function: What to call; `None` for programs that read stdin.
        place: Where the row stands, for messages.
    """

    public: str
    private: str
    function: str | None
    place: str

    @classmethod
    def of(cls, record: Record) -> CodeTests:
        """Read and check the tests of a row.

        Raises:
            ConfigurationError: If they cannot be read; the message tells the field and the line.
        """
        metadata = _json(record.fields.get("metadata") or "{}", record.place, "metadata")
        function = metadata.get("func_name") if isinstance(metadata, dict) else None
        public = record.text("public_test_cases")
        found = cls(public, record.text("private_test_cases"), function, record.place)
        tests = found.unpacked()
        if not tests:
            msg = f"{record.place}: there is not one test"
            raise ConfigurationError(msg)
        for test in tests if function else ():
            try:
                test.arguments()
                json.loads(test.output)
            except json.JSONDecodeError as error:
                msg = f"{record.place}: a test of {function!r} is no JSON: {error.msg}"
                raise ConfigurationError(msg) from None
        return found

    def unpacked(self) -> Sequence[CodeTest]:
        """Return the public tests, then the private ones.

        Raises:
            ConfigurationError: If they cannot be read.
        """
        public = _json(self.public, self.place, "public_test_cases")
        private = _json(
            self.private
            if self.private.lstrip().startswith("[")
            else _unpack(self.private, self.place),
            self.place,
            "private_test_cases",
        )
        return [
            *_tests(public, self.function, self.place, "public_test_cases"),
            *_tests(private, self.function, self.place, "private_test_cases"),
        ]


def _tests(cases: object, function: str | None, place: str, field: str) -> list[CodeTest]:
    if not isinstance(cases, list):
        msg = f"{place}: {field!r} must hold a list of tests"
        raise ConfigurationError(msg)
    found = []
    for case in cases:
        if not isinstance(case, dict) or not {"input", "output"} <= case.keys():
            msg = f"{place}: {field!r} holds a test without 'input' or 'output'"
            raise ConfigurationError(msg)
        if case.get("testtype") == "functional" and not function:
            msg = f"{place}: a test calls a function, but 'metadata' has no 'func_name'"
            raise ConfigurationError(msg)
        found.append(CodeTest(str(case["input"]), str(case["output"])))
    return found


def _json(text: object, place: str, field: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"{place}: {field!r} is no JSON: {error.msg}"
        raise ConfigurationError(msg) from None


class _PlainUnpickler(pickle.Unpickler):
    """Makes strings, numbers and lists; a pickle of anything else could run code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _unpack(packed: str, place: str) -> str:
    try:
        unzip = zlib.decompressobj()
        data = unzip.decompress(base64.b64decode(packed, validate=True), _LARGEST)
        if not unzip.eof:
            raise ValueError(f"it is cut off, or unpacks to more than {_LARGEST >> 20:,} MiB")
        text = _PlainUnpickler(io.BytesIO(data)).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, ValueError) as error:
        msg = f"{place}: 'private_test_cases' cannot be unpacked: {error}"
        raise ConfigurationError(msg) from None
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        # what a malformed pickle can do to the unpickler
        msg = f"{place}: 'private_test_cases' is no pickle: {error}"
        raise ConfigurationError(msg) from None
    if not isinstance(text, str):
        msg = f"{place}: 'private_test_cases' unpacks to {type(text).__name__}, not to JSON"
        raise ConfigurationError(msg)
    return text


def same_output(written: str, expected: str) -> bool:
    """Whether a program wrote what it should: line by line, blanks at the ends aside.

    Lines of numbers are compared by value. (As LiveCodeBench's `grade_stdio` does it.)
    """
    one, other = (
        [line.strip() for line in text.strip().split("\n")] for text in (written, expected)
    )
    return len(one) == len(other) and all(
        first == second or _same_numbers(first, second)
        for first, second in zip(one, other, strict=True)
    )


def _same_numbers(one: str, other: str) -> bool:
    try:
        first, second = ([Decimal(part) for part in line.split()] for line in (one, other))
    except InvalidOperation:
        return False
    return first == second


def same_result(written: str, expected: str) -> bool:
    """Whether a function returned what it should; both as JSON, where tuples are lists."""
    try:
        return bool(json.loads(written) == json.loads(expected))
    except (json.JSONDecodeError, RecursionError):
        return False
