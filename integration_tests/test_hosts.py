"""No engine outlives its host, however that ends.

Each host is a fresh process with an engine of its own, which takes most of a minute to import and
start. They live beside the first tests (see `hosts`); what became of them is judged here, and in
`test_graph`, where a killed host's thought goes on.
"""

from __future__ import annotations

import signal

from integration_tests.hosts import Ended


def check_killed(host: Ended) -> None:
    """Killed without a word, with its engine's processes and a watchdog, of which none is left."""
    assert host.code == -signal.SIGKILL
    assert any("reaper" in command for command in host.family)
    assert len(host.family) >= 3
    assert host.left == []


def test_no_process_outlives_a_host_killed_as_it_starts(killed_as_it_starts: Ended) -> None:
    check_killed(killed_as_it_starts)
    assert any("spawn_main" in command for command in killed_as_it_starts.family)


def test_no_process_outlives_a_host_killed_as_it_writes(killed_in_mid_thought: Ended) -> None:
    check_killed(killed_in_mid_thought)
    assert any("VLLM::EngineCore" in command for command in killed_in_mid_thought.family)


def test_ctrl_c_leaves_no_engine_behind(interrupted: Ended) -> None:
    assert len(interrupted.stdout) >= 200, interrupted.stderr  # it wrote
    assert any("VLLM::EngineCore" in command for command in interrupted.family)
    assert interrupted.code == 130
    assert interrupted.seconds < 15
    assert interrupted.left == []


def test_a_script_that_ends_leaves_no_engine_behind(finished: Ended) -> None:
    assert finished.code == 0, finished.stderr
    assert "H=" in finished.stdout
    assert "answer:" in finished.stdout
    assert "Traceback" not in finished.stderr
    assert len(finished.family) >= 3
    assert finished.left == []
