"""Runs the command `glimprouter` within the test's own process."""

from __future__ import annotations

import functools
from typing import Any

import typer.testing
from typer.testing import CliRunner, Result

from langchain_glimprouter.cli import app

# Typer would build the command anew for every call, which takes longer than most tests of it.
_testing: Any = typer.testing
_testing._get_command = functools.cache(_testing._get_command)


def run(*arguments: object, columns: int = 200) -> Result:
    """Run `glimprouter` with these arguments, on a terminal of so many columns."""
    command = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, command, env={"COLUMNS": str(columns)})
