"""The same script on LiteRT's Interpreter (in a child process) and on delegraph's: the same transcript.

Differences on purpose are not scripted here; docs/interpreter.md lists them.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.interpreter import samples
from tests.interpreter.transcript import Entry, Models, run, scripts
from tests.support import require, shared_path

from delegraph import interpreter as twin
from delegraph.core.ops import registry

ROOT = Path(__file__).parents[2]


class _Child:
    """A process that runs scripts on LiteRT, started again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, name: str, models: Models) -> list[Entry]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.interpreter.twin_child"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump((name, models), self._process.stdin)
            self._process.stdin.flush()
            entries: list[Entry] = pickle.load(self._process.stdout)
        except (EOFError, OSError):
            status = self._process.wait()
            self.close()
            pytest.fail(f"LiteRT's process ended with {status} in {name}")
        return entries

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


@pytest.fixture(scope="module")
def litert() -> Iterator[_Child]:
    require("litert")
    require("shared")
    child = _Child()
    yield child
    child.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(samples.write_all(tmp_path_factory.mktemp("models")), shared_path() / "models" / "real")


NEEDS = {"state.variable_tensors": "SVDF", "state.lstm_state": "UNIDIRECTIONAL_SEQUENCE_LSTM"}
"""Scripts on models with an op that may have no kernel yet."""


@pytest.mark.parametrize("name", scripts())
def test_same_transcript(name: str, litert: _Child, models: Models) -> None:
    if name in NEEDS and registry.find(NEEDS[name]) is None:
        pytest.skip(f"needs a kernel for {NEEDS[name]}")
    module = SimpleNamespace(
        Interpreter=twin.Interpreter,
        OpResolverType=twin.OpResolverType,
        SignatureRunner=twin.SignatureRunner,
        load_delegate=twin.load_delegate,
    )
    expected = litert.run(name, models)
    found = run(name, module, models)
    differences = list(_differences(expected, found))
    assert not differences, "\n".join(differences)


def _differences(expected: list[Entry], found: list[Entry]) -> Iterator[str]:
    piled = ""
    for (line, theirs), (our_line, ours) in zip(expected, found, strict=False):
        if theirs[0].startswith("raises") and theirs[1] == "RuntimeError":
            said = theirs[2].removeprefix(piled)  # each message of LiteRT's begins with all earlier ones
            piled = theirs[2]
            theirs = (*theirs[:2], said)
        if line != our_line:
            yield f"LiteRT went on with line {line}, delegraph with line {our_line}: {str(ours)[:200]}"
            return
        if not _is_same(theirs, ours):
            yield f"line {line}: " + _first_difference(theirs, ours)
    if len(expected) != len(found):
        yield f"{len(expected)} entries of LiteRT, {len(found)} of delegraph"


def _first_difference(theirs: Any, ours: Any, path: str = "") -> str:
    """Where two encoded values differ, as deep down as they are alike."""
    is_nested = isinstance(theirs, list | tuple) and isinstance(ours, list | tuple) and len(theirs) == len(ours)
    if not is_nested or theirs[:1] in (("array",), ("raises",)):
        return f"{path}\n  LiteRT    {theirs}\n  delegraph {ours}"
    at = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    return _first_difference(theirs[at], ours[at], f"{path}[{at}]")


def _is_same(theirs: Any, ours: Any) -> bool:
    if theirs[0] == "raises somehow":
        return bool(theirs[:2] == ours[:2])
    if theirs[0] in ("raises", "raises roughly"):
        return bool(theirs[:2] == ours[:2]) and _said(theirs[2], theirs[0]) in ours[2]
    return bool(theirs == ours)


def _said(message: str, how: str) -> str:
    """The first line, or the first sentence, without the place in LiteRT's source."""
    line = re.sub(r"^tflite/\S+ ", "", message).strip().partition("\n")[0]
    return re.split(r"[.:] ", line)[0] if how == "raises roughly" else line
