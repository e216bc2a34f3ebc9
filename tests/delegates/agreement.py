"""Whether a delegate agrees with the OpDefs: one case, compiled through it, against the op's own reference form.

For every delegate's tests: ``check(device, op, case)`` gives a verdict. Integers must be equal, floats within the op's
bound; what the device refuses must be refused with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from delegraph.core.abi.protocols import Device
from delegraph.core.abi.values import Artifact, GraphView, Segment, Support, Verdict
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.cases import case_model
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import Case, Node, OpDef, TensorSpec
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.loaded import LoadedSegment
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.plan import make_segment
from delegraph.testing.conformance import Verdict as Outcome
from delegraph.testing.conformance import compare, kernel_outputs

SKIPPED = "skipped"
"""Outcome of a case that the reference refuses too, or whose shapes depend on data: no device is asked."""


def all_cases(seeds: Sequence[int] = (0,), name: str = "") -> Iterator[tuple[OpDef, Case]]:
    """Every case that the OpDefs declare, or only those of the op of that name."""
    for op in registry.all_ops():
        if op.cases is not None and name in ("", op.name):
            for seed in seeds:
                for case in op.cases(np.random.default_rng(seed)):
                    yield op, case


def case_segment(op: OpDef, case: Case) -> tuple[Segment, Node] | None:
    """The segment of a case's one op; None where its shapes depend on data or nothing has to be computed.

    Raises:
        DelegraphError: the operands don't fit together.
    """
    graph = build(case_model(op, case)).main
    (the_op,) = graph.ops
    specs: dict[int, TensorSpec] = {}
    node = infer_op(graph, the_op, op, specs)
    if node is None:
        return None
    node = replace(node, outputs=tuple(replace(spec, value=None) for spec in node.outputs))
    outputs = {i for i in the_op.outputs if i >= 0}
    return make_segment(graph, (node,), specs, outputs), node


def run(device: Device, segment: Segment, inputs: Sequence[Array]) -> list[Array]:
    """Compiles, loads and runs a segment on a device as core does."""
    return load(device, segment).run_fresh(inputs)


class Loaded:
    """A segment on a device: ``run_fresh(inputs)`` gives new arrays."""

    def __init__(self, device: Device, segment: Segment, artifact: Artifact | None = None) -> None:
        slot = DeviceSlot(device.info, lambda: device)
        packs = PackStore(None)
        self.segment = segment
        self.artifact = slot.compile(segment, packs, {}) if artifact is None else artifact
        self.loaded = LoadedSegment(segment, slot, self.artifact, packs)

    def run_fresh(self, inputs: Sequence[Array]) -> list[Array]:
        specs = [self.segment.specs[i] for i in self.segment.outputs + self.segment.variables]
        outputs = [np.full(s.shape, 77).astype(s.dtype.numpy) for s in specs]
        if self.loaded.is_watched:
            return self.loaded.start(inputs, 60.0).finish()
        self.loaded.run(inputs, outputs)
        return outputs


def load(device: Device, segment: Segment, artifact: Artifact | None = None) -> Loaded:
    """The segment on the device, compiled here or from an artifact."""
    return Loaded(device, segment, artifact)


def check(device: Device, op: OpDef, case: Case) -> Outcome | Support:
    """The verdict on a case: compared with the reference, or the device's refusal."""
    try:
        found = case_segment(op, case)
        if found is None:
            return Outcome(op.name, case.name, SKIPPED, "its shapes depend on data")
        reference, expected = kernel_outputs(op, case)
    except DelegraphError as exc:
        return Outcome(op.name, case.name, SKIPPED, str(exc))
    segment, node = found
    (answer,) = device.supports(GraphView(segment.graph, (node,)))
    if answer.verdict is not Verdict.YES:
        return answer
    values = {i: operand.data for i, operand in zip(node.op.inputs, case.inputs, strict=False) if operand is not None}
    inputs = [values[i] for i in segment.inputs]
    kept = [a.copy() for a in inputs]
    ours = run(device, segment, inputs)
    for before, after in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(before, after, err_msg="the device wrote to an input")
    operands = [None if o is None else o.data for o in case.inputs]
    return compare(op, case.name, reference, operands, expected, ours)


Checker = Callable[[OpDef, Case], Outcome | Support]
