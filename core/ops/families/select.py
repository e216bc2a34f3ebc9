"""SELECT, SELECT_V2, ZEROS_LIKE and BROADCAST_ARGS.

Source: tflite/kernels/{select,zeros_like,broadcast_args}.cc; kernels/internal/reference/{select,broadcast_args}.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import broadcast_shape, elementwise
from delegraph.core.ops.cases import booleans, integers, reals
from delegraph.core.ops.expression import arg, call
from delegraph.core.ops.opdef import Case, Form, Kernel, Node, OpDef, Operand, Result, forms
from delegraph.core.ops.pointwise import same_shape

SELECTABLE = (
    *("float32", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"),
    *("float16", "bfloat16", "float64", "complex64", "float8_e4m3fn", "float8_e5m2"),
)
"""Types of 8, 16, 32 or 64 bits: the kernel copies bits."""


# --- select -------------------------------------------------------------------------------------------------------


def _single_shape(node: Node) -> Shape | None:
    """The output's shape as the file has it, which counts where all operands and the output hold one element."""
    specs = (node.input(0), node.input(1), node.input(2), node.outputs[0])
    return node.outputs[0].shape if all(spec.n_elements == 1 for spec in specs) else None


def _select_shapes(node: Node) -> Sequence[Shape | None]:
    """The condition has the shape of the values, or none, or is one value per row of them."""
    single = _single_shape(node)
    if single is not None:
        return [single]
    condition, x, y = (node.input(slot).shape for slot in (0, 1, 2))
    node.expect(x == y, "inputs[2]", f"the shape {x}", y)
    fits = condition in ((), x) or (len(condition) == 1 and condition == x[:1])
    node.expect(fits, "inputs[0]", f"a condition for values of shape {x}", condition)
    return [x]


def _select_v2_shapes(node: Node) -> Sequence[Shape | None]:
    single = _single_shape(node)
    return [broadcast_shape(node, 0, 1, 2) if single is None else single]


def _select(node: Node) -> Kernel:
    select = elementwise(node, np.where)
    rank = len(node.outputs[0].shape)
    if node.op.name == "SELECT_V2" and all(len(node.input(k).shape) <= rank for k in range(3)):
        return select

    def run(condition: Array, x: Array, y: Array) -> Sequence[Array]:
        if condition.size == x.size == y.size == 1:
            return select(*(v.reshape(()) for v in (condition, x, y)))
        if condition.ndim == 1:
            condition = condition.reshape(-1, *(1,) * (x.ndim - 1))
        return select(condition, x, y)

    return run


# --- zeros, shapes ------------------------------------------------------------------------------------------------


def _zeros_like(node: Node) -> Kernel:
    shape, dtype = node.outputs[0].shape, node.outputs[0].dtype.numpy
    return lambda x: (np.zeros(shape, dtype),)


def _args_shapes(node: Node) -> Sequence[Shape | None]:
    a, b = node.input(0).shape, node.input(1).shape
    node.expect(len(a) == 1, "inputs[0]", "1 dimension", a)
    node.expect(len(b) == 1, "inputs[1]", "1 dimension", b)
    return [(max(a[0], b[0]),)]


def _broadcast_args(node: Node) -> Kernel:
    (rank,) = node.outputs[0].shape

    def run(a: Array, b: Array) -> Sequence[Array]:
        x, y = (np.concatenate([np.ones(rank - s.size, s.dtype), s]) for s in (a, b))
        fits = (x == 1) | (y == 1) | (x == y)
        node.require(bool(fits.all()), "shapes that broadcast", f"{a.tolist()} and {b.tolist()}")
        return (np.where(x == 1, y, x),)

    return run


# --- cases --------------------------------------------------------------------------------------------------------


