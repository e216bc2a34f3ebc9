"""ADD, SUB and MUL of 8 bits: fixed-point arithmetic as in the OpDefs, exact. Imports core.ops, launches, lowering.

Source: core.ops.families.arithmetic (sums), core.ops.families.multiplication (products).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.families.arithmetic import left_shift, sum_multipliers
from delegraph.core.ops.families.multiplication import product_multiplier
from delegraph.core.ops.fixed_point import activation_range, quantize_multiplier
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.indexing import broadcast_offset
from delegraph.delegates.opencl.launches import Arg, Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.rules import ACTIVATION

_BODY = """
const int i = get_global_id(0);
if (i >= n) return;
const int a = (int)p[{a}] - a_zero;
const int b = (int)q[{b}] - b_zero;
y[i] = requantize({total}, q_out, shift_out, zero, low, high);
"""

_SCALED = "rescale({x} * (1 << {left}), q_{x}, shift_{x})"


def _emit(node: Node, emit: Emitter, total: str, more: Sequence[Arg], multiplier: tuple[int, int]) -> None:
    y, ctype = node.outputs[0], c_byte(node)
    y_q = per_tensor(node, None)
    low, high = activation_range(int(node.options.fused_activation_function), y.dtype, y_q)
    offsets = (broadcast_offset(y.shape, node.input(slot).shape) for slot in (0, 1))
    body = _BODY.format(a=next(offsets), b=next(offsets), total=total)
    args = (
        Read(ctype, "p", emit.input(node, 0)),
        Read(ctype, "q", emit.input(node, 1)),
        Write(ctype, "y", emit.output(node)),
        Int("n", y.n_elements),
        Int("a_zero", per_tensor(node, 0).zero_point),
        Int("b_zero", per_tensor(node, 1).zero_point),
        *more,
        Int("q_out", multiplier[0]),
        Int("shift_out", multiplier[1]),
        Int("zero", y_q.zero_point),
        Int("low", low),
        Int("high", high),
    )
    emit.launch(f"{node.op.name.lower()}_{y.dtype}", y.n_elements, args, body)


def c_byte(node: Node) -> str:
    """OpenCL C's type of the node's 8-bit input."""
    return "char" if node.input(0).dtype.numpy == np.int8 else "uchar"


def _emit_sum(node: Node, emit: Emitter) -> None:
    (q_a, shift_a), (q_b, shift_b), out = (quantize_multiplier(m) for m in sum_multipliers(node))
    more = (Int("q_a", q_a), Int("shift_a", shift_a), Int("q_b", q_b), Int("shift_b", shift_b))
    sign = "+" if node.op.name == "ADD" else "-"
    a, b = (_SCALED.format(x=x, left=left_shift(node)) for x in "ab")
    _emit(node, emit, f"{a} {sign} {b}", more, out)


def _emit_product(node: Node, emit: Emitter) -> None:
    _emit(node, emit, "a * b", (), quantize_multiplier(product_multiplier(node)))


_TYPES = ("int8, int8 -> int8", "uint8, uint8 -> uint8")

LOWERINGS = (
    Lowering("ADD", _TYPES, _emit_sum, (ACTIVATION,)),
    Lowering("SUB", _TYPES, _emit_sum, (ACTIVATION,)),
    Lowering("MUL", _TYPES, _emit_product, (ACTIVATION,)),
)
