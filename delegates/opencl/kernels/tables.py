"""Unary ops of 8 bits, as a table of all 256 results that the OpDef's own reference form makes: exact for every op.

Imports core.ops, launches, lowering.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.launches import Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering

_BODY = """
const int i = get_global_id(0);
if (i >= n) return;
y[i] = table[x[i]];
"""


def table_of(node: Node) -> Array:
    """The node's results for every value of its 8-bit input, in the order of bit patterns."""
    opdef = registry.find(node.op.name)
    assert opdef is not None
    x, y = replace(node.input(0), shape=(256,), value=None), replace(node.outputs[0], shape=(256,))
    small = replace(node, inputs=(x,), outputs=(y,))
    form = opdef.form(small)
    assert form is not None
    with np.errstate(all="ignore"):
        (found,) = form.prepare(small)(np.arange(256, dtype=np.uint8).view(x.dtype.numpy))
    return found


def _emit(node: Node, emit: Emitter) -> None:
    table = emit.blob(table_of(node).view(np.uint8))
    n = node.outputs[0].n_elements
    args = (
        Read("uchar", "x", emit.input(node, 0)),
        Read("uchar", "table", table),
        Write("uchar", "y", emit.output(node)),
        Int("n", n),
    )
    emit.launch("table_8_bits", n, args, _BODY)


_OPS = (
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RELU_0_TO_1",
    "LEAKY_RELU",
    "LOGISTIC",
    "TANH",
    "HARD_SWISH",
    "ELU",
    "GELU",
    "ABS",
    "NEG",
    "EXP",
    "LOG",
)
_SAME = ("int8 -> int8", "uint8 -> uint8")

LOWERINGS = (
    *(Lowering(op, _SAME, _emit) for op in _OPS),
    Lowering("QUANTIZE", ("int8|uint8 -> int8|uint8",), _emit),
)
