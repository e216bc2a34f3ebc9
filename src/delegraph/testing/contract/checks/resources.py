"""Memory of the process: what was opened, compiled and run is given back."""

from __future__ import annotations

from pathlib import Path

from delegraph.testing.contract import spawning
from delegraph.testing.contract.check import check
from delegraph.testing.contract.finding import expect, skip
from delegraph.testing.contract.subject import Subject


@check(
    "resources.given_back",
    "Opening, compiling, running and closing again and again does not fill the memory.",
    spawns=True,
)
def given_back(subject: Subject) -> None:
    if not Path("/proc/self/statm").is_file():
        skip("this system does not tell how much memory a process has")
    problem = spawning.run_rounds(subject)
    expect(not problem, problem)
