"""Unary ops of 8 bits, as a table of all 256 results that the OpDef's own reference form makes: exact for every op.

Imports core.ops, launches, lowering.
"""

from __future__ import annotations

from delegraph.core.ops.opdef import Node
from delegraph.core.ops.pointwise import reference_table
from delegraph.delegates.opencl.launches import Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering

_BODY = """
const int i = get_global_id(0);
if (i >= n) return;
y[i] = table[x[i]];
"""


def _emit(node: Node, emit: Emitter) -> None:
    table = emit.blob(reference_table(node))
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
