"""Graders in guarded processes: nothing that an answer holds hangs, leaks or does harm."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from langchain_glimprouter.bench.tasks import Grade, find_task
from langchain_glimprouter.bench.tasks.grading import (
    grade_gym,
    grade_maths,
)
from langchain_glimprouter.bench.tasks.workers import GYM, MATHS, Grader
from unit_tests.models import settles


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("33", r"\boxed{033}"),
        ("033", r"It is \boxed{33}."),
        ("70", "The final answer is $70$."),
        (r"\frac{14}{3}", r"\boxed{\dfrac{28}{6}}"),
        ("0.5", r"\boxed{\frac12}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
        (r"6 - 5i", r"\boxed{-5i + 6}"),
        ("p - q", r"\boxed{-q + p}"),
        (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}"),
        (r"90^\circ", r"\boxed{90}"),
        (r"x \in [-2,7]", r"\boxed{[-2,7]}"),
        (r"2\sqrt{113}", r"\boxed{\sqrt{452}}"),
        ("10,080", r"\boxed{10080}"),
        ("1,-2", r"\boxed{-2, 1}"),
        (r"\$18.90", r"\boxed{18.9}"),
    ],
)
async def test_maths_is_compared_by_value(reference: str, answer: str) -> None:
    grade = await grade_maths(reference, answer)
    assert grade.correct, grade
    assert grade.score == 1.0
    assert grade.extracted
    assert grade.error is None


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("33", r"\boxed{34}"),
        ("33", r"\boxed{33} or rather \boxed{34}"),
        (r"\frac{14}{3}", r"\boxed{4.67}"),
        ("p - q", r"\boxed{q - p}"),
        (r"\text{Evelyn}", r"\boxed{\text{Carla}}"),
    ],
)
async def test_maths_that_is_wrong(reference: str, answer: str) -> None:
    grade = await grade_maths(reference, answer)
    assert not grade.correct
    assert grade.score == 0.0
    assert grade.extracted


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("", "there is no answer"),
        (" \n", "there is no answer"),
        ("I don't know.", "finds no answer"),
    ],
)
async def test_no_answer_is_wrong_and_says_so(answer: str, match: str) -> None:
    grade = await grade_maths("33", answer)
    assert (grade.correct, grade.score, grade.extracted) == (False, 0.0, None)
    assert match in (grade.error or "")


async def test_a_parse_error_is_wrong_and_kept() -> None:
    grade = await grade_maths("33", r"\boxed{\frac{1}{}^{_}}")
    assert not grade.correct
    assert grade.extracted == r"\frac{1}{}^{_}"


@pytest.mark.parametrize("answer", [r"\boxed{9^{9^{9^{9^{9}}}}}", r"\boxed{(10!)!!}"])
async def test_what_would_take_for_ever_ends(answer: str) -> None:
    grader = Grader("maths", seconds=3.0)
    try:
        began = time.monotonic()
        found = await asyncio.to_thread(grader.grade, "5", answer)
        assert found.score == 0.0
        assert time.monotonic() - began < 100
        assert (await asyncio.to_thread(grader.grade, "5", r"\boxed{10/2}")).score == 1.0
    finally:
        grader.close()


def test_maths_from_threads_of_one_process() -> None:
    grades: list[Grade] = []

    def work(number: int) -> None:
        grades.append(asyncio.run(grade_maths(str(number), rf"\boxed{{{2 * number}/2}}")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [grade.correct for grade in grades] == [True] * 4


def test_a_grader_that_dies_is_started_again() -> None:
    grader = Grader("maths")
    try:
        assert grader.grade("5", r"\boxed{10/2}").score == 1.0
        process = grader._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert grader.grade("5", r"\boxed{10/2}").score == 1.0
        assert grader._process is not process
        busy = grader._process
        assert busy is not None
        killer = threading.Timer(0.5, os.kill, (busy.pid, signal.SIGKILL))
        killer.start()
        found = grader.grade("5", r"\boxed{9^{9^{9^{9^{9}}}}}")
        killer.join()
        assert found.score == 0.0
        assert grader.grade("5", r"\boxed{10/2}").score == 1.0
    finally:
        grader.close()
    assert grader._process is None


def test_a_closed_grader_leaves_no_process() -> None:
    grader = Grader("maths")
    grader.grade("5", "5")
    assert grader._process is not None
    child = psutil.Process(grader._process.pid)
    grader.close()
    assert not child.is_running()


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("gsm_symbolic", r"So the total is \boxed{{{answer}}} dollars."),
        ("gsm_symbolic", "Adding 1 and 2 …\n\nThe answer is {answer}."),
        ("gsm_symbolic", "It is {answer}"),
        ("chain_sum", r"\boxed{{{answer}}}"),
        ("dice", "The chance is {answer}."),
        ("decimal_arithmetic", r"$$x = \boxed{{{answer}}}$$"),
        ("leg_counting", "{answer} legs"),
        ("spiral_matrix", r"\boxed{{{answer}}}"),
        ("word_sorting", "Sorted:\n\n{answer}"),
        ("coin_flip", r"\boxed{{{answer}}}"),
        ("game_of_life", "<answer>{answer}</answer>"),
    ],
)
async def test_right_answers_are_right(name: str, reads: str) -> None:
    task = find_task(name)
    for question in task.questions(3, 5):
        grade = await task.grade(question, reads.format(answer=question.answer))
        assert grade.correct, (question.answer, grade)
        assert grade.error is None


async def test_wrong_numbers_are_wrong() -> None:
    task = find_task("gsm_symbolic")
    for question in task.questions(5, 5):
        for answer in (f"\\boxed{{{float(question.answer) + 1}}}", "I cannot tell.", ""):
            grade = await task.grade(question, answer)
            assert not grade.correct
            assert grade.score < 1.0
    assert grade.error == "there is no answer"


async def test_only_the_stated_number_counts() -> None:
    """A set that takes the first number it finds must not find the right one beside it."""
    task = find_task("gsm_symbolic")
    (question,) = task.questions(1, 5)
    right = question.answer
    for answer in (
        rf"\boxed{{{right} + 1 = 999999}}",
        rf"\boxed{{{right}/7}}",
        f"{right} or 12345",
    ):
        assert not (await task.grade(question, answer)).correct
    for answer in (rf"\boxed{{\frac{{2 * {right}}}{{2}} = {right}}}", rf"\boxed{{\${right}.00}}"):
        assert (await task.grade(question, answer)).correct


async def test_large_numbers_with_commas_are_read_whole() -> None:
    task = find_task("chain_sum?min_digits=7&max_digits=7")
    for question in task.questions(3, 5):
        number = int(question.answer)
        assert (await task.grade(question, rf"\boxed{{{number:,}}}")).correct
        assert (await task.grade(question, f"**Answer:** ${number:,}$.")).correct


async def test_several_answers_may_be_right() -> None:
    """Countdown asks for any expression; another one than the reference counts as well."""
    task = find_task("countdown")
    (question,) = task.questions(1, 5)
    grade = await task.grade(question, rf"\boxed{{0 + ({question.answer}) - 0}}")
    assert not grade.correct  # zeros are not among the numbers
    grade = await task.grade(question, rf"\boxed{{(({question.answer}))}}")
    assert grade.correct


@pytest.mark.parametrize(
    "answer",
    [
        "open({file!r}, 'w').write('x')",
        "__import__('os').system('touch {file}')",
        "__import__('subprocess').run(['touch', {file!r}])",
        "__import__('os').remove({kept!r})",
    ],
)
async def test_an_answer_that_is_evaluated_does_no_harm(answer: str, tmp_path: Path) -> None:
    """`spiral_matrix` passes answers to `eval`."""
    file, kept = tmp_path / "made", tmp_path / "kept"
    kept.touch()
    task = find_task("spiral_matrix")
    (question,) = task.questions(1, 5)
    grade = await task.grade(
        question, "<answer>" + answer.format(file=str(file), kept=str(kept)) + "</answer>"
    )
    assert not grade.correct
    assert not file.exists()
    assert kept.exists()
    assert (await task.grade(question, question.answer)).correct


async def test_an_answer_that_never_ends_is_wrong() -> None:
    seconds = GYM._seconds
    task = find_task("spiral_matrix")
    (question,) = task.questions(1, 5)
    assert (await task.grade(question, question.answer)).correct
    try:
        GYM._seconds = 2.0
        grade = await task.grade(question, "<answer>[x for x in iter(int, 1)]</answer>")
    finally:
        GYM._seconds = seconds
    assert not grade.correct
    assert "took longer than 2 s" in (grade.error or "")
    assert (await task.grade(question, question.answer)).correct


async def test_a_data_set_that_fails_is_told() -> None:
    grade = await grade_gym(
        "gsm_symbolic", {"seed": 1, "size": 5}, {"answer": "3"}, "<answer>a</answer>"
    )
    assert not grade.correct
    broken = await grade_gym("no_such_set", {}, {"answer": "3"}, "3")
    assert "no_such_set" in (broken.error or "")


def test_graders_end_with_their_process(tmp_path: Path) -> None:
    """A bench that is killed leaves no grader, even one at work."""
    import subprocess
    import sys

    script = (
        "import threading, time\n"
        "from langchain_glimprouter.bench.tasks.workers import MATHS\n"
        "MATHS.grade('5', '5')\n"
        "print(MATHS._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    grader = psutil.Process(int(host.stdout.readline()))
    assert grader.is_running()
    host.kill()
    host.wait()
    host.stdout.close()
    assert settles(lambda: not grader.is_running() or grader.status() == psutil.STATUS_ZOMBIE, 10)


def test_the_shared_graders_are_of_their_kinds() -> None:
    assert MATHS.grade("1/2", r"\boxed{0.5}").score == 1.0
    assert GYM._kind == "gym"
