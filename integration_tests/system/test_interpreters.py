"""What only a whole interpreter shows: how it begins, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

from langchain_glimprouter.engines import reaper


def test_ctrl_c_cancels_and_waits_for_the_clean_up() -> None:
    script = """
        import asyncio, os, signal, threading
        from langchain_glimprouter.engines.runtime import get_runtime

        async def work():
            try:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                print("cleaned", flush=True)

        async def items():
            await work()
            yield 1

        for call in (lambda: get_runtime().run(work()), lambda: list(get_runtime().iterate(items))):
            try:
                call()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["cleaned", "interrupted"] * 2


def test_the_interpreter_ends_although_a_turn_is_under_way() -> None:
    script = """
        import asyncio, contextlib, threading
        from langchain_glimprouter.engines.job import RuntimeClosedError
        from langchain_glimprouter.engines.runtime import get_runtime

        class Engine:
            async def aclose(self):
                print("closed", flush=True)

        async def items():
            while True:
                await asyncio.sleep(0.001)
                yield 1

        engine = Engine()
        get_runtime().register(engine)
        def consume():
            with contextlib.suppress(RuntimeClosedError):
                list(get_runtime().iterate(items))

        numbers = get_runtime().iterate(items)
        next(numbers)
        threading.Thread(target=consume, daemon=True).start()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "closed", "")


def test_importing_the_package_imports_no_engine() -> None:
    script = (
        "import sys, langchain_glimprouter as package\n"
        "model = package.ChatGlimpRouter(small='org/small-model', large='http://127.0.0.1:9/v1')\n"
        "heavy = {'torch', 'vllm', 'transformers', 'tokenizers', 'langchain'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "missing = [name for name in package.__all__ if not hasattr(package, name)]\n"
        "assert not missing, missing\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_to_ask_for_the_stream_loads_no_langgraph() -> None:
    code = (
        "import sys, langchain_glimprouter.visible as m\n"
        "assert m.stream_writer() is None\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "langgraph.config" not in done.stdout.split()


def test_a_script_without_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import asyncio
            from langchain_glimprouter.engines.vllm_local import VLLMEngine
            asyncio.run(VLLMEngine({str(tmp_path)!r}).start())
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 1
    assert 'Put the code that uses the model under `if __name__ == "__main__":`' in done.stderr


def test_the_watchdog_kills_marked_engine_processes_and_nothing_else() -> None:
    """A host that ends: its engine's process dies, titled or not; others live."""
    host = """
        import subprocess, sys, time
        sys.path.insert(0, sys.argv[1])
        import reaper  # alone: the package around it takes seconds
        sleep = "import time; time.sleep(60)"
        def start(name):
            return subprocess.Popen([sys.executable, "-c", sleep, name]).pid
        mine = start("multiprocessing of the user's")
        with reaper.watched():
            inside = start("VLLM::EngineCore"), start("somebody else's")
            time.sleep(1)
        with reaper.watched():
            print(*inside, start("multiprocessing.spawn"), mine, reaper._watchdog.pid, flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(host), str(Path(reaper.__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    engine, other, young, unmarked, watchdog = (psutil.Process(pid) for pid in pids)
    try:
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs([engine, young, watchdog], timeout=10)
        assert [p for p in alive if p.is_running() and p.status() != "zombie"] == []
        assert other.is_running()
        assert unmarked.is_running()
    finally:
        process.stdout.close()
        for leftover in (engine, other, young, unmarked):
            if leftover.is_running():
                leftover.kill()


HOST = """
import subprocess, sys
engine = [sys.executable, "-c", "import time; time.sleep(60)", "VLLM" "::EngineCore"]
with subprocess.Popen(engine) as process:
    print(process.pid, flush=True)
"""


def test_an_engines_processes_are_those_that_started_with_it() -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", name])

    before = start("VLLM::EngineCore of another engine")
    with reaper.watched() as brood:
        assert reaper.MARK in os.environ
        core, worker, other = start("VLLM::EngineCore"), start("VLLM::Worker"), start("mine")
        host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE)
        assert host.stdout is not None
        hosted = psutil.Process(int(host.stdout.readline()))
    later = start("VLLM::EngineCore of a later engine")
    assert reaper.MARK not in os.environ
    brood.kill("VLLM::Worker")
    assert worker.wait(5) == -9
    assert core.poll() is None
    brood.kill()
    assert core.wait(5) == -9
    assert hosted.is_running()
    assert hosted.status() != psutil.STATUS_ZOMBIE
    hosted.kill()
    host.communicate()
    for process in (before, other, later):
        assert process.poll() is None
        process.kill()
        process.wait()
