"""Small data sets in the real ones' own schemas, made by hand."""

from __future__ import annotations

import base64
import csv
import json
import pickle
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def aime24(count: int = 10) -> list[dict[str, Any]]:
    """HuggingFaceH4/aime_2024."""
    return [
        {
            "id": 60 + number,
            "problem": f"Find the number of pairs $(a,b)$ with $a+b={number}$.",
            "solution": f"There are {number:03}. $\\boxed{{{number:03}}}$",
            "answer": f"{number:03}",
            "url": f"https://artofproblemsolving.com/wiki/index.php/2024_AIME_I_Problems/Problem_{number}",
            "year": "2024",
        }
        for number in range(count)
    ]


AIME25: list[dict[str, Any]] = [  # math-ai/aime25
    {"problem": "Find the sum of all integer bases $b>9$ …", "answer": "70", "id": "0"},
    {"problem": "On $\\triangle ABC$ points $A,D,E$ …", "answer": "588", "id": "1"},
]
AIME25_OPENCOMPASS: list[dict[str, Any]] = [  # opencompass/AIME2025
    {"question": "Find the sum of all integer bases $b>9$ …", "answer": "70"},
    {"question": "On $\\triangle ABC$ points $A,D,E$ …", "answer": "588"},
]
MATH500 = [  # HuggingFaceH4/MATH-500
    {
        "problem": "Convert the point $(0,3)$ in rectangular coordinates to polar coordinates.",
        "solution": "We have that $r = 3$ … $\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}.$",
        "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
        "subject": "Precalculus",
        "level": 2,
        "unique_id": "test/precalculus/807.json",
    },
    {
        "problem": "Which student has the greatest average speed?",
        "solution": "Evelyn … $\\boxed{\\text{Evelyn}}$",
        "answer": "\\text{Evelyn}",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/1349.json",
    },
]
GPQA = [  # Idavidrein/gpqa, a few of its 60 columns
    {
        "Pre-Revision Question": "Which particle?",
        "Question": f"Which particle, of set {number},\nis the heaviest?\n",
        "Correct Answer": f"top quark {number}",
        "Incorrect Answer 1": f'the "charm", {number}',
        "Incorrect Answer 2": f"electron {number}\n",
        "Incorrect Answer 3": f"muon {number}",
        "Explanation": "It weighs 173 GeV.",
        "Subdomain": "High-energy particle physics",
        "High-level domain": "Physics",
        "Record ID": f"rec{number:05}",
    }
    for number in range(8)
]


def gpqa(path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, list(GPQA[0]))
        rows.writeheader()
        rows.writerows(GPQA)
    return path


def packed(tests: object) -> str:
    """Tests as LiveCodeBench packs its private ones."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def stdin_problem(**changes: Any) -> dict[str, Any]:
    """A problem of livecodebench/code_generation_lite, to be read from stdin."""
    public = [{"input": "3\n1 2 3\n", "output": "6\n", "testtype": "stdin"}]
    private = [{"input": "1\n5\n", "output": "5\n", "testtype": "stdin"}]
    return {
        "question_title": "A. Sum",
        "question_content": "You are given n numbers. Print their sum.",
        "platform": "codeforces",
        "question_id": "1873_A",
        "contest_id": "1873",
        "contest_date": "2023-08-21T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(public),
        "private_test_cases": packed(private),
        "metadata": "{}",
        **changes,
    }


def function_problem(**changes: Any) -> dict[str, Any]:
    """A problem of livecodebench/code_generation_lite, to be solved by a method."""
    public = [{"input": '["ab", "c"]\n2', "output": '["ab", "c", 2]', "testtype": "functional"}]
    private = [{"input": "[]\n0.5", "output": "[0.5]", "testtype": "functional"}]
    return (
        stdin_problem(
            question_title="append-it",
            question_content="Append the number to the list.",
            platform="leetcode",
            question_id="2727",
            starter_code="class Solution:\n    def appendIt(self, words, number):\n        ",
            public_test_cases=json.dumps(public),
            private_test_cases=json.dumps(private),
            metadata=json.dumps({"func_name": "appendIt"}),
        )
        | changes
    )
