"""LOGISTIC, TANH, ELU and GELU: smooth activations.

Source: tflite/kernels/activations.cc; kernels/internal/reference/{logistic,tanh,elu,gelu}.h,
reference/integer_ops/{logistic,tanh}.h, kernels/internal/common.h (LUTPopulate, the sigmoid table).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.expression import arg, attr, call
from delegraph.core.ops.fixed_point import checked_log2
from delegraph.core.ops.movement import one_type, symmetric_int16
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, Operand, Result
from delegraph.core.ops.pointwise import (
    Function,
    approximated,
    by_table,
    float_cases,
    formula,
    quantized_cases,
    through_float64,
    unary_op,
)
from delegraph.core.ops.special import erfc

_X = arg(0)
_LOGISTIC = call(
    "select",
    _X > 16.619047164916992188,
    1.0,
    call("select", _X < -9.0, call("exp", _X), 1.0 / (1.0 + call("exp", -_X))),
)
_TANH = call("tanh", _X)
_ELU = call("select", _X < 0.0, call("expm1", _X), _X)
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)
_GELU_EXACT = 0.5 * _X * call("erfc", _X * -_ROOT_HALF)
_GELU_APPROXIMATE = 0.5 * _X * (1.0 + call("tanh", _ROOT_2_OVER_PI * (_X + 0.044715 * (_X * _X * _X))))
_GELU = call("select", attr("approximate"), _GELU_APPROXIMATE, _GELU_EXACT)

# --- rules --------------------------------------------------------------------------------------------------------


def _logistic_output(node: Node) -> str | None:
    y = node.outputs[0]
    if y.dtype not in (DType.INT8, DType.UINT8, DType.INT16):
        return None
    scale = per_tensor(node, None).scale
    return None if scale == (1 / 32768 if y.dtype is DType.INT16 else 1 / 256) else f"{scale}"


def _tanh_output(node: Node) -> str | None:
    if node.outputs[0].dtype is not DType.INT16:
        return None
    scale = per_tensor(node, None).scale
    return None if checked_log2(scale) == -15 else f"{scale}"


LOGISTIC_OUTPUT = Constraint(
    "output_scale", "the scale of a quantized output must be 1/256, or 1/32768 for int16", _logistic_output
)

TANH_OUTPUT = Constraint("output_scale", "the scale of an int16 output must be 1/32768", _tanh_output)

# --- LOGISTIC and TANH of int16 -----------------------------------------------------------------------------------

# How much LiteRT's 16-bit table of sigmoid(i / 24) lies above 65536 · sigmoid(i / 24) rounded down, for each i.
_ABOVE_FLOOR = (
    "0110101011111111111111111111221112121111111211111111111111111111"
    "1011101011111111111110111100011001111101000110111011101100010011"
    "0101001100011010111110111100110010000001010001000110101001110000"
    "0111001101101010101001011011001100110001100001110000011111000001"
)


def _sigmoid_table() -> Array:
    sigmoid = 65536 / (1 + np.exp(np.arange(256) / -24))
    above: Array = np.array([int(digit) for digit in _ABOVE_FLOOR])
    return np.floor(sigmoid).astype(np.int64) + above


def _table_input(node: Node, pot_shifts: Sequence[int]) -> tuple[int, int]:
    """(multiplier, right shift) that bring an int16 input to the scale 1 / (3 · 4096) of the table.

    A power of two that needs one of ``pot_shifts`` is taken exactly. Source: TanhPrepare, SigmoidPrepare.
    """
    scale = per_tensor(node, 0).scale
    exponent = checked_log2(scale)
    if exponent is not None and 12 + exponent in pot_shifts:
        return 3 << (12 + exponent), 0
    multiplier, shift = float(scale) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        shift += 1
        multiplier *= 2.0
    return (int(multiplier), shift) if multiplier >= 1 else (3 << shift, 0)


def _to_table(x: Array, multiplier: int, shift: int) -> Array:
    """The product wraps at 32 bits, as in C."""
    half = 1 << (shift - 1) if shift > 0 else 0
    return (x * multiplier + half).astype(np.int32).astype(np.int64) >> shift


def _logistic_int16(node: Node) -> Function:
    """Linear interpolation in the table, by symmetry below zero. Source: Logistic (integer_ops/logistic.h)."""
    multiplier, shift = _table_input(node, (0,))
    table = _sigmoid_table()

    def compute(x: Array) -> Array:
        at = _to_table(x, multiplier, shift)
        size = np.abs(at)
        index = np.minimum(size >> 9, 254)
        y = (table[index] << 9) + (size & 0x1FF) * (table[index + 1] - table[index])
        y = np.where(size >> 9 >= 255, 0x7FFF << 10, y)
        y = np.where(at >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1)
        return (y >> 10).astype(np.int16)

    return compute


def _tanh_int16(node: Node) -> Function:
    """2·sigmoid(2x) - 1, from the same table. Source: Tanh (integer_ops/tanh.h)."""
    multiplier, shift = _table_input(node, (0, 1))
    table = _sigmoid_table()

    def compute(x: Array) -> Array:
        at = _to_table(x, multiplier, shift)
        size = np.abs(at)
        index = np.minimum(size >> 8, 254)
        y = (table[index] << 8) + (size & 0xFF) * (table[index + 1] - table[index])
        y = np.where(size >> 8 >= 255, 0xFFFF << 8, y)
        y = np.where(at >= 0, y - (1 << 23) + (1 << 7), -y + (1 << 23) + (1 << 7) - 1)
        return (y >> 8).astype(np.int16)

    return compute


# --- functions that LiteRT tabulates ------------------------------------------------------------------------------

_exp64, _tanh64, _expm164 = (through_float64(f) for f in (np.exp, np.tanh, np.expm1))
_erfc64 = through_float64(erfc)


def _logistic(x: Array) -> Array:
    one = np.float32(1)
    y: Array = one / (one + _exp64(-x))
    return y


def _elu(x: Array) -> Array:
    return np.where(x < 0, _expm164(x), x)


def _gelu_exact(x: Array) -> Array:
    """Source: GeluTransform."""
    return np.float32(0.5) * x * _erfc64(x * np.float32(-_ROOT_HALF))


def _gelu_approximate(x: Array) -> Array:
    """Source: GeluTransformApproximate."""
    inner = np.float32(_ROOT_2_OVER_PI) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1) + _tanh64(inner))


# --- GELU ---------------------------------------------------------------------------------------------------------


def _gelu_float(node: Node) -> Kernel:
    return formula(_GELU_APPROXIMATE if node.options.approximate else _GELU_EXACT)(node)


def _gelu_tabulated(node: Node) -> Kernel:
    return approximated(_gelu_approximate if node.options.approximate else _gelu_exact)(node)


def _gelu_bound(node: Node, inputs: Sequence[Any], expected: Sequence[Array]) -> Sequence[Any]:
    """LiteRT takes Eigen's erfc and tanh, which round differently: a few units of |x| where 1 + tanh cancels.

    float16 is rounded after each step there, and once here.
    """
    if expected[0].dtype == np.float16:
        return [4 * 2.0**-11 * np.abs(inputs[0].astype(np.float32)) + 2.0**-24]
    if node.options.approximate:
        return [6 * 2.0**-24 * np.abs(inputs[0]) + 1e-45]
    return [16 * np.spacing(np.abs(expected[0]))]


# --- cases --------------------------------------------------------------------------------------------------------


def _with_output(cases: Iterator[Case], rng: np.random.Generator, scales: Sequence[float]) -> Iterator[Case]:
    """The cases with another output scale for each, and again with the inputs' scales powers of two."""
    for i, case in enumerate(cases):
        (x,), (y,) = case.inputs, case.outputs
        assert x is not None and x.quantization is not None and y.quantization is not None
        x_q = x.quantization
        if i % 3 == 2:
            x_q = Quantization.per_tensor(2.0 ** -float(rng.integers(8, 14)), x_q.zero_point)
        y_q = Quantization.per_tensor(scales[i % len(scales)], y.quantization.zero_point)
        yield Case(case.name, (Operand(x.data, x_q),), (Result(y.dtype, y_q),), case.options)


