"""SOFTMAX."""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.families.softmax import _exponentials, _multiplier, _scaled_distances
from delegraph.core.ops.fixed_point import quantize_multiplier
from delegraph.core.ops.opdef import Node
from delegraph.delegates.cpu.constraints import computable
from delegraph.delegates.cpu.kernels.softmax import SoftmaxBytes, SoftmaxFloat
from delegraph.delegates.cpu.lower import Lowering
from delegraph.delegates.cpu.ops.pointwise import ELEMENTS
from delegraph.delegates.cpu.ops.registry import lowering


def _rows(node: Node) -> tuple[int, int]:
    x = node.input(0)
    return x.n_elements // x.shape[-1], x.shape[-1]


@lowering("SOFTMAX", "float32 -> float32")
def lower_float(low: Lowering, node: Node) -> None:
    parameters = low.words(node.options.beta, floats=1)
    low.emit(SoftmaxFloat(*_rows(node)), low.output(node), low.input(node, 0), parameters)


def tables(node: Node) -> tuple[Array, Array]:
    """Exponentials by distance from the maximum, and what of them is added up."""
    q, shift = quantize_multiplier(_multiplier(node.options.beta, float(per_tensor(node, 0).scale)))
    return _exponentials(*_scaled_distances(q, shift))


@lowering("SOFTMAX", "int8 -> int8", "uint8 -> uint8", constraints=(computable(tables),))
def lower_bytes(low: Lowering, node: Node) -> None:
    exponentials, parts = (low.constant(t.astype(np.int32)) for t in tables(node))
    kernel = SoftmaxBytes(ELEMENTS[str(node.input(0).dtype)], *_rows(node))
    low.emit(kernel, low.output(node), low.input(node, 0), exponentials, parts)
