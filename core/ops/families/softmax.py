"""SOFTMAX and LOG_SOFTMAX, along the last dimension.

Source: tflite/kernels/activations.cc; kernels/internal/reference/{softmax,log_softmax}.h,
reference/integer_ops/log_softmax.h, internal/quantization_util.cc (PreprocessSoftmaxScaling).

Where the input has 8 bits, its distance from the row's maximum has 256 values, so that e^-distance is a table. In
LiteRT a sum of exponentials from 2^9 on ends the process (SOFTMAX to 8 bits), and one from 2^12 on (LOG_SOFTMAX)
or 2^13 on (SOFTMAX to int16) overflows, so that the results are wrong; here the arithmetic goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.fixed_point import (
    INT32_MIN,
    bit_length,
    exp_on_negative_values,
    log_from_1,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from delegraph.core.ops.movement import params, symmetric_int16
from delegraph.core.ops.opdef import (
    Case,
    Constraint,
    Form,
    Kernel,
    Node,
    OpDef,
    Operand,
    Result,
    Work,
    elementwise_work,
)
from delegraph.core.ops.pointwise import interpolate, limits
from delegraph.core.ops.rows import (
    SCALAR,
    by_rows,
    fixed_output,
    row_shapes,
    some_shapes,
    special_rows,
    sums,
)

# --- work ---------------------------------------------------------------------------------------------------------


def _work(node: Node) -> Work:
    return elementwise_work(node, per_element=4)


# --- rows ---------------------------------------------------------------------------------------------------------


def _exp(x: Array) -> Array:
    """``expf``: computed in float64 and rounded once, which is what the C library gives but for a few values."""
    return np.exp(x.astype(np.float64)).astype(np.float32)


# --- float kernels ------------------------------------------------------------------------------------------------


def _softmax_float(node: Node) -> Kernel:
    beta, dtype = np.float32(node.options.beta), node.outputs[0].dtype.numpy

    def softmax(rows: Array) -> Array:
        distance = rows.astype(np.float32) - rows.max(axis=1, keepdims=True).astype(np.float32)
        exps = _exp(distance * beta)
        # the exponentials are kept in the output, in its type
        return exps.astype(dtype).astype(np.float32) / sums(exps)

    return by_rows(node, softmax)


def _log_softmax_float(node: Node) -> Kernel:
    def log_softmax(rows: Array) -> Array:
        distance = rows - rows.max(axis=1, keepdims=True)
        log_sum = np.log(sums(_exp(distance)).astype(np.float64)).astype(np.float32)
        logs: Array = distance - log_sum
        return logs

    return by_rows(node, log_softmax)


# --- kernels of 8 bits: softmax -----------------------------------------------------------------------------------

INTEGER_BITS, SUM_BITS = 5, 12
"""Bits before the point: of scaled distances from the maximum, and of sums of exponentials."""


def _multiplier(beta: float, scale: float) -> float:
    """From quantized distances to fixed point. Source: PreprocessSoftmaxScaling."""
    return min(beta * scale * 2.0 ** (31 - INTEGER_BITS), 2.0**31 - 1)


def _scaled_distances(q: int, shift: int) -> tuple[Array, int]:
    """The fixed-point value of each distance 0, -1, ... -255, and from which distance on they count (≤ 0)."""
    least = -math.floor(((1 << INTEGER_BITS) - 1) * 2.0 ** (31 - INTEGER_BITS) / 2.0**shift)
    distances = -np.arange(256, dtype=np.int64)
    scaled = saturating_rounding_doubling_high_mul(np.maximum(distances, least) << shift, q)
    return scaled, least


def exponential_tables(node: Node) -> tuple[Array, Array]:
    """SOFTMAX of 8 bits: e^-distance by the distance 0, 1, ... 255 from the row's maximum, as fractions of 2^31, and as
    what is added up of it, fractions of 2^(31 - SUM_BITS). int64.

    Raises:
        InvalidModel: the input's scale makes no sense.
    """
    q, shift = quantize_multiplier(_multiplier(node.options.beta, float(per_tensor(node, 0).scale)))
    return _exponentials(*_scaled_distances(q, shift))


def _exponentials(scaled: Array, least: int) -> tuple[Array, Array]:
    """e^x of the scaled distances: fractions of 2^31, and of 2^19 for adding up. What does not count is 0."""
    exps = np.where(-np.arange(256) >= least, exp_on_negative_values(scaled, INTEGER_BITS), 0)
    return exps, rounding_divide_by_pot(exps, SUM_BITS)


def _distances(rows: Array) -> Array:
    """How far each element is below its row's maximum: indices."""
    distances: Array = rows.max(axis=1, keepdims=True).astype(np.intp) - rows
    return distances


