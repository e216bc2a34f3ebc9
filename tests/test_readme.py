"""The README's two commands are what CI runs, and what it says of the command line is so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import require, shared_path

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


def test_the_example_of_the_library_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("shared")
    monkeypatch.chdir(tmp_path)
    shutil.copy(shared_path() / "models" / "real" / "mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v2.tflite")
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[0]
    names: dict[str, Any] = {"image": np.zeros((1, 224, 224, 3), np.uint8)}
    exec(compile(example, "README.md", "exec"), names)
    assert names["y"].shape == (1, 1001)
    assert "m(input=image)" in example and names["m"].inputs[0].name == "input"
