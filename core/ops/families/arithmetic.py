"""ADD, SUB and SQUARED_DIFFERENCE.

Source: tflite/kernels/{add,sub,squared_difference}.cc; kernels/internal/reference/{add,sub}.h,
reference/integer_ops/add.h.

Quantized operands are brought to the scale ``2 · max(s1, s2) / 2^left_shift``, added, and scaled to the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops.arithmetic import (
    activation_of,
    arithmetic_op,
    float16_kernel,
    fused_options,
    integer_kernel,
    small_integers,
)
from delegraph.core.ops.broadcasting import elementwise, is_quantized, per_tensor
from delegraph.core.ops.cases import integers
from delegraph.core.ops.fixed_point import (
    activation_range,
    checked_log2,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, Operand, Result, forms

# --- quantized sums -----------------------------------------------------------------------------------------------

_LEFT_SHIFT = {"ADD": 20, "SUB": 20, "SQUARED_DIFFERENCE": 7}


def left_shift(node: Node) -> int:
    """Bits by which operands less their zero points are shifted before they are scaled. Source: Prepare of add.cc,
    sub.cc, squared_difference.cc."""
    return 15 if node.input(0).dtype is DType.INT16 else _LEFT_SHIFT[node.op.name]


def sum_multipliers(node: Node) -> tuple[float, float, float]:
    """What the two inputs and their sum (or its square) are multiplied by. Source: Prepare of add.cc, sub.cc,
    squared_difference.cc: the doubled scale and the product with the output's scale are float32."""
    s1, s2, s_out = (per_tensor(node, slot).scale for slot in (0, 1, None))
    twice = float(np.float32(2) * max(s1, s2))
    shift = left_shift(node)
    if node.op.name == "SQUARED_DIFFERENCE":
        return float(s1) / twice, float(s2) / twice, twice * twice / float(np.float32(1 << 2 * shift) * s_out)
    return float(s1) / twice, float(s2) / twice, twice / float(np.float32(1 << shift) * s_out)


def _sum_quantized(node: Node) -> Kernel:
    m1, m2, m_out = (quantize_multiplier(m) for m in sum_multipliers(node))
    zp1, zp2, zp_out = (per_tensor(node, slot).zero_point for slot in (0, 1, None))
    low, high = activation_range(activation_of(node), node.outputs[0].dtype, node.output_quantization())
    shift, name = left_shift(node), node.op.name

    def function(a: Array, b: Array) -> Any:
        x = multiply_by_quantized_multiplier((a.astype(np.int64) - zp1) << shift, *m1)
        y = multiply_by_quantized_multiplier((b.astype(np.int64) - zp2) << shift, *m2)
        total = x + y if name == "ADD" else x - y
        if name == "SQUARED_DIFFERENCE":
            total = total * total
        return np.clip(multiply_by_quantized_multiplier(total, *m_out) + zp_out, low, high)

    return small_integers(node, function)


def _rescales_down(node: Node) -> str | None:
    """NOTE: from 1 on LiteRT aborts; except SUB, which above 1 shifts by a negative number, undefined in C."""
    if node.input(0).dtype not in (DType.INT8, DType.UINT8) and not _is_general_int16(node):
        return None
    multiplier = sum_multipliers(node)[2]
    if multiplier < 1:
        return None
    return f"a multiplier of {multiplier:g}"


RESCALES_DOWN = Constraint(
    "output_multiplier",
    "the output's scale has to be large enough for the sum to be scaled down",
    _rescales_down,
)


# --- int16 sums ---------------------------------------------------------------------------------------------------


def _is_plain_int16(node: Node) -> bool:
    return not any(is_quantized(node, slot) for slot in (0, 1, None))


def _pot_exponents(node: Node) -> tuple[int, int] | None:
    """log2 of the input scales over the output scale where all three are powers of two and the op says so."""
    if not node.options.pot_scale_int16:
        return None
    logs = [checked_log2(per_tensor(node, slot).scale) for slot in (0, 1, None)]
    if None in logs:
        return None
    x, y, z = (log for log in logs if log is not None)
    return x - z, y - z


def _is_general_int16(node: Node) -> bool:
    return node.input(0).dtype is DType.INT16 and not _is_plain_int16(node) and _pot_exponents(node) is None


def _int16_symmetric(node: Node) -> str | None:
    if node.input(0).dtype is not DType.INT16 or _is_plain_int16(node):
        return None
    points = [per_tensor(node, slot).zero_point for slot in (0, 1, None)]
    return None if not any(points) else f"zero points {points}"


