"""Fork: nothing of the device side is used in a child, which opens the device anew."""

from __future__ import annotations

import os

from delegraph.testing.contract import spawning
from delegraph.testing.contract.check import check
from delegraph.testing.contract.finding import fail, skip
from delegraph.testing.contract.subject import Subject


@check(
    "fork.reopens",
    "After a fork the parent goes on; a child that opens the device anew computes right, or gets a DelegateError.",
    spawns=True,
)
def reopens(subject: Subject) -> None:
    if not hasattr(os, "fork"):
        skip("this system has no fork")
    problem = spawning.run_fork(subject)
    if problem:
        fail(problem)
