"""MEAN, SUM and REDUCE_PROD.

Source: tflite/kernels/reduce.cc; kernels/internal/reference/reduce.h, optimized/reduce.h (SUM int8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import integers, quantized
from delegraph.core.ops.families.reduction import (
    NUMBERS,
    SYMMETRIC_INT16,
    Axes,
    differing_quantization,
    n_reduced,
    places,
    plain,
    plain_cases,
    reduced_shape,
    reducer,
    reducing_kernel,
)
from delegraph.core.ops.fixed_point import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, Operand, Result, forms

# --- constraints ----------------------------------------------------------------------------------------------------


def _is_quantized(node: Node) -> bool:
    return node.input(0).quantization is not None


def _product_quantization(node: Node) -> str | None:
    if not _is_quantized(node):
        return differing_quantization(node)
    dtype = node.input(0).dtype
    if dtype not in (DType.INT8, DType.INT16):
        return f"quantized {dtype}"
    # NOTE: LiteRT leaves the output as it finds the memory when there is nothing to multiply.
    return "a quantized input without elements" if node.input(0).n_elements == 0 else None


PRODUCT_QUANTIZATION = Constraint(
    "quantization",
    "a quantized input is int8 or int16 and not empty; without, scale and zero point of the output are the same",
    _product_quantization,
)

# --- means and sums -------------------------------------------------------------------------------------------------


def _saturated(values: Array, dtype: np.dtype[Any]) -> Array:
    info = np.iinfo(dtype)
    return np.asarray(np.clip(values, info.min, info.max), dtype)


def _mean_float(node: Node) -> Kernel:
    def reduce(x: Array, axes: Axes) -> Array:
        if x.size == 0:
            return np.full(reduced_shape(x.shape, axes, False), np.nan, np.float32)
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.float32))
        return np.asarray(sums / np.float32(n_reduced(x.shape, axes)))

    return reducing_kernel(node, reduce)


def _mean_int(node: Node) -> Kernel:
    """int32 and int64: the 64-bit sum divided towards zero; 0 for an empty input."""
    dtype = node.outputs[0].dtype.numpy

    def reduce(x: Array, axes: Axes) -> Array:
        n = max(1, n_reduced(x.shape, axes))
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.int64))
        quotient = sums // n
        quotient += (sums < 0) & (quotient * n != sums)
        return quotient.astype(dtype)

    return reducing_kernel(node, reduce)


def mean_multiplier(multiplier: int, shift: int, n: int) -> tuple[int, int]:
    """``multiplier / n`` with as many bits as fit, as ``quantize_multiplier`` gives it: for the sum of ``n`` elements.
    Source: QuantizedMeanOrSum (reference/reduce.h)."""
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
            return np.zeros(reduced_shape(x.shape, axes, False), dtype)
        n = n_reduced(x.shape, axes)
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.int32)).astype(np.int64)
        sums -= zp_in * n
        factor = mean_multiplier(multiplier, shift, n) if mean else (multiplier, shift)
        scaled = multiply_by_quantized_multiplier(sums.astype(np.int32), *factor) + zp_out
        scaled = scaled.astype(np.int32)  # wraps before it is clamped
        return _saturated(scaled, dtype)

    return reducing_kernel(node, reduce)


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
            return np.zeros(reduced_shape(x.shape, axes, False), np.int8)
        bias = np.float32(-q.zero_point) * scale * np.float32(n_reduced(x.shape, axes))
        sums = np.asarray(np.add.reduce(x, axis=axes, dtype=np.int32))
        reals = round_half_away(sums.astype(np.float32) * scale + bias)
        return _saturated(reals.astype(np.float64) + out.zero_point, np.dtype(np.int8))

    return reducing_kernel(node, reduce)


# --- products -------------------------------------------------------------------------------------------------------


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
        n = n_reduced(x.shape, axes)
        factor = quantize_multiplier(s_in / s_out ** (1.0 / n))
        rows = np.moveaxis(x, axes, range(len(axes))).reshape(n, -1).astype(np.int64)
        rows -= zp_in
        product = rows[0]
        for row in rows[1:]:
            product = _times(product * row, *factor)
        return _saturated(_times(product, *factor) + zp_out, dtype)

    return reducing_kernel(node, reduce)


# --- bounds ---------------------------------------------------------------------------------------------------------


def _magnitude(prepare: Callable[[Node], Kernel]) -> Callable[[Node, Sequence[Any]], Sequence[Any]]:
    """What the kernel makes of the absolute values."""
    return lambda node, inputs: prepare(node)(np.abs(inputs[0]), inputs[1])


# --- cases ----------------------------------------------------------------------------------------------------------


def _rescaled_cases(rng: np.random.Generator, dtypes: Sequence[DType], oracle: str) -> Iterator[Case]:
    for dtype in dtypes:
        for name, x, axis, options in places(rng, dtype):
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
    yield from plain_cases(rng, (DType.FLOAT32, DType.INT32, DType.INT64))
    yield from _rescaled_cases(rng, (DType.INT8, DType.UINT8, DType.INT16), "reference")


def _sum_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield from plain_cases(rng, (DType.FLOAT32, DType.INT32, DType.INT64, DType.BOOL))
    yield from _rescaled_cases(rng, (DType.UINT8,), "reference")
    # BUILTIN_REF sums int8 bytes as if they were uint8.
    yield from _rescaled_cases(rng, (DType.INT8,), "builtin")


def _product_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")):
        for name, x, axis, options in places(rng, dtype):
            yield Case(name, (Operand(x), axis), (Result(dtype),), options)
    for dtype in (DType.INT8, DType.INT16):
        for name, x, axis, options in places(rng, dtype):
            if x.size == 0:
                continue  # LiteRT leaves the output as it finds the memory
            # Scales near 1 keep the product in range; int16 squares would leave what the kernel can hold.
            scale = float(rng.uniform(0.3, 2) * (0.02 if dtype is DType.INT8 else 1e-4))
            q = Quantization.per_tensor(scale, 0 if dtype is DType.INT16 else int(rng.integers(-20, 20)))
            out = Quantization.per_tensor(float(rng.uniform(0.5, 2)) * scale, 0 if dtype is DType.INT16 else 3)
            yield Case(f"quantized_{name}", (Operand(x, q), axis), (Result(dtype, out),), options)
    q, x = quantized(rng, DType.UINT8, (3, 4))
    axis = Operand(np.array([0], np.int32), constant=True)
    yield Case("quantized_uint8", (Operand(x, q), axis), (Result(DType.UINT8, q),))


# --- declarations ---------------------------------------------------------------------------------------------------

_SMALL = ("int8", "uint8", "int16")

MEAN = reducer(
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

SUM = reducer(
    "SUM",
    versions=(1, 2),
    forms=(
        *forms("{T}, int32 -> {T}", plain(np.add), T=("float32", "int32", "int64", "bool")),
        Form("uint8, int32 -> uint8", _sum_uint8),
        Form("int8, int32 -> int8", _sum_int8),
    ),
    bound=bounds.sums(_magnitude(plain(np.add))),
    cases=_sum_cases,
)

REDUCE_PROD = reducer(
    "REDUCE_PROD",
    versions=(1, 2),
    forms=(
        *(
            Form(f"{t}, int32 -> {t}", _product_quantized, when=_is_quantized, note="quantized")
            for t in ("int8", "int16")
        ),
        *forms("{T}, int32 -> {T}", plain(np.multiply), T=NUMBERS),
    ),
    constraints=(SYMMETRIC_INT16, PRODUCT_QUANTIZATION),
    bound=bounds.sums(_magnitude(plain(np.multiply))),
    cases=_product_cases,
)

OPS = (MEAN, SUM, REDUCE_PROD)
