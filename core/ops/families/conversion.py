"""CAST, QUANTIZE, DEQUANTIZE, FAKE_QUANT and BITCAST.

Source: tflite/kernels/{cast,quantize,dequantize,fake_quant,bitcast}.cc; kernels/internal/quantization_util.{h,cc}
(SafeCast, NudgeQuantizationRange, FakeQuantizeArray); kernels/internal/reference/{quantize,requantize,dequantize}.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import elementwise, fill, per_tensor
from delegraph.core.ops.cases import booleans, integers, quantized, reals
from delegraph.core.ops.fixed_point import BELOW_HALF, multiply_by_quantized_multiplier, quantize_multiplier
from delegraph.core.ops.movement import symmetric_int16
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result
from delegraph.core.ops.pointwise import by_table, c_int32, limits, narrow, same_shape, widen

# --- CAST ---------------------------------------------------------------------------------------------------------

_HALVES = (DType.FLOAT16, DType.BFLOAT16)
_SMALL = {DType.INT4: (-8, 7), DType.INT2: (-2, 1), DType.UINT4: (0, 15)}


def _cast(node: Node) -> Kernel:
    """Integers wrap, floats are cut off toward zero and saturate, a NaN gives the greatest integer; a complex number
    its real part. What becomes float16 or bfloat16 is rounded to float32 on the way. Source: CastValue."""
    x_type, y_type = node.input(0).dtype, node.outputs[0].dtype

    def convert(x: Array) -> Any:
        x = widen(x, x_type)
        if x.dtype.kind == "c" and y_type is not DType.COMPLEX64:
            x = x.real
        if y_type in _HALVES:
            return narrow(x.astype(np.float32), y_type)
        if x.dtype.kind == "f" and y_type.numpy.kind in "iu":
            return _saturated(x, y_type)
        return x.astype(y_type.numpy)

    return elementwise(node, convert)


def _saturated(x: Array, dtype: DType) -> Array:
    """Floats as integers of a type. Source: SafeCast (quantization_util.h)."""
    low, high = _SMALL.get(dtype) or limits(dtype)
    # The least integer that is too large is a power of two, so exact in each float type; the greatest need not be.
    fits = (x >= low) & (x < float(high + 1))
    edge = np.where(x < low, low, high).astype(dtype.numpy)
    return np.where(fits, np.where(fits, x, 0).astype(dtype.numpy), edge)


_CAST_TYPES = "int64|int32|uint32|int16|uint16|uint8|int8|float16|bfloat16|float32|float64|bool|complex64"


# --- QUANTIZE -----------------------------------------------------------------------------------------------------


def scale_shape(quantization: Quantization, shape: Shape) -> Shape:
    """The shape in which the scales of a tensor of that shape broadcast to it: () per tensor."""
    if quantization.scales.size == 1:
        return ()
    return tuple(n if i == quantization.axis else 1 for i, n in enumerate(shape))


def affine(node: Node, quantization: Quantization, name: str) -> tuple[Array, Array]:
    """(scales float32, zero points int64) that broadcast to the shape of input 0.

    Raises:
        InvalidModel: a scale is not above 0, or their number or axis does not fit. name: of the quantization.
    """
    scales, zero_points, rank = quantization.scales, quantization.zero_points, len(node.input(0).shape)
    node.expect(bool(np.all(scales > 0)), name, "scales above 0", scales.min())
    if scales.size != 1:
        axis = quantization.axis
        node.expect(0 <= axis < rank, f"{name}.quantized_dimension", f"one of {rank} dimensions", axis)
        size = node.input(0).shape[axis]
        node.expect(scales.size == size, f"{name}.scale", f"{size} scales", scales.size)
    shape = scale_shape(quantization, node.input(0).shape)
    return scales.astype(np.float32).reshape(shape), zero_points.reshape(shape)


def _quantize(node: Node) -> Kernel:
    """``round(x / scale) + zero_point``, halves away from zero, per tensor or per channel.

    Source: AffineQuantize, PerChannelQuantize (reference/quantize.h).
    """
    y = node.outputs[0]
    scale, zero_point = affine(node, node.output_quantization(), "outputs[0].quantization")
    low, high = _SMALL.get(y.dtype) or limits(y.dtype)

    def compute(x: Array, s: Array, zp: Array) -> Any:
        q = x / s
        q += np.copysign(BELOW_HALF, q)
        return np.clip((c_int32(q) + zp).astype(np.int32), low, high)  # the sum wraps, as in C

    def run(x: Array) -> Sequence[Array]:
        return (fill(np.empty(x.shape, y.dtype.numpy), compute, (x, scale, zero_point)),)

    return run


def _has_one_scale(node: Node) -> bool:
    quantization = node.outputs[0].quantization
    return quantization is not None and quantization.is_per_tensor


def _requantize(node: Node) -> Callable[[Array], Array]:
    """Source: Requantize (reference/requantize.h)."""
    x_q, y_q = per_tensor(node, 0), per_tensor(node, None)
    low, high = limits(node.outputs[0].dtype)
    multiplier, shift = quantize_multiplier(float(x_q.scale) / float(y_q.scale))

    def compute(x: Array) -> Array:
        centred = (x.astype(np.int64) - x_q.zero_point).astype(np.int32)
        y = multiply_by_quantized_multiplier(centred, multiplier, shift) + y_q.zero_point
        clipped: Array = np.clip(y.astype(np.int32), low, high)
        return clipped

    return compute


def _symmetric(node: Node) -> str | None:
    if node.input(0).dtype is not DType.INT16 or node.outputs[0].dtype is not DType.INT16:
        return None
    return symmetric_int16().test(node)


SYMMETRIC = Constraint("symmetric_int16", "int16 to int16 must have the zero point 0 on both sides", _symmetric)


# --- DEQUANTIZE ---------------------------------------------------------------------------------------------------


def _dequantize(node: Node) -> Kernel:
    """``scale · (x - zero_point)``, rounded once, per tensor or per channel. Source: Dequantize,
    PerChannelDequantize (reference/dequantize.h)."""
    scale, zero_point = affine(node, node.quantization(0), "inputs[0].quantization")

    def compute(x: Array, s: Array, zp: Array) -> Any:
        real = x.astype(np.float32)
        real -= zp.astype(np.float32)
        real *= s
        return real

    return lambda x: (fill(np.empty(x.shape, np.float32), compute, (x, scale, zero_point)),)


def _per_channel_int16(node: Node) -> str | None:
    x = node.input(0)
    if x.dtype is not DType.INT16 or x.quantization is None or x.quantization.is_per_tensor:
        return None
    return f"{x.quantization.scales.size} scales"


PER_TENSOR_INT16 = Constraint("per_tensor_int16", "int16 must have one scale", _per_channel_int16)


# --- FAKE_QUANT ---------------------------------------------------------------------------------------------------


def _fake_quant(node: Node) -> Kernel:
    """To the nearest of 2^num_bits values from min to max, nudged so that 0 is one of them.

    Source: FakeQuant (reference_ops.h), NudgeQuantizationRange, FakeQuantizeArray.
    """
    low, high, greatest = _fake_quant_range(node)
    scale = (high - low) / greatest
    zero_point = np.clip(-low / scale, np.float32(0), greatest)
    zero_point = np.trunc(zero_point + BELOW_HALF)
    nudged_low, nudged_high = -zero_point * scale, (greatest - zero_point) * scale
    inverse = np.float32(1) / scale

    def compute(x: Array) -> Any:
        # A NaN becomes the lower end: std::max(low, x) keeps its first argument unless it is less.
        shifted = np.where(x > nudged_low, x, nudged_low)
        shifted = np.minimum(shifted, nudged_high) - nudged_low
        return np.trunc(shifted * inverse + BELOW_HALF) * scale + nudged_low

    return elementwise(node, compute)


def _fake_quant_range(node: Node) -> tuple[np.float32, np.float32, np.float32]:
    o = node.options
    return np.float32(o.min), np.float32(o.max), np.float32((1 << o.num_bits) - 1)


def _narrow_range(node: Node) -> str | None:
    return "true" if node.options.narrow_range else None


def _odd_range(node: Node) -> str | None:
    o = node.options
    fits = 1 <= o.num_bits <= 16 and o.min < o.max
    return None if fits else f"{o.min} to {o.max} in {o.num_bits} bits"


FULL_RANGE = Constraint("narrow_range", "narrow_range must be false", _narrow_range)
# LiteRT takes the rest too, and makes NaNs of it.
RANGE = Constraint("range", "min must be less than max, in 1 to 16 bits", _odd_range)


# --- BITCAST ------------------------------------------------------------------------------------------------------

_FIXED = "float32|float16|bfloat16|float64|complex64|complex128|bool|int8|uint8|int16|uint16|int32|uint32|int64|uint64"


def _bitcast_shapes(node: Node) -> Sequence[Shape | None]:
    """To smaller elements a dimension is added, to larger ones the last one, of just that size, goes."""
    x, y = node.input(0), node.outputs[0]
    a, b = x.dtype.numpy.itemsize, y.dtype.numpy.itemsize
    if a > b:
        return [(*x.shape, a // b)]
    if a < b:
        node.expect(x.shape[-1:] == (b // a,), "inputs[0]", f"{b // a} elements along the last dimension", x.shape)
        return [x.shape[:-1]]
    return [x.shape]


def _bitcast(node: Node) -> Kernel:
    shape, dtype = node.outputs[0].shape, node.outputs[0].dtype.numpy
    return lambda x: (np.ascontiguousarray(x).reshape(-1).view(dtype).reshape(shape),)


# --- cases --------------------------------------------------------------------------------------------------------

_TESTED = "int64 int32 uint32 int16 uint16 uint8 int8 float16 float32 float64 bool complex64".split()
_SHAPES: tuple[tuple[int, ...], ...] = ((), (0, 2), (5,), (2, 3, 4), (1, 2, 1, 3, 2))


def _values(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Values of any type; floats far out and close to a half, NaN and infinities among them."""
    if dtype is DType.BOOL:
        return booleans(rng, shape)
    if dtype.numpy.kind in "iu":
        return integers(rng, dtype, shape)
    x = reals(rng, shape, -300, 300).astype(np.float64) * 10.0 ** rng.integers(-2, 1 + int(rng.integers(0, 20)))
    odd = np.array([0, -0.0, 0.5, -0.5, 127.5, 255.9, -128.9, np.nan, np.inf, -np.inf, 2.0**31, -(2.0**63), 2.0**64])
    x = np.where(rng.random(shape) < 0.2, rng.choice(odd, shape), x)
    with np.errstate(all="ignore"):
        if dtype is DType.COMPLEX64:
            return (x + 1j * reals(rng, shape)).astype(np.complex64)
        return x.astype(dtype.numpy)


