"""Programs that a model wrote run within limits: whatever they try, it ends, and ends as wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from langchain_glimprouter.bench.tasks import find_task
from langchain_glimprouter.bench.tasks.code_tests import same_output, same_result
from langchain_glimprouter.bench.tasks.sandbox import run
from langchain_glimprouter.bench.tasks.sandbox.run import (
    GUARDS,
    Limits,
    Outcome,
    guards_in_force,
    run_program,
)
from langchain_glimprouter.errors import GlimpRouterError
from unit_tests.bench_data import function_problem, json_lines, stdin_problem
from unit_tests.models import settles

QUICK = Limits(cpu_seconds=2, wall_seconds=20.0, memory_bytes=1 << 29, output_bytes=1 << 20)
FORCE = asyncio.run(guards_in_force())
KERNEL = tuple(name for name in GUARDS if name in FORCE and name != "audit")
SETS = {"all": GUARDS, "audit": ("audit",), **{name: (name,) for name in KERNEL}}
"""All guards together, and each alone, as far as this machine has them."""


def programs() -> list[psutil.Process]:
    """Processes of programs that this process started, or that lost their parent."""
    found = []
    for process in (*psutil.Process().children(recursive=True), *psutil.Process(1).children()):
        with suppress(psutil.NoSuchProcess):
            if "child.py" in " ".join(process.cmdline()) and process.status() != "zombie":
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    assert settles(lambda: not programs(), 5.0)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port of this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file in the home folder."""
    path = Path.home() / f".glimprouter-secret-{os.getpid()}"
    path.write_text("4242")
    path.chmod(0o644)
    yield path
    path.unlink()


def untouched(secret: Path) -> bool:
    return secret.read_text() == "4242" and secret.stat().st_mode & 0o777 == 0o644


# -- programs that behave ------------------------------------------------------------------------

GOOD = {
    "input": "print(sum(int(input()) for _ in range(2)))",
    "stdin": "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
    "lines": "import sys\nprint(sum(int(line) for line in sys.stdin))",
    "bytes": "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))",
    "descriptor": "print(sum(map(int, open(0).read().split())))",
    "os.read": "import os\nprint(sum(map(int, os.read(0, 100).split())))",
    "main": "def main():\n    print(3 + 4)\nif __name__ == '__main__':\n    main()",
    "exit": "print(7)\nexit()",
    "os._exit": "import os\nprint(7, flush=True)\nos._exit(0)",
    "threads": (
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**27)\n"
        "def work():\n    print(7)\n"
        "thread = threading.Thread(target=work)\nthread.start()\nthread.join()"
    ),
    "deep": "def down(n):\n    return n and 1 + down(n - 1)\nprint(down(20000) - 19993)",
    "prelude": "print(Counter('aaaaaaa').most_common(1)[0][1] + heappop([0]) * gcd(4, 6))",
    "typing": "def f(x: List[int]) -> Optional[int]:\n    return x[0]\nprint(f([7]))",
    "dataclass": (
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    x: int\n"
        "print(max(P(7), P(3)).x)"
    ),
    "late imports": (
        "import fractions, decimal, zoneinfo, random, time\nprint(fractions.Fraction(7))"
    ),
    "null": (
        "import os, sys\nsys.stderr = open(os.devnull, 'w')\nprint(7, file=sys.stderr)\nprint(7)"
    ),
    "own folder": "import os\nprint(7 if os.listdir('.') == [] else os.listdir('.'))",
    "no file": "try:\n    open('input.txt')\nexcept FileNotFoundError:\n    print(7)",
    "unicode": "print(7 if 'ä∞'.encode() else '')",
    "caught": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    print(7)",
    "environment": "import os\nprint(7 if 'HF_TOKEN' not in os.environ else os.environ)",
}
if importlib.util.find_spec("numpy"):
    GOOD["numpy"] = "import numpy as np\nprint(np.array([3, 4]).sum())"