def _each(values: Callable[[Array], Array], distances: Array) -> Array:
    """``values(distances)`` [n, depth]; by a table per row when rows have more elements than there are distances.

    values: distances [n or 1, k] → [n, k].
    """
    if distances.shape[1] <= 256:
        return values(distances)
    return np.take_along_axis(values(np.arange(256)[None]), distances, axis=1)


def _softmax_8_bits(node: Node) -> Kernel:
    exps, parts = exponential_tables(node)
    out_type = node.outputs[0].dtype
    low, high = limits(out_type)

    def softmax(rows: Array) -> Array:
        distances = _distances(rows)
        inverse, over = reciprocal(parts[distances].sum(axis=1, keepdims=True))
        exponent = over + SUM_BITS - out_type.bits

        def values(at: Array) -> Array:
            product = saturating_rounding_doubling_high_mul(inverse, exps[at])
            y: Array = np.clip(rounding_divide_by_pot(product, exponent) + low, low, high)
            return y

        return _each(values, distances)

    return by_rows(node, softmax)


def _log_softmax_8_bits(node: Node) -> Kernel:
    """Source: reference_ops::LogSoftmax (uint8), reference_integer_ops::LogSoftmax (int8): the same arithmetic."""
    q, shift = quantize_multiplier(_multiplier(1.0, float(per_tensor(node, 0).scale)))
    scaled, least = _scaled_distances(q, shift)
    _, parts = _exponentials(scaled, least)
    back, back_shift = quantize_multiplier((1 << (31 - shift)) / q)
    low, high = limits(node.outputs[0].dtype)

    def log_softmax(rows: Array) -> Array:
        distances = _distances(rows)
        log_sum = _log(parts[distances].sum(axis=1, keepdims=True))
        # the distance from which on the result would leave the fixed-point range
        reach = multiply_by_quantized_multiplier(log_sum + INT32_MIN, back, back_shift)
        reach = np.maximum(reach, least - 1)

        def values(at: Array) -> Array:
            y = np.clip(rounding_divide_by_pot(scaled[at] - log_sum, 22) + high, low, high)
            return np.where(-at > reach, y, low)

        return _each(values, distances)

    return by_rows(node, log_softmax)


def _log(sums: Array) -> Array:
    """The logarithm, with INTEGER_BITS bits before the point, of sums in fractions of 2^19."""
    over = np.maximum(bit_length(sums) - 31, 0)
    log_2 = round(math.log(2) * 2.0 ** (31 - INTEGER_BITS))
    log: Array = log_from_1(sums >> over, SUM_BITS, INTEGER_BITS) + over * log_2
    return log


# --- kernels of 16 bits: softmax ----------------------------------------------------------------------------------


def _points(f: Callable[[Array], Array], low: float, high: float) -> Array:
    """513 points of ``f`` over [low, high] as int16 fractions of 2^15, for ``interpolate``.

    Source: LUTPopulateInt16 (kernels/internal/common.h), in float64.
    """
    step = (high - low) / 512
    unit = 2.0 / 65535
    inverse = 65536.0 / (unit * 32767 - unit * -32768)
    i = np.arange(513, dtype=np.float64)
    here, after = f(low + i[:512] * step) * inverse, f(low + i[1:] * step) * inverse
    middle = round_half_away(f(low + i[:512] * step + step / 2) * inverse)
    bias = round_half_away((round_half_away((after + round_half_away(here)) / 2) - middle) / 2)
    last = round_half_away(f(np.array([high])) * inverse)
    points = np.concatenate([round_half_away(here) - bias, last])
    clipped: Array = np.clip(points, -32768, 32767).astype(np.int64)
    return clipped