def _cast_cases(rng: np.random.Generator) -> Iterator[Case]:
    for a in _TESTED:
        for b in _TESTED:
            shape = _SHAPES[int(rng.integers(0, len(_SHAPES)))] if rng.random() < 0.3 else (24,)
            operand = Operand(_values(rng, DType.parse(a), shape))
            yield Case(f"{a}_to_{b}", (operand,), (Result(DType.parse(b)),))
    for small, (low, high) in _SMALL.items():
        data = rng.integers(low, high + 1, (int(rng.integers(1, 9)),)).astype(small.numpy)
        yield Case(f"{small}_to_float32", (Operand(data, constant=True, dtype=small),), (Result(DType.FLOAT32),))
        x = np.append(
            reals(rng, (int(rng.integers(1, 9)),), -20, 20),
            np.array([np.nan, np.inf, -np.inf, -0.5], np.float32),
        )
        yield Case(f"float32_to_{small}", (Operand(x),), (Result(small),))
    # Python can't read a bfloat16 tensor of LiteRT's, so the other way is not tested.
    bits = rng.integers(0, 1 << 16, 30).astype(np.uint16)
    for b in _TESTED:
        operand = Operand(bits, constant=True, dtype=DType.BFLOAT16)
        yield Case(f"bfloat16_to_{b}", (operand,), (Result(DType.parse(b)),))
    yield Case("uint64", (Operand(np.ones(1, np.uint64)),), (Result(DType.FLOAT32),))


