"""SOFTMAX, LOG_SOFTMAX and L2_NORMALIZATION, along the last dimension.

Source: tflite/kernels/activations.cc, l2norm.cc; kernels/internal/reference/{softmax,log_softmax,l2normalization}.h,
reference/integer_ops/{log_softmax,l2normalization}.h, internal/quantization_util.cc (PreprocessSoftmaxScaling).

Where the input has 8 bits, its distance from the row's maximum has 256 values, so that e^-distance is a table. Sums of
exponentials beyond 2^12 overflow in LiteRT, and beyond 2^8 softmax with 8-bit output aborts the process; here the
arithmetic goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.fixed_point import (
    INT32_MIN,
    exp_on_negative_values,
    inverse_square_root,
    log_from_1,
    multiply_by_quantized_multiplier,
    one_over_one_plus_x,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from delegraph.core.ops.integer_sums import blocks
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
from delegraph.core.ops.pointwise import limits

# --- shapes and work ----------------------------------------------------------------------------------------------


def _shapes(node: Node) -> Sequence[Shape | None]:
    shape = node.input(0).shape
    node.expect(len(shape) > 0, "inputs[0]", "1 dimension or more", shape)
    return [shape]


def _work(node: Node) -> Work:
    return elementwise_work(node, per_element=4)


# --- rows ---------------------------------------------------------------------------------------------------------


def _by_rows(node: Node, function: Callable[[Array], Array]) -> Kernel:
    """A kernel that applies a function of rows [n, depth] to blocks of them."""
    y = node.outputs[0]

    def run(x: Array) -> Sequence[Array]:
        out = np.empty(x.shape, y.dtype.numpy)
        if x.size > 0:
            rows, into = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
            with np.errstate(all="ignore"):
                for block in blocks(*rows.shape):
                    into[block] = function(rows[block])
        return (out,)

    return run


def _sum(rows: Array) -> Array:
    """Sums [n, 1] of rows in their own type, added up from left to right as the reference does."""
    total: Array = np.add.accumulate(rows, axis=1)[:, -1:]
    return total


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
        return exps.astype(dtype).astype(np.float32) / _sum(exps)

    return _by_rows(node, softmax)


def _log_softmax_float(node: Node) -> Kernel:
    def log_softmax(rows: Array) -> Array:
        distance = rows - rows.max(axis=1, keepdims=True)
        log_sum = np.log(_sum(_exp(distance)).astype(np.float64)).astype(np.float32)
        logs: Array = distance - log_sum
        return logs

    return _by_rows(node, log_softmax)


def _l2_float(node: Node) -> Kernel:
    return _by_rows(node, lambda rows: rows / np.maximum(np.sqrt(_sum(rows * rows)), np.float32(1e-6)))


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
    q, shift = quantize_multiplier(_multiplier(node.options.beta, float(per_tensor(node, 0).scale)))
    exps, parts = _exponentials(*_scaled_distances(q, shift))
    out_type = node.outputs[0].dtype
    low, high = limits(out_type)

    def softmax(rows: Array) -> Array:
        distances = _distances(rows)
        inverse, bits = _reciprocal(parts[distances].sum(axis=1, keepdims=True))
        exponent = bits + 31 - out_type.bits

        def values(at: Array) -> Array:
            product = saturating_rounding_doubling_high_mul(inverse, exps[at])
            y: Array = np.clip(rounding_divide_by_pot(product, exponent) + low, low, high)
            return y

        return _each(values, distances)

    return _by_rows(node, softmax)


def _reciprocal(sums: Array) -> tuple[Array, Array]:
    """1 / sums, of fractions of 2^19, as ``inverse · 2^(-31 - bits)``. Source: GetReciprocal."""
    n_bits = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
    left = np.maximum(32 - n_bits, 0)
    normal = (sums >> np.maximum(n_bits - 32, 0)) << left
    return one_over_one_plus_x(normal - (1 << 31)), n_bits + (SUM_BITS - 32)


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

    return _by_rows(node, log_softmax)


def _log(sums: Array) -> Array:
    """The logarithm, with INTEGER_BITS bits before the point, of sums in fractions of 2^19."""
    over = np.maximum(np.frexp(sums.astype(np.float64))[1].astype(np.int64) - 31, 0)
    log_2 = round(math.log(2) * 2.0 ** (31 - INTEGER_BITS))
    log: Array = log_from_1(sums >> over, SUM_BITS, INTEGER_BITS) + over * log_2
    return log


# --- kernels of 16 bits: softmax ----------------------------------------------------------------------------------


def _points(f: Callable[[Array], Array], low: float, high: float) -> Array:
    """513 points of ``f`` over [low, high] as int16 fractions of 2^15, for ``_interpolate``.

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


