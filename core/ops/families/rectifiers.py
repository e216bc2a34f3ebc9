"""RELU and its kin, HARD_SWISH, LEAKY_RELU and PRELU: activations made of straight pieces.

Source: tflite/kernels/activations.cc; kernels/internal/reference/{hard_swish,leaky_relu,prelu}.h,
reference_ops.h (ReluX).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import (
    broadcast_shape,
    elementwise,
    elementwise_bytes,
    per_tensor,
    shape_pairs,
    some_pairs,
)
from delegraph.core.ops.cases import quantized, reals
from delegraph.core.ops.expression import Expression, arg, attr, call
from delegraph.core.ops.fixed_point import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
)
from delegraph.core.ops.movement import symmetric_int16
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result
from delegraph.core.ops.pointwise import (
    Function,
    by_table,
    c_int32,
    float_cases,
    formula,
    limits,
    quantized_cases,
    unary_op,
)

_X, _ALPHA = arg(0), arg(1)


def _clamp(low: float, high: float = math.inf) -> Expression:
    """The order of the operands lets a NaN through, as LiteRT's comparisons do."""
    y = call("maximum", low, _X)
    return y if high == math.inf else call("minimum", high, y)


_HARD_SWISH = _X * call("minimum", 6.0, call("maximum", 0.0, _X + 3.0)) / 6.0
_LEAKY_RELU = call("select", _X > 0.0, _X, _X * attr("alpha"))
_PRELU = call("select", _X >= 0.0, _X, _X * _ALPHA)

# --- rescaling kernels --------------------------------------------------------------------------------------------


def _relu_quantized(low: float, high: float) -> Callable[[Node], Kernel]:
    """Rescale, then clamp. Source: QuantizedReluX (activations.cc), ReluX."""

    def function_of(node: Node) -> Function:
        x_q, y_q = per_tensor(node, 0), per_tensor(node, None)
        least, greatest = limits(node.outputs[0].dtype)
        multiplier, shift = quantize_multiplier(float(x_q.scale / y_q.scale))

        def q(real: float) -> int:
            return y_q.zero_point + int(c_int32(round_half_away(np.float32(real) / y_q.scale)))

        least = max(least, q(low))
        if high != math.inf:
            greatest = min(greatest, q(high))

        def compute(x: Array) -> Array:
            y = multiply_by_quantized_multiplier(x - x_q.zero_point, multiplier, shift) + y_q.zero_point
            clamped: Array = np.minimum(np.maximum(y, least), greatest)
            return clamped

        return compute

    return by_table(function_of)


def _leaky_relu_quantized(node: Node) -> Function:
    """One multiplier on each side of zero; a negative alpha is applied after rounding. Source: QuantizeLeakyRelu."""
    x_q, y_q = per_tensor(node, 0), per_tensor(node, None)
    low, high = limits(node.outputs[0].dtype)
    alpha = np.float32(node.options.alpha)
    below, below_shift = quantize_multiplier(float(x_q.scale * alpha / y_q.scale))
    above, above_shift = quantize_multiplier(float(x_q.scale / y_q.scale))

    def compute(x: Array) -> Array:
        value = x - x_q.zero_point
        negative = multiply_by_quantized_multiplier(value, abs(below), below_shift)
        positive = multiply_by_quantized_multiplier(value, above, above_shift)
        y = np.where(value >= 0, positive, -negative if below < 0 else negative)
        clipped: Array = np.clip(y + y_q.zero_point, low, high)
        return clipped

    return compute


def _prelu_quantized(node: Node) -> Kernel:
    """Source: BroadcastPrelu4DSlow (prelu.h); multipliers are float32 products (PreluPrepare)."""
    x_q, alpha_q, y_q = per_tensor(node, 0), per_tensor(node, 1), per_tensor(node, None)
    low, high = limits(node.outputs[0].dtype)
    above, above_shift = quantize_multiplier(float(x_q.scale / y_q.scale))
    below, below_shift = quantize_multiplier(float(x_q.scale * alpha_q.scale / y_q.scale))

    def compute(x: Array, alpha: Array) -> Any:
        value = x.astype(np.int64) - x_q.zero_point
        product = value * (alpha.astype(np.int64) - alpha_q.zero_point)
        positive = multiply_by_quantized_multiplier(value, above, above_shift)
        negative = multiply_by_quantized_multiplier(product, below, below_shift)
        return np.clip(np.where(value >= 0, positive, negative) + y_q.zero_point, low, high)

    if node.input(0).dtype is DType.INT16:
        return elementwise(node, compute)
    return elementwise_bytes(node, compute)