@pytest.mark.parametrize("code", GOOD.values(), ids=GOOD.keys())
async def test_a_good_program_is_left_alone(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    done = await run_program(code, stdin="3\n4\n", limits=Limits(cpu_seconds=5))
    assert done.error is None
    assert done.output.strip() == "7"


async def test_large_input_and_output_pass() -> None:
    lines = "".join(f"{number}\n" for number in range(200_000))
    done = await run_program("import sys\nsys.stdout.write(sys.stdin.read())", stdin=lines)
    assert done.error is None
    assert done.output == lines


async def test_a_function_is_called_and_its_prints_are_no_result() -> None:
    code = (
        "class Solution:\n    def f(self, a, b):\n"
        "        print('hello')\n        return (a, b, {1: 2})"
    )
    done = await run_program(code, function="f", arguments=[[1], "x"])
    assert done == Outcome('[[1], "x", {"1": 2}]', None, done.seconds)
    plain = await run_program("def f(a):\n    return a * 2", function="f", arguments=[4])
    assert plain.output == "8"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("print(1 / 0)", "ZeroDivisionError: division by zero, line 1"),
        ("x = 1\ny = [][x]", "IndexError: list index out of range, line 2"),
        ("print(", r"SyntaxError: '(' was never closed (<answer>, line 1)"),
        ("exit(3)", "exit(3)"),
        ("import sys\nsys.exit('no')", "exit('no')"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError"),
        ("\0", "null bytes"),
        ("s = '\ud800'\nprint(s)", "UnicodeEncodeError"),
    ],
)
async def test_a_program_that_fails_says_why(code: str, error: str) -> None:
    done = await run_program(code)
    assert error in (done.error or "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def g():\n    pass", "KeyError: 'f'"),
        ("def f():\n    return {1, 2}", "TypeError: the function returned set"),
        ("def f():\n    return f", "TypeError: the function returned function"),
        ("def f(x):\n    return x", "TypeError: f() missing 1 required positional argument"),
    ],
)
async def test_a_function_that_fails_says_why(code: str, error: str) -> None:
    done = await run_program(code, function="f")
    assert error in (done.error or "")


# -- programs that misbehave ---------------------------------------------------------------------


@pytest.mark.parametrize("guards", [GUARDS, ("audit",)], ids=["all", "audit"])
@pytest.mark.parametrize(
    ("code", "wall", "error"),
    [
        ("while True: pass", 30.0, "used more than 1 s of processor time"),
        ("import time\ntime.sleep(60)", 2.0, "ran longer than 2 s"),
        ("import signal\nsignal.pause()", 2.0, "ran longer than 2 s"),
        ("x = bytearray(10 * 2**30)", 30.0, "MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(2**24))", 30.0, "MemoryError"),
        ("while True: print('x' * 10**6)", 30.0, "wrote more than 1,048,576 bytes"),
    ],
)
async def test_limits_hold(guards: tuple[str, ...], code: str, wall: float, error: str) -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=wall, memory_bytes=1 << 28, output_bytes=1 << 20)
    done = await run_program(code, limits=limits, guards=guards)
    assert error in (done.error or "")
    assert len(done.output) <= (1 << 20) + 1
    if wall < 30.0:
        assert done.seconds < wall + 3.0


async def test_a_loop_that_the_interpreter_cannot_interrupt_ends() -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=30.0)
    done = await run_program("print(sum(range(10**12)))", limits=limits)
    assert done.error == "killed by SIGKILL"


@pytest.mark.parametrize("guards", SETS.values(), ids=SETS.keys())
async def test_no_file_grows(guards: tuple[str, ...]) -> None:
    """Whatever it is called, and however many there are."""
    code = (
        "for n in range(9):\n    with open(f'{n}', 'wb') as file:\n        file.write(bytes(2**30))"
    )
    done = await run_program(code, limits=Limits(), guards=guards)
    assert done.error is not None
    assert any(word in done.error for word in ("refused", "too large", "Permission denied"))


BAD = {
    "fork": "import os\nif os.fork() == 0:\n    os._exit(0)\nprint(7)",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n"
        "    time.sleep(60)\nprint(7)"
    ),
    "shell": "import os\nif os.system('true') == 0:\n    print(7)",
    "subprocess": (
        "import subprocess\nprint(subprocess.run(['echo', '7'], capture_output=True).stdout)"
    ),
    "spawn": "import os\nos.posix_spawn('/bin/true', ['true'], {})\nprint(7)",
    "exec": "import os\nos.execv('/bin/echo', ['echo', '7'])",
    "multiprocessing": (
        "import multiprocessing as m\nif m.Pool(2).map(abs, [-7]) == [7]:\n    print(7)"
    ),
    "kill": "import os\nos.kill(os.getppid(), 9)\nprint(7)",
    "kill all": "import os, signal\nos.kill(-1, signal.SIGWINCH)\nprint(7)",  # WINCH hurts nobody
    "connect": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)\nprint(7)",
    "udp": "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "s.connect(('8.8.8.8', 53))\nprint(7)",
    "http": (
        "import urllib.request\n"
        "urllib.request.urlopen('http://127.0.0.1:{port}', timeout=5)\nprint(7)"
    ),
    "listen": "import socket\nsocket.create_server(('127.0.0.1', 0))\nprint(7)",
    "secret": "print(open({secret!r}).read())",
    "home": "import os\nprint(os.listdir({home!r}), 7)",
    "passwords": "print(open('/etc/passwd').read(), 7)",
    "parent": "print(open(f'/proc/1/environ').read(), 7)",
    "link out": "print(open('/proc/self/root/etc/passwd').read(), 7)",
    "remove": "import os\nos.remove({secret!r})\nprint(7)",
    "rename": "import os\nos.rename({secret!r}, {secret!r} + '2')\nprint(7)",
    "mode": "import os\nos.chmod({secret!r}, 0)\nprint(7)",
    "truncate": "import os\nos.truncate({secret!r}, 0)\nprint(7)",
    "append": "open({secret!r}, 'a').write('x')\nprint(7)",
    "rmtree": "import shutil\nshutil.rmtree('/proc/self/cwd')\nprint(7)",
    "new file": "open('x', 'w').close()\nprint(7)",
    "ctypes fork": "import ctypes\nif ctypes.CDLL(None).fork() >= 0:\n    print(7)",
    "ctypes open": (
        "import ctypes\nif ctypes.CDLL(None).open({secret!r}.encode(), 0) >= 0:\n    print(7)"
    ),
    "ctypes socket": "import ctypes\nif ctypes.CDLL(None).socket(2, 1, 0) >= 0:\n    print(7)",
    "sqlite": (
        "import sqlite3\nsqlite3.connect({secret!r} + '.db').execute('create table x(y)')\nprint(7)"
    ),
}