def _interpolate(points: Array, x: Array) -> Array:
    """The table's value at int16 values held as int64. Source: LUTLookup."""
    index = 256 + (x >> 7)
    base: Array = points[index]
    y: Array = base + (((points[index + 1] - base) * (x & 0x7F) + 64) >> 7)
    return y


def _softmax_int16(node: Node) -> Kernel:
    """Exponentials and the reciprocal of their sum come from tables. Source: SoftmaxInt16."""
    scale = float(per_tensor(node, 0).scale * np.float32(node.options.beta)) / (10.0 / 65535.0)
    q, shift = quantize_multiplier(scale)
    exp_points = _points(np.exp, 10.0 / 65535 * -65535, 0.0)
    reciprocal_points = _points(lambda x: 1 / (1 + x), 0.0, 1.0 / 65535 * 65535)
    distances = multiply_by_quantized_multiplier(-np.arange(1 << 16, dtype=np.int64), q, shift)
    exps = _interpolate(exp_points, np.clip(distances + 32767, -32768, 32767))

    def softmax(rows: Array) -> Array:
        parts = exps[_distances(rows)]
        sums = parts.sum(axis=1, keepdims=True)
        n_bits = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
        normal = ((sums << np.maximum(31 - n_bits, 0)) + (1 << 13)) >> 14
        inverse = _interpolate(reciprocal_points, np.clip(normal - (1 << 15) - (1 << 16), -32768, 32767))
        right = n_bits - 1
        y: Array = np.clip((parts * inverse + (1 << (right - 1))) >> right, 0, 32767)
        return y

    return _by_rows(node, softmax)


# --- kernels of 8 bits: L2 normalization --------------------------------------------------------------------------


def _l2_8_bits(node: Node) -> Kernel:
    """uint8 scales 128·x and rounds right shifts twice over; int8 folds the factor 128 into the shift."""
    zero_point, y = per_tensor(node, 0).zero_point, node.outputs[0].dtype
    low, high = limits(y)

    def normalize(rows: Array) -> Array:
        x = rows.astype(np.int64) - zero_point
        q, right = inverse_square_root((x * x).sum(axis=1, keepdims=True))
        if y is DType.UINT8:
            scaled = multiply_by_quantized_multiplier(128 * x, q, -right) + 128
        else:
            scaled = multiply_by_quantized_multiplier(x, q, 7 - right)
        clipped: Array = np.clip(scaled, low, high)
        return clipped

    return _by_rows(node, normalize)


# --- rules --------------------------------------------------------------------------------------------------------


def _fixed_output(expected: dict[DType, tuple[float, int]], tolerance: float = 0.0) -> Constraint:
    """The rule on scale and zero point of an output that has the input's type; tolerance: relative, of the scale."""

    def test(node: Node) -> str | None:
        y = node.outputs[0]
        if y.dtype is not node.input(0).dtype or y.dtype not in expected:
            return None
        scale, zero_point = expected[y.dtype]
        found_scale, found_zero = params(y)
        if abs(found_scale - scale) <= tolerance * scale and found_zero == zero_point:
            return None
        return f"scale {found_scale:g}, zero point {found_zero} of {y.dtype}"

    rules = ", ".join(f"of {dtype} 1/{1 / scale:g} and {zero}" for dtype, (scale, zero) in expected.items())
    return Constraint("output_quantization", f"the output's scale and zero point must be {rules}", test)