# --- HARD_SWISH ---------------------------------------------------------------------------------------------------


def _hard_swish_multipliers(node: Node) -> tuple[float, float]:
    """To the output's scale, and to the scale on which 3.0 is 32768; both from 1/128 of the input's."""
    fine = np.float32(1 / 128) * per_tensor(node, 0).scale
    relu_like = np.float32(3) / np.float32(32768)
    return float(fine / per_tensor(node, None).scale), float(fine / relu_like)


def _int16_multiplier(multiplier: int) -> int:
    """Source: DownScaleInt32ToInt16Multiplier."""
    return 32767 if multiplier >= 2**31 - 1 - (1 << 15) else (multiplier + (1 << 15)) >> 16


def _high_mul_int16(a: Array, b: int) -> Array:
    """gemmlowp's SaturatingRoundingDoublingHighMul on int16 values; b ≥ 0 never saturates."""
    return (a * b + (1 << 14)) >> 15


def _divide_int16(x: Array, exponent: int) -> Array:
    """gemmlowp's RoundingDivideByPOT on int16: past 15 bits its mask is all ones, and no result is 0."""
    return np.where(x < 0, -1, 1) if exponent > 15 else rounding_divide_by_pot(x, exponent)


def _saturate_int16(x: Array) -> Array:
    saturated: Array = np.clip(x, -32768, 32767)
    return saturated


def _hard_swish_quantized(node: Node) -> Function:
    """16-bit fixed point: x on a fine scale times a factor in [0, 1], which saturates where |x| ≥ 3.

    Source: HardSwish (hard_swish.h), HardSwishPrepare.
    """
    x_zp, y_zp = per_tensor(node, 0).zero_point, per_tensor(node, None).zero_point
    low, high = limits(node.outputs[0].dtype)
    (out, out_shift), (relu, relu_shift) = map(quantize_multiplier, _hard_swish_multipliers(node))
    out16, relu16 = _int16_multiplier(out), _int16_multiplier(relu)

    def compute(x: Array) -> Array:
        fine = (x - x_zp) * 128
        factor = fine
        if relu_shift > 0:
            factor = _saturate_int16(factor << (relu_shift - 1))
        factor = _high_mul_int16(factor, relu16)
        if relu_shift > 0:
            factor = _saturate_int16(factor << 1)
        elif relu_shift < 0:
            factor = _divide_int16(factor, -relu_shift)
        factor = (factor + (1 << 15)) >> 1
        product = factor * _high_mul_int16(fine, out16)
        product = np.sign(product) * (np.abs(product) >> 15)  # toward zero
        clipped: Array = np.clip(_divide_int16(product, -out_shift) + y_zp, low, high)
        return clipped

    return compute


# --- shapes and rules ---------------------------------------------------------------------------------------------


def _prelu_shapes(node: Node) -> Sequence[Shape | None]:
    shape = broadcast_shape(node, 0, 1)
    node.expect(shape == node.input(0).shape, "inputs[1]", "alpha that broadcasts to the input", node.input(1).shape)
    return [shape]


def _hard_swish_scales(node: Node) -> str | None:
    if node.outputs[0].dtype not in (DType.INT8, DType.UINT8):
        return None
    _, shift = quantize_multiplier(_hard_swish_multipliers(node)[0])
    return None if shift <= 0 else f"{per_tensor(node, 0).scale} and {per_tensor(node, None).scale}"


HARD_SWISH_SCALES = Constraint(
    "scales", "the input's scale must be less than 128 times the output's", _hard_swish_scales
)

# --- cases --------------------------------------------------------------------------------------------------------


def _relu_cases(rng: np.random.Generator, dtypes: Sequence[DType]) -> Iterator[Case]:
    yield from float_cases(rng, -8, 8)
    yield from quantized_cases(rng, dtypes)


def _hard_swish_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from float_cases(rng, -5, 5)
    yield from quantized_cases(rng, (DType.INT8, DType.UINT8))


