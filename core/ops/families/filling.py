"""TILE, BROADCAST_TO, FILL, RANGE: tensors repeated, or made from scratch.

Source: tflite/kernels/{tile,broadcast_to,fill,range}.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    OTHER,
    QUANTIZED,
    SHIFTED,
    TESTED,
    WORDS,
    Check,
    at_run,
    index,
    known,
    numbers,
    one_type,
    params,
    sizes,
    symmetric_int16,
    tensor,
)
from delegraph.core.ops.opdef import Case, Constraint, Kernel, Node, OpDef, Operand, Result, forms

# --- TILE, BROADCAST_TO -------------------------------------------------------------------------------------------


def _tiled(check: Check, shape: Shape, times: Sequence[int]) -> Shape:
    check(
        len(times) == len(shape) and min(times, default=0) >= 0,
        "multiples",
        f"{len(shape)} multiples",
        list(times),
    )
    new = tuple(n * m for n, m in zip(shape, times, strict=True))
    check(max(new, default=0) < 1 << 31, "multiples", "sizes below 2^31", new)
    return new


def _tile_shapes(node: Node) -> Sequence[Shape | None]:
    shape, times = node.input(0).shape, known(node, 1)
    node.expect(node.input(1).n_elements == len(shape), "inputs[1]", f"{len(shape)} elements", node.input(1).shape)
    return [None if times is None else _tiled(node.expect, shape, times)]


def _tile(node: Node) -> Kernel:
    check = at_run(node)

    def run(x: Array, multiples: Array) -> Sequence[Array]:
        times = numbers(multiples)
        _tiled(check, x.shape, times)
        return (np.tile(x, times),)

    return run


def _tile_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (*TESTED, DType.STRING, DType.INT4):
        for i in range(3):
            shape = sizes(rng, int(rng.integers(i == 2, 5)), 1, 3)
            kind = (DType.INT32, DType.INT64)[i % 2]
            operands = (
                tensor(rng, dtype, shape, None, i == 1),
                index(rng.integers(0 if i == 0 and dtype is not DType.INT4 else 1, 4, len(shape)), kind, i != 2),
            )
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))
    x = tensor(rng, DType.FLOAT32, (2, 3))
    for i, times in enumerate([[1], [1, -1], [2, 2, 2], [1, 1], [2**30, 1]]):
        yield Case(f"multiples_{i}", (x, index(times)), (Result(DType.FLOAT32),))
    yield Case("empty", (tensor(rng, DType.FLOAT32, (0, 3)), index([2, 2])), (Result(DType.FLOAT32),))
    operands = (tensor(rng, DType.INT8, (2,), SHIFTED), index([3]))
    yield Case("scales", operands, (Result(DType.INT8, OTHER),))  # not compared
    yield Case("version_3", operands, (Result(DType.INT8),), {}, 3, "builtin")  # BUILTIN_REF stops at 2


def _broadcast(check: Check, shape: Shape, wanted: Sequence[int]) -> Shape:
    extra = len(wanted) - len(shape)
    check(
        extra >= 0
        and min(wanted, default=0) >= 0
        and all(n in (1, m) for n, m in zip(shape, wanted[extra:], strict=True)),
        "shape",
        f"a shape that {shape} broadcasts to",
        list(wanted),
    )
    return tuple(wanted)


def _broadcast_to_shapes(node: Node) -> Sequence[Shape | None]:
    node.expect(len(node.input(1).shape) == 1, "inputs[1]", "a vector", node.input(1).shape)
    wanted = known(node, 1)
    return [None if wanted is None else _broadcast(node.expect, node.input(0).shape, wanted)]


def _broadcast_to(node: Node) -> Kernel:
    check = at_run(node)
    return lambda x, shape: (np.broadcast_to(x, _broadcast(check, x.shape, numbers(shape))),)


def _broadcast_to_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in TESTED:
        for i in range(3):
            wanted = sizes(rng, int(rng.integers(0 if i == 0 else 1, 9)), 1, 3)
            shape = [int(n) if rng.random() < 0.5 else 1 for n in wanted[int(rng.integers(0, len(wanted) + 1)) :]]
            operands = (tensor(rng, dtype, shape), index(wanted, (DType.INT32, DType.INT64)[i % 2], i < 2))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),), version=2)
    x = tensor(rng, DType.FLOAT32, (2, 1))
    for i, wanted in enumerate([(2,), (3, 2), (2, 0), (2, 1), (1, 2, 3), (1,) * 8 + (2, 3), (2, -1)]):
        for constant in (True,) if 0 in wanted else (True, False):
            operands = (x, index(wanted, constant=constant))
            yield Case(f"shape_{i}_{constant}", operands, (Result(DType.FLOAT32),), version=2)
    yield Case("string", (tensor(rng, DType.STRING, (1,)), index([2])), (Result(DType.STRING),), version=2)
    operands = (tensor(rng, DType.FLOAT32, (0, 1)), index([0, 3]))
    yield Case("empty", operands, (Result(DType.FLOAT32),), version=2)


# --- FILL, RANGE --------------------------------------------------------------------------------------------------


def _filled(check: Check, dims: Sequence[int]) -> Shape:
    check(min(dims, default=0) >= 0, "dims", "sizes of at least 0", list(dims))
    return tuple(dims)


def _fill_shapes(node: Node) -> Sequence[Shape | None]:
    node.expect(len(node.input(0).shape) == 1, "inputs[0]", "a vector", node.input(0).shape)
    node.expect(node.input(1).shape == (), "inputs[1]", "a scalar", node.input(1).shape)
    dims = known(node, 0)
    return [None if dims is None else _filled(node.expect, dims)]


def _fill(node: Node) -> Kernel:
    check = at_run(node)

    def run(dims: Array, value: Array) -> Sequence[Array]:
        return (np.full(_filled(check, numbers(dims)), value, value.dtype),)

    return run


def _fill_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (*TESTED, DType.STRING, DType.INT4):
        for i in range(3):
            dims = rng.integers(0 if i == 0 else 1, 4, int(rng.integers(0, 6)))
            kind = (DType.INT32, DType.INT64)[i % 2]
            q = SHIFTED if dtype in (DType.INT8, DType.UINT8) else None
            operands = (index(dims, kind, i < 2), tensor(rng, dtype, (), q, i == 1))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype, q),))
    value = tensor(rng, DType.FLOAT32, (), constant=False)
    result = (Result(DType.FLOAT32),)
    yield Case("negative", (index([2, -1]), value), result)
    yield Case("negative_dynamic", (index([2, -1], constant=False), value), result)
    yield Case("matrix", (index([[2, 1]]), value), result)
    yield Case("vector_value", (index([2]), tensor(rng, DType.FLOAT32, (1,))), result)
    for dtype in QUANTIZED:
        for q in (SHIFTED, OTHER):
            yield Case(f"{dtype}_{q.scale}", (index([2]), tensor(rng, dtype, (), SHIFTED)), (Result(dtype, q),))


def _range_size(check: Check, start: Array, limit: Array, delta: Array) -> int:
    """Source: GetSize (range.cc); for floats the quotient is a float32."""
    a, b, d = (np.asarray(v).reshape(())[()] for v in (start, limit, delta))
    check(bool((a <= b and d > 0) or (a >= b and d < 0)), "delta", f"a step from {a} to {b}", d)
    if np.asarray(start).dtype.kind == "f":
        with np.errstate(all="ignore"):
            n = float(np.ceil(np.abs((b - a) / d)))
    else:
        n = -(-abs(int(b) - int(a)) // abs(int(d)))
    check(n < 1 << 31, "limit", "fewer than 2^31 elements", n)
    return int(n)


def _range_shapes(node: Node) -> Sequence[Shape | None]:
    operands = [node.input(i) for i in range(3)]
    for i, spec in enumerate(operands):
        node.expect(spec.shape == (), f"inputs[{i}]", "a scalar", spec.shape)
    found = [spec.value for spec in operands if spec.value is not None]
    return [(_range_size(node.expect, *found),) if len(found) == 3 else None]


def _range(node: Node) -> Kernel:
    check = at_run(node)

    def run(start: Array, limit: Array, delta: Array) -> Sequence[Array]:
        steps = np.full(_range_size(check, start, limit, delta), delta, delta.dtype)
        steps[:1] = start
        return (np.add.accumulate(steps, dtype=steps.dtype),)  # one sum after the other, rounded each time

    return run


def _range_cases(rng: np.random.Generator) -> Iterator[Case]:
    table = [
        (0, 5, 1),
        (0, 5, 2),
        (5, 0, -1),
        (5, 0, -2),
        (3, 3, 1),
        (3, 3, -1),
        (0, 5, -1),
        (5, 0, 1),
        (0, 5, 0),
    ]
    for dtype in (DType.FLOAT32, DType.INT32, DType.INT64):
        version = 2 if dtype is DType.INT64 else None  # BUILTIN_REF stops at 1
        oracle = "builtin" if version else "reference"
        trials: list[tuple[Any, Any, Any]] = list(table)
        for _ in range(5):
            start, delta = rng.uniform(-20, 20), rng.uniform(0.3, 3) * rng.choice([-1, 1])
            trials.append((start, start + delta * rng.uniform(0, 50), delta))
        for i, trial in enumerate(trials):
            if dtype is not DType.FLOAT32:
                start, limit, delta = (round(v) for v in trial)
                if i >= len(table) and delta == 0:
                    continue
                trial = (start, limit, delta)
            for constant in (True, False):
                if trial[0] == trial[1]:
                    continue  # LiteRT's Python interface can't read the empty result
                operands = tuple(Operand(np.array(v, dtype.numpy), constant=constant) for v in trial)
                yield Case(f"{dtype}_{i}_{constant}", operands, (Result(dtype),), {}, version, oracle)
    mixed = (index(0, constant=False), index(4), index(1))
    yield Case("partly_constant", mixed, (Result(DType.INT32),))
    yield Case("vector", (index([0]), index(4), index(1)), (Result(DType.INT32),))
    yield Case("types", (index(0), index(4, DType.INT64), index(1)), (Result(DType.INT32),))


# --- declarations -------------------------------------------------------------------------------------------------

TILE = OpDef(
    name="TILE",
    inputs=("input", "multiples"),
    outputs=("output",),
    options="TileOptions",
    versions=(1, 3),
    shapes=_tile_shapes,
    forms=(one_type("{T}, int32|int64 -> {T}", _tile, f"{WORDS}|string"),),
    bound=bounds.exact,
    cases=_tile_cases,
)

BROADCAST_TO = OpDef(
    name="BROADCAST_TO",
    inputs=("input", "shape"),
    outputs=("output",),
    options="BroadcastToOptions",
    versions=(2, 4),
    shapes=_broadcast_to_shapes,
    forms=(one_type("{T}, int32|int64 -> {T}", _broadcast_to, f"{WORDS}|complex128"),),
    bound=bounds.exact,
    cases=_broadcast_to_cases,
)

FILL = OpDef(
    name="FILL",
    inputs=("dims", "value"),
    outputs=("output",),
    options="FillOptions",
    versions=(1, 5),
    shapes=_fill_shapes,
    forms=(one_type("int32|int64, {T} -> {T}", _fill, f"{WORDS}|string"),),
    constraints=(
        Constraint(
            "equal_quantization",
            "value and output must have the same scale and zero point",
            lambda node: (
                None
                if params(node.input(1)) == params(node.outputs[0])
                else f"{params(node.input(1))} and {params(node.outputs[0])}"
            ),
        ),
        symmetric_int16(2),
    ),
    bound=bounds.exact,
    cases=_fill_cases,
)

RANGE = OpDef(
    name="RANGE",
    inputs=("start", "limit", "delta"),
    outputs=("output",),
    options="RangeOptions",
    versions=(1, 2),
    shapes=_range_shapes,
    forms=forms("{T}, {T}, {T} -> {T}", _range, T=("float32", "int32", "int64")),
    bound=bounds.exact,
    cases=_range_cases,
)

OPS = (TILE, BROADCAST_TO, FILL, RANGE)
