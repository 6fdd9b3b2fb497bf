"""Where a bench's questions come from: splits, real schemas, and users' mistakes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import integers, lists, text

from langchain_glimprouter import ConfigurationError
from langchain_glimprouter.bench.tasks import Grade, Question, find_task
from langchain_glimprouter.bench.tasks.splits import mark, parted
from unit_tests.bench_data import (
    AIME25,
    AIME25_OPENCOMPASS,
    GPQA,
    MATH500,
    aime24,
    function_problem,
    gpqa,
    json_lines,
    packed,
    stdin_problem,
)

ALL = {"calibration": "0"}


def one(name: str, path: Path, **options: str) -> Question:
    return find_task(name, path=path, options={**ALL, **options}).questions(1, 0)[0]


# -- splits --------------------------------------------------------------------------------------


@given(
    texts=lists(text(alphabet="ab c", max_size=3), max_size=40),
    share=st.floats(0.0, 0.9),
    seeds=st.tuples(integers(0, 9), integers(0, 9)),
)
def test_no_text_is_in_both_splits_and_none_is_lost(
    texts: list[str], share: float, seeds: tuple[int, int]
) -> None:
    marked = [(number, mark(one)) for number, one in enumerate(texts)]
    chosen = parted(marked, share, "calibration", seeds[0])
    tested = parted(marked, share, "test", seeds[1])
    assert sorted(chosen + tested) == list(range(len(texts)))
    assert not {marked[number][1] for number in chosen} & {marked[number][1] for number in tested}
    assert len({marked[number][1] for number in chosen}) <= share * len(texts)


def test_the_seed_decides_the_order_and_the_first_stay_the_first(tmp_path: Path) -> None:
    task = find_task("aime24", path=json_lines(tmp_path / "a.jsonl", aime24(20)))
    whole = task.questions(None, 3)
    assert len(whole) == 16
    assert task.questions(5, 3) == whole[:5]
    other = task.questions(None, 4)
    assert other != whole
    assert sorted(q.id for q in other) == sorted(q.id for q in whole)
    held = task.questions(None, 3, "calibration")
    assert len(held) == 4
    assert not {q.id for q in held} & {q.id for q in whole}


def test_the_instruction_moves_no_question_to_the_other_split(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", aime24(20))
    ids = [
        {q.id for q in find_task("aime24", path=path, options=options).questions(None, 0)}
        for options in ({}, {"instruction": "Be brief."}, {"instruction": ""})
    ]
    assert ids[0] == ids[1] == ids[2]


def test_the_order_of_a_file_decides_nothing(tmp_path: Path) -> None:
    rows = aime24(20)
    first = find_task("aime24", path=json_lines(tmp_path / "a.jsonl", rows)).questions(None, 1)
    rows.reverse()
    second = find_task("aime24", path=json_lines(tmp_path / "b.jsonl", rows)).questions(None, 1)
    assert first == second


# -- reasoning-gym -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("gsm_symbolik", {}, r"unknown task 'gsm_symbolik'; did you mean 'gsm_symbolic'\?"),
        ("amie24", {}, r"unknown task 'amie24'; did you mean 'aime24'\?"),
        ("gsm_symbolic?dificulty=2", {}, r"'dificulty'; did you mean 'difficulty'\?"),
        ("gsm_symbolic", {"size": "3"}, r"unknown option of the task 'gsm_symbolic': 'size'"),
        ("chain_sum", {"min_terms": "-3"}, r"'chain_sum\?min_terms=-3' cannot be made: min_terms"),
        ("chain_sum", {"min_terms": "many"}, r"'chain_sum\?min_terms=many' cannot be made"),
        ("aime24", {"calibratoin": "0.5"}, r"'calibratoin'; did you mean 'calibration'\?"),
        ("aime24", {"calibration": "2"}, r"calibration=2 cannot work: .* 0 to 0.9"),
        ("aime24", {"calibration": "nan"}, r"calibration=nan cannot work"),
        (
            "livecodebench",
            {"version": "v7"},
            r"unknown version of LiveCodeBench 'v7'; known: release_v1",
        ),
        ("livecodebench", {"seconds": "0"}, r"seconds=0 cannot work: .* 1 to"),
        ("jsonl", {}, r"--task jsonl needs a file"),
        ("", {}, r"unknown task ''"),
    ],
)
def test_what_does_not_exist_is_refused(name: str, options: Mapping[str, str], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        find_task(name, options=options)


def test_a_path_goes_with_files_only(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", AIME25)
    with pytest.raises(ConfigurationError, match=r"are made, not read: leave it out"):
        find_task("gsm_symbolic", path=path)
    with pytest.raises(ConfigurationError, match=r"give one of them"):
        find_task(str(path), path=path)


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", AIME25)
    for task in (find_task("gsm_symbolic"), find_task("aime25", path=path)):
        with pytest.raises(ConfigurationError, match=rf"count={count} cannot work"):
            task.questions(count, 0)
    with pytest.raises(ConfigurationError, match="has no end"):
        find_task("gsm_symbolic").questions(None, 0)


@pytest.mark.parametrize(
    "name", ["AIME24", "aime_24", "Math-500", "MATH500", "GPQA", "gpqa_diamond"]
)
def test_names_are_read_kindly(name: str, tmp_path: Path) -> None:
    assert find_task(name, path=tmp_path / "later.jsonl").name in {
        "aime24",
        "math500",
        "gpqa-diamond",
    }


def test_without_reasoning_gym_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'langchain-glimprouter\[bench\]'"):
        find_task("gsm_symbolic")
    with pytest.raises(ConfigurationError, match=r"did you mean 'aime25'"):
        find_task("aim25")


# -- real schemas --------------------------------------------------------------------------------


def test_aime_2024(tmp_path: Path) -> None:
    question = one("aime24", json_lines(tmp_path / "a.jsonl", aime24(1)))
    assert question.id == "aime24/60"
    assert question.answer == "000"
    assert question.prompt.startswith("Find the number of pairs $(a,b)$ with $a+b=0$.\n\n")
    assert question.prompt.endswith(r"put your final answer within \boxed{}.")
    assert question.metadata["year"] == "2024"


def test_aime_2025_in_both_editions(tmp_path: Path) -> None:
    editions: list[tuple[list[dict[str, Any]], set[str] | None]] = [
        (AIME25, {"aime25/0", "aime25/1"}),
        (AIME25_OPENCOMPASS, None),
    ]
    for rows, ids in editions:
        task = find_task("aime25", path=json_lines(tmp_path / "a.jsonl", rows), options=ALL)
        found = task.questions(None, 0)
        assert {q.answer for q in found} == {"70", "588"}
        assert ids is None or {q.id for q in found} == ids


def test_math_500(tmp_path: Path) -> None:
    question = one("math500", json_lines(tmp_path / "m.jsonl", MATH500[:1]), instruction="")
    assert question.id == "math500/test/precalculus/807.json"
    assert question.prompt == MATH500[0]["problem"]
    assert dict(question.metadata) == {"subject": "Precalculus", "level": 2}


async def test_gpqa_diamond(tmp_path: Path) -> None:
    path = gpqa(tmp_path / "gpqa_diamond.csv")
    task = find_task("gpqa-diamond", path=path, options=ALL)
    found = {q.id: q for q in task.questions(None, 0)}
    assert len(found) == len(GPQA)
    letters = set()
    for number, row in enumerate(GPQA):
        question = found[f"gpqa-diamond/rec{number:05}"]
        assert f"({question.answer}) top quark {number}\n" in question.prompt + "\n"
        for name in ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"):
            assert row[name].strip() in question.prompt
        assert question.prompt.startswith(row["Question"].strip())
        assert (await task.grade(question, rf"\boxed{{{question.answer}}}")).correct
        wrong = next(letter for letter in "ABCD" if letter != question.answer)
        assert await task.grade(question, f"Answer: {wrong}") == Grade(False, 0.0, wrong)
        letters.add(question.answer)
    assert len(letters) > 1
    again = find_task("gpqa-diamond", path=path, options=ALL).questions(None, 9)
    assert {q.id: q.prompt for q in again} == {q.id: q.prompt for q in found.values()}


def test_livecodebench(tmp_path: Path) -> None:
    rows = [stdin_problem(), function_problem()]
    task = find_task("livecodebench", path=json_lines(tmp_path / "t.jsonl", rows), options=ALL)
    found = {q.id: q for q in task.questions(None, 0)}
    program, method = found["livecodebench/1873_A"], found["livecodebench/2727"]
    assert "# YOUR CODE HERE" in program.prompt
    assert "stdin" in program.prompt
    assert "def appendIt(self, words, number):" in method.prompt
    assert "# YOUR CODE HERE" not in method.prompt
    assert [test.input for test in program.reference.unpacked()] == ["3\n1 2 3\n", "1\n5\n"]
    assert method.reference.function == "appendIt"
    assert [test.arguments() for test in method.reference.unpacked()] == [
        [["ab", "c"], 2],
        [[], 0.5],
    ]
    assert program.metadata["difficulty"] == "easy"


def test_ones_own_file(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "What is 3 + 4?", "answer": 7},
        {"id": "b", "question": "Which word?", "answer": "Ark", "grader": "exact"},
        {"id": "c", "question": "Which?\nA) x\nB) y", "answer": "B", "grader": "choice"},
    ]
    path = json_lines(tmp_path / "mine.jsonl", rows)
    for task in (find_task(str(path), options=ALL), find_task("jsonl", path=path, options=ALL)):
        found = {q.id: q for q in task.questions(None, 0)}
        assert task.name == "mine?calibration=0"
        assert found["b"].reference == "exact"
        assert "letter" in found["c"].prompt
        assert mark("What is 3 + 4?")[:12] in found

    async def grades() -> list[bool]:
        answers = {"b": "It is \\boxed{ark}", "c": "**B**"}
        return [
            (await task.grade(question, answers.get(key, "\\boxed{7.0}"))).correct
            for key, question in found.items()
        ]

    assert asyncio.run(grades()) == [True] * 3


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_other_kinds_of_files(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"aime.{ending}"
    rows = aime24(3)
    match ending:
        case "json":
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        case "csv":
            lines = [",".join(rows[0]), *(",".join(f'"{v}"' for v in r.values()) for r in rows)]
            path.write_text("\n".join(lines), encoding="utf-8-sig")
        case "parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist(rows), path)
    found = find_task("aime24", path=path, options=ALL).questions(None, 0)
    assert sorted((q.id, q.answer) for q in found) == [
        (f"aime24/{60 + number}", f"{number:03}") for number in range(3)
    ]


# -- users' mistakes -----------------------------------------------------------------------------

GOOD = json.dumps({"question": "What is 3 + 4?", "answer": "7"})


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", r"mine\.jsonl holds no questions"),
        ("\n \n", r"mine\.jsonl holds no questions"),
        (f"{GOOD}\n{{'question': 1}}\n", r"mine\.jsonl, line 2: no JSON: Expecting property name"),
        (f"{GOOD}\n\n[1]\n", r"line 3: \[1\] is no JSON object"),
        (f"{GOOD}\n" + "[" * 100_000, r"line 2: no JSON: nested too deeply"),
        ('{"question": "?"}', r"line 1: the field 'answer' is missing; there is question"),
        ('{"answer": "7"}', r"line 1: the field 'question' is missing; there is answer"),
        ('{"question": "", "answer": "7"}', r"line 1: 'question' is empty"),
        ('{"question": "?", "answer": [7]}', r"line 1: 'answer' must be text, not \[7\]"),
        ('{"question": "?", "answer": true}', r"line 1: 'answer' must be text, not true"),
        (
            '{"question": "?", "answer": "7", "grader": "maths"}',
            r"unknown grader in .*line 1: 'maths'; did you mean 'math'\?",
        ),
        (
            '{"question": "?", "answer": "7", "grader": "choice"}',
            r"line 1: 'answer' must be a capital letter for a choice, not '7'",
        ),
        (
            f'{GOOD[:-1]}, "id": 1}}\n\n{GOOD.replace("4", "5")[:-1]}, "id": "1"}}',
            r"line 3: the id '1' is already that of .*line 1; give every question an id",
        ),
        (f"{GOOD}\n{GOOD}\n", r"line 2: the id .* is already that of .*line 1"),
    ],
)
def test_a_malformed_file_tells_the_line(content: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=match):
        find_task(str(path)).questions(None, 0)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (
            "mine.jsonl",
            b'{"question": "\xff"}',
            r"line 1: no text in UTF-8 \(byte 14 of the line\)",
        ),
        ("mine.csv", b"question,answer\n\xff,1\n", r"no text in UTF-8"),
        ("mine.csv", b'question,answer\na,1\n"b\nb",2,3\n', r"line 3: more cells than"),
        ("mine.csv", b"question,answer\na,1\nb\n", r"line 3: the field 'answer' is missing"),
        ("mine.csv", b'question,answer\na,"1\n', r"line 2: no CSV: unexpected end of data"),
        ("mine.csv", b'question,"answer\na,1\n', r"line 1: no CSV: unexpected end of data"),
        ("mine.csv", b"question,answer\n", r"holds no questions"),
        ("mine.json", b"[]", r"is empty"),
        (
            "mine.json",
            b'[{"question": "a", "answer": 1}, {"question": "b"}]',
            r"record 2 .*'answer'",
        ),
        ("mine.parquet", b"PAR0", r"is no Parquet file"),
        ("mine.parquet", b"", r"is no Parquet file"),
        ("mine.txt", b"", r"unknown task"),
    ],
)
def test_other_malformed_files(name: str, content: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=match):
        find_task(str(tmp_path / name)).questions(None, 0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for name, match in (
        ("none.jsonl", r"--data .*none\.jsonl does not exist"),
        ("folder.jsonl", r"--data .*folder\.jsonl: there is no test\.jsonl; give the file itself"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            find_task("math500", path=tmp_path / name).questions(1, 0)
    with pytest.raises(ConfigurationError, match=r"--data .*a\.xml cannot be read: .*\.jsonl"):
        find_task("math500", path=tmp_path / "a.xml").questions(1, 0)


def test_a_folder_is_a_copy_of_the_data_set(tmp_path: Path) -> None:
    json_lines(tmp_path / "test.jsonl", MATH500)
    json_lines(tmp_path / "test5.jsonl", [stdin_problem()])
    json_lines(tmp_path / "test6.jsonl", [function_problem()])
    assert len(find_task("math500", path=tmp_path, options=ALL).questions(None, 0)) == 2
    newest = find_task("livecodebench", path=tmp_path, options=ALL).questions(None, 0)
    assert [q.id for q in newest] == ["livecodebench/2727"]
    options = {**ALL, "version": "v5"}
    older = find_task("livecodebench", path=tmp_path, options=options).questions(None, 0)
    assert [q.id for q in older] == ["livecodebench/1873_A"]
    with pytest.raises(ConfigurationError, match=r"there is no test2\.jsonl"):
        options = {"version": "release_v6"}
        find_task("livecodebench", path=tmp_path, options=options).questions(None, 0)
    with pytest.raises(ConfigurationError, match=r"version=v5 chooses among files, but --data"):
        find_task("livecodebench", path=tmp_path / "test5.jsonl", options={"version": "v5"})
    with pytest.raises(ConfigurationError, match=r"unknown option .* 'revision'"):
        find_task("math500", path=tmp_path, options={"revision": "main"})
    (tmp_path / "mine.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match=r"is a folder: give a file"):
        find_task(str(tmp_path / "mine.jsonl")).questions(1, 0)


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigurationError, match=r"pip install pyarrow, or .* JSON Lines"):
        find_task("aime24", path=tmp_path / "a.parquet").questions(1, 0)


@pytest.mark.parametrize(
    ("count", "split", "match"),
    [
        (9, "test", r"9 questions .* aime24 has 8 in its test split, of 10 in all: ask for fewer"),
        (3, "calibration", r"3 questions .* has 2 in its calibration split, of 10 in all"),
    ],
)
def test_more_questions_than_there_are(count: int, split: Any, match: str, tmp_path: Path) -> None:
    task = find_task("aime24", path=json_lines(tmp_path / "a.jsonl", aime24(10)))
    with pytest.raises(ConfigurationError, match=match):
        task.questions(count, 0, split)
    assert len(task.questions(count - 1, 0, split)) == count - 1


def test_an_empty_calibration_split_is_no_silent_nothing(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", aime24(10))
    task = find_task("aime24", path=path, options=ALL)
    with pytest.raises(ConfigurationError, match=r"has 0 in its calibration split, of 10"):
        task.questions(None, 0, "calibration")


BAD = {"input": "1", "testtype": "stdin"}


class Evil:
    """A pickle of it runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"question_content": None}, r"line 1: the field 'question_content' is missing"),
        ({"public_test_cases": "[{"}, r"line 1: 'public_test_cases' is no JSON"),
        ({"public_test_cases": "3"}, r"'public_test_cases' must hold a list of tests"),
        ({"private_test_cases": json.dumps([BAD])}, r"test without 'input' or 'output'"),
        ({"private_test_cases": "!"}, r"'private_test_cases' cannot be unpacked"),
        ({"private_test_cases": "eJw="}, r"'private_test_cases' cannot be unpacked: .*cut off"),
        ({"private_test_cases": packed([])[:12]}, r"'private_test_cases' cannot be unpacked"),
        ({"metadata": "{"}, r"'metadata' is no JSON"),
        (
            {"private_test_cases": packed([{**BAD, "output": "1", "testtype": "functional"}])},
            r"a test calls a function, but 'metadata' has no 'func_name'",
        ),
        ({"metadata": '{"func_name": "f"}'}, r"a test of 'f' is no JSON"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, r"there is not one test"),
    ],
)
def test_malformed_problems_of_livecodebench(
    changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    path = json_lines(tmp_path / "t.jsonl", [stdin_problem(**changes)])
    with pytest.raises(ConfigurationError, match=match):
        find_task("livecodebench", path=path, options=ALL).questions(1, 0)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    import base64
    import pickle
    import zlib

    data = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    path = json_lines(tmp_path / "t.jsonl", [stdin_problem(private_test_cases=data)])
    with pytest.raises(ConfigurationError, match=r"cannot be unpacked: it holds a builtins\.exec"):
        find_task("livecodebench", path=path, options=ALL).questions(1, 0)


# -- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache in an empty folder, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_files_come_from_the_hubs_cache(hub: Path) -> None:
    commit = "0" * 40
    data_set = hub / "datasets--HuggingFaceH4--MATH-500"
    (data_set / "snapshots" / commit).mkdir(parents=True)
    (data_set / "refs").mkdir()
    (data_set / "refs" / "main").write_text(commit)
    json_lines(data_set / "snapshots" / commit / "test.jsonl", MATH500)
    found = find_task("math500", options=ALL).questions(None, 0)
    assert {q.answer for q in found} == {row["answer"] for row in MATH500}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["aime24", "aime25", "math500", "gpqa-diamond", "livecodebench"])