def _softmax_int16(node: Node) -> Kernel:
    """Exponentials and the reciprocal of their sum come from tables. Source: SoftmaxInt16."""
    scale = float(per_tensor(node, 0).scale * np.float32(node.options.beta)) / (10.0 / 65535.0)
    q, shift = quantize_multiplier(scale)
    exp_points = _points(np.exp, 10.0 / 65535 * -65535, 0.0)
    reciprocal_points = _points(lambda x: 1 / (1 + x), 0.0, 1.0 / 65535 * 65535)
    distances = multiply_by_quantized_multiplier(-np.arange(1 << 16, dtype=np.int64), q, shift)
    exps = interpolate(exp_points, np.clip(distances + 32767, -32768, 32767))

    def softmax(rows: Array) -> Array:
        parts = exps[_distances(rows)]
        sums = parts.sum(axis=1, keepdims=True)
        n_bits = bit_length(sums)
        normal = ((sums << np.maximum(31 - n_bits, 0)) + (1 << 13)) >> 14
        inverse = interpolate(reciprocal_points, np.clip(normal - (1 << 15) - (1 << 16), -32768, 32767))
        right = n_bits - 1
        y: Array = np.clip((parts * inverse + (1 << (right - 1))) >> right, 0, 32767)
        return y

    return by_rows(node, softmax)


# --- rules --------------------------------------------------------------------------------------------------------


def _steep(node: Node) -> str | None:
    """LiteRT ends the process otherwise (TFLITE_CHECK in QuantizeMultiplierGreaterThanOne)."""
    x = node.input(0)
    if x.dtype not in (DType.INT8, DType.UINT8):
        return None
    beta = node.options.beta if node.op.name == "SOFTMAX" else 1.0
    steepness = beta * params(x)[0]
    return None if steepness > 2.0**-26 else f"{steepness:g}"


STEEP = Constraint("steepness", "beta times the input's scale must be above 2^-26 for data of 8 bits", _steep)


# --- cases --------------------------------------------------------------------------------------------------------


