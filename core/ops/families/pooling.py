"""AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D.

Source: tflite/kernels/pooling.cc; kernels/internal/reference/pooling.h, reference/integer_ops/pooling.h. A window that
reaches over the edge counts only what lies inside. Input and output are taken to have the same quantization: LiteRT
compares them in debug builds only, so that a difference has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import integers, reals
from delegraph.core.ops.fixed_point import activation_range, clamp_float
from delegraph.core.ops.opdef import (
    Case,
    Form,
    Kernel,
    Node,
    OpDef,
    Operand,
    Result,
    Work,
    elementwise_work,
)
from delegraph.core.ops.windows import SAME, VALID, Axis, pad_spatial, row_blocks

# --- shapes and work ----------------------------------------------------------------------------------------------


def window_axes(node: Node) -> tuple[Axis, Axis]:
    """The windows along height and width."""
    x, o = node.input(0).shape, node.options
    return (
        Axis.of(x[1], o.filter_height, o.stride_h, 1, o.padding),
        Axis.of(x[2], o.filter_width, o.stride_w, 1, o.padding),
    )


def _shapes(node: Node) -> Sequence[Shape | None]:
    x, o = node.input(0).shape, node.options
    node.expect(len(x) == 4, "inputs[0]", "4 dimensions", x)
    for name in ("filter_height", "filter_width", "stride_h", "stride_w"):
        node.expect(getattr(o, name) > 0, name, "at least 1", getattr(o, name))
    h, w = window_axes(node)
    return [(x[0], h.out, w.out, x[3])]


def _work(node: Node) -> Work:
    return elementwise_work(node, per_element=node.options.filter_height * node.options.filter_width)


def _reaching(along: Axis) -> Axis:
    """Without the rows of a large window that lie outside for every output: padding stays as small as the data."""
    first = max(0, along.pad_before - (along.out - 1) * along.stride)
    last = min(along.window, along.size + along.pad_before)
    return replace(along, window=max(last - first, 1), pad_before=along.pad_before - first)


# --- windows ------------------------------------------------------------------------------------------------------


def _steps(padded: Array, axis: int, along: Axis, out: int) -> Iterator[Array]:
    """The elements that each step within the window meets, along one axis: views."""
    index = [slice(None)] * padded.ndim
    for k in range(along.window):
        index[axis] = slice(k, k + (out - 1) * along.stride + 1, along.stride)
        yield padded[tuple(index)]


def _separable(padded: Array, h: Axis, w: Axis, combine: np.ufunc) -> Array:
    """Windows of [N, H, W, C] combined along H, then along W: right for maxima and for sums of integers."""
    for axis, along in ((1, h), (2, w)):
        steps = _steps(padded, axis, along, along.out)
        combined = next(steps).copy()
        for step in steps:
            combine(combined, step, out=combined)
        padded = combined
    return padded


def _float_sums(padded: Array, h: Axis, w: Axis) -> Array:
    """Sums over windows in float32, added up row by row as the reference does."""
    n, _, _, c = padded.shape
    out = np.zeros((n, h.out, w.out, c), np.float32)
    for rows in _steps(padded, 1, h, h.out):
        for elements in _steps(rows, 2, w, w.out):
            out += elements
    return out


def _counts(h: Axis, w: Axis) -> Array:
    """[out_h, out_w, 1]: how many elements of each window lie inside. int64."""

    def inside(along: Axis) -> Array:
        first = np.arange(along.out, dtype=np.int64) * along.stride - along.pad_before
        return np.minimum(first + along.window, along.size) - np.maximum(first, 0)

    return (inside(h)[:, None] * inside(w))[:, :, None]


# --- kernels ------------------------------------------------------------------------------------------------------


def _by_rows(node: Node, x: Array, fill: Any, pool: Callable[[Array, Axis, Axis, slice], Array]) -> Array:
    """``pool(padded, h, w, rows)`` for blocks of output rows of each image; ``h`` tells the block's rows."""
    y = node.outputs[0]
    h, w = map(_reaching, window_axes(node))
    out = np.empty(y.shape, y.dtype.numpy)
    if out.size == 0:
        return out
    padded = pad_spatial(x, h, w, fill)
    row_bytes = padded.shape[2] * x.shape[3] * 8 * h.stride
    for image, rows in row_blocks(out.shape[0], h.out, row_bytes):
        part = padded[image : image + 1, rows.start * h.stride : (rows.stop - 1) * h.stride + h.window]
        out[image, rows] = pool(part, replace(h, out=rows.stop - rows.start), w, rows)[0]
    return out


