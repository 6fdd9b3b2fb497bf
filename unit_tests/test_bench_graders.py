"""How answers are graded: final answers found, compared, and nothing that hangs or leaks."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis.strategies import text

from langchain_glimprouter import ConfigurationError
from langchain_glimprouter.bench.tasks import Grade, find_task
from langchain_glimprouter.bench.tasks.extract import (
    boxed,
    choice,
    fenced_code,
    final_answer,
    first_number,
    last_number,
    plain,
    same_text,
)
from langchain_glimprouter.bench.tasks.grading import (
    grade_choice,
    grade_exact,
    grade_gym,
    grade_maths,
    gym_candidates,
)
from langchain_glimprouter.bench.tasks.workers import GYM, MATHS, Grader
from unit_tests.models import settles

# -- finding the final answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (r"Mia gets \boxed{8} dollars back.", "8"),
        (r"\boxed{3} at first, then \boxed{\frac{14}{3}}.", r"\frac{14}{3}"),
        (r"\boxed{\left\{1, \{2\}\right\}}", r"\left\{1, \{2\}\right\}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{x \text{ of \boxed{7}", "7"),
        (r"} \boxed{7}", "7"),
        (r"\\boxed{7", None),
        (r"\fbox{7}", "7"),
        (r"It is \boxed{5} and then \boxed{6", "5"),
        (r"\boxed{a \} b}", r"a \} b"),
        ("<answer> 12\n13 </answer>", "12\n13"),
        ("So 48 + 24 = 72.\n#### 72", "72"),
        ("The final answer is 42.", "42"),
        ("The answer is: **3.5**. Check it.", "3.5"),
        ("**Answer:** $x = 4$", "$x = 4$"),
        ("**Final Answer**\n\n**Answer**:\n17", "17"),
        ("The answer is 3. No, wait: the answer is 4.", "4"),
        ("There are 12 apples left.", None),
        ("", None),
    ],
)
def test_the_final_answer_is_found(written: str, found: str | None) -> None:
    assert final_answer(written) == found


@given(text(alphabet=r"\boxed{} a1", max_size=40))
def test_a_box_is_found_whatever_stands_around(inner: str) -> None:
    found = boxed(inner + r" \boxed{ 5 } and more")
    assert found == "5"
    assert boxed(inner) is None or "boxed" in inner


@pytest.mark.parametrize(
    "unit",
    [
        r"\boxed{",
        "<answer>",
        "The answer is ",
        "answer **",
        "{",
        "}",
        "\\frac{",
        "1,",
        "\n",
        "(",
        "a",
    ],
)
async def test_a_model_that_repeats_itself_stops_no_grader(unit: str) -> None:
    began = time.process_time()
    answer = unit * 40_000
    assert not (grade_exact("the ark", answer)).correct
    assert not grade_choice("B", answer, "ABCD").correct
    gym_candidates(answer[-20_000:], "42")
    gym_candidates(answer[-20_000:], "the ark")
    fenced_code(answer)
    fenced_code("```python\n" * 40_000)
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("8", "8"),
        ("1,234,567", "1234567"),
        (r"1{,}234", "1234"),
        (r"\$1,250.50", "1250.50"),
        (r"42 \text{ dollars}", "42"),
        (r"x = 6 \times 7 = 42", "42"),
        ("6 * 7 = 42 km", "42"),
        ("42, since 6 * 7 = 42", "42"),
        (r"\frac{7}{2}", "7/2"),
        (r"\dfrac12", "1/2"),
        ("−5", "-5"),
        ("+7", "7"),
        (r"75\%", "75"),
        (r"90^\circ", "90"),
        (r"\text{18 apples}", "18"),
        ("3, 4", "3"),
        ("1/0", "1/0"),
        ("none", None),
    ],
)
def test_a_stated_number_is_read(written: str, number: str | None) -> None:
    assert first_number(written) == number


@pytest.mark.parametrize(
    ("written", "number"),
    [("He has 3 bags with 5 each, so 15 apples.", "15"), ("It is 1,000.", "1000"), ("None.", None)],
)
def test_the_last_number_is_read(written: str, number: str | None) -> None:
    assert last_number(written) == number


def test_dress_is_taken_off() -> None:
    assert plain(r"\left(3, \frac{\pi}{2}\right)") == r"(3, \pi/2)"
    assert plain(r"\text{Evelyn}") == "Evelyn"
    assert same_text(r"\text{Evelyn}", "evelyn")
    assert same_text(r"\textbf{(073)}", "073")
    assert not same_text("(1, 2)", "1, 2")
    assert not same_text("", r"\text{}")


@pytest.mark.parametrize(
    ("written", "letter"),
    [
        (r"So \boxed{B}.", "B"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{\mathbf{D}}", "D"),
        (r"\boxed{A) 10 m/s}", "A"),
        (r"\boxed{b}", "B"),
        ("The correct answer is (C).", "C"),
        ("Answer: D", "D"),
        ("**Answer: A**", "A"),
        ("The answer is option B because of it.", "B"),
        ("I am sure.\n\n**B**", "B"),
        (r"\boxed{\text{blue whale}}", "D"),
        (r"\boxed{E}", None),
        ("The answer is Ants.", None),
        ("A lot of it is unclear.", None),
        ("", None),
    ],
)
def test_a_choice_is_read(written: str, letter: str | None) -> None:
    found = choice(written, "ABCD", ["ant", "bee", "cat", "Blue Whale"])
    if written.startswith("A lot"):  # an article, or a choice: nobody can tell
        return
    assert found == letter


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("```python\nprint(1)\n```\nBetter:\n```python\nprint(2)\n```\n", "print(2)\n"),
        ("```python\nprint(1)\n```\nIt prints:\n```\n1\n```", "print(1)\n"),
        ("```python\nprint(1)\n```\n```cpp\nint x;\n```", "print(1)\n"),
        ("```\nprint(1)\n```", "print(1)\n"),
        ("~~~py\nprint(1)\n~~~", "print(1)\n"),
        ("1. So:\n   ```Python\n   if x:\n       print(1)\n   ```\n", "if x:\n    print(1)\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("```python\nprint(1)", "print(1)"),
        ("```python\n\n```", None),
        ("print(1)", None),
        ("```cpp\nint x;\n```", None),
    ],
)
def test_code_is_the_last_block_of_python(written: str, code: str | None) -> None:
    assert fenced_code(written) == code


# -- maths ---------------------------------------------------------------------------------------


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


def test_a_grader_without_its_library_tells_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("print('\"grading needs math_verify\"', flush=True)")
    monkeypatch.setattr("langchain_glimprouter.bench.tasks.workers._WORKER", worker)
    grader = Grader("maths")
    with pytest.raises(ConfigurationError, match=r"needs math_verify: pip install 'langchain"):
        grader.grade("5", "5")
    assert grader._process is None


# -- exact ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        (r"\boxed{the Ark}", True),
        ("Some thought.\n\n**The  ark**", True),
        ("The answer is the ark.", True),
        (r"\boxed{an ark}", False),
    ],
)
def test_exact_answers(answer: str, correct: bool) -> None:
    assert grade_exact("The Ark", answer).correct is correct


# -- reasoning-gym -------------------------------------------------------------------------------


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


def test_boards_keep_their_lines() -> None:
    assert gym_candidates("1 2\n3 4", "1 2\n3 5") == ["1 2\n3 4"]
    assert gym_candidates("It is\n\n**Yes**", "Yes") == ["Yes", "It is\n\n**Yes**"]
    assert gym_candidates(r"\boxed{\text{Yes}}", "Yes") == [r"\text{Yes}", "Yes"]
    assert gym_candidates("", "Yes") == []


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
