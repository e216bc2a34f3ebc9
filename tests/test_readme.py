"""The README's two commands are what CI runs, and what it says of the command line is so."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _commands() -> list[str]:
    readme = (ROOT / "README.md").read_text()
    return [line for block in re.findall(r"```console\n(.*?)```", readme, re.S) for line in block.splitlines()]


def test_ci_runs_the_second_command_word_for_word() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("python3 -m venv")]
    assert line in _commands()


def test_the_first_command_ends_in_the_demo() -> None:
    assert _commands()[0].endswith("delegraph demo")