def _steep(node: Node) -> str | None:
    """LiteRT ends the process otherwise (TFLITE_CHECK in QuantizeMultiplierGreaterThanOne)."""
    x = node.input(0)
    if x.dtype not in (DType.INT8, DType.UINT8):
        return None
    beta = node.options.beta if node.op.name == "SOFTMAX" else 1.0
    steepness = beta * params(x)[0]
    return None if steepness > 2.0**-26 else f"{steepness:g}"


def _no_activation(node: Node) -> str | None:
    activation = node.options.fused_activation_function
    return f"activation {activation}" if activation else None


STEEP = Constraint("steepness", "beta times the input's scale must be above 2^-26 for data of 8 bits", _steep)


# --- cases --------------------------------------------------------------------------------------------------------

SHAPES: tuple[tuple[str, Shape], ...] = (
    ("row", (7,)),
    ("matrix", (3, 10)),
    ("rank_3", (2, 3, 5)),
    ("rank_4", (1, 2, 3, 4)),
    ("rank_5", (2, 1, 2, 1, 3)),
    ("one", (4, 1)),
    ("long", (2, 300)),
    ("empty", (0, 4)),
    ("depth_0", (3, 0)),
    ("scalar", ()),
)


def _some_shapes(rng: np.random.Generator) -> Iterator[tuple[str, Shape]]:
    yield from SHAPES[:-1]
    for i in range(3):
        yield f"random_{i}", tuple(int(n) for n in rng.integers(1, 12, rng.integers(1, 5)))


def _special(rng: np.random.Generator) -> Array:
    rows = reals(rng, (8, 4))
    rows[0], rows[1], rows[2, 0], rows[3, 0] = -np.inf, np.nan, np.nan, -np.inf
    rows[4, 1], rows[5], rows[6], rows[7, 2] = np.inf, 0, 1e30, -200
    return rows


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
    for name, shape in (*_some_shapes(rng), SHAPES[-1]):
        options = {"beta": float(rng.choice([1.0, 1.0, 0.5, 2.5, float(rng.uniform(0.1, 3))]))}
        x = reals(rng, shape, -8, 8)
        yield Case(f"float32_{name}", (Operand(x),), (Result(DType.FLOAT32),), options)
        yield Case(f"float16_{name}", (Operand(x.astype(np.float16)),), (Result(DType.FLOAT16),), options)
        q, data = quantized(rng, DType.INT16, shape, scale=float(rng.choice([1e-4, 3e-3, 0.1])))
        if name == "depth_0":  # LiteRT takes the reciprocal of an empty sum, and may end the process
            continue
        yield Case(
            f"int16_{name}", (Operand(data, q),), (Result(DType.INT16, outputs[DType.INT16]),), options
        )
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
    yield Case("float32_special", (Operand(_special(rng)),), (Result(DType.FLOAT32),), {"beta": 1.0})
    yield Case("float32_beta_0", (Operand(_special(rng)),), (Result(DType.FLOAT32),))
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
    for name, shape in _some_shapes(rng):
        yield Case(f"float32_{name}", (Operand(reals(rng, shape, -8, 8)),), (Result(DType.FLOAT32),))
        for dtype, out_q in outputs.items():
            q, _ = quantized(rng, dtype, ())
            operand = Operand(_data_8_bits(rng, dtype, shape), q)
            yield Case(f"{dtype}_{name}", (operand,), (Result(dtype, out_q),))
    yield Case("float32_special", (Operand(_special(rng)),), (Result(DType.FLOAT32),))
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


