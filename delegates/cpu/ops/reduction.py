"""MEAN."""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.reduction import n_reduced, resolved_axes
from delegraph.core.ops.families.reduction_sums import mean_multiplier
from delegraph.core.ops.fixed_point import quantize_multiplier
from delegraph.core.ops.opdef import Node
from delegraph.delegates.cpu.constraints import computable, constant
from delegraph.delegates.cpu.kernels.reduction import Mean
from delegraph.delegates.cpu.lower import Lowering, strides_of
from delegraph.delegates.cpu.ops.pointwise import ELEMENTS
from delegraph.delegates.cpu.ops.registry import lowering


def _reduced(node: Node) -> tuple[int, ...]:
    axis = node.input(1).value
    return () if axis is None else resolved_axes(np.asarray(axis), len(node.input(0).shape)) or ()


def parameters(node: Node) -> tuple[float, ...]:
    """See kernels.reduction.Mean."""
    x, n = node.input(0), n_reduced(node.input(0).shape, _reduced(node))
    if x.dtype is DType.FLOAT32:
        return (float(n),)
    q, out = node.quantization(0), node.output_quantization()
    node.expect(float(out.scale) > 0, "outputs[0].quantization", "a scale above 0", out.scale)
    multiplier, shift = mean_multiplier(*quantize_multiplier(float(q.scale) / float(out.scale)), max(n, 1))
    return q.zero_point * n, multiplier, max(shift, 0), max(-shift, 0), out.zero_point


@lowering(
    "MEAN",
    *(f"{t}, int32 -> {t}" for t in ("float32", "int8", "uint8")),
    constraints=(constant(1, what="axis"), computable(parameters)),
)
def lower_mean(low: Lowering, node: Node) -> None:
    x, axes = node.input(0), _reduced(node)
    size = x.dtype.numpy.itemsize
    kept: list[tuple[int, int]] = []
    reduced: list[tuple[int, int]] = []
    for a, (length, stride) in enumerate(zip(x.shape, strides_of(x.shape, size), strict=True)):
        if length > 1:
            (reduced if a in axes else kept).append((length, stride))
    words = low.words(*parameters(node), floats=int(x.dtype is DType.FLOAT32))
    kernel = Mean(ELEMENTS[str(x.dtype)], _merged(kept), _merged(reduced))
    low.emit(kernel, low.output(node), low.input(node, 0), words)


def _merged(loops: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(length, stride) pairs with neighbours joined that are one run of memory."""
    found: list[tuple[int, int]] = []
    for length, stride in loops:
        if found and found[-1][1] == stride * length:
            found[-1] = (found[-1][0] * length, stride)
        else:
            found.append((length, stride))
    return tuple(found)
