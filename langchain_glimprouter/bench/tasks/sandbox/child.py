"""Runs one program under guard. Started by `run.py` with `python -I`, never imported.

Two processes: this one waits, and is what gets killed; its child enters the namespaces, gives up
all rights and becomes the program. What the program's output should be is known to neither.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from typing import Any, NoReturn, TextIO

# `-I` keeps this folder off the path, and importing the package would take a second.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
import guards  # type: ignore[import-not-found, unused-ignore]
import kernel  # type: ignore[import-not-found, unused-ignore]

del sys.path[0]

# What solutions count on, as LiveCodeBench's own runner gives it (lcb_runner, testing_util.py).
_PRELUDE = """
from string import *
from re import *
from datetime import *
from collections import *
from heapq import *
from bisect import *
from copy import *
from math import *
from random import *
from statistics import *
from itertools import *
from functools import *
from operator import *
from io import *
from sys import *
from json import *
from builtins import *
from typing import *
import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics
import itertools, functools, operator, io, sys, json
sys.setrecursionlimit(50000)
"""


def main() -> NoReturn:
    """Read the job from stdin, run it in a child, and end as it ended."""
    try:
        kernel.die_with_parent()
        job: dict[str, Any] = json.loads(sys.stdin.buffer.read())
        held = {"namespaces": "namespaces" in job["guards"] and kernel.enter_namespaces()}
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            results = _take_places(job)
            space = _give_up_rights(job, held, results)
            os.write(tell, b"!")  # from here on, it is the program that fails
            os.close(tell)
            os.close(told)
    except BaseException:  # noqa: BLE001 - all of it is said, and is no fault of the program
        import traceback

        traceback.print_exc()
        os._exit(guards.BROKEN)
    if pid == 0:
        sys.exit(_execute(job, space, results))
    os.close(tell)
    signal.setitimer(signal.ITIMER_REAL, job["wall_seconds"] + 2.0)  # should nobody else do it
    _, status = os.waitpid(pid, 0)
    if not os.read(told, 1):
        os._exit(guards.BROKEN)
    code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    os._exit(1 if code == guards.BROKEN else code)


def _take_places(job: dict[str, Any]) -> TextIO:
    """Put the program's input where stdin is; return the file that results go to.

    The results of a function go to what was stdout, and what it prints goes nowhere.
    """
    kernel.die_with_parent()
    source = os.memfd_create("input")
    view = memoryview(job["input"].encode())
    while view:
        view = view[os.write(source, view) :]
    os.lseek(source, 0, os.SEEK_SET)
    os.dup2(source, 0)
    os.close(source)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    if job["function"] is None:
        return sys.stdout
    results = open(os.dup(1), "w", encoding="utf-8")  # noqa: PTH123, SIM115
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return results


def _give_up_rights(job: dict[str, Any], held: dict[str, bool], results: TextIO) -> dict[str, Any]:
    """Put the guards up and return the name space that the program starts with."""
    wanted = job["guards"]
    paths = guards.readable_paths()
    program = types.ModuleType("__main__")
    exec(compile(_PRELUDE, "<prelude>", "exec"), program.__dict__)  # noqa: S102
    signal.signal(signal.SIGXCPU, lambda *_: os._exit(guards.OUT_OF_TIME))
    guards.limit_resources(job["cpu_seconds"], job["memory_bytes"])
    held["seccomp"] = "seccomp" in wanted and kernel.deny_system_calls()
    if not held["seccomp"]:
        guards.limit_processes()
    held["landlock"] = "landlock" in wanted and kernel.read_only(paths)
    held["audit"] = "audit" in wanted
    if job["probe"]:
        json.dump([name for name, holds in held.items() if holds], results)
    sys.modules["__main__"] = program
    if held["audit"]:
        guards.refuse(paths)
    return program.__dict__


def _execute(job: dict[str, Any], space: dict[str, Any], results: TextIO) -> int:
    """Run the code; return the exit status."""
    try:
        exec(compile(job["code"], "<answer>", "exec"), space)  # noqa: S102
        if job["function"] is not None:
            json.dump(_call(space, job["function"], job["arguments"]), results, default=_plain)
            results.flush()
    except SystemExit as end:
        if not end.code:
            return 0
        sys.stderr.write(f"\nexit({end.code!r:.300})\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever a program may raise
        line, frame = 0, error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == "<answer>":
                line = frame.tb_lineno
            frame = frame.tb_next
        place = f", line {line}" if line else ""
        sys.stderr.write(f"\n{type(error).__name__}: {str(error)[:300]}{place}\n")
        return 1
    return 0


def _call(space: dict[str, Any], name: str, arguments: list[Any]) -> Any:
    owner = space.get("Solution")
    function = space[name] if owner is None or not hasattr(owner, name) else getattr(owner(), name)
    return function(*arguments)


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it knows, if it says how."""
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    msg = f"the function returned {type(value).__name__}"
    raise TypeError(msg)


if __name__ == "__main__":
    main()