def _float_pool(finish: Callable[[Array, Array], Array], square: bool) -> Callable[[Node], Kernel]:
    """``prepare`` of a pool that sums floats, or their squares.

    finish: (sums [n, h, w, c], counts [h, w, 1]) → what the op gives.
    """

    def prepare(node: Node) -> Kernel:
        activation = node.options.fused_activation_function
        counts = _counts(*window_axes(node)).astype(np.float32)

        def pool(part: Array, h: Axis, w: Axis, rows: slice) -> Array:
            with np.errstate(all="ignore"):
                sums = _float_sums(part * part if square else part, h, w)
                return clamp_float(finish(sums, counts[rows]), activation)

        return lambda x: (_by_rows(node, x, 0, pool),)

    return prepare


def integer_range(node: Node) -> tuple[int, int]:
    """The least and greatest integer that the fused activation lets through; without one no quantization is needed."""
    activation, y = node.options.fused_activation_function, node.outputs[0]
    return activation_range(activation, y.dtype, node.output_quantization() if activation else None)


def _average_integer(node: Node) -> Kernel:
    """The mean of the stored integers, halves away from zero."""
    low, high = integer_range(node)
    counts = _counts(*window_axes(node)).astype(np.int32)

    def pool(part: Array, h: Axis, w: Axis, rows: slice) -> Array:
        sums = _separable(part.astype(np.int32), h, w, np.add)
        n = counts[rows]
        means = (np.abs(sums) + n // 2) // n
        return np.clip(np.where(sums < 0, -means, means), low, high)

    return lambda x: (_by_rows(node, x, 0, pool),)


def _max_integer(node: Node) -> Kernel:
    low, high = integer_range(node)
    least = np.iinfo(node.outputs[0].dtype.numpy).min

    def pool(part: Array, h: Axis, w: Axis, rows: slice) -> Array:
        return np.clip(_separable(part, h, w, np.maximum), low, high)

    return lambda x: (_by_rows(node, x, least, pool),)


def _max_float(node: Node) -> Kernel:
    """The maximum of a window; it starts at the least finite value and no NaN is greater."""
    activation = node.options.fused_activation_function
    least = np.finfo(np.float32).min

    def pool(part: Array, h: Axis, w: Axis, rows: slice) -> Array:
        return clamp_float(np.fmax(_separable(part, h, w, np.fmax), least), activation)

    return lambda x: (_by_rows(node, x, least, pool),)


# --- cases --------------------------------------------------------------------------------------------------------

INTEGERS = (DType.INT8, DType.UINT8, DType.INT16)


def _cases(rng: np.random.Generator, dtypes: Sequence[DType]) -> Iterator[Case]:
    # x, window, stride, padding
    fixed: list[tuple[str, Shape, tuple[int, int], tuple[int, int], int]] = [
        ("global", (2, 7, 5, 3), (7, 5), (1, 1), VALID),
        ("same", (1, 5, 5, 2), (3, 3), (1, 1), SAME),
        ("wide_window", (1, 2, 3, 2), (5, 7), (1, 2), SAME),
        ("gaps", (1, 7, 8, 2), (1, 2), (3, 4), VALID),
        ("one", (1, 1, 1, 1), (1, 1), (1, 1), VALID),
        ("huge_window", (1, 3, 4, 2), (1000, 1001), (2, 1), SAME),
        ("even", (1, 6, 6, 1), (2, 2), (2, 2), VALID),
        ("empty", (0, 4, 4, 2), (2, 2), (2, 2), VALID),
        ("no_channels", (1, 4, 4, 0), (2, 2), (2, 2), SAME),
        ("no_rows", (1, 0, 4, 2), (2, 2), (2, 2), SAME),
        ("no_window_fits", (1, 2, 4, 2), (3, 2), (1, 1), VALID),
        ("rank_3", (4, 4, 2), (2, 2), (2, 2), SAME),
        ("stride_0", (1, 4, 4, 2), (2, 2), (0, 1), SAME),
    ]
    for i in range(6):
        n, c = (int(k) for k in rng.integers(1, 4, 2))
        (height, width), (kh, kw), (sh, sw) = (
            rng.integers(1, 9, 2),
            rng.integers(1, 5, 2),
            rng.integers(1, 5, 2),
        )
        padding = int(rng.integers(0, 2))
        if padding == VALID:
            height, width = max(height, kh), max(width, kw)
        shape = (n, int(height), int(width), c)
        fixed.append((f"random_{i}", shape, (int(kh), int(kw)), (int(sh), int(sw)), padding))
    for name, x_shape, window, stride, padding in fixed:
        options = {
            "padding": padding,
            "filter_height": window[0],
            "filter_width": window[1],
            "stride_h": stride[0],
            "stride_w": stride[1],
            "fused_activation_function": int(rng.integers(0, 4)),
        }
        for dtype in dtypes:
            q = None
            if dtype is DType.FLOAT32:
                x = reals(rng, x_shape)
            else:
                x = integers(rng, dtype, x_shape)
                zero_point = 0 if dtype is DType.INT16 else int(integers(rng, dtype, ()))
                q = Quantization.per_tensor(float(rng.uniform(0.002, 0.3)), zero_point)
            yield Case(f"{dtype}_{name}", (Operand(x, q),), (Result(dtype, q),), options)
    yield from _more_cases(rng, dtypes)


def _more_cases(rng: np.random.Generator, dtypes: Sequence[DType]) -> Iterator[Case]:
    """Halves, special values, tensors without a quantization and with two that differ."""
    options = {"filter_height": 1, "filter_width": 2, "stride_h": 1, "stride_w": 2}
    special = np.array([np.nan, 1, np.nan, np.nan, -np.inf, -np.inf, np.inf, 0], np.float32)
    for activation in range(4):
        yield Case(
            f"float32_special_{activation}",
            (Operand(special.reshape(1, 1, 8, 1)),),
            (Result(DType.FLOAT32),),
            {**options, "fused_activation_function": activation},
        )
    for dtype in dtypes:
        if dtype is DType.FLOAT32:
            continue
        info = np.iinfo(dtype.numpy)
        low, high = int(info.min), int(info.max)
        x = np.array([low, low, high, high, 1, 2, 3, 4, 0, 1, low, high, high, high - 1], dtype.numpy)
        if low < 0:
            x = np.concatenate([x, np.array([-1, -2, -1, 0, 1, -2, low, low + 1], dtype.numpy)])
        x = x.reshape(1, 1, -1, 1)
        yield Case(f"{dtype}_halves", (Operand(x),), (Result(dtype),), options)
        one, two = Quantization.per_tensor(0.5), Quantization.per_tensor(0.25, 0 if low < -200 else 3)
        relu6 = {**options, "fused_activation_function": 3}
        yield Case(f"{dtype}_two_scales", (Operand(x, one),), (Result(dtype, two),), relu6)


# --- declarations -------------------------------------------------------------------------------------------------


def _pool(
    name: str, version: int, integer: Callable[[Node], Kernel] | None, prepare: Callable[[Node], Kernel]
) -> OpDef:
    dtypes = (DType.FLOAT32, *(INTEGERS if integer else ()))
    return OpDef(
        name=name,
        inputs=("input",),
        outputs=("output",),
        options="Pool2DOptions",
        versions=(1, version),
        shapes=_shapes,
        work=_work,
        forms=(
            Form("float32 -> float32", prepare),
            *(Form(f"{dtype} -> {dtype}", integer) for dtype in dtypes[1:] if integer),
        ),
        bound=bounds.exact,
        cases=lambda rng: _cases(rng, dtypes),
    )


AVERAGE_POOL_2D = _pool("AVERAGE_POOL_2D", 3, _average_integer, _float_pool(np.divide, square=False))
MAX_POOL_2D = _pool("MAX_POOL_2D", 3, _max_integer, _max_float)
L2_POOL_2D = _pool("L2_POOL_2D", 1, None, _float_pool(lambda sums, counts: np.sqrt(sums / counts), square=True))

OPS = (AVERAGE_POOL_2D, MAX_POOL_2D, L2_POOL_2D)
