"""Processes of their own for checks that need one: another reader of an artifact, a process that forks, one whose
memory nothing else fills.

The other side is ``child``. Both find the delegate by name and choose the same graphs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import fail, skip
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.subject import Subject

PATIENCE_S = 120.0
FORK_PATIENCE_S = 20.0
"""How long a forked child gets; its parent answers within ``PATIENCE_S``."""


def child_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "delegraph.testing.contract.child", *arguments]


def child_environment() -> dict[str, str]:
    """Ours, and what we can import the child can."""
    paths = [path or os.getcwd() for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_artifact(subject: Subject, bench: Bench) -> list[Array]:
    """The outputs of feed 0, from a process that was given the artifact and the packs as files."""
    assert isinstance(bench.packs, KeptPacks)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = list(bench.packs.kept)
        (folder / "payload").write_bytes(bytes(bench.artifact.payload))
        packs: dict[str, Any] = {f"p{i}": bench.packs.kept[n] for i, n in enumerate(names)}
        np.savez(folder / "packs.npz", **packs)
        request = {
            **_who(subject),
            "format": bench.artifact.format,
            "artifact_packs": list(bench.artifact.packs),
            "packs": names,
            "folder": str(folder),
        }
        _ask("load", request)
        with np.load(folder / "outputs.npz") as outputs:
            return [outputs[f"o{i}"] for i in range(len(bench.specimen.delivered))]


def run_fork(subject: Subject) -> str:
    """What went wrong in a process that opened the device and forked, or ""."""
    return str(_ask("fork", _who(subject))["problem"])


def run_rounds(subject: Subject) -> str:
    """What was not given back by a process that used the device again and again, or ""."""
    return str(_ask("rounds", _who(subject))["problem"])


def _who(subject: Subject) -> dict[str, Any]:
    return {"name": subject.name, "device": subject.id, "isolate": subject.is_isolated}


def _ask(verb: str, request: dict[str, Any]) -> dict[str, Any]:
    """The child's answer. Fails the check when it dies, hangs, or says what went wrong."""
    try:
        done = subprocess.run(
            child_command(verb),
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=child_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        fail(f"the other process did not end within {PATIENCE_S:g} s")
    if done.returncode != 0:
        fail(f"the other process {ended(done.returncode)}{last_line(done.stderr)}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer.get("skipped"):
        skip(answer["skipped"])
    if answer.get("failed"):
        fail(f"in the other process: {answer['failed']}")
    return answer


def ended(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        import signal

        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"died of {name}"
    return f"ended with exit code {code}"


def last_line(text: str) -> str:
    """The last line of what a process said, for a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""
