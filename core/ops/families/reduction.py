"""MEAN, SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_ANY, REDUCE_ALL and CUMSUM.

Source: tflite/kernels/reduce.cc, cumsum.cc; kernels/internal/reference/reduce.h, optimized/reduce.h (SUM int8),
optimized/optimized_ops.h (CUMSUM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import booleans, integers, quantized, reals
from delegraph.core.ops.fixed_point import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
)
from delegraph.core.ops.opdef import (
    Case,
    Constraint,
    Form,
    Kernel,
    Node,
    OpDef,
    Operand,
    Result,
    TensorSpec,
    Work,
    forms,
    packed,
)

Axes = tuple[int, ...]

# --- shapes and work ----------------------------------------------------------------------------------------------


def _axes(values: Array, rank: int) -> Axes | None:
    """The axes that an axis operand names, sorted and each once; None if one is out of range.

    A scalar has nothing to reduce: its axes are not looked at. Source: ResolveAxisForShape.
    """
    if rank == 0:
        return ()
    axes = {int(a) + rank if a < 0 else int(a) for a in values.reshape(-1)}
    return tuple(sorted(axes)) if all(0 <= a < rank for a in axes) else None


def _reduced_shape(shape: Shape, axes: Axes, keep_dims: bool) -> Shape:
    if keep_dims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _shapes(node: Node) -> Sequence[Shape | None]:
    shape, axis, keep_dims = node.input(0).shape, node.input(1), bool(node.options.keep_dims)
    node.expect(axis.dtype.is_integer, "inputs[1]", "integers", axis.dtype)
    if axis.value is not None:
        axes = _axes(axis.value, len(shape))
        node.expect(axes is not None, "inputs[1]", f"axes of {len(shape)} dimensions", axis.value.tolist())
        assert axes is not None
        return [_reduced_shape(shape, axes, keep_dims)]
    # Which dimensions go is not known; there are cases where it makes no difference.
    if len(shape) == 0 or axis.n_elements == 0 or (keep_dims and all(n == 1 for n in shape)):
        return [shape]
    return [None]


def _work(node: Node) -> Work:
    x, y = node.input(0), node.outputs[0]
    return Work(0, x.n_elements, x.size_bytes + node.input(1).size_bytes, y.size_bytes)


def _affine(spec: TensorSpec) -> tuple[float, int]:
    """Scale and zero point as ``params`` holds them: zeros where there is no per-tensor quantization."""
    q = spec.quantization
    return (float(q.scale), q.zero_point) if q is not None and q.is_per_tensor else (0.0, 0)


def _symmetric_int16(node: Node) -> str | None:
    x, y = node.input(0), node.outputs[0]
    if x.dtype is not DType.INT16 or (_affine(x)[1] == 0 and _affine(y)[1] == 0):
        return None
    return f"{_affine(x)[1]} and {_affine(y)[1]}"


def _same_quantization(node: Node) -> str | None:
    x, y = node.input(0), node.outputs[0]
    if x.dtype not in (DType.INT8, DType.UINT8, DType.INT16) or _affine(x) == _affine(y):
        return None
    return f"{_affine(x)} and {_affine(y)}"


def _product_quantization(node: Node) -> str | None:
    if not _is_quantized(node):
        return _same_quantization(node)
    dtype = node.input(0).dtype
    if dtype not in (DType.INT8, DType.INT16):
        return f"quantized {dtype}"
    # NOTE: LiteRT leaves the output as it finds the memory when there is nothing to multiply.
    return "a quantized input without elements" if node.input(0).n_elements == 0 else None


SYMMETRIC_INT16 = Constraint("symmetric_int16", "int16 tensors have zero point 0", _symmetric_int16)
SAME_QUANTIZATION = Constraint(
    "same_quantization",
    "8- and 16-bit input and output have the same scale and zero point",
    _same_quantization,
)
PRODUCT_QUANTIZATION = Constraint(
    "quantization",
    "a quantized input is int8 or int16 and not empty; without, scale and zero point of the output are the same",
    _product_quantization,
)

# --- kernels ------------------------------------------------------------------------------------------------------

Reduce = Callable[[Array, Axes], Array]
"""``reduce(x, axes)``: the reduced values, in any shape."""


def _kernel(node: Node, reduce: Reduce) -> Kernel:
    """The kernel that resolves the axes, reduces, and gives the result its shape."""
    keep_dims = bool(node.options.keep_dims)
    rank = len(node.input(0).shape)

    def resolve(values: Array) -> Axes:
        axes = _axes(values, rank)
        node.require(axes is not None, f"axes of {rank} dimensions", values.tolist())
        assert axes is not None
        return axes

    axes_of = packed(node.input(1), resolve)

    def run(x: Array, axis: Array) -> Sequence[Array]:
        axes = axes_of(axis)
        return (np.asarray(reduce(x, axes)).reshape(_reduced_shape(x.shape, axes, keep_dims)),)

    return run


def _count(shape: Shape, axes: Axes) -> int:
    """Elements that go into one of the output."""
    n = 1
    for a in axes:
        n *= shape[a]
    return n


def _saturated(values: Array, dtype: np.dtype[Any]) -> Array:
    info = np.iinfo(dtype)
    return np.asarray(np.clip(values, info.min, info.max), dtype)


def _mean_float(node: Node) -> Kernel:
    def reduce(x: Array, axes: Axes) -> Array:
        if x.size == 0:
            return np.full(_reduced_shape(x.shape, axes, False), np.nan, np.float32)
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.float32))
        return np.asarray(sums / np.float32(_count(x.shape, axes)))

    return _kernel(node, reduce)


def _mean_int(node: Node) -> Kernel:
    """int32 and int64: the 64-bit sum divided towards zero; 0 for an empty input."""
    dtype = node.outputs[0].dtype.numpy

    def reduce(x: Array, axes: Axes) -> Array:
        n = max(1, _count(x.shape, axes))
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.int64))
        quotient = sums // n
        quotient += (sums < 0) & (quotient * n != sums)
        return quotient.astype(dtype)

    return _kernel(node, reduce)


def _mean_multiplier(multiplier: int, shift: int, n: int) -> tuple[int, int]:
    """``multiplier / n`` with as many bits as fit. Source: QuantizedMeanOrSum (reference/reduce.h)."""
    extra = min(n.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // n, shift - extra


def _rescaled(node: Node, mean: bool) -> Kernel:
    """MEAN of int8, uint8, int16 and SUM of uint8: 32-bit sums, then one fixed-point factor."""
    (s_in, zp_in), (s_out, zp_out) = (
        (float(q.scale), q.zero_point) for q in (node.quantization(0), node.output_quantization())
    )
    multiplier, shift = quantize_multiplier(s_in / s_out)
    dtype = node.outputs[0].dtype.numpy

    def reduce(x: Array, axes: Axes) -> Array:
        if x.size == 0:
            return np.zeros(_reduced_shape(x.shape, axes, False), dtype)
        n = _count(x.shape, axes)
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.int32)).astype(np.int64)
        sums -= zp_in * n
        factor = _mean_multiplier(multiplier, shift, n) if mean else (multiplier, shift)
        scaled = multiply_by_quantized_multiplier(sums.astype(np.int32), *factor) + zp_out
        scaled = scaled.astype(np.int32)  # wraps before it is clamped
        return _saturated(scaled, dtype)

    return _kernel(node, reduce)


def _mean_quantized(node: Node) -> Kernel:
    return _rescaled(node, mean=True)


def _sum_uint8(node: Node) -> Kernel:
    return _rescaled(node, mean=False)


def _sum_int8(node: Node) -> Kernel:
    """``round(sum · s + bias)`` in float32, as in LiteRT's optimised kernel.

    The reference kernel reads int8 data as uint8, whatever the type, and is no model to follow.
    Source: QuantizedMeanOrSum (optimized/reduce.h).
    """
    q, out = node.quantization(0), node.output_quantization()
    scale = q.scale / out.scale

    def reduce(x: Array, axes: Axes) -> Array:
        if x.size == 0:
            return np.zeros(_reduced_shape(x.shape, axes, False), np.int8)
        bias = np.float32(-q.zero_point) * scale * np.float32(_count(x.shape, axes))
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.int32))
        reals = round_half_away(sums.astype(np.float32) * scale + bias)
        return _saturated(reals.astype(np.float64) + out.zero_point, np.dtype(np.int8))

    return _kernel(node, reduce)


def _plain(ufunc: np.ufunc) -> Callable[[Node], Kernel]:
    """A reduction in the operand's own type; integers wrap. Of booleans, a sum is "any" and a product "all"."""

    def prepare(node: Node) -> Kernel:
        dtype = node.outputs[0].dtype.numpy
        function: np.ufunc = ufunc
        if dtype == np.bool_ and ufunc in (np.add, np.multiply):
            function = np.logical_or if ufunc is np.add else np.logical_and
        return _kernel(node, lambda x, axes: function.reduce(x, axis=axes, dtype=dtype))

    return prepare


