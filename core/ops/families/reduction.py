"""REDUCE_MAX, REDUCE_MIN, REDUCE_ANY and REDUCE_ALL, and what all reductions share. Sums are in reduction_sums.

Source: tflite/kernels/reduce.cc; kernels/internal/reference/reduce.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import booleans, integers, quantized, reals
from delegraph.core.ops.movement import params
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

Axes = tuple[int, ...]

# --- shapes and work ------------------------------------------------------------------------------------------------


def resolved_axes(values: Array, rank: int) -> Axes | None:
    """The axes that an axis operand names, sorted and each once; None if one is out of range.

    A scalar has nothing to reduce: its axes are not looked at. Source: ResolveAxisForShape.
    """
    if rank == 0:
        return ()
    axes = {int(a) + rank if a < 0 else int(a) for a in values.reshape(-1)}
    return tuple(sorted(axes)) if all(0 <= a < rank for a in axes) else None


def reduced_shape(shape: Shape, axes: Axes, keep_dims: bool) -> Shape:
    if keep_dims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _shapes(node: Node) -> Sequence[Shape | None]:
    shape, axis, keep_dims = node.input(0).shape, node.input(1), bool(node.options.keep_dims)
    node.expect(axis.dtype.is_integer, "inputs[1]", "integers", axis.dtype)
    if axis.value is not None:
        axes = resolved_axes(axis.value, len(shape))
        node.expect(axes is not None, "inputs[1]", f"axes of {len(shape)} dimensions", axis.value.tolist())
        assert axes is not None
        return [reduced_shape(shape, axes, keep_dims)]
    # Which dimensions go is not known; there are cases where it makes no difference.
    if len(shape) == 0 or axis.n_elements == 0 or (keep_dims and all(n == 1 for n in shape)):
        return [shape]
    return [None]


def _work(node: Node) -> Work:
    x, y = node.input(0), node.outputs[0]
    return Work(0, x.n_elements, x.size_bytes + node.input(1).size_bytes, y.size_bytes)


def _symmetric_int16(node: Node) -> str | None:
    x, y = node.input(0), node.outputs[0]
    if x.dtype is not DType.INT16 or (params(x)[1] == 0 and params(y)[1] == 0):
        return None
    return f"{params(x)[1]} and {params(y)[1]}"


def differing_quantization(node: Node) -> str | None:
    x, y = node.input(0), node.outputs[0]
    if x.dtype not in (DType.INT8, DType.UINT8, DType.INT16) or params(x) == params(y):
        return None
    return f"{params(x)} and {params(y)}"


SYMMETRIC_INT16 = Constraint("symmetric_int16", "int16 tensors have zero point 0", _symmetric_int16)
SAME_QUANTIZATION = Constraint(
    "same_quantization",
    "8- and 16-bit input and output have the same scale and zero point",
    differing_quantization,
)

# --- kernels --------------------------------------------------------------------------------------------------------

Reduce = Callable[[Array, Axes], Array]
"""``reduce(x, axes)``: the reduced values, in any shape."""


def reducing_kernel(node: Node, reduce: Reduce) -> Kernel:
    """The kernel that resolves the axes, reduces, and gives the result its shape."""
    keep_dims = bool(node.options.keep_dims)
    rank = len(node.input(0).shape)

    def resolve(values: Array) -> Axes:
        axes = resolved_axes(values, rank)
        node.require(axes is not None, f"axes of {rank} dimensions", values.tolist())
        assert axes is not None
        return axes

    axes_of = packed(node.input(1), resolve)

    def run(x: Array, axis: Array) -> Sequence[Array]:
        axes = axes_of(axis)
        return (np.asarray(reduce(x, axes)).reshape(reduced_shape(x.shape, axes, keep_dims)),)

    return run


def n_reduced(shape: Shape, axes: Axes) -> int:
    """Elements that go into one of the output."""
    n = 1
    for a in axes:
        n *= shape[a]
    return n


def plain(ufunc: np.ufunc) -> Callable[[Node], Kernel]:
    """A reduction in the operand's own type; integers wrap. Of booleans, a sum is "any" and a product "all"."""

    def prepare(node: Node) -> Kernel:
        dtype = node.outputs[0].dtype.numpy
        function: np.ufunc = ufunc
        if dtype == np.bool_ and ufunc in (np.add, np.multiply):
            function = np.logical_or if ufunc is np.add else np.logical_and
        return reducing_kernel(node, lambda x, axes: function.reduce(x, axis=axes, dtype=dtype))

    return prepare


def _extremum(largest: bool) -> Callable[[Node], Kernel]:
    """REDUCE_MAX and REDUCE_MIN.

    NaNs lose every comparison. A reduction over all axes starts from the first element, so that a NaN there stays;
    any other starts from the type's lowest finite value, which infinities of that sign don't beat.
    Source: EvalType (reduce.cc), ReduceGeneric.
    """

    def prepare(node: Node) -> Kernel:
        dtype = node.outputs[0].dtype.numpy
        if dtype == np.bool_:
            return plain(np.logical_or if largest else np.logical_and)(node)
        info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        start = info.min if largest else info.max
        ufunc: np.ufunc = np.fmax if largest else np.fmin

        def reduce(x: Array, axes: Axes) -> Array:
            if len(axes) == x.ndim and x.size:
                first = x.reshape(-1)[:1]
                return first if first != first else np.asarray(ufunc.reduce(x, axis=axes))
            return np.asarray(ufunc.reduce(x, axis=axes, initial=start))

        return reducing_kernel(node, reduce)

    return prepare