def _l2_cases(rng: np.random.Generator) -> Iterator[Case]:
    outputs = {
        DType.INT8: Quantization.per_tensor(1 / 128, 0),
        DType.UINT8: Quantization.per_tensor(1 / 128, 128),
    }
    for name, shape in (*_some_shapes(rng), SHAPES[-1]):
        yield Case(f"float32_{name}", (Operand(reals(rng, shape)),), (Result(DType.FLOAT32),))
        for dtype, out_q in outputs.items():
            q, data = quantized(rng, dtype, shape)
            if rng.random() < 0.5:  # small values
                zero = min(max(q.zero_point, limits(dtype)[0] + 3), limits(dtype)[1] - 3)
                data = integers(rng, dtype, shape, zero - 3, zero + 3)
            yield Case(f"{dtype}_{name}", (Operand(data, q),), (Result(dtype, out_q),))
    yield Case("float32_special", (Operand(_special(rng)),), (Result(DType.FLOAT32),))
    yield Case("float32_tiny", (Operand(reals(rng, (4, 3)) * np.float32(1e-7)),), (Result(DType.FLOAT32),))
    for dtype, out_q in outputs.items():
        low, high = limits(dtype)
        for zero in (low, high, low + 5):
            q = Quantization.per_tensor(0.1, zero)
            for name, values in (
                ("at_zero", [zero, zero, zero]),
                ("one", [zero, min(zero + 1, high), max(zero - 1, low)]),
                ("two", [min(zero + 2, high), zero]),
                ("ends", [low, high, zero, low]),
            ):
                x = Operand(np.array([values], dtype.numpy), q)
                yield Case(f"{dtype}_{name}_{zero}", (x,), (Result(dtype, out_q),))
        x = Operand(integers(rng, dtype, (1, 1500)), q)
        yield Case(f"{dtype}_many", (x,), (Result(dtype, out_q),))
        wrong = Quantization.per_tensor(1 / 128, 1)
        yield Case(f"{dtype}_output_zero_point", (x,), (Result(dtype, wrong),))
        wrong = Quantization.per_tensor(1 / 127, out_q.zero_point)
        yield Case(f"{dtype}_output_scale", (x,), (Result(dtype, wrong),))
    relu = {"fused_activation_function": 1}
    yield Case("activation", (Operand(reals(rng, (2, 3))),), (Result(DType.FLOAT32),), relu)


# --- declarations -------------------------------------------------------------------------------------------------

SOFTMAX = OpDef(
    name="SOFTMAX",
    inputs=("input",),
    outputs=("output",),
    options="SoftmaxOptions",
    versions=(1, 4),
    shapes=_shapes,
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
        _fixed_output({DType.INT8: (1 / 256, -128), DType.INT16: (1 / 32768, 0)}, tolerance=0.001),
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
    shapes=_shapes,
    work=_work,
    forms=(
        Form("float32 -> float32", _log_softmax_float),
        Form("int8 -> int8", _log_softmax_8_bits),
        Form("uint8 -> uint8", _log_softmax_8_bits),
    ),
    constraints=(STEEP, _fixed_output({DType.INT8: (1 / 16, 127), DType.UINT8: (1 / 16, 255)})),
    bound=bounds.ulps(2, absolute=5e-7),
    cases=_log_softmax_cases,
)

L2_NORMALIZATION = OpDef(
    name="L2_NORMALIZATION",
    inputs=("input",),
    outputs=("output",),
    options="L2NormOptions",
    versions=(1, 2),
    shapes=_shapes,
    work=_work,
    forms=(
        Form("float32 -> float32", _l2_float),
        Form("int8 -> int8", _l2_8_bits),
        Form("uint8 -> uint8", _l2_8_bits),
    ),
    constraints=(
        _fixed_output({DType.INT8: (1 / 128, 0), DType.UINT8: (1 / 128, 128)}),
        Constraint("activation", "there must be no fused activation", _no_activation),
    ),
    bound=bounds.exact,
    cases=_l2_cases,
)

OPS = (SOFTMAX, LOG_SOFTMAX, L2_NORMALIZATION)
