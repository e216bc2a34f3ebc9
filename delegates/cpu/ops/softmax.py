"""SOFTMAX."""

from __future__ import annotations

import numpy as np

from delegraph.core.ops.families.softmax import exponential_tables
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


@lowering("SOFTMAX", "int8 -> int8", "uint8 -> uint8", constraints=(computable(exponential_tables),))
def lower_bytes(low: Lowering, node: Node) -> None:
    exponentials, parts = (low.constant(t.astype(np.int32)) for t in exponential_tables(node))
    kernel = SoftmaxBytes(ELEMENTS[str(node.input(0).dtype)], *_rows(node))
    low.emit(kernel, low.output(node), low.input(node, 0), exponentials, parts)
