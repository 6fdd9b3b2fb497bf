"""Questions of reasoning-gym, which a process of their own makes: the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from langchain_glimprouter import ConfigurationError
from langchain_glimprouter.bench.questions import reasoning_gym_questions
from langchain_glimprouter.bench.tasks import find_task
from langchain_glimprouter.bench.tasks.splits import half


@pytest.mark.parametrize("name", ["gsm_symbolic", "word_ladder", "coin_flip?max_trials=9"])
def test_splits_of_reasoning_gym_share_no_text(name: str) -> None:
    task = find_task(name)
    texts = {
        split: [q.prompt for q in task.questions(10, seed, split)]  # type: ignore[arg-type]
        for split, seed in (("test", 7), ("calibration", 8))
    }
    assert not set(texts["test"]) & set(texts["calibration"])
    assert len(set(texts["test"])) == len(set(texts["calibration"])) == 10


def test_questions_of_reasoning_gym_are_the_same_every_time() -> None:
    task = find_task("gsm_symbolic")
    first = task.questions(4, 7)
    assert find_task("gsm_symbolic").questions(6, 7)[:4] == first
    assert task.questions(4, 8) != first
    assert [q.id for q in first] == sorted(
        {q.id for q in first}, key=lambda id: int(id.split("-")[1])
    )
    assert all(half(q.reference[1]["question"]) == "test" for q in first)


def test_questions_are_the_same_in_every_process() -> None:
    """In this one and another, also those of sets that depend on the hashes of strings."""
    names = ("ransom_note", "isomorphic_strings", "polynomial_multiplication")
    script = (
        "import json\n"
        "from langchain_glimprouter.bench.tasks import find_task\n"
        f"questions = [q.prompt for name in {names} for q in find_task(name).questions(3, 1)]\n"
        "print(json.dumps(questions), hash('a'))\n"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    )
    said, _, other = done.stdout.rpartition(" ")
    assert int(other) != hash("a")
    questions = [q.prompt for name in names for q in find_task(name).questions(3, 1)]
    assert json.loads(said) == questions
    assert len(questions) == 9
    assert sum(map(len, questions)) > 1000


def test_questions_for_timings_are_the_first_and_bare() -> None:
    bare = reasoning_gym_questions("gsm_symbolic", 3, 7)
    assert [q.id for q in bare] == [f"gsm_symbolic/7-{number}" for number in range(3)]
    assert all("boxed" not in q.prompt for q in bare)
    assert all(q.prompt.strip() and q.answer for q in bare)


def test_options_of_a_data_set_may_stand_in_its_name() -> None:
    task = find_task("chain_sum?min_terms=7&max_terms=7", options={"min_digits": "1"})
    assert task.name == "chain_sum?max_terms=7&min_digits=1&min_terms=7"
    assert all(q.prompt.count("+") + q.prompt.count(" - ") >= 6 for q in task.questions(5, 0))


def test_a_data_set_with_few_questions_says_how_many() -> None:
    task = find_task("coin_flip?min_trials=3&max_trials=3")
    there = 0
    with pytest.raises(
        ConfigurationError, match=r"5000 questions .* has only \d+ that differ"
    ) as no:
        task.questions(5000, 0)
    there = int(str(no.value).split("has only ")[1].split()[0])
    assert len(task.questions(there, 0)) == there
