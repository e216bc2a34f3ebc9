"""RELU and its kin, LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU, PRELU, ELU and GELU.

Source: tflite/kernels/activations.cc; kernels/internal/reference/{logistic,tanh,hard_swish,leaky_relu,prelu,elu,
gelu}.h, reference_ops.h (ReluX), reference/integer_ops/{logistic,tanh}.h, kernels/internal/common.h (LUTPopulate, the
sigmoid table).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
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
from delegraph.core.ops.families.arithmetic import checked_log2
from delegraph.core.ops.fixed_point import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
)
from delegraph.core.ops.movement import one_type, symmetric_int16
from delegraph.core.ops.opdef import Bound, Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result
from delegraph.core.ops.pointwise import (
    Function,
    approximation,
    by_table,
    c_int32,
    float_cases,
    formula,
    limits,
    quantized_cases,
    same_shape,
    through_float64,
)
from delegraph.core.ops.special import erfc

_X, _ALPHA = arg(0), arg(1)


def _clamp(low: float, high: float = math.inf) -> Expression:
    """The order of the operands lets a NaN through, as LiteRT's comparisons do."""
    y = call("maximum", low, _X)
    return y if high == math.inf else call("minimum", high, y)


_LOGISTIC = call(
    "select",
    _X > 16.619047164916992188,
    1.0,
    call("select", _X < -9.0, call("exp", _X), 1.0 / (1.0 + call("exp", -_X))),
)
_TANH = call("tanh", _X)
_HARD_SWISH = _X * call("minimum", 6.0, call("maximum", 0.0, _X + 3.0)) / 6.0
_LEAKY_RELU = call("select", _X > 0.0, _X, _X * attr("alpha"))
_PRELU = call("select", _X >= 0.0, _X, _X * _ALPHA)
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


def _hard_swish_scales(node: Node) -> str | None:
    if node.outputs[0].dtype not in (DType.INT8, DType.UINT8):
        return None
    _, shift = quantize_multiplier(_hard_swish_multipliers(node)[0])
    return None if shift <= 0 else f"{per_tensor(node, 0).scale} and {per_tensor(node, None).scale}"


LOGISTIC_OUTPUT = Constraint(
    "output_scale", "the scale of a quantized output must be 1/256, or 1/32768 for int16", _logistic_output
)
TANH_OUTPUT = Constraint("output_scale", "the scale of an int16 output must be 1/32768", _tanh_output)
HARD_SWISH_SCALES = Constraint(
    "scales", "the input's scale must be less than 128 times the output's", _hard_swish_scales
)


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


def _tabulated(f: Function) -> Callable[[Node], Kernel]:
    return by_table(lambda node: approximation(node, f))


# --- GELU ---------------------------------------------------------------------------------------------------------


def _gelu_float(node: Node) -> Kernel:
    return formula(_GELU_APPROXIMATE if node.options.approximate else _GELU_EXACT)(node)


def _gelu_tabulated(node: Node) -> Kernel:
    return _tabulated(_gelu_approximate if node.options.approximate else _gelu_exact)(node)


def _gelu_bound(node: Node, inputs: Sequence[Any], expected: Sequence[Array]) -> Sequence[Any]:
    """LiteRT takes Eigen's erfc and tanh, which round differently: a few units of |x| where 1 + tanh cancels.

    float16 is rounded after each step there, and once here.
    """
    if expected[0].dtype == np.float16:
        return [4 * 2.0**-11 * np.abs(inputs[0].astype(np.float32)) + 2.0**-24]
    if node.options.approximate:
        return [6 * 2.0**-24 * np.abs(inputs[0]) + 1e-45]
    return [16 * np.spacing(np.abs(expected[0]))]


# --- shapes -------------------------------------------------------------------------------------------------------


def _prelu_shapes(node: Node) -> Sequence[Shape | None]:
    shape = broadcast_shape(node, 0, 1)
    node.expect(
        shape == node.input(0).shape, "inputs[1]", "alpha that broadcasts to the input", node.input(1).shape
    )
    return [shape]


# --- cases --------------------------------------------------------------------------------------------------------


def _relu_cases(rng: np.random.Generator, dtypes: Sequence[DType]) -> Iterator[Case]:
    yield from float_cases(rng, -8, 8)
    yield from quantized_cases(rng, dtypes)


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
                yield Case(
                    f"{case.name}_{'tanh' if approximate else 'erf'}", case.inputs, case.outputs, options
                )


# --- declarations -------------------------------------------------------------------------------------------------


def _op(name: str, forms: Sequence[Form], bound: Bound, cases: Any, **fields: Any) -> OpDef:
    return OpDef(
        name=name,
        inputs=("input",),
        outputs=("output",),
        shapes=same_shape,
        forms=tuple(forms),
        bound=bound,
        cases=cases,
        **fields,
    )


def _relu_op(name: str, low: float, high: float, dtypes: Sequence[DType], version: int) -> OpDef:
    return _op(
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
_HALVES = "float16|bfloat16"

RELU = _relu_op("RELU", 0, math.inf, (*_BYTES, DType.INT16), 3)
RELU6 = _relu_op("RELU6", 0, 6, (*_BYTES, DType.INT16), 3)
RELU_N1_TO_1 = _relu_op("RELU_N1_TO_1", -1, 1, _BYTES, 1)
RELU_0_TO_1 = _relu_op("RELU_0_TO_1", 0, 1, _BYTES, 1)

LOGISTIC = _op(
    "LOGISTIC",
    (
        Form("float32 -> float32", formula(_LOGISTIC)),
        one_type("{T} -> {T}", formula(_LOGISTIC), _HALVES),
        Form("int8 -> int8", _tabulated(_logistic)),
        Form("uint8 -> uint8", _tabulated(_logistic)),
        Form("int16 -> int16", by_table(_logistic_int16)),
    ),
    bounds.ulps(6),
    _logistic_cases,
    versions=(1, 3),
    constraints=(symmetric_int16(), LOGISTIC_OUTPUT),
    expression=_LOGISTIC,
)

TANH = _op(
    "TANH",
    (
        Form("float32 -> float32", formula(_TANH)),
        one_type("{T} -> {T}", formula(_TANH), _HALVES),
        Form("int8 -> int8", _tabulated(_tanh64)),
        Form("uint8 -> uint8", _tabulated(_tanh64)),
        Form("int16 -> int16", by_table(_tanh_int16)),
    ),
    bounds.ulps(4),
    _tanh_cases,
    versions=(1, 3),
    constraints=(symmetric_int16(), TANH_OUTPUT),
    expression=_TANH,
)

HARD_SWISH = _op(
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

LEAKY_RELU = _op(
    "LEAKY_RELU",
    (
        Form(
            "float32 -> float32", formula(_LEAKY_RELU, lambda node: {"alpha": np.float32(node.options.alpha)})
        ),
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

# BUILTIN_REF has no ELU: the builtin resolver is its oracle.
ELU = _op(
    "ELU",
    (Form("float32 -> float32", formula(_ELU)), Form("int8 -> int8", _tabulated(_elu))),
    bounds.ulps(3),
    _elu_cases,
    expression=_ELU,
)

GELU = _op(
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

OPS = (
    RELU,
    RELU6,
    RELU_N1_TO_1,
    RELU_0_TO_1,
    LOGISTIC,
    TANH,
    HARD_SWISH,
    LEAKY_RELU,
    PRELU,
    ELU,
    GELU,
)