def _data_8_bits(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    """Over the whole range, or close together as in a flat distribution."""
    if rng.random() < 0.5:
        return integers(rng, dtype, shape)
    low = int(integers(rng, dtype, (), 0, 100))
    return integers(rng, dtype, shape, low, low + 20)


def _softmax_cases(rng: np.random.Generator) -> Iterator[Case]:
    outputs = {
        DType.INT8: Quantization.per_tensor(1 / 256, -128),
        DType.INT16: Quantization.per_tensor(1 / 32768),
    }
    uint8 = Quantization.per_tensor(1 / 256)
    for name, shape in (*some_shapes(rng), SCALAR):
        options = {"beta": float(rng.choice([1.0, 1.0, 0.5, 2.5, float(rng.uniform(0.1, 3))]))}
        x = reals(rng, shape, -8, 8)
        yield Case(f"float32_{name}", (Operand(x),), (Result(DType.FLOAT32),), options)
        yield Case(f"float16_{name}", (Operand(x.astype(np.float16)),), (Result(DType.FLOAT16),), options)
        q, data = quantized(rng, DType.INT16, shape, scale=float(rng.choice([1e-4, 3e-3, 0.1])))
        if name == "depth_0":  # LiteRT takes the reciprocal of an empty sum, and may end the process
            continue
        yield Case(f"int16_{name}", (Operand(data, q),), (Result(DType.INT16, outputs[DType.INT16]),), options)
        for dtype, out in (
            (DType.INT8, DType.INT8),
            (DType.INT8, DType.INT16),
            (DType.UINT8, DType.UINT8),
            (DType.UINT8, DType.INT16),
        ):
            q, _ = quantized(rng, dtype, ())
            operand = Operand(_data_8_bits(rng, dtype, shape), q)
            result = Result(out, uint8 if out is DType.UINT8 else outputs[out])
            yield Case(f"{dtype}_to_{out}_{name}", (operand,), (result,), options)
    yield Case("float32_special", (Operand(special_rows(rng)),), (Result(DType.FLOAT32),), {"beta": 1.0})
    yield Case("float32_beta_0", (Operand(special_rows(rng)),), (Result(DType.FLOAT32),))
    ramp = np.arange(-128, 128, dtype=np.int8).reshape(1, -1)
    for scale in (1e-6, 1e-3, 1 / 256, 0.124, 0.5, 3.0, 31.0, 40.0, 1e3):
        q = Quantization.per_tensor(scale, -7)
        yield Case(
            f"int8_scale_{scale:g}",
            (Operand(ramp, q),),
            (Result(DType.INT8, outputs[DType.INT8]),),
            {"beta": 1.0},
        )
    flat = Operand(np.full((1, 256), 3, np.int8), Quantization.per_tensor(0.1))
    yield Case("int8_flat", (flat,), (Result(DType.INT8, outputs[DType.INT8]),), {"beta": 1.0})
    for name, out_q in (
        ("zero_point", Quantization.per_tensor(1 / 256, 0)),
        ("scale", Quantization.per_tensor(1 / 255, -128)),
        ("near", Quantization.per_tensor(1.0009 / 256, -128)),
        ("far", Quantization.per_tensor(1.0011 / 256, -128)),
    ):
        yield Case(f"int8_output_{name}", (flat,), (Result(DType.INT8, out_q),), {"beta": 1.0})
    shifted = Operand(integers(rng, DType.INT16, (2, 3)), Quantization.per_tensor(0.01, 3))
    yield Case("int16_zero_point", (shifted,), (Result(DType.INT16, outputs[DType.INT16]),), {"beta": 1.0})


def _log_softmax_cases(rng: np.random.Generator) -> Iterator[Case]:
    outputs = {
        DType.INT8: Quantization.per_tensor(1 / 16, 127),
        DType.UINT8: Quantization.per_tensor(1 / 16, 255),
    }
    for name, shape in some_shapes(rng):
        yield Case(f"float32_{name}", (Operand(reals(rng, shape, -8, 8)),), (Result(DType.FLOAT32),))
        for dtype, out_q in outputs.items():
            q, _ = quantized(rng, dtype, ())
            operand = Operand(_data_8_bits(rng, dtype, shape), q)
            yield Case(f"{dtype}_{name}", (operand,), (Result(dtype, out_q),))
    yield Case("float32_special", (Operand(special_rows(rng)),), (Result(DType.FLOAT32),))
    for dtype, out_q in outputs.items():
        low, high = limits(dtype)
        ramp = np.arange(low, high + 1).astype(dtype.numpy)
        for scale in (1e-6, 1e-3, 1 / 16, 0.124, 0.5, 3.0, 31.0, 40.0, 1e3):
            for n in (3, 256):
                x = Operand(ramp[-n:].reshape(1, n), Quantization.per_tensor(scale, low))
                yield Case(f"{dtype}_scale_{scale:g}_{n}", (x,), (Result(dtype, out_q),))
        flat = Operand(np.full((1, 1000), 3, dtype.numpy), Quantization.per_tensor(0.1))
        yield Case(f"{dtype}_flat", (flat,), (Result(dtype, out_q),))
        for name, q in (
            ("zero_point", Quantization.per_tensor(1 / 16, 0)),
            ("scale", Quantization.per_tensor(1 / 17, out_q.zero_point)),
        ):
            yield Case(f"{dtype}_output_{name}", (flat,), (Result(dtype, q),))


# --- declarations -------------------------------------------------------------------------------------------------

SOFTMAX = OpDef(
    name="SOFTMAX",
    inputs=("input",),
    outputs=("output",),
    options="SoftmaxOptions",
    versions=(1, 4),
    shapes=row_shapes,
    work=_work,
    forms=(
        Form("float32 -> float32", _softmax_float),
        Form("float16 -> float16", _softmax_float),
        Form("int8 -> int8", _softmax_8_bits),
        Form("int8 -> int16", _softmax_8_bits),
        Form("uint8 -> uint8", _softmax_8_bits),
        Form("uint8 -> int16", _softmax_8_bits),
        Form("int16 -> int16", _softmax_int16),
    ),
    constraints=(
        STEEP,
        fixed_output({DType.INT8: (1 / 256, -128), DType.INT16: (1 / 32768, 0)}, tolerance=0.001),
        symmetric_int16(),
    ),
    bound=bounds.ulps(4),
    cases=_softmax_cases,
)

LOG_SOFTMAX = OpDef(
    name="LOG_SOFTMAX",
    inputs=("input",),
    outputs=("output",),
    options="LogSoftmaxOptions",
    versions=(1, 2),
    shapes=row_shapes,
    work=_work,
    forms=(
        Form("float32 -> float32", _log_softmax_float),
        Form("int8 -> int8", _log_softmax_8_bits),
        Form("uint8 -> uint8", _log_softmax_8_bits),
    ),
    constraints=(STEEP, fixed_output({DType.INT8: (1 / 16, 127), DType.UINT8: (1 / 16, 255)})),
    bound=bounds.ulps(2, absolute=5e-7),
    cases=_log_softmax_cases,
)

OPS = (SOFTMAX, LOG_SOFTMAX)
