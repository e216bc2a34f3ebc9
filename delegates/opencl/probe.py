"""Which OpenCL devices there are and which of them work, found out in a child process. Imports traits.

A driver may list a device for which it can build nothing, or take its process down while it tries: so each device
builds and runs a tiny kernel in a child first.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delegraph.core.forks import RenewedLock
from delegraph.delegates.opencl.traits import Traits

TIMEOUT_S = 60.0
"""What one look at all devices may take; the first build of a cold driver takes a few seconds."""

_CHILD = Path(__file__).with_name("probe_child.py")

NOT_INSTALLED = "the Python package pyopencl is not installed"
INSTALL = "pip install 'delegraph[opencl]'"
NO_DRIVER = "no OpenCL driver is installed"
INSTALL_DRIVER = (
    "install your GPU's OpenCL driver, or to use the CPU: apt-get install pocl-opencl-icd ocl-icd-libopencl1"
)
REPAIR = "update or reinstall the driver of this device, or remove its file from /etc/OpenCL/vendors"


@dataclass(frozen=True, slots=True)
class Found:
    """A device that a driver lists. problem: why it can't be used, in the driver's words; "" when it works."""

    traits: Traits
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All devices. reason, remedy: why there is none, and what to do."""

    devices: tuple[Found, ...] = ()
    reason: str = ""
    remedy: str = ""


Run = Callable[[Sequence[str]], tuple[str, str]]
"""``run(arguments) -> (what the child printed, how it ended if not well)``."""


def run_child(arguments: Sequence[str]) -> tuple[str, str]:
    """Runs ``probe_child.py``. Never raises."""
    environment = {**os.environ, "PYOPENCL_NO_CACHE": "1"}
    command = [sys.executable, "-P", str(_CHILD), *arguments]  # -P: this folder is no place to import from
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        printed = exc.stdout.decode(errors="replace") if isinstance(exc.stdout, bytes) else exc.stdout or ""
        return printed, f"no answer within {TIMEOUT_S:g} s"
    except OSError as exc:
        return "", f"the probe could not be started: {exc}"
    if done.returncode == 0:
        return done.stdout, ""
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode < 0:
        return done.stdout, f"the driver crashed (signal {-done.returncode}) {last}".strip()
    return done.stdout, f"the probe ended with status {done.returncode}: {last}"


def probe(run: Run = run_child) -> Inventory:
    """Looks at every device. One that takes the child down is noted, and the child started again without it."""
    if importlib.util.find_spec("pyopencl") is None:
        return Inventory((), NOT_INSTALLED, INSTALL)
    found: dict[int, Found] = {}
    while True:
        printed, failure = run([str(index) for index in sorted(found)])
        lines = _lines(printed)
        if not found and any("none" in line for line in lines):
            return Inventory((), NO_DRIVER, INSTALL_DRIVER)
        fresh = _read(lines, failure)
        if not fresh and not found:
            return Inventory((), failure or "the drivers could not be listed", REPAIR)
        found.update(fresh)
        if not failure or not fresh:
            return Inventory(tuple(found[index] for index in sorted(found)))


def _lines(printed: str) -> list[dict[str, Any]]:
    """The JSON objects among the printed lines; drivers print to stdout as well."""
    lines = []
    for text in printed.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _read(lines: Sequence[dict[str, Any]], failure: str) -> dict[int, Found]:
    traits = {line["start"]: Traits.parse(line["traits"]) for line in lines if "start" in line}
    problems = {line["end"]: line["problem"] for line in lines if "end" in line}
    return {
        index: Found(value, problems.get(index, failure or "the probe ended early")) for index, value in traits.items()
    }


_known: Inventory | None = None
_guard = RenewedLock()


def inventory() -> Inventory:
    """``probe``, once per process."""
    global _known
    with _guard.lock:
        if _known is None:
            _known = probe()
        return _known