def _extremum(largest: bool) -> Callable[[Node], Kernel]:
    """REDUCE_MAX and REDUCE_MIN.

    NaNs lose every comparison. A reduction over all axes starts from the first element, so that a NaN there stays;
    any other starts from the type's lowest finite value, which infinities of that sign don't beat.
    Source: EvalType (reduce.cc), ReduceGeneric.
    """

    def prepare(node: Node) -> Kernel:
        dtype = node.outputs[0].dtype.numpy
        if dtype == np.bool_:
            return _plain(np.logical_or if largest else np.logical_and)(node)
        info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        start = info.min if largest else info.max
        ufunc: np.ufunc = np.fmax if largest else np.fmin

        def reduce(x: Array, axes: Axes) -> Array:
            if len(axes) == x.ndim and x.size:
                first = x.reshape(-1)[:1]
                return first if first != first else np.asarray(ufunc.reduce(x, axis=axes))
            return np.asarray(ufunc.reduce(x, axis=axes, initial=start))

        return _kernel(node, reduce)

    return prepare


def _is_quantized(node: Node) -> bool:
    return node.input(0).quantization is not None


def _times(x: Array, multiplier: int, shift: int) -> Array:
    """int64 values times a fixed-point number cut to 15 bits, as int32 (held in int64).

    Source: MultiplyByQuantizedMultiplier(int64_t) (internal/common.cc).
    """
    reduced = (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
    total = 15 - shift
    high = (x * reduced + (1 << (total - 1))) >> total
    return np.asarray(high, np.int32).astype(np.int64)


def _product_quantized(node: Node) -> Kernel:
    """Each step of the product is scaled by ``s_in / s_out^(1/n)`` and rounded.

    Source: QuantizedReduceProd (reference/reduce.h), GetQuantProdScaling (reduce.cc).
    """
    (s_in, zp_in), (s_out, zp_out) = (
        (float(q.scale), q.zero_point) for q in (node.quantization(0), node.output_quantization())
    )
    dtype = node.outputs[0].dtype.numpy

    def reduce(x: Array, axes: Axes) -> Array:
        n = _count(x.shape, axes)
        factor = quantize_multiplier(s_in / s_out ** (1.0 / n))
        rows = np.moveaxis(x, axes, range(len(axes))).reshape(n, -1).astype(np.int64)
        rows -= zp_in
        product = rows[0]
        for row in rows[1:]:
            product = _times(product * row, *factor)
        return _saturated(_times(product, *factor) + zp_out, dtype)

    return _kernel(node, reduce)


# --- cumulative sum -----------------------------------------------------------------------------------------------


def _cumsum_shapes(node: Node) -> Sequence[Shape | None]:
    shape, axis = node.input(0).shape, node.input(1)
    node.expect(len(shape) >= 1, "inputs[0]", "at least 1 dimension", shape)
    node.expect(axis.n_elements == 1 and axis.dtype.is_integer, "inputs[1]", "one integer", axis.shape)
    if axis.value is not None:
        value = int(axis.value.reshape(-1)[0])
        node.expect(
            -len(shape) <= value < len(shape), "inputs[1]", f"an axis of {len(shape)} dimensions", value
        )
    return [shape]


def _cumsum(node: Node) -> Kernel:
    rank, dtype = len(node.input(0).shape), node.outputs[0].dtype.numpy
    exclusive, reverse = bool(node.options.exclusive), bool(node.options.reverse)

    def run(x: Array, axis: Array) -> Sequence[Array]:
        a = int(axis.reshape(-1)[0])
        node.require(-rank <= a < rank, f"an axis of {rank} dimensions", a)
        x = np.moveaxis(x, a, 0)
        x = x[::-1] if reverse else x
        if exclusive:
            out = np.zeros_like(x)
            np.add.accumulate(x[:-1], axis=0, dtype=dtype, out=out[1:])
        else:
            out = np.add.accumulate(x, axis=0, dtype=dtype)
        return (np.moveaxis(out[::-1] if reverse else out, 0, a),)

    return run


# --- bounds -------------------------------------------------------------------------------------------------------


def _magnitude(prepare: Callable[[Node], Kernel]) -> Callable[[Node, Sequence[Any]], Sequence[Any]]:
    """What the kernel makes of the absolute values."""
    return lambda node, inputs: prepare(node)(np.abs(inputs[0]), inputs[1])


# --- cases --------------------------------------------------------------------------------------------------------

# shape, axes, is the axis operand constant
_PLACES: tuple[tuple[Shape, Any, bool], ...] = (
    ((2, 3, 4, 5), [1, 2], True),
    ((2, 3, 4, 5), [2, 1], False),
    ((3, 4), [0], True),
    ((3, 4), [1], True),
    ((3, 4), 1, True),
    ((3, 4), -2, False),
    ((3, 4, 2), [-1, 0], True),
    ((3, 4, 2), [1, -2, 1], True),
    ((2, 3, 2), [0, 1, 2], True),
    ((1, 1, 1), [1], False),
    ((7,), [0], True),
    ((7,), [], False),
    ((4, 2), [], True),
    ((), [], True),
    ((), [0], False),
    ((0, 3), [0], True),
    ((0, 3), [1], True),
    ((2, 0), [0, 1], True),
    ((2, 1, 3, 1, 2, 2), [5, 1, 3], True),
    ((3, 4), [2], True),
    ((3, 4), [-3], False),
)


def _data(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    if dtype is DType.BOOL:
        return booleans(rng, shape)
    return reals(rng, shape) if dtype is DType.FLOAT32 else integers(rng, dtype, shape)


def _places(rng: np.random.Generator, dtype: DType) -> Iterator[tuple[str, Array, Operand, dict[str, bool]]]:
    """(name, data, axis operand, options) of every kind of place, and a few at random."""
    places = list(_PLACES)
    for _ in range(3):
        rank = int(rng.integers(1, 6))
        shape = tuple(int(n) for n in rng.integers(1, 6, rank))
        axes = rng.integers(-rank, rank, int(rng.integers(0, rank + 1))).tolist()
        places.append((shape, axes, bool(rng.integers(2))))
    for i, (shape, axes, constant) in enumerate(places):
        name = f"{dtype}_{i}_{'x'.join(map(str, shape))}_over_{axes}".replace(" ", "")
        axis = Operand(np.array(axes, np.int32), constant=constant)
        yield name, _data(rng, dtype, shape), axis, {"keep_dims": bool(rng.integers(2))}


def _plain_cases(rng: np.random.Generator, dtypes: Sequence[DType]) -> Iterator[Case]:
    """Operands without quantization, or with the same on both sides."""
    for dtype in dtypes:
        for name, x, axis, options in _places(rng, dtype):
            q = None
            if dtype in (DType.INT8, DType.UINT8, DType.INT16) and rng.integers(3):
                q = quantized(rng, dtype, ())[0]
            yield Case(name, (Operand(x, q), axis), (Result(dtype, q),), options)


def _extremum_cases(rng: np.random.Generator) -> Iterator[Case]:
    types = ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")
    yield from _plain_cases(rng, [DType.parse(t) for t in types])
    special = np.array(
        [[np.nan, 1, -np.inf], [-np.inf, np.nan, np.inf], [-np.inf] * 3, [np.nan] * 3], np.float32
    )
    for sign in (1, -1):
        for axes in ([0], [1], [0, 1], []):
            axis = Operand(np.array(axes, np.int32), constant=True)
            for rows in (special, special[1:], special[2:]):
                name = f"special_{sign}_{len(rows)}_{axes}".replace(" ", "")
                yield Case(name, (Operand(sign * rows), axis), (Result(DType.FLOAT32),))
    q, x = quantized(rng, DType.INT8, (3, 4))
    axis = Operand(np.array([0], np.int32), constant=True)
    other = Quantization.per_tensor(float(q.scale) * 2, q.zero_point)
    yield Case("other_scale", (Operand(x, q), axis), (Result(DType.INT8, other),))


def _rescaled_cases(rng: np.random.Generator, dtypes: Sequence[DType], oracle: str) -> Iterator[Case]:
    for dtype in dtypes:
        for name, x, axis, options in _places(rng, dtype):
            q = quantized(rng, dtype, ())[0]
            zp = 0 if dtype is DType.INT16 else int(integers(rng, dtype, ()))
            ratio = float(np.exp(rng.uniform(-3, 3))) if rng.integers(4) else 1.0
            out = Quantization.per_tensor(float(q.scale) * ratio, zp)
            if oracle == "builtin" and x.size == 0:
                continue  # the optimised kernel leaves the output as it finds the memory
            yield Case(name, (Operand(x, q), axis), (Result(dtype, out),), options, oracle=oracle)
        info = np.iinfo(dtype.numpy)
        axis = Operand(np.array([0], np.int32), constant=True)
        for zp in () if dtype is DType.INT16 else (info.min, info.max):
            # What leaves 32 bits is undefined in the optimised kernel's conversion from float.
            for ratio in (1e-6, 0.25, 1.0, 40.0, 3e5) + ((1e8,) if oracle == "reference" else ()):
                q = Quantization.per_tensor(0.5, zp)
                out = Quantization.per_tensor(0.5 / ratio, info.max + info.min - zp)
                x = integers(rng, dtype, (13, 5))
                yield Case(
                    f"{dtype}_from_{zp}_times_{ratio:g}",
                    (Operand(x, q), axis),
                    (Result(dtype, out),),
                    oracle=oracle,
                )


def _mean_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from _plain_cases(rng, (DType.FLOAT32, DType.INT32, DType.INT64))
    yield from _rescaled_cases(rng, (DType.INT8, DType.UINT8, DType.INT16), "reference")


def _sum_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from _plain_cases(rng, (DType.FLOAT32, DType.INT32, DType.INT64, DType.BOOL))
    yield from _rescaled_cases(rng, (DType.UINT8,), "reference")
    # BUILTIN_REF sums int8 bytes as if they were uint8.
    yield from _rescaled_cases(rng, (DType.INT8,), "builtin")


def _product_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")):
        for name, x, axis, options in _places(rng, dtype):
            yield Case(name, (Operand(x), axis), (Result(dtype),), options)
    for dtype in (DType.INT8, DType.INT16):
        for name, x, axis, options in _places(rng, dtype):
            if x.size == 0:
                continue  # LiteRT leaves the output as it finds the memory
            # Scales near 1 keep the product in range; int16 squares would leave what the kernel can hold.
            scale = float(rng.uniform(0.3, 2) * (0.02 if dtype is DType.INT8 else 1e-4))
            q = Quantization.per_tensor(scale, 0 if dtype is DType.INT16 else int(rng.integers(-20, 20)))
            out = Quantization.per_tensor(
                float(rng.uniform(0.5, 2)) * scale, 0 if dtype is DType.INT16 else 3
            )
            yield Case(f"quantized_{name}", (Operand(x, q), axis), (Result(dtype, out),), options)
    q, x = quantized(rng, DType.UINT8, (3, 4))
    axis = Operand(np.array([0], np.int32), constant=True)
    yield Case("quantized_uint8", (Operand(x, q), axis), (Result(DType.UINT8, q),))


def _bool_cases(rng: np.random.Generator) -> Iterator[Case]:
    for i in range(2):
        for name, x, axis, options in _places(rng, DType.BOOL):
            yield Case(f"{name}_{i}", (Operand(x), axis), (Result(DType.BOOL),), options)


def _cumsum_cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((5,), (3, 4), (2, 3, 4), (1, 6, 1, 2), (3, 0, 2), (2, 2, 2, 1, 3), (30, 20))
    for dtype in (DType.FLOAT32, DType.INT32, DType.INT64):
        for i, shape in enumerate(shapes * 2):
            rank = len(shape)
            axis = int(rng.integers(-rank - (i == 8), rank))
            options = {"exclusive": bool(rng.integers(2)), "reverse": bool(rng.integers(2))}
            value = np.array(axis if i % 2 else [axis], np.int32)
            yield Case(
                f"{dtype}_{i}_axis_{axis}",
                (Operand(_data(rng, dtype, shape)), Operand(value, constant=bool(rng.integers(2)))),
                (Result(dtype),),
                options,
            )
    yield Case(
        "scalar",
        (Operand(np.array(3, np.float32)), Operand(np.array(0, np.int32), constant=True)),
        (Result(DType.FLOAT32),),
    )


# --- declarations -------------------------------------------------------------------------------------------------

_NUMBERS = ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")
_SMALL = ("int8", "uint8", "int16")


def _reducer(name: str, **fields: Any) -> OpDef:
    return OpDef(
        name=name,
        inputs=("input", "axis"),
        outputs=("output",),
        options="ReducerOptions",
        shapes=_shapes,
        work=_work,
        **fields,
    )


MEAN = _reducer(
    "MEAN",
    versions=(1, 3),
    forms=(
        Form("float32, int32 -> float32", _mean_float),
        *forms("{T}, int32 -> {T}", _mean_int, T=("int32", "int64")),
        *forms("{T}, int32 -> {T}", _mean_quantized, T=_SMALL),
    ),
    constraints=(SYMMETRIC_INT16,),
    bound=bounds.sums(_magnitude(_mean_float)),
    cases=_mean_cases,
)

SUM = _reducer(
    "SUM",
    versions=(1, 2),
    forms=(
        *forms("{T}, int32 -> {T}", _plain(np.add), T=("float32", "int32", "int64", "bool")),
        Form("uint8, int32 -> uint8", _sum_uint8),
        Form("int8, int32 -> int8", _sum_int8),
    ),
    bound=bounds.sums(_magnitude(_plain(np.add))),
    cases=_sum_cases,
)

REDUCE_MAX = _reducer(
    "REDUCE_MAX",
    versions=(1, 3),
    forms=forms("{T}, int32 -> {T}", _extremum(largest=True), T=_NUMBERS),
    constraints=(SYMMETRIC_INT16, SAME_QUANTIZATION),
    bound=bounds.exact,
    cases=_extremum_cases,
)

REDUCE_MIN = _reducer(
    "REDUCE_MIN",
    versions=(1, 3),
    forms=forms("{T}, int32 -> {T}", _extremum(largest=False), T=_NUMBERS),
    constraints=(SYMMETRIC_INT16, SAME_QUANTIZATION),
    bound=bounds.exact,
    cases=_extremum_cases,
)

REDUCE_PROD = _reducer(
    "REDUCE_PROD",
    versions=(1, 2),
    forms=(
        *(
            Form(f"{t}, int32 -> {t}", _product_quantized, when=_is_quantized, note="quantized")
            for t in ("int8", "int16")
        ),
        *forms("{T}, int32 -> {T}", _plain(np.multiply), T=_NUMBERS),
    ),
    constraints=(SYMMETRIC_INT16, PRODUCT_QUANTIZATION),
    bound=bounds.sums(_magnitude(_plain(np.multiply))),
    cases=_product_cases,
)

REDUCE_ANY = _reducer(
    "REDUCE_ANY",
    forms=(Form("bool, int32 -> bool", _plain(np.logical_or)),),
    cases=_bool_cases,
)

REDUCE_ALL = _reducer(
    "REDUCE_ALL",
    forms=(Form("bool, int32 -> bool", _plain(np.logical_and)),),
    cases=_bool_cases,
)

CUMSUM = OpDef(
    name="CUMSUM",
    inputs=("input", "axis"),
    outputs=("output",),
    options="CumsumOptions",
    shapes=_cumsum_shapes,
    forms=forms("{T}, int32 -> {T}", _cumsum, T=("float32", "int32", "int64")),
    bound=bounds.sums(_magnitude(_cumsum)),
    cases=_cumsum_cases,
)

OPS = (MEAN, SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_ANY, REDUCE_ALL, CUMSUM)
