"""SEGMENT_SUM, UNSORTED_SEGMENT_{SUM, PROD, MAX, MIN}, LOCAL_RESPONSE_NORMALIZATION and BUCKETIZE.

Source: tflite/kernels/segment_sum.cc, unsorted_segment.cc, local_response_norm.cc, bucketize.cc;
kernels/internal/reference/reference_ops.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import integers, reals
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result, Work, forms

# --- segments -------------------------------------------------------------------------------------------------------


def _segment_sum_shapes(node: Node) -> Sequence[Shape | None]:
    data, ids = node.input(0).shape, node.input(1)
    node.expect(len(data) >= 1, "inputs[0]", "at least 1 dimension", data)
    node.expect(ids.dtype.is_integer, "inputs[1]", "integers", ids.dtype)
    node.expect(ids.shape == data[:1], "inputs[1]", f"{data[0]} segment ids", ids.shape)
    if ids.value is None:
        return [None]
    node.expect(_are_sorted_ids(ids.value), "inputs[1]", "ids that start at 0 and rise by 0 or 1", "others")
    return [(_n_segments(ids.value), *data[1:])]


def _are_sorted_ids(ids: Array) -> bool:
    steps = np.diff(ids.astype(np.int64))
    return ids.size == 0 or bool(ids[0] == 0 and ((steps == 0) | (steps == 1)).all())


def _n_segments(ids: Array) -> int:
    return int(ids[-1]) + 1 if ids.size else 0


def _unsorted_shapes(node: Node) -> Sequence[Shape | None]:
    data, ids, n = node.input(0).shape, node.input(1).shape, node.input(2)
    node.expect(ids == data[: len(ids)], "inputs[1]", f"ids for the first dimensions of {data}", ids)
    node.expect(n.shape in ((), (1,)) and n.dtype.is_integer, "inputs[2]", "one integer", n.shape)
    if n.value is None:
        return [None]
    segments = int(n.value.reshape(-1)[0])
    node.expect(segments >= 0, "inputs[2]", "at least 0 segments", segments)
    return [(segments, *data[len(ids) :])]


def _per_input_element(node: Node) -> Work:
    x, y = node.input(0), node.outputs[0]
    return Work(0, x.n_elements, x.size_bytes + node.input(1).size_bytes, y.size_bytes)


def _segment_sum(node: Node) -> Kernel:
    def run(data: Array, ids: Array) -> Sequence[Array]:
        node.require(_are_sorted_ids(ids), "segment ids that start at 0 and rise by 0 or 1", "others")
        out = np.zeros((_n_segments(ids), *data.shape[1:]), data.dtype)
        np.add.at(out, ids, data)
        return (out,)

    return run


def _unsorted(ufunc: np.ufunc) -> Callable[[Node], Kernel]:
    """Combines the data of each segment in order; ids below 0 are left out. NaNs lose every comparison."""

    def start(dtype: np.dtype[Any]) -> Any:
        if ufunc in (np.add, np.multiply):
            return int(ufunc is np.multiply)
        info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        return info.min if ufunc is np.fmax else info.max

    def prepare(node: Node) -> Kernel:
        rank = len(node.input(1).shape)

        def run(data: Array, ids: Array, n: Array) -> Sequence[Array]:
            segments = int(n.reshape(-1)[0])
            node.require(segments >= 0, "at least 0 segments", segments)
            largest = int(ids.max(initial=-1))
            node.require(largest < segments, f"ids below {segments}", largest)
            suffix = data.shape[rank:]
            out = np.full((segments, *suffix), start(data.dtype), data.dtype)
            flat, rows = ids.reshape(-1), data.reshape(ids.size, *suffix)
            kept = flat >= 0
            ufunc.at(out, flat[kept], rows[kept])
            return (out,)

        return run

    return prepare


def _magnitude(prepare: Callable[[Node], Kernel]) -> Callable[[Node, Sequence[Any]], Sequence[Any]]:
    """What the kernel makes of the absolute values of the data."""
    return lambda node, inputs: prepare(node)(np.abs(inputs[0]), *inputs[1:])


# --- local response normalization -----------------------------------------------------------------------------------


def _lrn_shapes(node: Node) -> Sequence[Shape | None]:
    shape = node.input(0).shape
    node.expect(len(shape) == 4, "inputs[0]", "4 dimensions", shape)
    return [shape]


def _lrn_work(node: Node) -> Work:
    x = node.input(0)
    taps = min(2 * max(0, int(node.options.radius)), x.shape[3])
    return Work(x.n_elements * taps, 4 * x.n_elements, x.size_bytes, x.size_bytes)


def _lrn(node: Node) -> Kernel:
    """``x · (bias + alpha · Σ x²)^-beta`` over the channels [c - radius, c + radius): one fewer behind than before."""
    o = node.options
    radius = max(0, int(o.radius))
    bias, alpha, beta = np.float32(o.bias), np.float32(o.alpha), np.float32(o.beta)

    def run(x: Array) -> Sequence[Array]:
        depth = x.shape[3]
        squares = x * x
        sums = np.zeros_like(x)
        for offset in range(-min(radius, depth), min(radius, depth)):
            first, last = max(0, -offset), min(depth, depth - offset)
            if first < last:
                sums[..., first:last] += squares[..., first + offset : last + offset]
        # powf is nearly always the correctly rounded power, which is what double precision rounded once gives.
        base = (bias + alpha * sums).astype(np.float64)
        return (x * np.power(base, -np.float64(beta)).astype(np.float32),)

    return run


def _lrn_bound(node: Node, inputs: Sequence[Any], expected: Sequence[Array]) -> Sequence[Any]:
    """A relative error of the sum becomes |beta| times as much of the result."""
    beta = abs(float(node.options.beta))
    return [2e-6 * (1 + beta) * np.abs(expected[0]) + np.finfo(np.float32).tiny]


# --- buckets --------------------------------------------------------------------------------------------------------


def _boundaries(node: Node) -> Array:
    return np.asarray(node.options.boundaries if node.options.boundaries is not None else (), np.float32)


def _unsorted_boundaries(node: Node) -> str | None:
    b = _boundaries(node)
    return None if bool((b[1:] >= b[:-1]).all()) else str(b.tolist())


def _bucketize(node: Node) -> Kernel:
    """How many boundaries are at most x. C compares integers with them as float32, and doubles as doubles."""
    b = _boundaries(node)

    def run(x: Array) -> Sequence[Array]:
        compared = x if x.dtype == np.float64 else x.astype(np.float32)
        return (np.searchsorted(b.astype(compared.dtype), compared, side="right").astype(np.int32),)

    return run


# --- cases ----------------------------------------------------------------------------------------------------------


def _data(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    return reals(rng, shape) if dtype is DType.FLOAT32 else integers(rng, dtype, shape)


def _segment_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.FLOAT32, DType.INT32):
        for i, shape in enumerate([(5,), (6, 3), (4, 2, 3), (1, 2), (30, 4)] * 2):
            ids = np.concatenate([[0], np.cumsum(rng.integers(0, 2, shape[0] - 1))]).astype(np.int32)
            data = Operand(_data(rng, dtype, shape), constant=bool(i % 3 == 0))
            operands = (data, Operand(ids, constant=bool(i % 2)))
            # BUILTIN_REF has no SEGMENT_SUM.
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),), oracle="builtin")
    for name, bad in (("from_1", [1, 1, 2]), ("gap", [0, 2, 2]), ("falling", [0, 1, 0]), ("too_few", [0, 1])):
        for constant in (True, False):
            operands = (
                Operand(np.ones((3, 2), np.float32)),
                Operand(np.array(bad, np.int32), constant=constant),
            )
            yield Case(f"{name}_{constant}", operands, (Result(DType.FLOAT32),), oracle="builtin")


def _unsorted_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.FLOAT32, DType.INT32):
        for i, (shape, rank) in enumerate(
            [
                ((5,), 1),
                ((6, 3), 1),
                ((4, 2, 3), 2),
                ((2, 2), 0),
                ((4, 3), 2),
                ((40, 2), 1),
                ((0, 2), 1),
                ((), 0),
            ]
            * 2
        ):
            n = int(rng.integers(1, 6))
            data = _data(rng, dtype, shape)
            if dtype is DType.FLOAT32 and i == 1:
                data[:] = np.array([np.nan, np.inf, -np.inf])
            ids = rng.integers(-1, n, shape[:rank]).astype(np.int32)
            operands = (
                Operand(data),
                Operand(ids, constant=bool(rng.integers(2))),
                Operand(np.array([n] if i % 2 else n, np.int32), constant=bool(rng.integers(2))),
            )
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))
    for name, bad, n in (
        ("id_too_large", [0, 3, 1], 3),
        ("negative_n", [-1, -1, -1], -1),
        ("too_few", [0, 1], 3),
    ):
        for constant in (True, False):
            operands = (
                Operand(np.ones((3, 2), np.float32)),
                Operand(np.array(bad, np.int32), constant=constant),
                Operand(np.array(n, np.int32), constant=constant),
            )
            yield Case(f"{name}_{constant}", operands, (Result(DType.FLOAT32),))


def _lrn_cases(rng: np.random.Generator) -> Iterator[Case]:
    for i in range(16):
        shape = (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(1, 4, 2)), int(rng.integers(1, 12)))
        options = {
            "radius": (0, 1, 2, 5, 20)[i % 5],
            "bias": float(rng.uniform(0.5, 3)),
            "alpha": float(rng.uniform(0, 2)),
            "beta": (0.5, 0.75, 1.0, -0.5)[i % 4],
        }
        yield Case(
            f"{i}_radius_{options['radius']}",
            (Operand(reals(rng, shape)),),
            (Result(DType.FLOAT32),),
            options,
        )
    yield Case("rank_3", (Operand(reals(rng, (2, 3, 4))),), (Result(DType.FLOAT32),), {"radius": 1, "bias": 1.0})


def _bucketize_cases(rng: np.random.Generator) -> Iterator[Case]:
    edges = np.array([-3, -1, 0, 0, 2, 3.5], np.float32)
    for dtype in map(DType.parse, ("float32", "int32", "int64", "float64")):
        for i, shape in enumerate([(9,), (3, 4), (), (2, 0), (2, 2, 1, 2, 3)]):
            x = np.asarray(rng.integers(-4, 5, shape) if i % 2 else rng.uniform(-4, 4, shape), dtype.numpy)
            yield Case(f"{dtype}_{i}", (Operand(x),), (Result(DType.INT32),), {"boundaries": edges})
    big = np.array([16777216, 16777217, 16777218, -(2**31), 2**31 - 1], np.int64)
    options = {"boundaries": np.array([16777216, 16777218, 2**31], np.float32)}
    for dtype in (DType.INT32, DType.INT64):
        yield Case(f"rounded_{dtype}", (Operand(big.astype(dtype.numpy)),), (Result(DType.INT32),), options)
    special = Operand(np.array([np.nan, np.inf, -np.inf, 0], np.float32))
    yield Case("special", (special,), (Result(DType.INT32),), {"boundaries": edges})
    yield Case("not_sorted", (special,), (Result(DType.INT32),), {"boundaries": edges[::-1].copy()})


# --- declarations ---------------------------------------------------------------------------------------------------

SEGMENT_SUM = OpDef(
    name="SEGMENT_SUM",
    inputs=("data", "segment_ids"),
    outputs=("output",),
    options="SegmentSumOptions",
    shapes=_segment_sum_shapes,
    work=_per_input_element,
    forms=forms("{T}, int32 -> {T}", _segment_sum, T=("float32", "int32")),
    bound=bounds.sums(_magnitude(_segment_sum)),
    cases=_segment_cases,
)


def _unsorted_segment(kind: str, ufunc: np.ufunc) -> OpDef:
    prepare = _unsorted(ufunc)
    compares = ufunc in (np.fmax, np.fmin)
    return OpDef(
        name=f"UNSORTED_SEGMENT_{kind.upper()}",
        inputs=("data", "segment_ids", "num_segments"),
        outputs=("output",),
        options=f"UnsortedSegment{kind}Options",
        shapes=_unsorted_shapes,
        work=_per_input_element,
        forms=forms("{T}, int32, int32 -> {T}", prepare, T=("float32", "int32")),
        bound=bounds.exact if compares else bounds.sums(_magnitude(prepare)),
        cases=_unsorted_cases,
    )


LOCAL_RESPONSE_NORMALIZATION = OpDef(
    name="LOCAL_RESPONSE_NORMALIZATION",
    inputs=("input",),
    outputs=("output",),
    options="LocalResponseNormalizationOptions",
    shapes=_lrn_shapes,
    work=_lrn_work,
    forms=(Form("float32 -> float32", _lrn),),
    bound=_lrn_bound,
    cases=_lrn_cases,
)

BUCKETIZE = OpDef(
    name="BUCKETIZE",
    inputs=("input",),
    outputs=("output",),
    options="BucketizeOptions",
    shapes=lambda node: [node.input(0).shape],
    forms=(Form("float32|int32|int64|float64 -> int32", _bucketize),),
    constraints=(Constraint("sorted", "the boundaries are sorted", _unsorted_boundaries),),
    cases=_bucketize_cases,
)

OPS = (
    SEGMENT_SUM,
    _unsorted_segment("Sum", np.add),
    _unsorted_segment("Prod", np.multiply),
    _unsorted_segment("Max", np.fmax),
    _unsorted_segment("Min", np.fmin),
    LOCAL_RESPONSE_NORMALIZATION,
    BUCKETIZE,
)
