"""LiveCodeBench (arXiv 2403.07974): programming problems, graded by running the code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from langchain_glimprouter.bench.tasks.base import Grade, Question
from langchain_glimprouter.bench.tasks.code_tests import CodeTests, same_output, same_result
from langchain_glimprouter.bench.tasks.extract import fenced_code
from langchain_glimprouter.bench.tasks.file_task import FileTask
from langchain_glimprouter.bench.tasks.hub import HubFiles
from langchain_glimprouter.bench.tasks.sandbox.run import Limits, run_program
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.names import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_glimprouter.bench.tasks.records import Record

_REPO = "livecodebench/code_generation_lite"
_FILES = ("test.jsonl", *(f"test{number}.jsonl" for number in range(2, 7)))
_VERSIONS = {
    **{f"v{number}": (file,) for number, file in enumerate(_FILES, start=1)},
    **{f"release_v{number}": _FILES[:number] for number in range(1, len(_FILES) + 1)},
}
"""As the data set names them: `v6` is what the sixth release added, `release_v6` all of it."""

# lcb_runner/prompts/code_generation.py
_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and "
    "will generate a correct Python program that matches the specification and passes all tests."
)
_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your "
    "code within delimiters."
)
_PROGRAM = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
    "test on the sample inputs). Enclose your code within delimiters as follows. Ensure that when "
    "the python program runs, it reads the inputs, runs the algorithm and writes output to STDOUT."
)


class LiveCodeBench(FileTask):
    """Programming problems; an answer is right if its code passes all tests.

    Options beside those of `FileTask`: `version` (`v6` by default; also `release_v6` and others),
    `seconds` of processor time and `memory` in GiB for each test.
    """

    own_options: ClassVar[tuple[str, ...]] = ("version", "seconds", "memory")

    def __init__(self, path: Path | None, options: Mapping[str, str]) -> None:
        version = options.get("version", "v6")
        if version not in _VERSIONS:
            raise unknown("version of LiveCodeBench", version, _VERSIONS)
        if "version" in options and path is not None and path.is_file():
            msg = f"--task-option version={version} chooses among files, but --data {path} is one"
            raise ConfigurationError(msg)
        hub = HubFiles(_REPO, _VERSIONS[version], options.get("revision"))
        super().__init__("livecodebench", path, options, hub)
        defaults = Limits()
        seconds = self._options.number("seconds", defaults.cpu_seconds, 1, 3600)
        gibibytes = self._options.number("memory", defaults.memory_bytes / 2**30, 0.25, 1024)
        self._limits = Limits(
            cpu_seconds=math.ceil(seconds),
            wall_seconds=3 * seconds + 2,  # the machine may be busy
            memory_bytes=int(gibibytes * 2**30),
        )

    def text(self, record: Record) -> str:
        """Return what a row asks; see `FileTask`."""
        return record.text("question_content")

    def question(self, record: Record) -> Question:
        """Return the question of a row; see `FileTask`."""
        content = self.text(record)
        starter = str(record.fields.get("starter_code") or "")
        form = (
            f"{_STARTER}\n```python\n{starter}\n```"
            if starter.strip()
            else (f"{_PROGRAM}\n```python\n# YOUR CODE HERE\n```")
        )
        ending = self.instruction("### Answer: (use the provided format with backticks)")
        return Question(
            id=f"livecodebench/{record.text('question_id')}",
            prompt=f"{_SYSTEM}\n\n### Question:\n{content}\n\n### Format: {form}{ending}",
            answer="",
            metadata=record.pick("question_title", "platform", "difficulty", "contest_date"),
            reference=CodeTests.of(record),
        )

    async def grade(self, question: Question, answer: str) -> Grade:
        """Run the answer's code on all tests, up to the first that fails; see `Task`."""
        code = fenced_code(answer)
        if code is None:
            return Grade(False, 0.0, None, "it holds no block of code")
        tests: CodeTests = question.reference
        unpacked = tests.unpacked()
        for number, test in enumerate(unpacked, start=1):
            if tests.function is None:
                done = await run_program(code, stdin=test.input, limits=self._limits)
                passed = same_output(done.output, test.output)
            else:
                done = await run_program(
                    code, function=tests.function, arguments=test.arguments(), limits=self._limits
                )
                passed = same_result(done.output, test.output)
            if done.error is not None or not passed:
                why = done.error or "wrong output"
                return Grade(False, 0.0, code, f"test {number} of {len(unpacked)}: {why}")
        return Grade(True, 1.0, code)
