"""Makes questions and grades answers for `workers.py`, under guard. Started, never imported."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import resource
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# `-P` keeps this folder off the path, and importing the package would take a second.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
import guards  # type: ignore[import-not-found, unused-ignore]
import kernel  # type: ignore[import-not-found, unused-ignore]

del sys.path[0]

_MEMORY = 8 << 30  # address space; libraries map much of it
_PATIENCE = 20  # seconds by the clock for each step of math-verify; the machine may be busy
_CPU_SECONDS = 900  # a request; an end for a process that nobody waits for any more


def maths() -> Callable[..., dict[str, Any]]:
    """Return the grader `(reference, answer)` of math-verify."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
    from math_verify.errors import TimeoutException

    targets = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    patience = {"raise_on_error": True, "parsing_timeout": _PATIENCE}

    def grade(reference: str, answer: str) -> dict[str, Any]:
        extracted = None
        try:
            gold = parse(rf"\boxed{{{reference}}}", targets, **patience)
            if not gold:
                return _found(error=f"math-verify cannot parse the right answer {reference!r}")
            found = parse(answer, targets, **patience)
            if not found:
                return _found(error="math-verify finds no answer that it can parse")
            extracted = str(found[-1])[:1000]
            right = verify(gold, found, raise_on_error=True, timeout_seconds=_PATIENCE)
        except TimeoutException as error:
            return _found(extracted=extracted, error=f"math-verify: {error!s:.300}")
        except Exception as error:  # noqa: BLE001 - whatever an answer does to a library, it is told
            return _found(extracted=extracted, error=_told(error))
        return _found(float(right), extracted)

    grade("1", r"\boxed{1}")  # the first takes a second, which is not the answer's fault
    return grade


@lru_cache(maxsize=4)
def _data_set(name: str, config: bytes) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **pickle.loads(config))  # noqa: S301


def gym() -> Callable[..., dict[str, Any]]:
    """Return the grader `(data set, its configuration, entry, candidates)` of reasoning-gym."""
    import reasoning_gym  # noqa: F401 - before the guards are up

    def grade(
        name: str, config: dict[str, Any], entry: dict[str, Any], candidates: list[str]
    ) -> dict[str, Any]:
        try:
            score = _data_set(name, pickle.dumps(config)).score_answer
            scored = [(float(score(one, entry)), one) for one in candidates]
        except Exception as error:  # noqa: BLE001 - whatever an answer does to a library, it is told
            return _found(error=_told(error))
        best, extracted = max(scored, key=lambda pair: pair[0])
        return _found(min(max(best, 0.0), 1.0), extracted)

    return grade


def questions() -> Callable[..., dict[str, Any]]:
    """Return the maker `(data set, its configuration, start, count)` of questions."""
    import reasoning_gym  # noqa: F401 - before the guards are up

    def make(name: str, config: dict[str, Any], start: int, count: int) -> dict[str, Any]:
        entries = []
        try:
            data = _data_set(name, pickle.dumps(config))
            for index in range(start, start + count):
                try:
                    entries.append(data[index])
                except IndexError:  # a set with an end
                    break
            return {"entries": base64.b64encode(pickle.dumps(entries)).decode()}
        except Exception as error:  # noqa: BLE001 - told to who asked
            return {"error": _told(error)}

    return make


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.300}"


def _found(
    score: float = 0.0, extracted: str | None = None, error: str | None = None
) -> dict[str, Any]:
    return {"score": score, "extracted": extracted, "error": error}


def main() -> None:
    """Import, put the guards up, and answer until stdin closes."""
    replies = open(os.dup(1), "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)  # libraries print
    logging.disable()
    try:
        work = {"maths": maths, "gym": gym, "questions": questions}[sys.argv[1]]()
    except ImportError as error:
        replies.write(json.dumps(f"this needs {error.name}") + "\n")
        return
    guards.limit_resources(None, _MEMORY)
    kernel.deny_system_calls()
    kernel.read_only(guards.readable_paths())
    replies.write("true\n")
    while header := sys.stdin.buffer.read(8):
        request = pickle.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))  # noqa: S301
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + _CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        replies.write(json.dumps(work(*request)) + "\n")


if __name__ == "__main__":
    main()