def _int16_pot(node: Node) -> str | None:
    """NOTE: LiteRT shifts int16 by more than 15 bits wrongly."""
    if node.input(0).dtype is not DType.INT16 or _is_plain_int16(node):
        return None
    shifts = _pot_exponents(node)
    if shifts is None or (max(shifts) == 0 and min(shifts) >= -15):
        return None
    return f"input scales 2^{shifts[0]} and 2^{shifts[1]} times the output's"


def _int16_pot_broadcast(node: Node) -> str | None:
    if node.op.name != "ADD" or node.input(0).dtype is not DType.INT16 or _is_plain_int16(node):
        return None
    x, y = node.input(0).shape, node.input(1).shape
    while x[:1] == (1,) and len(x) > len(y):
        x = x[1:]
    while y[:1] == (1,) and len(y) > len(x):
        y = y[1:]
    return None if x == y or _pot_exponents(node) is None else f"{node.input(0).shape} and {node.input(1).shape}"


INT16_CONSTRAINTS = (
    RESCALES_DOWN,
    Constraint("int16_symmetric", "int16 operands have to have zero points of 0", _int16_symmetric),
    Constraint(
        "int16_power_of_two",
        "of int16 operands whose scales are powers of two, one has to have the output's scale and the other at most it",
        _int16_pot,
    ),
    Constraint(
        "int16_broadcast",
        "ADD of int16 operands whose scales are powers of two does not broadcast",
        _int16_pot_broadcast,
    ),
)


def _sum_int16(node: Node) -> Kernel:
    shifts = _pot_exponents(node)
    if shifts is None:
        return _sum_quantized(node)
    low, high = activation_range(activation_of(node), DType.INT16, node.output_quantization())
    combine = np.add if node.op.name == "ADD" else np.subtract

    def function(a: Array, b: Array) -> Any:
        x = rounding_divide_by_pot(a.astype(np.int64), -shifts[0])
        y = rounding_divide_by_pot(b.astype(np.int64), -shifts[1])
        return np.clip(combine(x, y), low, high)

    return elementwise(node, function)


# --- cases ----------------------------------------------------------------------------------------------------------


def _pot_cases(rng: np.random.Generator, name: str) -> Iterator[Case]:
    """int16 with scales that are powers of two (nearly), in the two arrangements that exist and some that do not."""
    for i, (e1, e2) in enumerate([(0, 0), (0, -3), (-1, 0), (0, -15), (1, 0), (-2, -2), (0, -9), (-8, 0)]):
        e_out = int(rng.integers(-15, -3))
        scales = [2.0 ** (e1 + e_out) * (1 + 3e-4 * (i % 2)), 2.0 ** (e2 + e_out), 2.0**e_out]
        x, y, z = (Quantization.per_tensor(s, 0) for s in scales)
        shapes = [((30,), (30,)), ((2, 5), (1, 2, 5)), ((3, 4), (4,))][i % 3 if name == "SUB" or i == 5 else i % 2]
        a, b = (integers(rng, DType.INT16, s) for s in shapes)
        options = {"pot_scale_int16": i != 7, **fused_options(name, int(rng.integers(0, 4)))}
        yield Case(f"int16_pot_{i}", (Operand(a, x), Operand(b, y)), (Result(DType.INT16, z),), options)


# --- declarations ---------------------------------------------------------------------------------------------------

_T = "{T}, {T} -> {T}"

ADD = arithmetic_op(
    "ADD",
    6,
    (
        *forms(_T, integer_kernel, T=("int32", "int64")),
        Form("int16, int16 -> int16", integer_kernel, when=_is_plain_int16, note="not quantized"),
        Form("float16, float16 -> float16", float16_kernel),
        *forms(_T, _sum_quantized, T=("int8", "uint8")),
        Form("int16, int16 -> int16", _sum_int16),
    ),
    INT16_CONSTRAINTS,
    lambda rng: _pot_cases(rng, "ADD"),
)
SUB = arithmetic_op(
    "SUB",
    5,
    (
        *forms(_T, integer_kernel, T=("int32", "int64")),
        *forms(_T, _sum_quantized, T=("int8", "uint8")),
        Form("int16, int16 -> int16", _sum_int16),
    ),
    INT16_CONSTRAINTS,
    lambda rng: _pot_cases(rng, "SUB"),
)
SQUARED_DIFFERENCE = arithmetic_op(
    "SQUARED_DIFFERENCE",
    2,
    (Form("int32, int32 -> int32", integer_kernel), Form("int8, int8 -> int8", _sum_quantized)),
    (RESCALES_DOWN,),
)

OPS = (ADD, SUB, SQUARED_DIFFERENCE)
