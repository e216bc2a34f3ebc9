"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

Source: tflite/kernels/resize_bilinear.cc, resize_nearest_neighbor.cc; kernels/internal/reference/resize_bilinear.h,
resize_nearest_neighbor.h. Images are [N, H, W, C]; the size operand is [new H, new W].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.fixed_point import round_half_away
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
    forms,
    packed,
)
from delegraph.core.ops.windows import row_blocks

T = TypeVar("T")

# --- shapes and work ----------------------------------------------------------------------------------------------


def _shapes(node: Node, least: int) -> Sequence[Shape | None]:
    x, size = node.input(0).shape, node.input(1)
    node.expect(len(x) == 4, "inputs[0]", "4 dimensions", x)
    node.expect(size.shape == (2,) and size.dtype.is_integer, "inputs[1]", "2 integers", size.shape)
    if size.value is None:
        return [None]
    h, w = (int(n) for n in size.value)
    node.expect(h >= least and w >= least, "inputs[1]", f"sizes of at least {least}", (h, w))
    node.expect(x[1] > 0 and x[2] > 0 or h == 0 or w == 0, "inputs[0]", "an image that is not empty", x)
    return [(x[0], h, w, x[3])]


def _bilinear_shapes(node: Node) -> Sequence[Shape | None]:
    return _shapes(node, 1)


def _nearest_shapes(node: Node) -> Sequence[Shape | None]:
    return _shapes(node, 0)


def _bilinear_work(node: Node) -> Work:
    x, y = node.input(0), node.outputs[0]
    return Work(4 * y.n_elements, y.n_elements, x.size_bytes, y.size_bytes)


def _one_kind_of_corner(node: Node) -> str | None:
    both = node.options.align_corners and node.options.half_pixel_centers
    return "both" if both and node.input(1).value is not None else None


ONE_KIND_OF_CORNER = Constraint(
    "one_kind_of_corner", "align_corners and half_pixel_centers are not both set", _one_kind_of_corner
)

# --- positions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Where the outputs along one axis come from: ``low`` and ``high`` neighbour (indices), and how much of each."""

    low: Array
    high: Array
    low_weight: Array
    high_weight: Array


def float_axis(n_in: int, n_out: int, align_corners: bool, half_pixel: bool) -> Axis:
    """Source: ComputeInterpolationValues. All in float32; the weights come from the unclamped position."""
    scale = np.float32(n_in) / np.float32(n_out)
    if align_corners and n_out > 1:
        scale = np.float32(n_in - 1) / np.float32(n_out - 1)
    at = np.arange(n_out, dtype=np.float32)
    at = (at + np.float32(0.5)) * scale - np.float32(0.5) if half_pixel else at * scale
    low = np.clip(np.floor(at).astype(np.int32), 0, n_in - 1)
    high = np.minimum(np.ceil(at).astype(np.int32), n_in - 1)
    fraction = at - low.astype(np.float32)
    return Axis(low, high, np.float32(1) - fraction, fraction)