def _logistic_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -20, 20, (DType.FLOAT32, DType.FLOAT16))
    yield from _with_output(quantized_cases(rng, (DType.INT8, DType.UINT8)), rng, (1 / 256,))
    yield from _with_output(quantized_cases(rng, (DType.INT16,)), rng, (1 / 32768,))
    q = Quantization.per_tensor(0.01, 0)
    yield Case("int8_other_scale", (Operand(np.zeros(2, np.int8), q),), (Result(DType.INT8, q),))


def _tanh_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -10, 10, (DType.FLOAT32, DType.FLOAT16))
    yield from _with_output(quantized_cases(rng, (DType.INT8, DType.UINT8)), rng, (1 / 128,))
    yield from _with_output(quantized_cases(rng, (DType.INT16,)), rng, (1 / 32768,))
    q = Quantization.per_tensor(0.01, 0)
    yield Case("int16_other_scale", (Operand(np.zeros(2, np.int16), q),), (Result(DType.INT16, q),))


def _elu_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -8, 4, oracle="builtin")
    yield from quantized_cases(rng, (DType.INT8,), oracle="builtin")


def _gelu_cases(rng: np.random.Generator) -> Iterator[Case]:
    for approximate in (False, True):
        for case in (
            *float_cases(rng, -6, 6, (DType.FLOAT32, DType.FLOAT16)),
            *quantized_cases(rng, (DType.INT8, DType.UINT8, DType.INT16)),
        ):
            if rng.random() < 0.6:
                options = {"approximate": approximate}
                yield Case(f"{case.name}_{'tanh' if approximate else 'erf'}", case.inputs, case.outputs, options)