def _leaky_relu_cases(rng: np.random.Generator) -> Iterator[Case]:
    for alpha in (0.2, 1.5, -0.3, 0.0, float(rng.uniform(0, 1))):
        for case in _relu_cases(rng, (DType.INT8, DType.UINT8, DType.INT16)):
            if rng.random() < 0.4:
                yield Case(f"{case.name}_alpha_{alpha:.3g}", case.inputs, case.outputs, {"alpha": alpha})


def _prelu_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, a, b in shape_pairs(rng):
        x, alpha = Operand(reals(rng, a)), Operand(reals(rng, b, -1, 1), constant=bool(rng.random() < 0.5))
        yield Case(f"float32_{name}", (x, alpha), (Result(DType.FLOAT32),))
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40], np.float32)
    yield Case("float32_special", (Operand(special), Operand(special[::-1].copy())), (Result(DType.FLOAT32),))
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        alpha_type = DType.INT8 if dtype is DType.INT16 else dtype
        for i, (name, a, b) in enumerate(some_pairs(rng, 8)):
            x_q, qx = quantized(rng, dtype, a)
            alpha_q, q_alpha = quantized(rng, alpha_type, b)
            y_q, _ = quantized(rng, dtype, ())
            operands = (Operand(qx, x_q), Operand(q_alpha, alpha_q, constant=i % 2 == 0))
            yield Case(f"{dtype}_{i}_{name}", operands, (Result(dtype, y_q),))


# --- declarations -------------------------------------------------------------------------------------------------


def _relu_op(name: str, low: float, high: float, dtypes: Sequence[DType], version: int) -> OpDef:
    return unary_op(
        name,
        (
            Form("float32 -> float32", formula(_clamp(low, high))),
            *(Form(f"{t} -> {t}", _relu_quantized(low, high)) for t in dtypes),
        ),
        bounds.exact,
        lambda rng: _relu_cases(rng, dtypes),
        versions=(1, version),
        constraints=(symmetric_int16(),),
        expression=_clamp(low, high),
    )


_BYTES = (DType.INT8, DType.UINT8)

RELU = _relu_op("RELU", 0, math.inf, (*_BYTES, DType.INT16), 3)
RELU6 = _relu_op("RELU6", 0, 6, (*_BYTES, DType.INT16), 3)
RELU_N1_TO_1 = _relu_op("RELU_N1_TO_1", -1, 1, _BYTES, 1)
RELU_0_TO_1 = _relu_op("RELU_0_TO_1", 0, 1, _BYTES, 1)

HARD_SWISH = unary_op(
    "HARD_SWISH",
    (
        Form("float32 -> float32", formula(_HARD_SWISH)),
        Form("int8 -> int8", by_table(_hard_swish_quantized)),
        Form("uint8 -> uint8", by_table(_hard_swish_quantized)),
    ),
    bounds.exact,
    _hard_swish_cases,
    options="HardSwishOptions",
    constraints=(HARD_SWISH_SCALES,),
    expression=_HARD_SWISH,
)

LEAKY_RELU = unary_op(
    "LEAKY_RELU",
    (
        Form("float32 -> float32", formula(_LEAKY_RELU, lambda node: {"alpha": np.float32(node.options.alpha)})),
        Form("int8 -> int8", by_table(_leaky_relu_quantized)),
        Form("uint8 -> uint8", by_table(_leaky_relu_quantized)),
        Form("int16 -> int16", by_table(_leaky_relu_quantized)),
    ),
    bounds.exact,
    _leaky_relu_cases,
    options="LeakyReluOptions",
    versions=(1, 2),
    constraints=(symmetric_int16(),),
    expression=_LEAKY_RELU,
)

PRELU = OpDef(
    name="PRELU",
    inputs=("input", "alpha"),
    outputs=("output",),
    shapes=_prelu_shapes,
    forms=(
        Form("float32, float32 -> float32", formula(_PRELU)),
        Form("int8, int8 -> int8", _prelu_quantized),
        Form("uint8, uint8 -> uint8", _prelu_quantized),
        Form("int16, int8 -> int16", _prelu_quantized),
    ),
    bound=bounds.exact,
    expression=_PRELU,
    cases=_prelu_cases,
)

OPS = (RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1, HARD_SWISH, LEAKY_RELU, PRELU)