def misbehave(name: str, secret: Path, port: int) -> str:
    return (
        BAD[name]
        .replace("{port}", str(port))
        .replace("{secret!r}", repr(str(secret)))
        .replace("{home!r}", repr(str(secret.parent)))
    )


@pytest.mark.parametrize("guards", [GUARDS, ("audit",)], ids=["all", "audit"])
@pytest.mark.parametrize("name", BAD)
async def test_what_is_refused_ends_the_program(
    name: str, guards: tuple[str, ...], secret: Path, port: int
) -> None:
    code = misbehave(name, secret, port)
    done = await run_program(code, limits=QUICK, guards=guards)
    assert done.error is not None, done
    assert "7" not in done.output
    assert "4242" not in done.output
    assert untouched(secret)


@pytest.mark.parametrize("name", ["connect", "secret", "shell", "new file"])
async def test_what_is_refused_cannot_be_caught(name: str, secret: Path, port: int) -> None:
    lines = misbehave(name, secret, port).splitlines()
    code = (
        "try:\n"
        + "".join(f"    {line}\n" for line in lines)
        + "except BaseException:\n    pass\nprint(7)"
    )
    done = await run_program(code, limits=QUICK)
    assert (done.error or "").startswith("refused: ")
    assert done.output == ""


@pytest.mark.parametrize("name", ["secret", "home", "connect", "shell", "fork", "new file"])
async def test_only_the_guards_stop_them(name: str, secret: Path, port: int) -> None:
    """What the tests above and below forbid does work here, without guards."""
    done = await run_program(misbehave(name, secret, port), limits=QUICK, guards=())
    assert "7" in done.output or "4242" in done.output
    assert done.error is None


PROCESSES = ("fork", "daemon", "shell", "subprocess", "spawn", "exec", "multiprocessing")
NETWORK = ("connect", "http", "ctypes socket")
FILES = ("secret", "home", "passwords", "remove", "rename", "truncate", "append", "new file")
HOLDS = {
    "seccomp": (
        *PROCESSES,
        *NETWORK,
        "kill",
        "udp",
        "listen",
        "remove",
        "rename",
        "mode",
        "truncate",
    ),
    "landlock": (*FILES, "parent", "link out", "ctypes open", "sqlite"),
    "namespaces": ("connect", "udp", "http"),
}
ALONE = [(guard, name) for guard in KERNEL for name in HOLDS[guard]]


@pytest.mark.parametrize(("guard", "name"), ALONE)
async def test_each_layer_of_the_kernel_holds_alone(
    guard: str, name: str, secret: Path, port: int
) -> None:
    done = await run_program(misbehave(name, secret, port), limits=QUICK, guards=(guard,))
    assert "7" not in done.output, done
    assert "4242" not in done.output
    assert untouched(secret)


def test_this_machine_has_guards_in_the_kernel() -> None:
    """Else the tests above test little; CI and developers' machines have them."""
    assert "audit" in FORCE
    assert "seccomp" in KERNEL


@pytest.mark.skipif("namespaces" not in KERNEL, reason="not permitted on this machine")
async def test_a_tree_of_processes_dies_with_its_program() -> None:
    code = (
        "import os, time\nfor _ in range(3):\n    os.fork()\n"
        "if os.getpid() != 1:\n    os.setsid()\n"
        "time.sleep(60)"
    )
    limits = Limits(cpu_seconds=1, wall_seconds=2.0)
    done = await run_program(code, limits=limits, guards=("namespaces",))
    assert done.error == "ran longer than 2 s"
    quick = code.replace("time.sleep(60)", "time.sleep(60 if os.getpid() != 1 else 0)")
    done = await run_program(quick, guards=("namespaces",))
    assert done.error is None  # the first ended well, and the kernel ended the rest
    assert done.seconds < Limits().wall_seconds


