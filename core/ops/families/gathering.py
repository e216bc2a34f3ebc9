"""GATHER, GATHER_ND, SCATTER_ND: elements and parts picked, and put, by index.

Source: tflite/kernels/{gather,gather_nd,scatter_nd}.cc, kernels/internal/reference/gather.h, reference/reference_ops.h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    OTHER,
    SHIFTED,
    Check,
    at_run,
    index,
    known,
    moved_work,
    numbers,
    one_type,
    require_range,
    resolve_axis,
    sizes,
    tensor,
)
from delegraph.core.ops.opdef import Case, Constraint, Kernel, Node, OpDef, Operand, Result

GATHER_TYPES = "float32|float16|bfloat16|int8|uint8|int16|int32|int64|bool"

# --- GATHER -------------------------------------------------------------------------------------------------------


def _gather_axes(node: Node) -> tuple[int, int]:
    """(axis, batch_dims), both counted from the start."""
    shape, indices, o = node.input(0).shape, node.input(1).shape, node.options
    axis = resolve_axis(node.expect, o.axis, len(shape))
    batch = o.batch_dims + (len(indices) if o.batch_dims < 0 else 0)
    node.expect(0 <= batch <= min(axis, len(indices)), "batch_dims", f"0 to {min(axis, len(indices))}", o.batch_dims)
    node.expect(shape[:batch] == indices[:batch], "inputs[1]", f"the batch dimensions {shape[:batch]}", indices)
    return axis, batch


def _gather_shapes(node: Node) -> Sequence[Shape | None]:
    shape, indices = node.input(0).shape, node.input(1).shape
    axis, batch = _gather_axes(node)
    return [(*shape[:axis], *indices[batch:], *shape[axis + 1 :])]


def _gather(node: Node) -> Kernel:
    axis, batch = _gather_axes(node)

    def run(x: Array, indices: Array) -> Sequence[Array]:
        require_range(node, indices, x.shape[axis])
        if batch == 0:
            return (np.take(x, indices, axis),)
        # Rows of [batch · outer · axis, inner], picked by their number.
        n, size = math.prod(x.shape[:batch]), x.shape[axis]
        outer, inner = math.prod(x.shape[batch:axis]), math.prod(x.shape[axis + 1 :])
        first = np.arange(n * outer, dtype=np.int64).reshape(n, outer, 1) * size
        rows = first + indices.reshape(n, 1, math.prod(indices.shape[batch:]))
        shape = (*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :])
        return (np.take(x.reshape(n * outer * size, inner), rows.reshape(-1), 0).reshape(shape),)

    return run


def _string_vector(node: Node) -> str | None:
    x = node.input(0)
    return f"shape {x.shape}" if x.dtype is DType.STRING and len(x.shape) != 1 else None


def _gather_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{GATHER_TYPES}|uint32|uint64".replace("bfloat16|", "").split("|")):
        for i, kind in enumerate((DType.INT32, DType.INT64, DType.INT16)):
            shape = sizes(rng, int(rng.integers(1, 5)), 1, 4)
            axis = int(rng.integers(0, len(shape)))
            batch = int(rng.integers(0, axis + 1)) if i else 0
            picked = (*shape[:batch], *sizes(rng, int(rng.integers(batch == 0 and i > 0, 3)), 1, 3))
            q = SHIFTED if dtype is DType.INT8 else None
            operands = (
                tensor(rng, dtype, shape, q, i == 1),
                index(rng.integers(0, shape[axis], picked), kind, i == 2),
            )
            options = {
                "axis": axis - (len(shape) if rng.random() < 0.5 else 0),
                "batch_dims": batch - (len(picked) if batch < len(picked) and rng.random() < 0.5 else 0),
            }
            yield Case(f"{dtype}_{kind}", operands, (Result(dtype, OTHER if q else None),), options)
    x = tensor(rng, DType.FLOAT32, (2, 3))
    for i, (found, axis, batch) in enumerate(
        [
            ([0, 3], 1, 0),
            ([0, -1], 1, 0),
            ([0, 1], 2, 0),
            ([0], -3, 0),
            ([0, 1], 1, 2),
            ([0, 1, 2], 1, 1),
            (1, 0, 0),
        ]
    ):
        for constant in (True, False):
            operands = (x, index(found, constant=constant))
            options = {"axis": axis, "batch_dims": batch}
            yield Case(f"indices_{i}_{constant}", operands, (Result(DType.FLOAT32),), options)
    yield Case("none_picked", (x, index(np.zeros((0, 2)))), (Result(DType.FLOAT32),), {"axis": 1})
    yield Case("empty", (tensor(rng, DType.FLOAT32, (3, 0)), index([1])), (Result(DType.FLOAT32),), {"axis": 0})
    yield Case("from_none", (tensor(rng, DType.FLOAT32, (3, 0)), index([0])), (Result(DType.FLOAT32),), {"axis": 1})
    yield Case("scalar", (tensor(rng, DType.FLOAT32, ()), index([0])), (Result(DType.FLOAT32),))
    words = tensor(rng, DType.STRING, (5,))
    for i, found in enumerate([[4, 0], [[1, 1], [2, 0]], [5], [-1]]):
        yield Case(f"string_{i}", (words, index(found, DType.INT64 if i else DType.INT32)), (Result(DType.STRING),))
    yield Case("string_matrix", (tensor(rng, DType.STRING, (2, 2)), index([0])), (Result(DType.STRING),))
    # int4 with an odd number of elements behind the axis comes out wrong in LiteRT: it copies whole bytes.
    operands = (tensor(rng, DType.INT4, (3, 4)), index([2, 0]))
    yield Case("int4", operands, (Result(DType.INT4),), {"axis": 0})


# --- GATHER_ND, SCATTER_ND ----------------------------------------------------------------------------------------


def _flat(node: Node, shape: Shape, indices: Array) -> Array:
    """Numbers of the rows that index vectors [..., n] mean in the first n dimensions of ``shape``."""
    rows = np.zeros(indices.shape[:-1], np.int64)
    for k, size in enumerate(shape[: indices.shape[-1]]):
        require_range(node, indices[..., k], size)
        rows *= size
        rows += indices[..., k]
    return rows


def _gather_nd_shapes(node: Node) -> Sequence[Shape | None]:
    shape, indices = node.input(0).shape, node.input(1).shape
    node.expect(len(shape) >= 1, "inputs[0]", "at least 1 dimension", shape)
    node.expect(len(indices) >= 1, "inputs[1]", "at least 1 dimension", indices)
    node.expect(indices[-1] <= len(shape), "inputs[1]", f"index vectors of up to {len(shape)} elements", indices)
    return [(*indices[:-1], *shape[indices[-1] :])]


def _gather_nd(node: Node) -> Kernel:
    def run(x: Array, indices: Array) -> Sequence[Array]:
        node.require(x.size > 0 or indices.size == 0, "indices into data that is not empty", x.shape)
        n = indices.shape[-1]
        rows = _flat(node, x.shape, indices)
        table = x.reshape(math.prod(x.shape[:n]), math.prod(x.shape[n:]))
        return (np.take(table, rows.reshape(-1), 0).reshape((*rows.shape, *x.shape[n:])),)

    return run


def _gather_nd_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{GATHER_TYPES}|string|uint32".replace("bfloat16|", "").split("|")):
        for i, kind in enumerate((DType.INT32, DType.INT64, DType.INT16)):
            shape: Any = sizes(rng, int(rng.integers(1, 5)), 1, 4)
            n = int(rng.integers(1, len(shape) + 1))
            outer = sizes(rng, int(rng.integers(0, 3)), 1, 3)
            found: Any = np.stack([rng.integers(0, m, outer) for m in shape[:n]], -1)
            operands = (tensor(rng, dtype, shape, None, i == 1), index(found, kind, i == 2))
            yield Case(f"{dtype}_{kind}", operands, (Result(dtype),))
    x = tensor(rng, DType.FLOAT32, (2, 3))
    for i, found in enumerate([[[0, 3]], [[2, 0]], [[-1, 0]], [[0, 0, 0]], [2], [[0, 1], [1, 0]]]):
        for constant in (True, False):
            yield Case(f"indices_{i}_{constant}", (x, index(found, constant=constant)), (Result(DType.FLOAT32),))
    yield Case("all", (x, index(np.zeros((2, 0)))), (Result(DType.FLOAT32),))
    yield Case("none", (x, index(np.zeros((0, 1)))), (Result(DType.FLOAT32),))
    empty = tensor(rng, DType.FLOAT32, (0, 3))
    yield Case("empty", (empty, index(np.zeros((0, 1)))), (Result(DType.FLOAT32),))
    yield Case("from_empty", (empty, index([[0]])), (Result(DType.FLOAT32),))


def _scatter_shape(node: Node, check: Check, wanted: Sequence[int]) -> Shape:
    indices, updates = node.input(0).shape, node.input(1).shape
    outer, n = indices[:-1], indices[-1]
    check(
        min(wanted, default=0) >= 0 and n <= len(wanted) and len(updates) > 0 and updates == (*outer, *wanted[n:]),
        "shape",
        f"sizes for indices {indices} and updates {updates}",
        list(wanted),
    )
    return tuple(wanted)


def _scatter_nd_shapes(node: Node) -> Sequence[Shape | None]:
    node.expect(len(node.input(0).shape) >= 1, "inputs[0]", "at least 1 dimension", node.input(0).shape)
    node.expect(len(node.input(2).shape) == 1, "inputs[2]", "a vector", node.input(2).shape)
    wanted = known(node, 2)
    return [None if wanted is None else _scatter_shape(node, node.expect, wanted)]


def _scatter_nd(node: Node) -> Kernel:
    check = at_run(node)

    def run(indices: Array, updates: Array, wanted: Array) -> Sequence[Array]:
        shape, n = _scatter_shape(node, check, numbers(wanted)), indices.shape[-1]
        rows = _flat(node, shape, indices).reshape(-1)
        out = np.zeros((math.prod(shape[:n]), math.prod(shape[n:])), updates.dtype)
        values = updates.reshape(rows.size, out.shape[1])
        if updates.dtype == np.bool_:
            np.logical_or.at(out, rows, values)
        elif np.unique(rows).size == rows.size:
            out[rows] += values
        else:  # several updates of one element add up, in order; integers wrap
            np.add.at(out, rows, values)
        return (out.reshape(shape),)

    return run


def _scatter_nd_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, "float32|int8|uint8|int32|int64|bool|int16|float16".split("|")):
        for i in range(4):
            shape: Any = sizes(rng, int(rng.integers(1, 5)), 1, 4)
            n = int(rng.integers(1, len(shape) + 1))
            outer = sizes(rng, int(rng.integers(n == len(shape), 3)), 1, 4)  # the updates are no scalar
            found: Any = np.stack([rng.integers(0, m, outer) for m in shape[:n]], -1)
            operands = (
                index(found, constant=i % 2 == 0),
                tensor(rng, dtype, (*outer, *shape[n:]), None, i == 1),
                index(shape, constant=i != 2),
            )
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))
    updates = tensor(rng, DType.FLOAT32, (2,))
    for i, (found, shape) in enumerate(
        [
            ([[3], [0]], [3]),
            ([[-1], [0]], [3]),
            ([[1], [1]], [2, 2]),
            ([[1, 1], [0, 0]], [2, 2]),
            ([[1], [1]], [-3]),
        ]
    ):
        for constant in (True, False):
            operands = (index(found), updates, index(shape, constant=constant))
            yield Case(f"indices_{i}_{constant}", operands, (Result(DType.FLOAT32),))
    operands = (index([[1], [0]], DType.INT64), updates, index([3], DType.INT64))
    yield Case("int64", operands, (Result(DType.FLOAT32),))
    operands = (index([0, 1]), tensor(rng, DType.FLOAT32, ()), index([2, 2]))
    yield Case("scalar_updates", operands, (Result(DType.FLOAT32),))
    zeros = Operand(np.full(3, -0.0, np.float32))
    yield Case("signed_zero", (index([[1], [2], [1]]), zeros, index([4])), (Result(DType.FLOAT32),))
    many = Operand((rng.random(500) * 100).astype(np.float32))
    yield Case("order", (index(rng.integers(0, 3, (500, 1))), many, index([3])), (Result(DType.FLOAT32),))
    operands = (index(np.zeros((2, 0))), tensor(rng, DType.FLOAT32, (2, 3)), index([3]))
    yield Case("whole", operands, (Result(DType.FLOAT32),))


# --- declarations -------------------------------------------------------------------------------------------------

INDEX_TYPES = "int16|int32|int64"

GATHER = OpDef(
    name="GATHER",
    inputs=("input", "indices"),
    outputs=("output",),
    options="GatherOptions",
    versions=(1, 8),
    shapes=_gather_shapes,
    work=moved_work,
    forms=(one_type(f"{{T}}, {INDEX_TYPES} -> {{T}}", _gather, f"{GATHER_TYPES}|int4|string"),),
    constraints=(Constraint("string_vector", "strings must be a vector", _string_vector),),
    bound=bounds.exact,
    cases=_gather_cases,
)

GATHER_ND = OpDef(
    name="GATHER_ND",
    inputs=("input", "indices"),
    outputs=("output",),
    options="GatherNdOptions",
    versions=(1, 6),
    shapes=_gather_nd_shapes,
    work=moved_work,
    forms=(one_type(f"{{T}}, {INDEX_TYPES} -> {{T}}", _gather_nd, f"{GATHER_TYPES}|string"),),
    bound=bounds.exact,
    cases=_gather_nd_cases,
)

SCATTER_ND = OpDef(
    name="SCATTER_ND",
    inputs=("indices", "updates", "shape"),
    outputs=("output",),
    options="ScatterNdOptions",
    shapes=_scatter_nd_shapes,
    forms=(one_type("int32, {T}, int32 -> {T}", _scatter_nd, "float32|int8|uint8|int32|int64|bool"),),
    bound=bounds.exact,
    cases=_scatter_nd_cases,
)

OPS = (GATHER, GATHER_ND, SCATTER_ND)
