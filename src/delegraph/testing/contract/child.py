"""The process in which a delegate is checked, so that a crash of the delegate is a finding and no more.

``python -m delegraph.testing.contract.child VERB``, with a JSON request on stdin. What the delegate prints goes to
stderr; stdout is ours alone. Verbs: ``examine`` makes checks, one JSON line each (``supervisor``); ``load``,
``fork`` and ``rounds`` answer with one JSON value (``spawning``).
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from delegraph.core.abi.protocols import Delegate
from delegraph.core.abi.values import Artifact, DelegateError
from delegraph.core.errors import InvalidArgument
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import Broken, Skipped
from delegraph.testing.contract.naming import find
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.runner import run_task, selected, tasks
from delegraph.testing.contract.spawning import FORK_PATIENCE_S, ended
from delegraph.testing.contract.subject import Subject

WARM_ROUNDS = 6
ROUNDS = 16
PER_ROUND_BYTES = 1 << 20
"""What each round allocates besides."""


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    verb = sys.argv[1]
    if verb == "examine":
        _examine(request, answers)
        return 0
    try:
        answer = {"load": _load, "fork": _fork, "rounds": _rounds}[verb](request)
    except Skipped as exc:
        answer = {"skipped": str(exc)}
    except Broken as exc:
        answer = {"failed": str(exc)}
    except Exception as exc:
        answer = {"failed": f"{type(exc).__name__}: {exc}"}
    _say(answers, answer)
    return 0


def _say(stream: TextIO, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def _examine(request: dict[str, Any], answers: TextIO) -> None:
    """Says the tasks first ({"tasks"}), then for each {"start"} and {"finding"}. ``done``: tasks that were made before,
    which are left out."""
    try:
        delegate = find(request["name"], isolate=request["isolate"])
    except Exception as exc:
        _say(answers, {"unusable": f"{type(exc).__name__}: {exc}", "argument": None})
        return
    try:
        found = tasks(delegate, selected(request["only"]), request["device"])
    except InvalidArgument as exc:
        argument = {"where": exc.where, "expected": exc.expected, "found": exc.found, "advice": exc.advice}
        _say(answers, {"unusable": str(exc), "argument": argument})
        return
    done = {tuple(pair) for pair in request["done"]}
    _say(answers, {"tasks": [[task.check.id, task.device, task.check.sentence] for task in found]})
    for i, task in enumerate(found):
        if (task.check.id, task.device) not in done:
            _say(answers, {"start": i})
            finding = run_task(delegate, task, request["name"], is_isolated=request["isolate"])
            _say(answers, {"finding": finding.to_json()})


def _subject(delegate: Delegate, request: dict[str, Any]) -> Subject:
    info = next(info for info in delegate.devices() if info.id == request["device"])
    return Subject(delegate, info, request["name"], request["isolate"])


def _load(request: dict[str, Any]) -> dict[str, Any]:
    """Loads an artifact from files and runs it; writes the outputs to the folder."""
    folder = Path(request["folder"])
    subject = _subject(find(request["name"], isolate=request["isolate"]), request)
    with np.load(folder / "packs.npz") as packs:
        kept = KeptPacks({name: packs[f"p{i}"] for i, name in enumerate(request["packs"])})
    for pack in kept.kept.values():
        pack.flags.writeable = False
    payload = memoryview((folder / "payload").read_bytes())
    artifact = Artifact(request["format"], payload, tuple(request["artifact_packs"]))
    bench = subject.loaded(artifact, kept)
    outputs = bench.lane().run(0)
    named: dict[str, Any] = {f"o{i}": output for i, output in enumerate(outputs)}
    np.savez(folder / "outputs.npz", **named)
    subject.close_all()
    return {}


def _fork(request: dict[str, Any]) -> dict[str, Any]:
    delegate = find(request["name"], isolate=request["isolate"])
    subject = _subject(delegate, request)
    lane = subject.bench().lane()
    lane.check(0, "before the fork")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, _in_the_child(delegate, request).encode())
        os._exit(0)
    os.close(write)
    problem = _heard(pid, read)
    if not problem:
        lane.check(1, "in the parent, after the fork")
        subject.close_all()
    return {"problem": problem}


def _in_the_child(delegate: Delegate, request: dict[str, Any]) -> str:
    """Opens the device anew and runs; what went wrong, or "ok"."""
    subject = _subject(delegate, request)
    try:
        device = subject.open()
    except DelegateError:  # core goes on with another device
        return "ok"
    except Exception as exc:
        return f"in the child: open() raised {type(exc).__name__}: {exc}"
    try:
        subject.bench(device=device).check_once(2, "in the child")
    except (Broken, Skipped) as exc:
        return str(exc)
    except Exception as exc:
        return f"in the child: {type(exc).__name__}: {exc}"
    return "ok"


def _heard(pid: int, read: int) -> str:
    ready, _, _ = select.select([read], [], [], FORK_PATIENCE_S)
    if not ready:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return f"the child hangs: it did not compute within {FORK_PATIENCE_S:g} s"
    text = os.read(read, 65536).decode()
    _, status = os.waitpid(pid, 0)
    if not text:
        return f"the child {ended(os.waitstatus_to_exitcode(status))}"
    return "" if text == "ok" else text


def _rounds(request: dict[str, Any]) -> dict[str, Any]:
    """Opens the device, computes and closes it again and again, and looks at the memory of the process."""
    subject = _subject(find(request["name"], isolate=request["isolate"]), request)
    specimen = subject.workbench()
    is_loose = subject.is_loose(specimen)
    subject.close(subject.device)

    def once() -> None:
        device = subject.open()
        buffer = device.allocate(PER_ROUND_BYTES)
        view = buffer.host_view()
        if view is not None:
            view[:] = 1
        bench = Bench.make(device, specimen, KeptPacks(), is_loose=is_loose)
        for _ in range(2):
            bench.lane().run(0)
        bench.close()
        del buffer, view, bench
        subject.close(device)

    for _ in range(WARM_ROUNDS):
        once()
    before = _resident_bytes()
    for _ in range(ROUNDS):
        once()
    grown = _resident_bytes() - before
    is_much = grown >= ROUNDS * PER_ROUND_BYTES // 2
    return {"problem": f"{grown / 1e6:.1f} MB more after {ROUNDS} rounds that each hold about 1 MB" * is_much}


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    raise SystemExit(main())
