"""What elementwise ops with several operands share: broadcasting, evaluation in blocks, quantization they ask for.

Source: tflite/kernels/kernel_util.cc (CalculateShapeForBroadcast), internal/reference/broadcast_loop.h. NumPy's rules,
except that operands of different shapes have at most 8 dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops.expression import Expression, evaluate
from delegraph.core.ops.opdef import Kernel, Node

MAX_RANK = 8
"""Dimensions that LiteRT's broadcasting loop handles; operands of one shape may have more."""

BLOCK_ELEMENTS = 1 << 16
"""What is evaluated at a time: temporaries of 8 bytes an element stay in the second-level cache."""

TABLE_FROM = 1 << 17
"""Output elements from which an op on two 8-bit operands is worth a table of all its 65,536 results."""


# --- shapes -------------------------------------------------------------------------------------------------------


def broadcast_shape(node: Node, *slots: int) -> Shape:
    """The shape that the operands at ``slots`` have together. Raises InvalidModel when they do not fit."""
    shapes = [node.input(slot).shape for slot in slots]
    first, rank = shapes[0], max(len(shape) for shape in shapes)
    if all(shape == first for shape in shapes):
        return first
    node.expect(rank <= MAX_RANK, "inputs", f"at most {MAX_RANK} dimensions to broadcast", rank)
    out = []
    for dims in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        sizes = set(dims) - {1}
        node.expect(len(sizes) <= 1, "inputs", "shapes that broadcast", " and ".join(map(str, shapes)))
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def binary_shapes(node: Node) -> Sequence[Shape | None]:
    """``OpDef.shapes`` of an op on two operands that broadcast."""
    return [broadcast_shape(node, 0, 1)]


# --- evaluation ---------------------------------------------------------------------------------------------------


def fill(out: Array, function: Callable[..., Any], operands: Sequence[Array]) -> Array:
    """``out[...] = function(*operands)``, block by block; operands broadcast to the shape of ``out``. Gives ``out``."""
    views = [x.reshape((1,) * (out.ndim - x.ndim) + x.shape) for x in operands]
    with np.errstate(all="ignore"):
        _fill(out, function, views, 0)
    return out