# --- cases ----------------------------------------------------------------------------------------------------------

# shape, axes, is the axis operand constant
_PLACES: tuple[tuple[Shape, Any, bool], ...] = (
    ((2, 3, 4, 5), [1, 2], True),
    ((2, 3, 4, 5), [2, 1], False),
    ((3, 4), [0], True),
    ((3, 4), [1], True),
    ((3, 4), 1, True),
    ((3, 4), -2, False),
    ((3, 4, 2), [-1, 0], True),
    ((3, 4, 2), [1, -2, 1], True),
    ((2, 3, 2), [0, 1, 2], True),
    ((1, 1, 1), [1], False),
    ((7,), [0], True),
    ((7,), [], False),
    ((4, 2), [], True),
    ((), [], True),
    ((), [0], False),
    ((0, 3), [0], True),
    ((0, 3), [1], True),
    ((2, 0), [0, 1], True),
    ((2, 1, 3, 1, 2, 2), [5, 1, 3], True),
    ((3, 4), [2], True),
    ((3, 4), [-3], False),
)


def data(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    if dtype is DType.BOOL:
        return booleans(rng, shape)
    return reals(rng, shape) if dtype is DType.FLOAT32 else integers(rng, dtype, shape)


def places(rng: np.random.Generator, dtype: DType) -> Iterator[tuple[str, Array, Operand, dict[str, bool]]]:
    """(name, data, axis operand, options) of every kind of place, and a few at random."""
    places = list(_PLACES)
    for _ in range(3):
        rank = int(rng.integers(1, 6))
        shape = tuple(int(n) for n in rng.integers(1, 6, rank))
        axes = rng.integers(-rank, rank, int(rng.integers(0, rank + 1))).tolist()
        places.append((shape, axes, bool(rng.integers(2))))
    for i, (shape, axes, constant) in enumerate(places):
        name = f"{dtype}_{i}_{'x'.join(map(str, shape))}_over_{axes}".replace(" ", "")
        axis = Operand(np.array(axes, np.int32), constant=constant)
        yield name, data(rng, dtype, shape), axis, {"keep_dims": bool(rng.integers(2))}


def plain_cases(rng: np.random.Generator, dtypes: Sequence[DType]) -> Iterator[Case]:
    """Operands without quantization, or with the same on both sides."""
    for dtype in dtypes:
        for name, x, axis, options in places(rng, dtype):
            q = None
            if dtype in (DType.INT8, DType.UINT8, DType.INT16) and rng.integers(3):
                q = quantized(rng, dtype, ())[0]
            yield Case(name, (Operand(x, q), axis), (Result(dtype, q),), options)


def _extremum_cases(rng: np.random.Generator) -> Iterator[Case]:
    types = ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")
    yield from plain_cases(rng, [DType.parse(t) for t in types])
    special = np.array([[np.nan, 1, -np.inf], [-np.inf, np.nan, np.inf], [-np.inf] * 3, [np.nan] * 3], np.float32)
    for sign in (1, -1):
        for axes in ([0], [1], [0, 1], []):
            axis = Operand(np.array(axes, np.int32), constant=True)
            for rows in (special, special[1:], special[2:]):
                name = f"special_{sign}_{len(rows)}_{axes}".replace(" ", "")
                yield Case(name, (Operand(sign * rows), axis), (Result(DType.FLOAT32),))
    q, x = quantized(rng, DType.INT8, (3, 4))
    axis = Operand(np.array([0], np.int32), constant=True)
    other = Quantization.per_tensor(float(q.scale) * 2, q.zero_point)
    yield Case("other_scale", (Operand(x, q), axis), (Result(DType.INT8, other),))


def _bool_cases(rng: np.random.Generator) -> Iterator[Case]:
    for i in range(2):
        for name, x, axis, options in places(rng, DType.BOOL):
            yield Case(f"{name}_{i}", (Operand(x), axis), (Result(DType.BOOL),), options)


# --- declarations ---------------------------------------------------------------------------------------------------

NUMBERS = ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")


def reducer(name: str, **fields: Any) -> OpDef:
    return OpDef(
        name=name,
        inputs=("input", "axis"),
        outputs=("output",),
        options="ReducerOptions",
        shapes=_shapes,
        work=_work,
        **fields,
    )


REDUCE_MAX = reducer(
    "REDUCE_MAX",
    versions=(1, 3),
    forms=forms("{T}, int32 -> {T}", _extremum(largest=True), T=NUMBERS),
    constraints=(SYMMETRIC_INT16, SAME_QUANTIZATION),
    bound=bounds.exact,
    cases=_extremum_cases,
)

REDUCE_MIN = reducer(
    "REDUCE_MIN",
    versions=(1, 3),
    forms=forms("{T}, int32 -> {T}", _extremum(largest=False), T=NUMBERS),
    constraints=(SYMMETRIC_INT16, SAME_QUANTIZATION),
    bound=bounds.exact,
    cases=_extremum_cases,
)

REDUCE_ANY = reducer(
    "REDUCE_ANY",
    forms=(Form("bool, int32 -> bool", plain(np.logical_or)),),
    cases=_bool_cases,
)

REDUCE_ALL = reducer(
    "REDUCE_ALL",
    forms=(Form("bool, int32 -> bool", plain(np.logical_and)),),
    cases=_bool_cases,
)

OPS = (REDUCE_MAX, REDUCE_MIN, REDUCE_ANY, REDUCE_ALL)
