"""Segments that time an op: copies of it side by side, in a row, or behind an ADD. Imports core.abi and left of it.

Each gets a graph of its own, in which the numbers of the tensors that it had before stay what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from delegraph.core.abi.values import Segment
from delegraph.core.devices.timing_cases import pair
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Graph, Op, Quantization, Shape, Tensor
from delegraph.core.model.table import Table
from delegraph.core.ops.opdef import Node, TensorSpec


def copies(segment: Segment, n: int) -> Segment:
    """The segment ``n`` times side by side: the same constants, other data."""
    tensors = list(segment.graph.tensors)
    nodes = list(segment.nodes)
    inputs, outputs, specs = list(segment.inputs), list(segment.outputs), dict(segment.specs)
    moving = {*segment.inputs, *(i for node in segment.nodes for i in node.op.outputs if i >= 0)}
    for k in range(1, n):
        new = {i: len(tensors) + position for position, i in enumerate(sorted(moving))}
        tensors += [replace(tensors[i], index=at, name=f"{tensors[i].name}/{k}") for i, at in new.items()]
        for node in segment.nodes:
            ins, outs = (tuple(new.get(i, i) for i in side) for side in (node.op.inputs, node.op.outputs))
            nodes.append(replace(node, op=replace(node.op, index=len(nodes), inputs=ins, outputs=outs)))
        inputs += [new[i] for i in segment.inputs]
        outputs += [new[i] for i in segment.outputs]
        specs |= {new[i]: spec for i, spec in segment.specs.items() if i in new}
    return _segment(segment.graph, tensors, nodes, inputs, outputs, specs)


def chain(dtype: DType, length: int, shape: Shape = (1, 16)) -> Segment:
    """So many ADDs, one after the other; the second operand of each is a constant."""
    one = pair("ADD", dtype, shape, shape[-1:])
    (node,), (x,), (y,) = one.nodes, one.inputs, one.outputs
    tensors, nodes = list(one.graph.tensors), []
    for k in range(length):
        op = replace(node.op, index=k, inputs=(x if k == 0 else y, *node.op.inputs[1:]))
        if k:
            y = len(tensors)
            tensors.append(replace(tensors[one.outputs[0]], index=y, name=f"sum/{k}"))
        spec = node.input(0) if k == 0 else node.outputs[0]
        nodes.append(replace(node, op=replace(op, outputs=(y,)), inputs=(spec, *node.inputs[1:])))
    return _segment(one.graph, tensors, nodes, [x], [y], {**one.specs, y: node.outputs[0]})


def inside(segment: Segment, *, is_between: bool) -> tuple[Segment, Segment] | None:
    """(the op behind an ADD, the same without it); with another ADD behind, if ``is_between``. The op's own cost within
    a segment is the difference. None for types that have no ADD everywhere.

    segment: of one op, the bytes of whose result are those of its data if ``is_between``.
    """
    (node,), data = segment.nodes, segment.inputs[0]
    spec = segment.specs[data]
    if spec.dtype not in (DType.FLOAT32, DType.INT8, DType.UINT8):
        return None
    if spec.dtype is not DType.FLOAT32 and (spec.quantization is None or not spec.quantization.is_per_tensor):
        return None
    graph = segment.graph
    first, one, last, short = range(len(graph.tensors), len(graph.tensors) + 4)
    quantization = None if spec.dtype is DType.FLOAT32 else Quantization.per_tensor(0.05)
    value = np.ones(1, spec.dtype.numpy)
    value.flags.writeable = False
    result = node.outputs[0]
    tensors = [
        *graph.tensors,
        replace(graph.tensors[data], index=first, name="first", data=None),
        Tensor(one, "one", spec.dtype, (1,), (1,), quantization=quantization).with_constant(value),
        replace(graph.tensors[segment.outputs[0]], index=last, name="last", data=None),
        replace(graph.tensors[data], index=short, name="short", data=None),
    ]
    constant = TensorSpec(spec.dtype, (1,), quantization, value)

    def add(index: int, source: int, target: int, data: TensorSpec) -> Node:
        options = Table("AddOptions")
        op = Op(index, "ADD", 1, (source, one), (target,), options, place="timing")
        return Node(op, (data, constant), (data,), options)

    named = {**segment.specs, first: spec, last: result, short: spec}
    before, op = add(0, first, data, spec), replace(node, op=replace(node.op, index=1))
    inputs = [first, *segment.inputs[1:]]
    if not is_between:
        whole = _segment(graph, tensors, [before, op], inputs, segment.outputs, named)
        return whole, _segment(graph, tensors, [before], [first], [data], named)
    whole = _segment(graph, tensors, [before, op, add(2, segment.outputs[0], last, result)], inputs, [last], named)
    return whole, _segment(graph, tensors, [before, add(1, data, short, spec)], [first], [short], named)


def _segment(
    graph: Graph,
    tensors: Sequence[Tensor],
    nodes: Sequence[Node],
    inputs: Sequence[int],
    outputs: Sequence[int],
    specs: dict[int, TensorSpec],
) -> Segment:
    whole = replace(
        graph,
        tensors=tuple(tensors),
        ops=tuple(node.op for node in nodes),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        folded=(),
        all_ops=(),
    )
    return Segment(whole, tuple(nodes), tuple(inputs), tuple(outputs), (), specs)
