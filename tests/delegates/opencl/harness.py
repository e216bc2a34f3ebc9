"""Segments for the tests: from a case of an OpDef or from a small model, run on a device and by the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delegraph.core.abi.protocols import Device, Packs
from delegraph.core.abi.values import GraphView, Segment, Support
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array, Graph
from delegraph.core.model.model import Model
from delegraph.core.ops import registry
from delegraph.core.ops.cases import case_model
from delegraph.core.ops.nodes import infer_op, node_of, spec_of, with_shapes
from delegraph.core.ops.opdef import Case, Node, OpDef, TensorSpec
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.opencl import OpenClDelegate
from delegraph.delegates.opencl.device import OpenClDevice
from delegraph.delegates.opencl.traits import Traits
from delegraph.delegates.reference import ReferenceDelegate

TIMEOUT_S = 120.0

TRAITS = Traits(
    platform=0,
    device=0,
    platform_name="Acme",
    platform_version="1",
    name="Acme GPU",
    vendor="Acme",
    version="OpenCL 1.2",
    driver="1.0",
    kind="gpu",
    fp64=True,
    denormals=True,
    rounded_division=True,
    alignment=128,
    max_buffer_bytes=1 << 40,
    max_group=256,
    compute_units=8,
    shares_memory=False,
)
"""A device that can do everything and does not exist."""


def open_device() -> OpenClDevice:
    """The first device that works."""
    delegate = OpenClDelegate()
    info = next(info for info in delegate.devices() if info.available)
    return delegate.open(info.id, {})


def case_segment(op: OpDef, case: Case) -> Segment | None:
    """The case as a segment; None where its shapes are not known before the run, or it is no valid op."""
    graph = build(case_model(op, case)).main
    (the_op,) = graph.ops
    try:
        specs = {i: spec_of(graph.tensors[i]) for i in the_op.inputs if i >= 0}
        node = node_of(graph, the_op, op, specs)
        shapes = [shape for shape in op.shapes(node) if shape is not None]
    except DelegraphError:
        return None
    if len(shapes) != len(node.outputs):
        return None
    node = with_shapes(node, tuple(shapes))
    return _segment(graph, [node], specs | dict(zip(the_op.outputs, node.outputs, strict=True)))


def joined(segments: Sequence[Segment]) -> Segment:
    """Segments side by side in one, their tensors renumbered: one program to build for many cases."""
    nodes: list[Node] = []
    inputs: list[int] = []
    outputs: list[int] = []
    specs: dict[int, TensorSpec] = {}
    for segment in segments:
        start = len(specs)
        number = {tensor: start + k for k, tensor in enumerate(segment.specs)}
        specs |= {number[tensor]: spec for tensor, spec in segment.specs.items()}
        inputs += [number[tensor] for tensor in segment.inputs]
        outputs += [number[tensor] for tensor in segment.outputs]
        for node in segment.nodes:
            ins, outs = (tuple(number.get(t, -1) for t in side) for side in (node.op.inputs, node.op.outputs))
            nodes.append(replace(node, op=replace(node.op, inputs=ins, outputs=outs)))
    return Segment(segments[0].graph, tuple(nodes), tuple(inputs), tuple(outputs), (), specs)


def model_segment(model: Model, outputs: Sequence[int] | None = None) -> Segment:
    """All ops of a model as one segment. outputs: the tensors to deliver, if not the graph's."""
    graph = build(model).main
    specs: dict[int, TensorSpec] = {i: spec_of(t) for i, t in enumerate(graph.tensors) if t.is_constant}
    specs |= {i: replace(spec_of(graph.tensors[i]), value=None) for i in graph.inputs}
    nodes = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        assert opdef is not None
        node = infer_op(graph, op, opdef, specs)
        assert node is not None
        nodes.append(node)
    return _segment(graph, nodes, specs, outputs)


def _segment(
    graph: Graph, nodes: Sequence[Node], specs: Mapping[int, TensorSpec], outputs: Sequence[int] | None = None
) -> Segment:
    made = {tensor for node in nodes for tensor in node.op.outputs}
    read = [tensor for node in nodes for tensor in node.op.inputs if tensor >= 0 and specs[tensor].value is None]
    inputs = tuple(tensor for tensor in dict.fromkeys(read) if tensor not in made)
    return Segment(graph, tuple(nodes), inputs, tuple(outputs or graph.outputs), (), specs)


def supports(device: Device, segment: Segment) -> list[Support]:
    return list(device.supports(GraphView(segment.graph, segment.nodes)))


def run_reference(segment: Segment, inputs: Sequence[Array]) -> list[Array]:
    """What the OpDefs' own kernels give."""
    device = ReferenceDelegate().open("reference", {})
    packs = PackStore(None)
    program = device.load(device.compile(segment, packs, {}), segment, packs)
    context = program.context(device.allocate(0))
    results = _results(segment)
    context.bind([device.import_host(x) for x in inputs], [device.import_host(y) for y in results])
    context.run().wait()
    return results


@dataclass
class Loaded:
    """A segment on an OpenCL device."""

    device: OpenClDevice
    segment: Segment
    packs: Packs

    def __post_init__(self) -> None:
        artifact = self.device.compile(self.segment, self.packs, {})
        self.artifact = artifact
        self.program = self.device.load(artifact, self.segment, self.packs)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One run in a context of its own."""
        return run_program(self.device, self.program, self.segment, inputs)


def run_program(device: Device, program: object, segment: Segment, inputs: Sequence[Array]) -> list[Array]:
    """One run of a loaded program in a context of its own."""
    context = program.context(device.allocate(program.scratch_bytes, program.alignment))  # type: ignore[attr-defined]
    sources = [device.allocate(x.nbytes) for x in inputs]
    results = _results(segment)
    targets = [device.allocate(y.nbytes) for y in results]
    context.bind(sources, targets)
    moved = [device.write(x, b) for x, b in zip(inputs, sources, strict=True)]
    context.run(after=moved).wait(TIMEOUT_S)
    for y, b in zip(results, targets, strict=True):
        device.read(b, y).wait(TIMEOUT_S)
    return results


def run_opencl(device: OpenClDevice, segment: Segment, inputs: Sequence[Array]) -> list[Array]:
    """Compiles, loads and runs once."""
    return Loaded(device, segment, PackStore(None)).run(inputs)


def _results(segment: Segment) -> list[Array]:
    specs = [segment.specs[i] for i in (*segment.outputs, *segment.variables)]
    return [np.empty(spec.shape, spec.dtype.numpy) for spec in specs]