def _per_channel(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Quantization:
    axis = int(rng.integers(0, len(shape)))
    zero_points = np.zeros(shape[axis], np.int64) if dtype is DType.INT16 else integers(rng, dtype, (shape[axis],))
    return Quantization.per_channel(rng.uniform(0.01, 0.3, shape[axis]), axis, zero_points)


def _quantize_cases(rng: np.random.Generator) -> Iterator[Case]:
    outputs = [DType.INT8, DType.UINT8, DType.INT16]
    for dtype in outputs:
        for shape in (*_SHAPES, (300,)):
            y_q, _ = quantized(rng, dtype, ())
            x = reals(rng, shape, -20, 20)
            yield Case(f"{dtype}_{'x'.join(map(str, shape))}", (Operand(x),), (Result(dtype, y_q),))
        for scale in (0.25, 1.0, 2.0**-7):  # ties
            y_q, _ = quantized(rng, dtype, (), scale=scale)
            x = np.arange(-60, 60, dtype=np.float32) * np.float32(scale / 2)
            yield Case(f"{dtype}_ties_{scale}", (Operand(x),), (Result(dtype, y_q),))
        y_q, _ = quantized(rng, dtype, ())
        edges = np.array([np.inf, -np.inf, np.nan, 1e9, -1e9, 1e7, -1e7, 3e38, 1e-40], np.float32)
        yield Case(f"{dtype}_far", (Operand(edges),), (Result(dtype, y_q),))
        y_q = Quantization.per_tensor(0.1, 0)
        yield Case(f"{dtype}_far_zero", (Operand(edges),), (Result(dtype, y_q),))
        for shape in ((2, 3, 4), (3, 2, 2, 2), (5,)):
            x, y_q = reals(rng, shape, -20, 20), _per_channel(rng, dtype, shape)
            yield Case(f"{dtype}_per_channel_{len(shape)}", (Operand(x),), (Result(dtype, y_q),))
    for dtype in (DType.INT4, DType.UINT4):
        y_q = Quantization.per_tensor(float(rng.uniform(0.1, 1)), int(rng.integers(*_SMALL[dtype])))
        yield Case(f"{dtype}", (Operand(reals(rng, (7,), -6, 6)),), (Result(dtype, y_q),))
    yield from _requantize_cases(rng)


def _requantize_cases(rng: np.random.Generator) -> Iterator[Case]:
    bytes_, words = (DType.INT8, DType.UINT8), (DType.INT16,)
    pairs = [(a, b) for a in bytes_ for b in (*bytes_, *words)]
    pairs += [(DType.INT16, b) for b in (DType.INT8, DType.INT16, DType.INT32)]
    pairs += [(DType.INT32, DType.INT8), (DType.INT32, DType.INT16)]
    for a, b in pairs:
        for i, ratio in enumerate((1.0, 1.0, 0.01, 30.0, 10.0 ** rng.uniform(-2, 1), 10.0 ** rng.uniform(-7, 2))):
            scale = float(rng.uniform(0.01, 0.2))
            zeros = [0 if t in (DType.INT16, DType.INT32) else int(integers(rng, t, ())) for t in (a, b)]
            if i == 0 and a in bytes_ and b in bytes_:
                zeros = [limits(a)[0], limits(b)[0]]
            elif i == 5 and DType.INT16 in (a, b) and a is not b:
                zeros[0 if a is DType.INT16 else 1] = 7
            x_q, y_q = (
                Quantization.per_tensor(scale, zeros[0]),
                Quantization.per_tensor(scale * ratio, zeros[1]),
            )
            x = integers(rng, a, (60,))
            yield Case(f"{a}_to_{b}_{i}", (Operand(x, x_q),), (Result(b, y_q),))
    x_q, y_q = Quantization.per_tensor(0.1, 3), Quantization.per_tensor(0.1, 0)
    yield Case("int16_zero_point", (Operand(np.ones(2, np.int16), x_q),), (Result(DType.INT16, y_q),))
    yield Case("int32_to_uint8", (Operand(np.ones(2, np.int32), y_q),), (Result(DType.UINT8, y_q),))


def _dequantize_cases(rng: np.random.Generator) -> Iterator[Case]:
    result = (Result(DType.FLOAT32),)
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        for shape in (*_SHAPES, (300,)):
            x_q, x = quantized(rng, dtype, shape)
            operand = Operand(x, x_q, constant=bool(rng.random() < 0.3 and x.size))
            yield Case(f"{dtype}_{'x'.join(map(str, shape))}", (operand,), result)
        for shape in ((2, 3, 4), (3, 2, 2, 2), (5,)):
            x_q = _per_channel(rng, dtype, shape)
            yield Case(f"{dtype}_per_channel_{len(shape)}", (Operand(integers(rng, dtype, shape), x_q),), result)
    for small, (low, high) in _SMALL.items():
        shape = (int(rng.integers(1, 4)), 3)
        x = rng.integers(low, high + 1, shape).astype(small.numpy)
        x_q = Quantization.per_tensor(float(rng.uniform(0.1, 1)), int(rng.integers(low, high + 1)))
        yield Case(f"{small}", (Operand(x, x_q, constant=True, dtype=small),), result)
        x_q = Quantization.per_channel(rng.uniform(0.1, 1, 3), 1, rng.integers(low, high + 1, 3))
        yield Case(f"{small}_per_channel", (Operand(x, x_q, constant=True, dtype=small),), result)
    for shape in _SHAPES:
        x = _values(rng, DType.FLOAT16, shape)
        operand = Operand(x, constant=bool(x.size and rng.random() < 0.5))
        yield Case(f"float16_{'x'.join(map(str, shape))}", (operand,), result)
    q = Quantization.per_tensor(0.1, 1)
    yield Case("int16_zero_point", (Operand(np.ones(2, np.int16), q),), result)
    yield Case("int32", (Operand(np.ones(2, np.int32), q),), result)


def _fake_quant_cases(rng: np.random.Generator) -> Iterator[Case]:
    ranges = [(-1.0, 1.0), (0.0, 6.0), (-6.0, 0.0), (-0.1, 5.9), (-3.0, 0.5), (0.5, 2.0), (-3.0, -1.0)]
    ranges += [(-float(rng.uniform(0, 5)), float(rng.uniform(0.01, 5))) for _ in range(4)]
    for i, (low, high) in enumerate(ranges):
        for n_bits in (8, 16, int(rng.integers(2, 16))):
            shape = (200,) if i % 2 else (2, 3, 5)
            options = {"min": low, "max": high, "num_bits": n_bits}
            yield Case(f"{i}_{n_bits}", (Operand(reals(rng, shape, -7, 7)),), (Result(DType.FLOAT32),), options)
    options = {"min": -1.0, "max": 1.0, "num_bits": 8}
    for rank, small in enumerate((reals(rng, ()), reals(rng, (7,)), reals(rng, (0, 2)))):
        yield Case(f"{rank}d", (Operand(small),), (Result(DType.FLOAT32),), options)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40], np.float32)
    yield Case("special", (Operand(special),), (Result(DType.FLOAT32),), options)
    yield Case("narrow", (Operand(special),), (Result(DType.FLOAT32),), {**options, "narrow_range": True})