def integer_axis(n_in: int, n_out: int, align_corners: bool, half_pixel: bool) -> Axis:
    """The same with 10 bits behind the point. Source: ComputeInterpolationValuesInteger."""
    scale = (1024 * n_in + n_out // 2) // n_out
    if align_corners and n_out > 1:
        scale = (1024 * (n_in - 1) + (n_out - 1) // 2) // (n_out - 1)
    at = np.arange(n_out, dtype=np.int64) * scale
    if half_pixel:
        at += scale // 2 - 512
    low = np.maximum(at >> 10, 0)
    high = np.minimum((at + 1023) >> 10, n_in - 1)
    fraction = at - 1024 * low
    # NOTE: the rounded scale can lead past the end of a much enlarged image, where LiteRT reads beyond its data.
    return Axis(np.minimum(low, n_in - 1), high, 1024 - fraction, fraction)


def nearest_axis(n_in: int, n_out: int, align_corners: bool, half_pixel: bool) -> Array:
    """Indices of the nearest neighbours. Source: GetNearestNeighbor."""
    if align_corners and n_out > 1:
        scale = np.float32(n_in - 1) / np.float32(n_out - 1)
    else:
        scale = np.float32(n_in) / np.float32(n_out)
    at = (np.arange(n_out, dtype=np.float32) + np.float32(0.5 if half_pixel else 0)) * scale
    index = (round_half_away(at) if align_corners else np.floor(at)).astype(np.int32)
    return np.asarray(np.clip(index, 0, n_in - 1))


def axes_of(node: Node, make: Callable[[int, int, bool, bool], T], size: Sequence[int]) -> tuple[T, T]:
    """``make`` for height and width with the node's options. size: new height and width."""
    x, options = node.input(0).shape, node.options
    h, w = (make(x[1 + i], int(size[i]), bool(options.align_corners), bool(options.half_pixel_centers)) for i in (0, 1))
    return h, w


def _axes(node: Node, make: Callable[[int, int, bool, bool], T], least: int) -> Callable[[Array], tuple[T, T]]:
    """A function from the size operand to the two axes: worked out once if the size is known."""
    x = node.input(0).shape

    def of(size: Array) -> tuple[T, T]:
        node.require(bool((size >= least).all()), f"sizes of at least {least}", size.tolist())
        node.require(x[1] > 0 and x[2] > 0 or not size.all(), "an image that is not empty", x)
        return axes_of(node, make, size.tolist())

    return packed(node.input(1), of)


# --- kernels ------------------------------------------------------------------------------------------------------


def _bilinear_float(node: Node) -> Kernel:
    """float32, and uint8 by way of float32.

    Each product is rounded as the reference rounds it, (value · row weight) · column weight, and the four are added
    in its order: (y0, x0), (y1, x0), (y0, x1), (y1, x1).
    """
    axes_of = _axes(node, float_axis, 1)
    dtype = node.outputs[0].dtype.numpy

    def run(x: Array, size: Array) -> Sequence[Array]:
        h, w = axes_of(size)
        n, _, n_columns, channels = x.shape
        out = np.empty((n, h.low.size, w.low.size, channels), dtype)
        y_low, y_high = h.low_weight[:, None, None], h.high_weight[:, None, None]
        x_low, x_high = w.low_weight[:, None], w.high_weight[:, None]
        row_bytes = 4 * channels * (2 * n_columns + 2 * w.low.size)
        for image, rows in row_blocks(n, h.low.size, row_bytes):
            top = x[image, h.low[rows]] * y_low[rows]
            bottom = x[image, h.high[rows]] * y_high[rows]
            total = np.take(top, w.low, axis=1)
            total *= x_low
            for part, columns, weights in (
                (bottom, w.low, x_low),
                (top, w.high, x_high),
                (bottom, w.high, x_high),
            ):
                term = np.take(part, columns, axis=1)
                term *= weights
                total += term
            if dtype == np.uint8:
                total += np.float32(0.5)
            out[image, rows] = total  # to uint8: the fraction is cut off
        return (out,)

    return run


def _bilinear_integer(node: Node) -> Kernel:
    """int8 and int16: the 20-bit product of values and weights, rounded half away from zero."""
    axes_of = _axes(node, integer_axis, 1)
    dtype = node.outputs[0].dtype.numpy
    # Weights stay below 2^11 each, so that for int8 the sum fits 32 bits.
    wide = np.int32 if dtype == np.int8 else np.int64

    def run(x: Array, size: Array) -> Sequence[Array]:
        h, w = axes_of(size)
        n, _, n_columns, channels = x.shape
        out = np.empty((n, h.low.size, w.low.size, channels), dtype)
        y_low, y_high = (v.astype(wide)[:, None, None] for v in (h.low_weight, h.high_weight))
        x_low, x_high = (v.astype(wide)[:, None] for v in (w.low_weight, w.high_weight))
        row_bytes = np.dtype(wide).itemsize * channels * (2 * n_columns + 2 * w.low.size)
        for image, rows in row_blocks(n, h.low.size, row_bytes):
            mixed = x[image, h.low[rows]] * y_low[rows]
            mixed += x[image, h.high[rows]] * y_high[rows]
            total = np.take(mixed, w.low, axis=1)
            total *= x_low
            term = np.take(mixed, w.high, axis=1)
            term *= x_high
            total += term
            total -= total < 0
            total += 1 << 19
            total >>= 20
            out[image, rows] = total
        return (out,)

    return run


def _nearest(node: Node) -> Kernel:
    axes_of = _axes(node, nearest_axis, 0)

    def run(x: Array, size: Array) -> Sequence[Array]:
        h, w = axes_of(size)
        out = np.empty((x.shape[0], h.size, w.size, x.shape[3]), x.dtype)
        if out.size == 0:
            return (out,)
        for image, target in zip(x, out, strict=True):
            if h.size > x.shape[1]:  # first the axis that leaves less to copy
                np.take(np.take(image, w, axis=1), h, axis=0, out=target)
            else:
                np.take(np.take(image, h, axis=0), w, axis=1, out=target)
        return (out,)

    return run


# --- bounds -------------------------------------------------------------------------------------------------------


def _magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    """The largest value of each image and channel: the weights are rounded positions, so that their error scales."""
    x = np.abs(inputs[0])
    return [x.max((1, 2), keepdims=True, initial=0)]


# --- cases --------------------------------------------------------------------------------------------------------

_MODES: tuple[dict[str, bool], ...] = (
    {},
    {"align_corners": True},
    {"half_pixel_centers": True},
    {"align_corners": True, "half_pixel_centers": True},
)


def _sizes(rng: np.random.Generator) -> Iterator[tuple[Shape, tuple[int, int]]]:
    yield (1, 3, 4, 2), (3, 4)
    yield (2, 2, 3, 1), (4, 6)
    yield (1, 1, 1, 3), (3, 2)
    yield (1, 7, 9, 1), (1, 1)
    yield (1, 8, 6, 2), (4, 3)
    for _ in range(4):
        yield (
            (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(1, 9, 2)), int(rng.integers(1, 4))),
            (int(rng.integers(1, 14)), int(rng.integers(1, 14))),
        )


def _images(rng: np.random.Generator, dtypes: Sequence[DType], extra: Sequence[Any]) -> Iterator[Case]:
    for dtype in dtypes:
        for i, (shape, size) in enumerate([*_sizes(rng), *extra]):
            for mode, options in enumerate(_MODES):
                if mode == 3 and i:
                    continue
                constant = bool(rng.integers(2)) and 0 not in shape or 0 in size or 0 in shape
                q = None
                if dtype is DType.FLOAT32:
                    x = reals(rng, shape)
                elif dtype is DType.BOOL:
                    x = np.asarray(rng.random(shape) < 0.5)
                elif dtype is DType.FLOAT16:
                    x = reals(rng, shape).astype(np.float16)
                else:
                    x = integers(rng, dtype, shape)
                    q = quantized(rng, dtype, ())[0] if dtype.bits < 32 and rng.integers(2) else None
                yield Case(
                    f"{dtype}_{i}_{'x'.join(map(str, shape))}_to_{size[0]}x{size[1]}_mode_{mode}_{constant}",
                    (Operand(x, q), Operand(np.array(size, np.int32), constant=constant)),
                    (Result(dtype, q),),
                    options,
                )


def _bilinear_cases(rng: np.random.Generator) -> Iterator[Case]:
    dtypes = (DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16)
    yield from _images(rng, dtypes, [((0, 2, 2, 1), (3, 3)), ((1, 2, 5, 1), (61, 33)), ((1, 2, 2, 1), (0, 3))])


def _nearest_cases(rng: np.random.Generator) -> Iterator[Case]:
    types = ("float32", "uint8", "int8", "int16", "int32", "bool", "float16", "uint32", "uint16")
    extra = [((0, 2, 2, 1), (3, 3)), ((1, 2, 5, 1), (51, 33)), ((1, 2, 2, 1), (0, 3))]
    yield from _images(rng, [DType.parse(t) for t in types], extra)
    x = Operand(np.zeros((1, 2, 2, 1), np.int64))
    yield Case("int64", (x, Operand(np.array([3, 3], np.int32), constant=True)), (Result(DType.INT64),))


# --- declarations -------------------------------------------------------------------------------------------------

RESIZE_BILINEAR = OpDef(
    name="RESIZE_BILINEAR",
    inputs=("input", "size"),
    outputs=("output",),
    options="ResizeBilinearOptions",
    versions=(1, 4),
    shapes=_bilinear_shapes,
    work=_bilinear_work,
    forms=(
        *forms("{T}, int32 -> {T}", _bilinear_float, T=("float32", "uint8")),
        *forms("{T}, int32 -> {T}", _bilinear_integer, T=("int8", "int16")),
    ),
    constraints=(ONE_KIND_OF_CORNER,),
    bound=bounds.sums(_magnitude),
    cases=_bilinear_cases,
)

RESIZE_NEAREST_NEIGHBOR = OpDef(
    name="RESIZE_NEAREST_NEIGHBOR",
    inputs=("input", "size"),
    outputs=("output",),
    options="ResizeNearestNeighborOptions",
    versions=(1, 4),
    shapes=_nearest_shapes,
    forms=tuple(
        Form(f"{t}, int32 -> {t}", _nearest)
        for t in (
            *("float32", "int8", "uint8", "int32", "bool", "int16"),
            *("uint32", "uint16", "float16"),
        )
    ),
    bound=bounds.exact,
    cases=_nearest_cases,
)

OPS = (RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR)
