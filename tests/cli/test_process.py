"""The command line as a process: start-up, pipes, signals, terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.conftest import Given, MakeModel

from delegraph import __version__
from delegraph.cli.failures import Exit
from delegraph.core.graph.dtype import DType

DELEGRAPH = (sys.executable, "-m", "delegraph")


def environment(**more: str) -> dict[str, str]:
    """This process's, with the package found where this process found it."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} | more


def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    command = [*DELEGRAPH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**more))


def test_version_and_help() -> None:
    assert run("--version").stdout == f"delegraph {__version__}\n"
    done = run("--help")
    assert done.returncode == Exit.OK
    for name in ("run", "inspect", "devices"):
        assert re.search(rf"^  {name} ", done.stdout, re.M)
        assert run(name, "--help").stdout.startswith(f"Usage: delegraph {name} ")
    for none in (run(), run("--debug")):
        assert (none.returncode, none.stdout, none.stderr) == (Exit.OK, done.stdout, "")
    assert "..." not in done.stdout.split("Commands:")[1]
    assert "and without effect yet" in " ".join(run("run", "--help").stdout.split())  # --threads


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk(passing: MakeModel, more: tuple[str, ...]) -> None:
    """Whether it shows while the output is written or at its end."""
    model = passing(*(Given(DType.FLOAT32, (1, 4), name=f"tensor_{i}") for i in range(500)))
    for arguments in (("inspect", model, "--tensors"), ("devices", "reference")):
        with open("/dev/full", "w") as full:
            command = [*DELEGRAPH, *map(str, arguments), *more]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
        assert done.returncode == Exit.BAD_INPUT
        assert done.stderr.startswith("error: expected room for the output, found: no space left on device\n  tip: ")
        assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file(passing: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "out.npy").symlink_to("/dev/full")
    done = run("run", passing(Given(DType.FLOAT32, (1, 4))), "--random", "--output", tmp_path / "out.npy")
    assert done.returncode == Exit.BAD_INPUT
    assert f"error: {tmp_path / 'out.npy'}: no space left on device\n  tip: make room there" in done.stderr


def test_help_imports_nothing_but_click() -> None:
    code = (
        "import sys, delegraph; before = set(sys.modules); from delegraph.cli import main; main(['--help']); "
        "main(['run', '--help']); print(sorted(m for m in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    loaded = done.stdout.splitlines()[-1]
    for heavy in ("rich", "PIL", "wave", "zipfile", "delegraph.core.ops.families", "delegraph.cli.views"):
        assert f"'{heavy}" not in loaded


def test_exit_codes_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    for arguments, code in (
        (("devices",), Exit.OK),
        (("devices", "--nope"), Exit.USAGE),
        (("run", tmp_path / "bad.tflite"), Exit.INVALID_MODEL),
        (("run", tmp_path / "missing.tflite"), Exit.BAD_INPUT),
    ):
        done = run(*arguments)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr


def test_piped_output_is_plain_and_whole(passing: MakeModel) -> None:
    long = "a_long_name_" * 30
    model = passing(Given(DType.FLOAT32, (1, 4), name=long))
    for arguments in (("inspect", model, "--tensors"), ("devices",), ("run", model, "--random")):
        done = run(*arguments, COLUMNS="40", FORCE_COLOR="1")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert (long in done.stdout) == (arguments[0] != "devices")


def test_a_reader_that_goes_away_is_no_error(passing: MakeModel) -> None:
    model = passing(*(Given(DType.FLOAT32, (1, 4), name=f"tensor_{i}") for i in range(3000)))
    child = subprocess.Popen(
        [*DELEGRAPH, "inspect", str(model), "--tensors"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.read(10)
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert (child.wait(60), errors) == (Exit.PIPE_CLOSED, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupt(passing: MakeModel, tmp_path: Path) -> None:
    model = passing(Given(DType.FLOAT32, (1, 4)))
    os.mkfifo(tmp_path / "x.raw")  # reading it waits until somebody writes
    child = subprocess.Popen(
        [*DELEGRAPH, "run", str(model), "--input", str(tmp_path / "x.raw")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with open(tmp_path / "x.raw", "wb"):  # opens once the child reads
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=60)
    assert (child.returncode, out) == (Exit.INTERRUPTED, b"") and b"Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal(passing: MakeModel, no_color: bool) -> None:
    model = passing(Given(DType.FLOAT32, (1, 4)))
    more = {"TERM": "xterm-256color", "COLUMNS": "100"} | ({"NO_COLOR": "1"} if no_color else {})
    text = _in_terminal([*DELEGRAPH, "inspect", str(model)], environment(**more))
    assert "float32" in text and "─" in text


def _in_terminal(command: Sequence[str], env: dict[str, str]) -> str:
    import pty

    main_end, child_end = pty.openpty()
    child = subprocess.Popen(command, stdin=child_end, stdout=child_end, stderr=child_end, env=env)
    os.close(child_end)
    data = b""
    while True:
        try:
            chunk = os.read(main_end, 65536)
        except OSError:  # the child closed its end
            break
        if not chunk:
            break
        data += chunk
    os.close(main_end)
    assert child.wait(60) == 0, data
    return data.decode()
