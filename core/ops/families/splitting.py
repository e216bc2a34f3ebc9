"""SPLIT, SPLIT_V: a tensor cut along an axis.

Source: tflite/kernels/{split,split_v}.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    numbers,
    one_type,
    resolve_axis,
    sizes,
    tensor,
)
from delegraph.core.ops.opdef import Case, Kernel, Node, OpDef, Result

# --- SPLIT, SPLIT_V -----------------------------------------------------------------------------------------------


def _split_axis(check: Check, axis: Sequence[int], rank: int) -> int:
    check(len(axis) > 0, "axis", "an axis", "none")
    return resolve_axis(check, axis[0], rank)


def _parts(check: Check, size: int, wanted: Sequence[int]) -> list[int]:
    """Sizes along the axis, with the -1 among them filled in. Source: split_v.cc, ResizeOutputTensors."""
    check(
        min(wanted, default=0) >= -1 and list(wanted).count(-1) <= 1,
        "size_splits",
        "sizes of at least 0 with one -1 at most",
        list(wanted),
    )
    rest = size - sum(n for n in wanted if n != -1)
    check(rest == 0 or (rest > 0 and -1 in wanted), "size_splits", f"sizes that add up to {size}", list(wanted))
    return [rest if n == -1 else n for n in wanted]


def _even(check: Check, size: int, n: int) -> list[int]:
    check(n > 0 and size % n == 0, "num_splits", f"a divisor of {size}", n)
    return [size // n] * n


def _part_shapes(shape: Shape, axis: int, parts: Sequence[int]) -> list[Shape | None]:
    return [(*shape[:axis], n, *shape[axis + 1 :]) for n in parts]


def _cut(x: Array, axis: int, parts: Sequence[int]) -> Sequence[Array]:
    return np.split(x, np.cumsum(parts)[:-1], axis)


def _split_shapes(node: Node) -> Sequence[Shape | None]:
    n, shape, axis = len(node.outputs), node.input(1).shape, known(node, 0)
    node.expect(node.options.num_splits == n, "num_splits", f"{n}, the number of outputs", node.options.num_splits)
    if axis is None:
        return [None] * n
    at = _split_axis(node.expect, axis, len(shape))
    return _part_shapes(shape, at, _even(node.expect, shape[at], n))


def _split(node: Node) -> Kernel:
    n, check = len(node.outputs), at_run(node)

    def run(axis: Array, x: Array) -> Sequence[Array]:
        at = _split_axis(check, numbers(axis), x.ndim)
        return _cut(x, at, _even(check, x.shape[at], n))

    return run


def _split_v_shapes(node: Node) -> Sequence[Shape | None]:
    n, shape = len(node.outputs), node.input(0).shape
    node.expect(node.options.num_splits == n, "num_splits", f"{n}, the number of outputs", node.options.num_splits)
    node.expect(node.input(1).shape == (n,), "inputs[1]", f"a vector of {n} sizes", node.input(1).shape)
    wanted, axis = known(node, 1), known(node, 2)
    if wanted is None or axis is None:
        return [None] * n
    at = _split_axis(node.expect, axis, len(shape))
    return _part_shapes(shape, at, _parts(node.expect, shape[at], wanted))


def _split_v(node: Node) -> Kernel:
    check = at_run(node)

    def run(x: Array, wanted: Array, axis: Array) -> Sequence[Array]:
        at = _split_axis(check, numbers(axis), x.ndim)
        return _cut(x, at, _parts(check, x.shape[at], numbers(wanted)))

    return run


SPLIT_TYPES = "float32|int8|uint8|int16|int32|int64"


def _split_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{SPLIT_TYPES}|bool|float16".split("|")):
        for i in range(3):
            shape = list(sizes(rng, int(rng.integers(1, 6)), 1, 3))
            axis, n = int(rng.integers(-len(shape), len(shape))), int(rng.integers(1, 5))
            shape[axis] = n * int(rng.integers(i == 1, 3))  # LiteRT's Python can't read empty dynamic outputs
            at = index(axis if i else [axis], constant=i != 1)
            x = tensor(rng, dtype, shape, SHIFTED if dtype is DType.INT8 else None)
            results = (Result(dtype, OTHER if dtype is DType.INT8 else None),) * n  # scales are not compared
            yield Case(f"{dtype}_{i}", (at, x), results, {"num_splits": n})
    x = tensor(rng, DType.FLOAT32, (2, 6))
    for i, (axis, n, said) in enumerate([(1, 4, 4), (2, 2, 2), (-3, 2, 2), (1, 2, 3), (-1, 6, 6), (-2, 2, 2)]):
        for constant in (True, False):
            results = (Result(DType.FLOAT32),) * n
            yield Case(f"axis_{i}_{constant}", (index(axis, constant=constant), x), results, {"num_splits": said})


def _split_v_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{SPLIT_TYPES}|bool|float16".split("|")):
        for i in range(3):
            shape = list(sizes(rng, int(rng.integers(1, 6)), 1, 3))
            axis = int(rng.integers(-len(shape), len(shape)))
            wanted = rng.integers(i == 2, 4, int(rng.integers(1, 5)))  # as above: no empty dynamic outputs
            shape[axis] = int(wanted.sum())
            if i:
                wanted[int(rng.integers(len(wanted)))] = -1
            kind = (DType.INT32, DType.INT64)[i % 2]
            operands = (tensor(rng, dtype, shape), index(wanted, kind, i != 2), index(axis))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),) * len(wanted), {"num_splits": len(wanted)})
    x = tensor(rng, DType.FLOAT32, (2, 6))
    table = [
        ([2, 3], 1),
        ([2, 5], 1),
        ([-1, 7], 1),
        ([-1, -1], 1),
        ([6, -1], 1),
        ([-2, 8], 1),
        ([1, 1], 2),
        ([1, 1], -2),
    ]
    for i, (parts, axis) in enumerate(table):
        for constant in (True,) if parts == [6, -1] else (True, False):
            operands = (x, index(parts, constant=constant), index(axis))
            results = (Result(DType.FLOAT32),) * 2
            yield Case(f"sizes_{i}_{constant}", operands, results, {"num_splits": 2})
    operands = (x, index([2, 4]), index(1, constant=False))
    yield Case("dynamic_axis", operands, (Result(DType.FLOAT32),) * 2, {"num_splits": 2})
    yield Case("count", (x, index([2, 4]), index(1)), (Result(DType.FLOAT32),) * 2, {"num_splits": 3})


# --- declarations -------------------------------------------------------------------------------------------------

SPLIT = OpDef(
    name="SPLIT",
    inputs=("axis", "input"),
    outputs=("outputs*",),
    options="SplitOptions",
    versions=(1, 5),
    shapes=_split_shapes,
    forms=(one_type("int32, {T} -> {T}*", _split, SPLIT_TYPES),),
    bound=bounds.exact,
    cases=_split_cases,
)

SPLIT_V = OpDef(
    name="SPLIT_V",
    inputs=("input", "size_splits", "axis"),
    outputs=("outputs*",),
    options="SplitVOptions",
    versions=(1, 3),
    shapes=_split_v_shapes,
    forms=(one_type("{T}, int32|int64, int32 -> {T}*", _split_v, SPLIT_TYPES),),
    bound=bounds.exact,
    cases=_split_v_cases,
)

OPS = (SPLIT, SPLIT_V)
