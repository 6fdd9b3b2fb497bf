"""How answers are graded: final answers found, compared, and nothing that hangs or leaks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import text

from langchain_glimprouter import ConfigurationError
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
    gym_candidates,
)
from langchain_glimprouter.bench.tasks.workers import Grader

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


def test_boards_keep_their_lines() -> None:
    assert gym_candidates("1 2\n3 4", "1 2\n3 5") == ["1 2\n3 4"]
    assert gym_candidates("It is\n\n**Yes**", "Yes") == ["Yes", "It is\n\n**Yes**"]
    assert gym_candidates(r"\boxed{\text{Yes}}", "Yes") == [r"\text{Yes}", "Yes"]
    assert gym_candidates("", "Yes") == []
