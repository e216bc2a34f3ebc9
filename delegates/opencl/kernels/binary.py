"""ADD, SUB and MUL of 8 bits: fixed-point arithmetic as in the OpDefs, exact. Imports core.ops, launches, lowering.

Source: core.ops.families.arithmetic (sums), core.ops.families.multiplication (products).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.fixed_point import activation_range, quantize_multiplier
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.indexing import broadcast_offset
from delegraph.delegates.opencl.launches import Arg, Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.rules import ACTIVATION

_LEFT_SHIFT = 20
"""Operands of a sum are brought to the scale 2 · max(s1, s2) / 2^20."""

_BODY = """
const int i = get_global_id(0);
if (i >= n) return;
const int a = (int)p[{a}] - a_zero;
const int b = (int)q[{b}] - b_zero;
y[i] = requantize({total}, q_out, shift_out, zero, low, high);
"""

_SCALED = "rescale({x} * (1 << 20), q_{x}, shift_{x})"


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
    a, b, y = (per_tensor(node, slot).scale for slot in (0, 1, None))
    twice = float(np.float32(2) * max(a, b))
    (q_a, shift_a), (q_b, shift_b) = quantize_multiplier(float(a) / twice), quantize_multiplier(float(b) / twice)
    out = quantize_multiplier(twice / float(np.float32(1 << _LEFT_SHIFT) * y))
    more = (Int("q_a", q_a), Int("shift_a", shift_a), Int("q_b", q_b), Int("shift_b", shift_b))
    sign = "+" if node.op.name == "ADD" else "-"
    _emit(node, emit, f"{_SCALED.format(x='a')} {sign} {_SCALED.format(x='b')}", more, out)


def _emit_product(node: Node, emit: Emitter) -> None:
    a, b, y = (per_tensor(node, slot).scale for slot in (0, 1, None))
    _emit(node, emit, "a * b", (), quantize_multiplier(float(a * b / y)))


_TYPES = ("int8, int8 -> int8", "uint8, uint8 -> uint8")

LOWERINGS = (
    Lowering("ADD", _TYPES, _emit_sum, (ACTIVATION,)),
    Lowering("SUB", _TYPES, _emit_sum, (ACTIVATION,)),
    Lowering("MUL", _TYPES, _emit_product, (ACTIVATION,)),
)