# --- declarations -------------------------------------------------------------------------------------------------

_HALVES = "float16|bfloat16"

LOGISTIC = unary_op(
    "LOGISTIC",
    (
        Form("float32 -> float32", formula(_LOGISTIC)),
        one_type("{T} -> {T}", formula(_LOGISTIC), _HALVES),
        Form("int8 -> int8", approximated(_logistic)),
        Form("uint8 -> uint8", approximated(_logistic)),
        Form("int16 -> int16", by_table(_logistic_int16)),
    ),
    bounds.ulps(6),
    _logistic_cases,
    versions=(1, 3),
    constraints=(symmetric_int16(), LOGISTIC_OUTPUT),
    expression=_LOGISTIC,
)

TANH = unary_op(
    "TANH",
    (
        Form("float32 -> float32", formula(_TANH)),
        one_type("{T} -> {T}", formula(_TANH), _HALVES),
        Form("int8 -> int8", approximated(_tanh64)),
        Form("uint8 -> uint8", approximated(_tanh64)),
        Form("int16 -> int16", by_table(_tanh_int16)),
    ),
    bounds.ulps(4),
    _tanh_cases,
    versions=(1, 3),
    constraints=(symmetric_int16(), TANH_OUTPUT),
    expression=_TANH,
)

# BUILTIN_REF has no ELU: the builtin resolver is its oracle.
ELU = unary_op(
    "ELU",
    (Form("float32 -> float32", formula(_ELU)), Form("int8 -> int8", approximated(_elu))),
    bounds.ulps(3),
    _elu_cases,
    expression=_ELU,
)

GELU = unary_op(
    "GELU",
    (
        Form("float32 -> float32", _gelu_float),
        Form("float16 -> float16", _gelu_float),
        Form("int8 -> int8", _gelu_tabulated),
        Form("uint8 -> uint8", _gelu_tabulated),
        Form("int16 -> int16", _gelu_tabulated),
    ),
    _gelu_bound,
    _gelu_cases,
    options="GeluOptions",
    versions=(1, 3),
    expression=_GELU,
)

OPS = (LOGISTIC, TANH, ELU, GELU)