def _bitcast_cases(rng: np.random.Generator) -> Iterator[Case]:
    names = "float32 float16 float64 complex64 int8 uint8 int16 uint16 int32 uint32 int64 uint64".split()
    for a in names:
        for b in rng.choice(names, 4, replace=False):
            x_type, y_type = DType.parse(a), DType.parse(str(b))
            ratio = y_type.numpy.itemsize // x_type.numpy.itemsize
            shape = _SHAPES[int(rng.integers(0, len(_SHAPES)))] + ((ratio,) if ratio > 1 else ())
            n_bytes = int(np.prod(shape)) * x_type.numpy.itemsize
            data = rng.integers(0, 64, n_bytes).astype(np.uint8).view(x_type.numpy).reshape(shape)
            yield Case(f"{a}_to_{b}", (Operand(data),), (Result(y_type),))
    yield Case("misfit", (Operand(np.zeros((4, 3), np.uint8)),), (Result(DType.INT32),))
    yield Case("bool_to_uint8", (Operand(booleans(rng, (3,))),), (Result(DType.UINT8),))


# --- declarations -------------------------------------------------------------------------------------------------

CAST = OpDef(
    name="CAST",
    inputs=("input",),
    outputs=("output",),
    options="CastOptions",
    versions=(1, 9),
    shapes=same_shape,
    forms=(
        Form(f"{_CAST_TYPES} -> {_CAST_TYPES}", _cast),
        Form("int4|uint4|int2 -> float32", _cast),
        Form("float32 -> int4|uint4|int2", _cast),
    ),
    bound=bounds.exact,
    cases=_cast_cases,
)

