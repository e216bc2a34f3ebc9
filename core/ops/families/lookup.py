"""ONE_HOT, EMBEDDING_LOOKUP: classes as vectors.

Source: tflite/kernels/{one_hot,embedding_lookup}.cc.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import quantized
from delegraph.core.ops.movement import (
    Check,
    at_run,
    index,
    known,
    moved_work,
    numbers,
    one_type,
    require_range,
    sizes,
    tensor,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result

# --- ONE_HOT ------------------------------------------------------------------------------------------------------


def _one_hot_axis(node: Node) -> int:
    rank, axis = len(node.input(0).shape), node.options.axis
    node.expect(-1 <= axis <= rank, "axis", f"-1 to {rank}", axis)
    return rank if axis == -1 else axis


def _one_hot_depth(check: Check, depth: Sequence[int]) -> int:
    check(len(depth) == 1 and depth[0] >= 0, "depth", "one number of at least 0", list(depth))
    return depth[0]


def _one_hot_shapes(node: Node) -> Sequence[Shape | None]:
    shape, axis, depth = node.input(0).shape, _one_hot_axis(node), known(node, 1)
    for slot in (1, 2, 3):
        node.expect(node.input(slot).n_elements == 1, f"inputs[{slot}]", "one element", node.input(slot).shape)
    return [None if depth is None else (*shape[:axis], _one_hot_depth(node.expect, depth), *shape[axis:])]


def _one_hot(node: Node) -> Kernel:
    axis, check = _one_hot_axis(node), at_run(node)

    def run(indices: Array, depth: Array, on: Array, off: Array) -> Sequence[Array]:
        n = _one_hot_depth(check, numbers(depth))
        places = np.arange(n, dtype=np.int32).reshape(n, *(1,) * (indices.ndim - axis))
        # int64 indices are cut to 32 bits, as in LiteRT
        hot = np.expand_dims(indices.astype(np.int32), axis) == places
        return (np.where(hot, on.reshape(()), off.reshape(())),)

    return run


def _one_hot_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, "float32|int8|uint8|int32|int64|bool|int16|float16".split("|")):
        for i in range(4):
            shape = sizes(rng, int(rng.integers(0, 4)), 1, 4)
            depth = int(rng.integers(1, 5))
            kind = (DType.INT32, DType.INT64)[i % 2]
            operands = (
                index(rng.integers(-1, depth + 1, shape), kind, i == 2),
                index(depth if i else [depth], constant=i != 3),
                tensor(rng, dtype, ()),
                tensor(rng, dtype, (1,), constant=True),
            )
            options = {"axis": int(rng.integers(-1, len(shape) + 1))}
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),), options)
    on, off = tensor(rng, DType.FLOAT32, ()), tensor(rng, DType.FLOAT32, ())
    result = (Result(DType.FLOAT32),)
    for axis in (-2, 3):
        yield Case(f"axis_{axis}", (index([[1]]), index(2), on, off), result, {"axis": axis})
    yield Case("negative_depth", (index([1]), index(-2), on, off), result, {"axis": -1})
    yield Case("no_depth", (index([1], constant=False), index(0), on, off), result, {"axis": -1})
    yield Case("no_indices", (index(np.zeros((0, 2))), index(3), on, off), result, {"axis": 1})
    yield Case("two_values", (index([1]), index(2), tensor(rng, DType.FLOAT32, (2,)), off), result, {"axis": -1})
    far = index([2**32 + 1, 2**40, -(2**32)], DType.INT64)
    yield Case("far", (far, index(2), on, off), result, {"axis": 0})


# --- EMBEDDING_LOOKUP ---------------------------------------------------------------------------------------------


def _lookup_shapes(node: Node) -> Sequence[Shape | None]:
    indices, table = node.input(0).shape, node.input(1).shape
    node.expect(len(indices) == 1, "inputs[0]", "a vector", indices)
    node.expect(len(table) >= 2, "inputs[1]", "at least 2 dimensions", table)
    return [(indices[0], *table[1:])]


def _lookup(node: Node) -> Kernel:
    def run(indices: Array, table: Array) -> Sequence[Array]:
        require_range(node, indices, table.shape[0])
        return (np.take(table, indices, 0),)

    return run


def _lookup_hybrid(node: Node) -> Kernel:
    """Quantized rows as floats: q · scale, in float32. Source: EvalHybrid (embedding_lookup.cc)."""
    dtype = node.outputs[0].dtype.numpy
    scales = np.asarray(node.quantization(1).scales, np.float32)

    def run(indices: Array, table: Array) -> Sequence[Array]:
        require_range(node, indices, table.shape[0])
        rows = np.take(table, indices, 0).astype(np.float32)
        rows *= (scales[indices] if scales.size > 1 else scales[0]).reshape(-1, *(1,) * (table.ndim - 1))
        return (rows.astype(dtype),)

    return run


def _whole_bytes(node: Node) -> bool:
    """Packed rows that start at a byte, and scales per tensor or per row: others LiteRT reads wrongly, or refuses."""
    table, q = node.input(1), node.input(1).quantization
    return (
        q is not None
        and not q.block_size
        and (table.dtype is DType.INT8 or math.prod(table.shape[1:]) * table.dtype.bits % 8 == 0)
    )


def _symmetric_table(node: Node) -> str | None:
    table = node.input(1)
    q = table.quantization
    if q is None or q.scales.size == 0 or node.outputs[0].dtype is table.dtype:
        return "no scale" if node.outputs[0].dtype is not table.dtype else None
    if node.outputs[0].dtype is DType.FLOAT32 and q.zero_point != 0:
        return f"zero point {q.zero_point}"
    if q.scales.size > 1 and (q.axis != 0 or q.scales.size != table.shape[0]):
        return f"{q.scales.size} scales along axis {q.axis}"
    return None


def _per_row_copy(node: Node) -> str | None:
    q = node.input(1).quantization
    same = node.outputs[0].dtype is node.input(1).dtype
    return f"{q.scales.size} scales" if same and q is not None and q.scales.size > 1 else None


def _lookup_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, "float32|int8|uint8|int32|int64|float16|int16|bool".split("|")):
        for i in range(2):
            table = sizes(rng, int(rng.integers(2, 5)), 1, 4)
            operands = (index(rng.integers(0, table[0], 3), constant=i > 0), tensor(rng, dtype, table))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))
    for i in range(16):
        kind = (DType.INT8, DType.INT4)[i % 2]
        out = (DType.FLOAT32, DType.FLOAT16)[i // 2 % 2]
        rows, columns = int(rng.integers(1, 5)), 2 * int(rng.integers(1, 4))
        data: Any = tensor(rng, kind, (rows, columns)).data
        q = Quantization.per_tensor(float(rng.uniform(0.001, 0.3)), 0)
        if i // 4 % 2:
            q = Quantization.per_channel(rng.uniform(0.001, 0.3, rows), 0)
        operands = (index(rng.integers(0, rows, 3), constant=False), Operand(data, q, True, kind))
        yield Case(f"hybrid_{kind}_{out}_{i}", operands, (Result(out),))
    x = tensor(rng, DType.FLOAT32, (3, 2))
    for i, found in enumerate([[3], [-1], [[0]], [2, 2, 0]]):
        yield Case(f"indices_{i}", (index(found, constant=False), x), (Result(DType.FLOAT32),))
    yield Case("int64", (index([1], DType.INT64), x), (Result(DType.FLOAT32),))
    yield Case("vector", (index([1]), tensor(rng, DType.FLOAT32, (3,))), (Result(DType.FLOAT32),))
    q, shifted = quantized(rng, DType.INT8, (3, 2), zero_point=5)
    yield Case("zero_point", (index([1]), Operand(shifted, q, True)), (Result(DType.FLOAT32),))
    q = Quantization.per_channel([0.1, 0.2], 1)
    yield Case("per_column", (index([1]), Operand(shifted, q, True)), (Result(DType.FLOAT32),))
    q = Quantization.per_channel([0.1, 0.2, 0.3], 0)
    yield Case("per_row_copy", (index([1]), Operand(shifted, q, True)), (Result(DType.INT8, q),))


# --- declarations -------------------------------------------------------------------------------------------------

ONE_HOT = OpDef(
    name="ONE_HOT",
    inputs=("indices", "depth", "on_value", "off_value"),
    outputs=("output",),
    options="OneHotOptions",
    shapes=_one_hot_shapes,
    forms=(one_type("int32|int64, int32, {T}, {T} -> {T}", _one_hot, "float32|int8|uint8|int32|int64|bool"),),
    bound=bounds.exact,
    cases=_one_hot_cases,
)

EMBEDDING_LOOKUP = OpDef(
    name="EMBEDDING_LOOKUP",
    inputs=("indices", "table"),
    outputs=("output",),
    versions=(1, 5),
    shapes=_lookup_shapes,
    work=moved_work,
    forms=(
        one_type("int32, {T} -> {T}", _lookup, "float32|float16|bfloat16|int8|uint8|int16|int32|int64|bool"),
        Form("int32, int8|int4|int2 -> float32|float16", _lookup_hybrid, _whole_bytes),
    ),
    constraints=(
        Constraint(
            "symmetric_table",
            "a quantized table needs scales per tensor or row, and no zero point",
            _symmetric_table,
        ),
        Constraint("copied_rows", "rows that are copied must have one scale", _per_row_copy),
    ),
    bound=bounds.exact,
    cases=_lookup_cases,
)

OPS = (ONE_HOT, EMBEDDING_LOOKUP)
