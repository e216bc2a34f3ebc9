"""Checks a delegate from outside: in a child process that may crash or hang. Imports finding; starts ``child``.

The check that crashed or hung is reported by name, and a fresh child goes on with the rest.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from delegraph.core.errors import InvalidArgument
from delegraph.testing.contract.finding import Finding
from delegraph.testing.contract.naming import parted, spec_of
from delegraph.testing.contract.runner import selected
from delegraph.testing.contract.spawning import child_command, child_environment, ended, last_line

TIMEOUT_S = 180.0
"""What one check may take; most take milliseconds."""

START_S = 180.0
"""What the child may take to import and list the delegate, or to end."""

LOADS = "delegate.loads"
LOADS_SENTENCE = "The delegate can be imported or loaded, and lists its devices."
"""A rule of the supervisor's own: without it there is nothing to check."""


def examine(
    name: str,
    *,
    device: str | None = None,
    only: Sequence[str] | None = None,
    isolate: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Finding]:
    """Makes the checks and yields what each found.

    name: see ``naming``. device: one of its devices; by default the one that ``name`` says, else all available ones.
    only: ids of checks, or their subjects. isolate: the delegate in a process of its own behind core's process host, as
    users may run it.

    Raises:
        InvalidArgument: no such delegate, device or check.
    """
    name, named_device = parted(name)
    device = device or named_device
    spec_of(name)
    selected(only)
    request = {"name": name, "device": device, "only": list(only) if only is not None else None, "isolate": isolate}
    done: list[tuple[str, str]] = []
    while True:
        with _Child({**request, "done": done}, timeout_s) as child:
            for finding in child.findings():
                done.append((finding.check, finding.device))
                yield finding
            if child.is_over:
                return


@dataclass
class _Child:
    """One child at work. is_over: there is nothing left to do for another one."""

    request: dict[str, Any]
    timeout_s: float
    is_over: bool = False
    _tasks: list[list[str]] = field(default_factory=list)
    _lines: queue.Queue[str | None] = field(default_factory=queue.Queue)

    def __enter__(self) -> _Child:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            child_command("examine"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=child_environment(),
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(self.request))
        self._process.stdin.close()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def findings(self) -> Iterator[Finding]:
        """What it found, until it ended or was given up."""
        running: list[str] | None = None
        while True:
            limit_s = START_S if running is None else self.timeout_s
            try:
                line = self._lines.get(timeout=limit_s)
            except queue.Empty:
                yield self._lost(running, f"not ended after {limit_s:g} s")
                return
            if line is None:
                code = self._process.wait()
                if code != 0 or running is not None:
                    yield self._lost(running, f"the process {ended(code)}{self._said()}")
                else:
                    self.is_over = True
                return
            message = json.loads(line)
            if "unusable" in message:
                self.is_over = True
                if message["argument"] is not None:
                    raise InvalidArgument(**message["argument"])
                yield Finding(LOADS, "", "failed", LOADS_SENTENCE, message["unusable"])
                return
            if "tasks" in message:
                self._tasks = message["tasks"]
            elif "start" in message:
                running = self._tasks[message["start"]]
            else:
                running = None
                yield Finding.of_json(message["finding"])

    def _lost(self, running: list[str] | None, why: str) -> Finding:
        if running is None:
            self.is_over = True
            return Finding(LOADS, "", "failed", LOADS_SENTENCE, f"outside of any check: {why}")
        check, device, sentence = running
        return Finding(check, device, "failed", sentence, why)

    def _said(self) -> str:
        self._errors.seek(0)
        return last_line(self._errors.read())