QUANTIZE = OpDef(
    name="QUANTIZE",
    inputs=("input",),
    outputs=("output",),
    options="QuantizeOptions",
    versions=(1, 6),
    shapes=same_shape,
    forms=(
        Form("float32 -> int8|uint8|int16", _quantize),
        Form(
            "float32 -> int4|uint4",
            _quantize,
            _has_one_scale,
            "one scale",
        ),
        Form("int8|uint8 -> int8|uint8|int16", by_table(_requantize)),
        Form("int16 -> int8|int16|int32", by_table(_requantize)),
        Form("int32 -> int8|int16", lambda node: elementwise(node, _requantize(node))),
    ),
    constraints=(SYMMETRIC,),
    cases=_quantize_cases,
)

DEQUANTIZE = OpDef(
    name="DEQUANTIZE",
    inputs=("input",),
    outputs=("output",),
    options="DequantizeOptions",
    versions=(1, 9),
    shapes=same_shape,
    forms=(
        Form("int8|uint8|int16 -> float32", _dequantize),
        Form("int4|uint4|int2 -> float32", _dequantize),
        Form("float16 -> float32", _cast),
    ),
    constraints=(symmetric_int16(), PER_TENSOR_INT16),
    bound=bounds.exact,
    cases=_dequantize_cases,
)

FAKE_QUANT = OpDef(
    name="FAKE_QUANT",
    inputs=("input",),
    outputs=("output",),
    options="FakeQuantOptions",
    versions=(1, 2),
    shapes=same_shape,
    forms=(Form("float32 -> float32", _fake_quant),),
    constraints=(FULL_RANGE, RANGE),
    bound=bounds.exact,
    cases=_fake_quant_cases,
)

BITCAST = OpDef(
    name="BITCAST",
    inputs=("input",),
    outputs=("output",),
    options="BitcastOptions",
    shapes=_bitcast_shapes,
    forms=(Form(f"{_FIXED} -> {_FIXED}", _bitcast),),
    bound=bounds.exact,
    cases=_bitcast_cases,
)

OPS = (CAST, QUANTIZE, DEQUANTIZE, FAKE_QUANT, BITCAST)