def _select_cases(rng: np.random.Generator, name: str) -> Iterator[Case]:
    shapes: list[tuple[Shape, Shape, Shape]] = [
        ((2, 3), (2, 3), (2, 3)),
        ((), (2, 3), (2, 3)),
        ((2,), (2, 3), (2, 3)),
        ((3,), (2, 3), (2, 3)),
        ((4,), (4,), (4,)),
        ((2,), (2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
        ((), (), ()),
        ((1,), (), ()),
        ((1, 1), (1,), ()),
        ((1,), (1, 1), (1, 1)),
        ((0,), (0, 3), (0, 3)),
        ((), (0,), (0,)),
        ((2, 3), (), (2, 3)),
        ((2, 3), (3,), ()),
        ((2, 1), (1, 3), (4, 1, 1)),
        ((1, 2, 1), (), ()),
        ((2, 1, 2, 1, 2, 1, 2, 1), (2,), (1, 2, 1, 2)),
        ((1,) * 8 + (2,), (1,) * 8 + (2,), (1,) * 8 + (2,)),
        ((1,) * 8 + (2,), (2,), (2,)),
        ((0, 1), (1, 3), (3,)),
        ((2,), (3,), (3,)),
        ((1,), (1, 4), (1, 4)),
    ]
    for i, (c, x, y) in enumerate(shapes):
        yield _select_case(rng, DType.FLOAT32, f"{c}_{x}_{y}", c, x, y, constant=i % 5 == 0)
    for dtype in map(DType.parse, SELECTABLE):
        if dtype in (DType.BFLOAT16, DType.FLOAT8_E4M3FN, DType.FLOAT8_E5M2):
            continue  # LiteRT's Python interface can't pass them
        for i in rng.choice(17, 2, replace=False):
            yield _select_case(rng, dtype, f"{i}", *shapes[i])


def _select_case(
    rng: np.random.Generator, dtype: DType, label: str, c: Shape, x: Shape, y: Shape, constant: bool = False
) -> Case:
    def values(shape: Shape) -> Array:
        if dtype is DType.BOOL:
            return booleans(rng, shape)
        if dtype.is_integer:
            return integers(rng, dtype, shape)
        return np.asarray(reals(rng, shape), dtype.numpy)

    # Values of another scale than the output's are copied all the same.
    q = [Quantization.per_tensor(s, 3) if dtype is DType.INT8 else None for s in (0.1, 0.2, 0.3)]
    operands = (
        Operand(booleans(rng, c)),
        Operand(values(x), q[0], constant=constant),
        Operand(values(y), q[1]),
    )
    return Case(f"{dtype}_{label}", operands, (Result(dtype, q[2]),))


def _zeros_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.FLOAT32, DType.INT32, DType.INT64):
        for shape in ((), (5,), (2, 3, 4), (0, 2), (1,) * 9):
            x = reals(rng, shape) if dtype.is_float else integers(rng, dtype, shape)
            yield Case(f"{dtype}_{shape}", (Operand(x),), (Result(dtype),))


def _args_cases(rng: np.random.Generator) -> Iterator[Case]:
    pairs: list[tuple[list[int], list[int]]] = [
        ([2, 3], [2, 3]),
        ([3], [2, 1]),
        ([], [2, 0]),
        ([], []),
        ([5, 1, 4], [1]),
        ([1, 0], [4, 1]),
        ([1, 2, 1, 2, 1, 2, 1, 2, 1], [3, 1, 3, 1, 3]),
        ([2, 3], [3, 3]),
        ([0], [3]),
    ]
    for dtype in (DType.INT32, DType.INT64):
        for constant in (False, True):
            for a, b in pairs:
                if constant and not a and not b:
                    continue  # LiteRT's Python interface can't read the empty result of constants
                operands = tuple(Operand(np.array(s, dtype.numpy), constant=constant) for s in (a, b))
                label = "constant" if constant else "given"
                yield Case(f"{dtype}_{label}_{a}_{b}", operands, (Result(dtype),))
        yield Case(f"{dtype}_scalar", (Operand(np.array(3, dtype.numpy)),) * 2, (Result(dtype),))


# --- declarations -------------------------------------------------------------------------------------------------

_SELECT = call("select", arg(0), arg(1), arg(2))

SELECT = OpDef(
    name="SELECT",
    inputs=("condition", "x", "y"),
    outputs=("output",),
    options="SelectOptions",
    versions=(1, 4),
    shapes=_select_shapes,
    forms=forms("bool, {T}, {T} -> {T}", _select, T=SELECTABLE),
    bound=bounds.exact,
    expression=_SELECT,
    cases=lambda rng: _select_cases(rng, "SELECT"),
)

SELECT_V2 = OpDef(
    name="SELECT_V2",
    inputs=("condition", "x", "y"),
    outputs=("output",),
    options="SelectV2Options",
    versions=(1, 2),
    shapes=_select_v2_shapes,
    forms=forms("bool, {T}, {T} -> {T}", _select, T=SELECTABLE),
    bound=bounds.exact,
    expression=_SELECT,
    cases=lambda rng: _select_cases(rng, "SELECT_V2"),
)

ZEROS_LIKE = OpDef(
    name="ZEROS_LIKE",
    inputs=("input",),
    outputs=("output",),
    options="ZerosLikeOptions",
    shapes=same_shape,
    forms=forms("{T} -> {T}", _zeros_like, T=("float32", "int32", "int64")),
    bound=bounds.exact,
    cases=_zeros_cases,
)

BROADCAST_ARGS = OpDef(
    name="BROADCAST_ARGS",
    inputs=("shape_a", "shape_b"),
    outputs=("shape",),
    options=None,
    shapes=_args_shapes,
    forms=(Form("int32, int32 -> int32", _broadcast_args), Form("int64, int64 -> int64", _broadcast_args)),
    cases=_args_cases,
)

OPS = (SELECT, SELECT_V2, ZEROS_LIKE, BROADCAST_ARGS)
