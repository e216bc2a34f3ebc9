"""ARG_MAX, ARG_MIN, TOPK_V2, WHERE and UNIQUE.

Source: tflite/kernels/arg_min_max.cc, topk_v2.cc, where.cc, unique.cc; kernels/internal/optimized/optimized_ops.h
(ArgMinMax), reference/reference_ops.h (SelectTrueCoords).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import booleans, integers, reals
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

# --- shapes and work ----------------------------------------------------------------------------------------------


def _arg_shapes(node: Node) -> Sequence[Shape | None]:
    shape, axis = node.input(0).shape, node.input(1)
    rank = len(shape)
    node.expect(rank >= 1, "inputs[0]", "at least 1 dimension", shape)
    node.expect(axis.n_elements == 1 and axis.dtype.is_integer, "inputs[1]", "one integer", axis.shape)
    if axis.value is None:
        return [() if rank == 1 else None]
    a = int(axis.value.reshape(-1)[0])
    node.expect(-rank <= a < rank, "inputs[1]", f"an axis of {rank} dimensions", a)
    node.expect(shape[a] > 0, "inputs[0]", f"elements along axis {a}", shape)
    return [tuple(n for i, n in enumerate(shape) if i != a % rank)]


def _topk_shapes(node: Node) -> Sequence[Shape | None]:
    shape, k = node.input(0).shape, node.input(1)
    node.expect(len(shape) >= 1, "inputs[0]", "at least 1 dimension", shape)
    node.expect(k.n_elements == 1 and k.dtype.is_integer, "inputs[1]", "one integer", k.shape)
    if k.value is None:
        return [None, None]
    n = int(k.value.reshape(-1)[0])
    node.expect(n <= shape[-1], "inputs[1]", f"at most {shape[-1]}", n)
    return [(*shape[:-1], max(0, n))] * 2


def _where_shapes(node: Node) -> Sequence[Shape | None]:
    x = node.input(0)
    node.expect(len(x.shape) >= 1, "inputs[0]", "at least 1 dimension", x.shape)
    return [None if x.value is None else (int(np.count_nonzero(x.value)), len(x.shape))]


def _unique_shapes(node: Node) -> Sequence[Shape | None]:
    x = node.input(0)
    node.expect(len(x.shape) == 1, "inputs[0]", "1 dimension", x.shape)
    return [None if x.value is None else (np.unique(x.value).size,), x.shape]


def _per_input_element(node: Node) -> Work:
    work = elementwise_work(node)
    return Work(0, node.input(0).n_elements, work.bytes_read, work.bytes_written)


def _index_type(option: str, output: int) -> Constraint:
    """That an option which names the type of an output agrees with it."""

    def test(node: Node) -> str | None:
        named, dtype = int(getattr(node.options, option)), node.outputs[output].dtype
        return None if named == dtype.value else f"{option} {named} for a tensor of {dtype}"

    return Constraint(option, f"{option} names the type of output {output}", test)


# --- kernels ------------------------------------------------------------------------------------------------------


def _arg(largest: bool) -> Callable[[Node], Kernel]:
    """The first index of the extremum; NaNs count only where there is nothing else (then 0)."""
    search = np.argmax if largest else np.argmin
    worst = np.float32(-np.inf if largest else np.inf)

    def prepare(node: Node) -> Kernel:
        rank, dtype = len(node.input(0).shape), node.outputs[0].dtype.numpy

        def run(x: Array, axis: Array) -> Sequence[Array]:
            a = int(axis.reshape(-1)[0])
            node.require(-rank <= a < rank, f"an axis of {rank} dimensions", a)
            node.require(x.shape[a] > 0, f"elements along axis {a}", x.shape)
            index = search(x, axis=a, keepdims=True)
            if x.dtype == np.float32:
                found = np.take_along_axis(x, index, a)  # NumPy's search stops at a NaN
                if np.isnan(found).any():
                    clean = np.where(np.isnan(x), worst, x)
                    index = search(clean, axis=a, keepdims=True)
                    only_worst = np.take_along_axis(clean, index, a) == worst
                    index = np.where(only_worst, np.argmax(x == worst, axis=a, keepdims=True), index)
            return (np.squeeze(index, a).astype(dtype),)

        return run

    return prepare


def _top(key: Array, k: int) -> Array:
    """Indices of the ``k`` smallest of each row of ``key`` [rows, n], in order; equal keys by index, NaNs last."""
    n = key.shape[1]
    if n < 1024 or k * 4 > n:
        return np.argsort(key, axis=1, kind="stable")[:, :k]
    indices = np.empty((key.shape[0], k), np.intp)
    for row, out in zip(key, indices, strict=True):
        candidates = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
        if candidates.size < k:  # there are NaNs among the first k
            candidates = np.arange(n)
        out[:] = candidates[np.argsort(row[candidates], kind="stable")[:k]]
    return indices


def _topk(node: Node) -> Kernel:
    index_dtype = node.outputs[1].dtype.numpy

    def run(x: Array, k_tensor: Array) -> Sequence[Array]:
        k = max(0, int(k_tensor.reshape(-1)[0]))
        n = x.shape[-1]
        node.require(k <= n, f"k of at most {n}", k)
        shape = (*x.shape[:-1], k)
        if math.prod(shape) == 0:
            return np.empty(shape, x.dtype), np.empty(shape, index_dtype)
        node.require(n <= np.iinfo(index_dtype).max, f"a row that {index_dtype} can index", n)
        rows = x.reshape(-1, n)
        key = -rows if x.dtype.kind == "f" else ~rows  # both turn the order round
        indices = _top(key, k)
        values = np.take_along_axis(rows, indices, 1)
        return values.reshape(shape), indices.astype(index_dtype).reshape(shape)

    return run


def _where(node: Node) -> Kernel:
    return lambda x: (np.argwhere(x).astype(np.int64, copy=False),)


def _unique(node: Node) -> Kernel:
    """The values in the order of their first appearance, and for each element the index of its value."""
    index_dtype = node.outputs[1].dtype.numpy

    def run(x: Array) -> Sequence[Array]:
        values, first, inverse = np.unique(x, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return values[order], rank[inverse.reshape(-1)].astype(index_dtype)

    return run


# --- cases --------------------------------------------------------------------------------------------------------


def _data(rng: np.random.Generator, dtype: DType, shape: Shape, ties: bool) -> Array:
    if dtype is DType.BOOL:
        return booleans(rng, shape)
    if dtype is DType.FLOAT32:
        return np.asarray(np.rint(reals(rng, shape)) if ties else reals(rng, shape), np.float32)
    return integers(rng, dtype, shape, *((1, 3) if ties else ()))


def _constant(rng: np.random.Generator, has_elements: Any) -> bool:
    """Whether to make an operand constant that the output's shape depends on.

    LiteRT's Python API can't read an output without elements whose shape only the run told.
    """
    return not has_elements or bool(rng.integers(2))


_ARG_TYPES = ("float32", "uint8", "int8", "int32", "bool")


def _arg_cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((1,), (7,), (40,), (3, 4), (2, 3, 4), (2, 37, 3), (2, 1, 2, 2, 3), (0, 3))
    for dtype in map(DType.parse, _ARG_TYPES):
        for i, shape in enumerate(shapes):
            rank = len(shape)
            axis = int(rng.integers(-rank, rank))
            kind = np.dtype(np.int32 if i % 3 else np.int64)
            value = np.array([axis] if i % 2 else axis, kind)
            out = DType.INT32 if rng.integers(2) else DType.INT64
            yield Case(
                f"{dtype}_{i}_axis_{axis}_{out}",
                (
                    Operand(_data(rng, dtype, shape, bool(rng.integers(2)))),
                    Operand(value, constant=_constant(rng, 0 not in shape)),
                ),
                (Result(out),),
                {"output_type": out.value},
            )
    nan, inf = np.nan, np.inf
    rows = [
        [nan, 1, 2, nan],
        [nan] * 4,
        [nan, -inf, -inf, nan],
        [nan, inf, nan, inf],
        [-inf, nan, 3, 3],
        [1, nan, 0, 2],
    ]
    special = np.array(rows * 2, np.float32)
    # Along the last axis LiteRT looks at every fourth element at a time, and its final step over those four finds
    # index 0, or nothing, where one of them is NaN throughout. Rows of three, and longer ones, avoid that.
    long = np.tile(special, 3)[:, :11]
    long[:, 4:8] = reals(rng, (12, 4))
    for name, x, axis in (("columns", special, 0), ("short_rows", special[:, :3], 1), ("long_rows", long, 1)):
        operands = (Operand(x), Operand(np.array(axis, np.int32), constant=True))
        yield Case(f"special_{name}", operands, (Result(DType.INT32),), {"output_type": 2})
    ones = Operand(np.ones((2, 3), np.float32))
    for axis in (2, -3):
        for constant in (True, False):
            operands = (ones, Operand(np.array(axis, np.int32), constant=constant))
            yield Case(f"axis_{axis}_{constant}", operands, (Result(DType.INT32),), {"output_type": 2})
    operands = (ones, Operand(np.array(0, np.int32), constant=True))
    yield Case("output_type_not_named", operands, (Result(DType.INT32),))
    empty = (Operand(np.zeros((2, 0), np.float32)), Operand(np.array(1, np.int32), constant=True))
    yield Case("nothing_along_the_axis", empty, (Result(DType.INT32),), {"output_type": 2})


def _topk_cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((1,), (9,), (3, 7), (2, 2, 5), (0, 4), (1, 1500))
    for dtype in map(DType.parse, ("float32", "uint8", "int8", "int16", "int32", "int64")):
        for i, shape in enumerate(shapes):
            k = int(rng.integers(0, min(shape[-1], 40) + 1))
            kind = np.int16 if i % 3 == 1 else np.int32
            out = DType.INT16 if rng.integers(4) == 0 else DType.INT32
            yield Case(
                f"{dtype}_{i}_k_{k}_{out}",
                (
                    Operand(_data(rng, dtype, shape, bool(rng.integers(2)))),
                    Operand(np.array(k if i % 2 else [k], kind), constant=_constant(rng, k and 0 not in shape)),
                ),
                (Result(dtype), Result(out)),
            )
    nan, inf = np.nan, np.inf
    special = np.array([[nan, 1, inf, nan, -inf, 1], [nan] * 6, [0, -0.0, 0, -inf, -inf, nan]], np.float32)
    wide = np.where(rng.random((2, 1100)) < 0.9, np.nan, reals(rng, (2, 1100))).astype(np.float32)
    for name, x, k in (
        ("special", special, 5),
        ("wide_nan", wide, 200),
        ("negative", special, -2),
        ("too_many", special, 7),
    ):
        for constant in (True, False)[: 1 if k < 0 else 2]:
            operands = (Operand(x), Operand(np.array(k, np.int32), constant=constant))
            yield Case(f"{name}_{constant}", operands, (Result(DType.FLOAT32), Result(DType.INT32)))


_WHERE_TYPES = ("bool", "float32", "int64", "int32", "int8", "uint8", "uint32")


def _where_cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((6,), (3, 4), (2, 0), (2, 3, 2, 2), (1, 2, 1, 2, 3), ())
    for dtype in map(DType.parse, _WHERE_TYPES):
        for i, shape in enumerate(shapes):
            x = np.where(booleans(rng, shape), _data(rng, dtype, shape, False), 0).astype(dtype.numpy)
            if x.ndim and not x.any() and not x.size:
                continue  # as in _constant
            operand = Operand(x, constant=_constant(rng, x.any()))
            yield Case(f"{dtype}_{i}_{operand.constant}", (operand,), (Result(DType.INT64),))
    x = np.array([np.nan, -0.0, 0, np.inf, 1e-45], np.float32)
    yield Case("special", (Operand(x),), (Result(DType.INT64),))


def _unique_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, ("float32", "int8", "int16", "int32", "int64", "uint8")):
        for i, n in enumerate((1, 8, 30)):
            for out in (DType.INT32, DType.INT64):
                yield Case(
                    f"{dtype}_{i}_{out}",
                    (Operand(_data(rng, dtype, (n,), bool(i % 2))),),
                    (Result(dtype), Result(out)),
                    {"idx_out_type": out.value},
                )
    x = Operand(np.zeros((2, 2), np.int32))
    yield Case("matrix", (x,), (Result(DType.INT32), Result(DType.INT32)))


# --- declarations -------------------------------------------------------------------------------------------------


def _arg_op(name: str, largest: bool) -> OpDef:
    inputs = "|".join(_ARG_TYPES)
    return OpDef(
        name=name,
        inputs=("input", "axis"),
        outputs=("output",),
        options=f"Arg{'Max' if largest else 'Min'}Options",
        versions=(1, 3),
        shapes=_arg_shapes,
        work=_per_input_element,
        forms=(Form(f"{inputs}, int32|int64 -> int32|int64", _arg(largest)),),
        constraints=(_index_type("output_type", 0),),
        cases=_arg_cases,
    )


ARG_MAX = _arg_op("ARG_MAX", largest=True)
ARG_MIN = _arg_op("ARG_MIN", largest=False)

TOPK_V2 = OpDef(
    name="TOPK_V2",
    inputs=("input", "k"),
    outputs=("values", "indices"),
    options="TopKV2Options",
    versions=(1, 3),
    shapes=_topk_shapes,
    work=_per_input_element,
    forms=tuple(
        Form(f"{t}, int32|int16 -> {t}, int32|int16", _topk)
        for t in ("float32", "uint8", "int8", "int16", "int32", "int64")
    ),
    bound=bounds.exact,
    cases=_topk_cases,
)

WHERE = OpDef(
    name="WHERE",
    inputs=("condition",),
    outputs=("coordinates",),
    options="WhereOptions",
    versions=(1, 2),
    shapes=_where_shapes,
    work=_per_input_element,
    forms=(Form(f"{'|'.join(_WHERE_TYPES)} -> int64", _where),),
    cases=_where_cases,
)

UNIQUE = OpDef(
    name="UNIQUE",
    inputs=("input",),
    outputs=("values", "indices"),
    options="UniqueOptions",
    shapes=_unique_shapes,
    work=_per_input_element,
    forms=tuple(
        Form(f"{t} -> {t}, int32|int64", _unique) for t in ("float32", "int8", "int16", "int32", "int64", "uint8")
    ),
    constraints=(_index_type("idx_out_type", 1),),
    bound=bounds.exact,
    cases=_unique_cases,
)

OPS = (ARG_MAX, ARG_MIN, TOPK_V2, WHERE, UNIQUE)