# -- whatever happens to the host ----------------------------------------------------------------


async def test_a_cancelled_run_leaves_nothing() -> None:
    task = asyncio.create_task(run_program("import time\ntime.sleep(60)"))
    assert await asyncio.to_thread(settles, lambda: len(programs()) >= 1, 5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not programs()


def test_a_killed_host_leaves_nothing() -> None:
    script = (
        "import asyncio\n"
        "from langchain_glimprouter.bench.tasks.sandbox.run import run_program, Limits\n"
        "async def main():\n"
        "    run = asyncio.create_task(run_program('import time\\ntime.sleep(60)'))\n"
        "    await asyncio.sleep(1.0)\n"
        "    print('running', flush=True)\n"
        "    await run\n"
        "asyncio.run(main())\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdout.readline() == "running\n"
    started = psutil.Process(host.pid).children(recursive=True)
    assert started
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    assert settles(
        lambda: not any(one.is_running() and one.status() != "zombie" for one in started), 5.0
    )


async def test_many_at_once() -> None:
    done = await asyncio.gather(
        *(run_program(f"print({number} * 2)", limits=Limits()) for number in range(8))
    )
    assert [one.output.strip() for one in done] == [str(2 * number) for number in range(8)]


def test_from_another_threads_loop() -> None:
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(run_program("print(7)"))))
    thread.start()
    thread.join()
    assert found[0].output == "7\n"


async def test_the_temporary_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = await run_program("import os\nprint(os.getcwd())")
    assert Path(done.output.strip()).parent == tmp_path
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_a_machine_that_runs_nothing_is_no_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("import os, sys\nprint('no room', file=sys.stderr, flush=True)\nos._exit(96)")
    monkeypatch.setattr(run, "_CHILD", broken)
    with pytest.raises(GlimpRouterError, match="programs cannot be run here: no room"):
        await run_program("print(7)")


# -- comparing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected", "same"),
    [
        ("6\n", "6", True),
        ("6 \n\n", "6\n", True),
        ("1\n2\n", "1\n2", True),
        ("1 2\n", "1\n2", False),
        ("1.0 2.50", "1 2.5", True),
        ("50000000000000001", "50000000000000000", False),
        ("YES", "Yes", False),
        ("0.30000000000000004", "0.3", False),
        ("", "", True),
        ("", "0", False),
        ("a\nb", "a\nb\nc", False),
    ],
)
def test_outputs_are_compared_by_line_and_value(written: str, expected: str, same: bool) -> None:
    assert same_output(written, expected) is same


@pytest.mark.parametrize(
    ("written", "expected", "same"),
    [("[1, 2]", "[1,2]", True), ("2.0", "2", True), ("[2, 1]", "[1, 2]", False), ("", "1", False)],
)
def test_results_are_compared_by_value(written: str, expected: str, same: bool) -> None:
    assert same_result(written, expected) is same


# -- LiveCodeBench -------------------------------------------------------------------------------

SUM = "```python\nn = int(input())\nprint(sum(map(int, input().split())))\n```"
APPEND = (
    "```python\nclass Solution:\n    def appendIt(self, words: List[str], number):\n"
    "        return (*words, number)\n```"
)


@pytest.mark.parametrize(
    ("problem", "answer", "error"),
    [
        ("program", SUM, None),
        ("program", SUM.replace("sum", "max"), "test 1 of 2: wrong output"),
        ("program", "```python\nn = input()\nprint(6)\n```", "test 2 of 2: wrong output"),
        ("program", "```python\nwhile True: pass\n```", "test 1 of 2: used more than 1 s of"),
        ("program", "```python\nimport os\nos.fork()\n```", "test 1 of 2: refused: os.fork ()"),
        ("program", "print(6)", "it holds no block of code"),
        ("program", "", "it holds no block of code"),
        ("method", APPEND, None),
        ("method", APPEND.replace(", number)\n", ", 2)\n"), "test 2 of 2: wrong output"),
        ("method", APPEND.replace("*words", "*number"), "test 1 of 2: TypeError"),
    ],
)
async def test_code_is_right_if_it_passes_all_tests(
    problem: str, answer: str, error: str | None, tmp_path: Path
) -> None:
    row = stdin_problem() if problem == "program" else function_problem()
    path = json_lines(tmp_path / "t.jsonl", [row])
    task = find_task("livecodebench", path=path, options={"calibration": "0", "seconds": "1"})
    (question,) = task.questions(1, 0)
    grade = await task.grade(question, answer)
    assert grade.correct is (error is None), grade
    assert grade.score == (1.0 if error is None else 0.0)
    assert (grade.error or "").startswith(error or "")
    assert grade.error is None if error is None else grade.error
    assert (grade.extracted is None) is ("```" not in answer)