def _fill(out: Array, function: Callable[..., Any], views: Sequence[Array], axis: int) -> None:
    if out.size <= BLOCK_ELEMENTS or axis == out.ndim:
        out[...] = function(*views)
        return
    n = out.shape[axis]
    step = max(1, n * BLOCK_ELEMENTS // out.size)
    for start in range(0, n, step):
        key = (slice(None),) * axis + (slice(start, start + step),)
        _fill(out[key], function, [v if v.shape[axis] == 1 else v[key] for v in views], axis + 1)


def elementwise(node: Node, function: Callable[..., Any]) -> Kernel:
    """A kernel that computes ``function(*operands)`` for operands that broadcast to the output's shape.

    function: arrays of one rank → values, which are converted to the output's type.
    """
    shape, dtype = node.outputs[0].shape, node.outputs[0].dtype.numpy

    def run(*operands: Array) -> Sequence[Array]:
        return (fill(np.empty(shape, dtype), function, operands),)

    return run


def by_expression(expression: Expression) -> Callable[[Node], Kernel]:
    """``Form.prepare`` of an op that is its expression and no more."""

    def prepare(node: Node) -> Kernel:
        return elementwise(node, lambda *operands: evaluate(expression, operands))

    return prepare


def elementwise_bytes(node: Node, function: Callable[[Array, Array], Any]) -> Kernel:
    """As ``elementwise``, for two 8-bit operands: a large output is looked up in a table of all results."""
    if node.outputs[0].n_elements < TABLE_FROM:
        return elementwise(node, function)
    return elementwise(node, _pair_table(node, function))


def _pair_table(node: Node, function: Callable[[Array, Array], Any]) -> Callable[[Array, Array], Array]:
    bytes_ = np.arange(256, dtype=np.uint8)
    a, b = bytes_.view(node.input(0).dtype.numpy), bytes_.view(node.input(1).dtype.numpy)
    table = fill(np.empty((256, 256), node.outputs[0].dtype.numpy), function, [a[:, None], b]).reshape(-1)

    def look_up(x: Array, y: Array) -> Array:
        high = x.view(np.uint8).astype(np.intp) << 8
        return table.take(high | y.view(np.uint8), mode="clip")

    return look_up


# --- quantization -------------------------------------------------------------------------------------------------


def per_tensor(node: Node, slot: int | None) -> Quantization:
    """Quantization of input ``slot``, or of the output for None, with one usable scale and a zero point of the type.

    Raises:
        InvalidModel: it is missing, per channel, or its values make no sense.
    """
    name = "outputs[0]" if slot is None else f"inputs[{slot}]"
    spec = node.outputs[0] if slot is None else node.input(slot)
    quantization = node.output_quantization() if slot is None else node.quantization(slot)
    node.expect(quantization.is_per_tensor, f"{name}.quantization", "one scale", quantization.scales.size)
    scale, info = quantization.scale, np.iinfo(spec.dtype.numpy)
    node.expect(0 < float(scale) < np.inf, f"{name}.quantization", "a scale above 0", scale)
    node.expect(
        info.min <= quantization.zero_point <= info.max,
        f"{name}.quantization",
        f"a zero point within {spec.dtype}",
        quantization.zero_point,
    )
    return quantization


def is_quantized(node: Node, slot: int | None) -> bool:
    """Whether input ``slot``, or the output for None, has scales."""
    spec = node.outputs[0] if slot is None else node.input(slot)
    return spec.quantization is not None and spec.quantization.scales.size > 0


# --- cases --------------------------------------------------------------------------------------------------------


def shape_pairs(rng: np.random.Generator) -> list[tuple[str, Shape, Shape]]:
    """Shapes of two operands, with names: every way to broadcast, empty ones, and some that do not fit."""
    pairs: list[tuple[str, Shape, Shape]] = [
        ("same", (2, 3, 4), (2, 3, 4)),
        ("scalars", (), ()),
        ("scalar_left", (), (2, 3)),
        ("scalar_right", (7,), ()),
        ("one_right", (2, 3), (1,)),
        ("ones", (1, 1), (1,)),
        ("channel", (2, 3, 3, 5), (5,)),
        ("both", (2, 1, 4), (3, 1)),
        ("rank_5", (2, 1, 2, 3, 1), (1, 2, 1, 3, 2)),
        ("rank_6", (1, 2, 1, 2, 1, 3), (2, 1, 2, 1, 2, 3)),
        ("rank_8", (2, 1, 2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2, 1, 2)),
        ("rank_9_same", (1, 1, 2, 1, 1, 2, 1, 1, 2), (1, 1, 2, 1, 1, 2, 1, 1, 2)),
        ("rank_9", (1, 1, 2, 1, 1, 2, 1, 1, 2), (2,)),
        ("empty", (0, 3), (0, 3)),
        ("empty_right", (2, 3), (0, 1, 1)),
        ("misfit", (2, 3), (4,)),
        ("misfit_empty", (2, 0), (2,)),
    ]
    for i in range(4):
        shape = rng.integers(1, 5, rng.integers(1, 5))
        a = tuple(int(n) for n in np.where(rng.random(shape.size) < 0.3, 1, shape))
        b = tuple(int(n) for n in np.where(rng.random(shape.size) < 0.3, 1, shape))[int(rng.integers(0, shape.size)) :]
        pairs.append((f"random_{i}", a, b) if rng.random() < 0.5 else (f"random_{i}", b, a))
    return pairs


def some_pairs(rng: np.random.Generator, n: int) -> list[tuple[str, Shape, Shape]]:
    """``n`` of the pairs that fit."""
    pairs = [pair for pair in shape_pairs(rng) if not pair[0].startswith(("misfit", "rank_9"))]
    return [pairs[i] for i in rng.choice(len(pairs), n, replace=n > len(pairs))]
