"""Variables: the new values are outputs, and the state itself is core's."""

from __future__ import annotations

import numpy as np

from delegraph.core.ops import registry
from delegraph.testing.contract import cases
from delegraph.testing.contract.check import check
from delegraph.testing.contract.finding import expect, skip
from delegraph.testing.contract.subject import Subject


@check(
    "state.delivered",
    "A variable's new value is delivered behind the outputs; the state that was bound is not written.",
)
def delivered(subject: Subject) -> None:
    if not any(op.variables for op in registry.all_ops()):
        skip("no op that delegates run has variables")
    found = [piece for piece in subject.pieces() if piece.op.variables]
    specimen = subject.first_that_runs([found[:4], found[:1]])
    if specimen is None:
        skip("the device takes no op that has variables")
    assert cases.pieces()
    lane = subject.bench(specimen).lane()
    before = [value.tobytes() for value in specimen.feed(0)]
    for when in ("run once", "run again with the same state"):
        lane.check(0, when)
        for cell, value in zip(lane.inputs, before, strict=True):
            expect(bool((cell.get() == np.frombuffer(value, np.uint8)).all()), "a run wrote to the bound state")