def test_without_a_network_the_way_out_is_told(name: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"cannot be had .*: try again with a network, or get \S+ from https://huggingface\.co/"
        r"datasets/\S+ yourself and give its place \(--data\)",
    ):
        find_task(name).questions(1, 0)


def test_without_the_hubs_library_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ConfigurationError, match=r"pip install huggingface-hub, or get test\.jsonl"
    ):
        find_task("math500").questions(1, 0)


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            "GatedRepoError",
            r"gpqa is gated: accept its terms at https://\S+gpqa, log in with 'hf auth",
        ),
        ("RepositoryNotFoundError", r"gpqa is not on the hub, or private"),
        ("RevisionNotFoundError", r"has no revision 'old'"),
        ("RemoteEntryNotFoundError", r"has no file 'gpqa_diamond\.csv'"),
        ("HfHubHTTPError", r"cannot be had \(503 Server Error"),
    ],
)
def test_what_the_hub_may_say(error: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    import huggingface_hub
    from huggingface_hub import errors

    def says(*args: object, **options: object) -> str:
        request = httpx2.Request("HEAD", "https://huggingface.co/datasets/x")
        response = httpx2.Response(503, request=request)
        raise getattr(errors, error)("503 Server Error\nand more", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", says)
    with pytest.raises(ConfigurationError, match=match):
        find_task("gpqa-diamond", options={"revision": "old"}).questions(1, 0)
