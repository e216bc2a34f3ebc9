"""``--import``: a user's own code is run first, and what is wrong with it is a sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Call
from tests.support import require, shared_path
from tools import conformance

from delegraph.core.ops import registry

MODEL = shared_path() / "models" / "real" / "testdata" / "litert" / "custom_sinh.bin"
SINH = """
import numpy as np
import delegraph as dg
from delegraph.ops import Form, OpDef, bounds
print("registering")
dg.register_op(
    OpDef(
        name="Sinh", inputs=("x",), outputs=("y",), is_custom=True, shapes=lambda node: [node.input(0).shape],
        forms=(Form("float32 -> float32", lambda node: lambda x: (np.sinh(x),)),), bound=bounds.ulps(4),
    )
)
"""


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test imports and registers is gone after it."""
    registry.find("ADD")
    for name in ("_ops", "_registered"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("delegraph_import_") or name == "my_ops":
            del sys.modules[name]


@pytest.mark.parametrize("name", ["my_ops.py", "./my_ops.py", "my_ops"])
def test_ops_of_ones_own(delegraph: Call, tmp_path: Path, name: str) -> None:
    require("shared")
    refused = delegraph("run", MODEL, "--random")
    assert refused.code == 4 and "run with delegraph run --import FILE" in refused.err
    assert "--import FILE" in delegraph("inspect", MODEL).out
    (tmp_path / "my_ops.py").write_text(SINH)
    result = delegraph("run", MODEL, "--random", "--import", name, "--json")
    assert result.code == 0, result.err
    assert result.json["devices"] == {"reference": 1}
    assert result.err == "registering\n"  # stdout is for the result alone
    assert delegraph("inspect", MODEL, "--import", name, "--json").json["unsupported"] == []
    assert delegraph("explain", MODEL, "--import", name, "--machine", "coral-usb").code == 0
    assert delegraph("ops", "Sinh", "--import", name, "--device", "reference").code == 0


def test_a_file_finds_its_neighbours_and_runs_once(delegraph: Call, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "neighbour_of_ops.py").write_text("NAME = 'x'")
    (folder / "ops.py").write_text("import neighbour_of_ops\nprint('ran')")
    twice = ("--import", folder / "ops.py", "--import", "folder/ops.py")
    assert delegraph("ops", "ADD", "--device", "cpu", *twice).err == "ran\n"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = 1\nraise ValueError('boom')", "found ValueError: boom (line 2)"),
        ("x = = 2", "found SyntaxError: invalid syntax (my_ops.py, line 1)"),
        ("import no_such_module", "found ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
        ("raise SystemExit(3)", "found SystemExit: 3 (line 1)"),
    ],
)
def test_code_that_fails(delegraph: Call, tmp_path: Path, code: str, found: str) -> None:
    (tmp_path / "my_ops.py").write_text(code)
    result = delegraph("inspect", "model.tflite", "--import", "my_ops.py")
    assert (result.code, result.out) == (5, "")
    assert f"error: --import my_ops.py: expected code that runs, {found}\n  tip: " in result.err


def test_a_kernel_that_fails_is_no_error_of_delegraph(delegraph: Call, tmp_path: Path) -> None:
    require("shared")
    (tmp_path / "my_ops.py").write_text(SINH.replace("(np.sinh(x),)", "{}[x.size]"))
    result = delegraph("run", MODEL, "--random", "--import", "my_ops.py")
    assert result.code == 5 and "Sinh: its kernel raised KeyError" in result.err


def test_what_is_not_there(delegraph: Call) -> None:
    result = delegraph("inspect", "model.tflite", "--import", "nope.py")
    assert result.code == 5 and "--import: expected a .py file, found none at 'nope.py'" in result.err
    for name in ("nope", "nope.deeper"):
        result = delegraph("inspect", "model.tflite", "--import", name)
        assert result.code == 5 and f"expected a module that is installed or here, found '{name}'" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Nope"], "expected the name of an op, found 'Nope'; list them: delegraph ops"),
        (["CONV2D"], "found 'CONV2D'; did you mean 'CONV_2D'?"),
        (["Sinh", "--import", "my_ops.py"], "expected an op that has cases, found Sinh"),
        (["ADD", "--import", "nope.py"], "expected a .py file, found none at 'nope.py'"),
    ],
)
def test_conformance_refuses_what_it_can_not_try(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_ops.py").write_text(SINH)
    monkeypatch.setattr(sys, "argv", ["conformance", *arguments])
    with pytest.raises(SystemExit) as failed:
        conformance.main()
    assert failed.value.code == 2 and message in capsys.readouterr().err
