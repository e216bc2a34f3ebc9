"""RESHAPE, SQUEEZE, EXPAND_DIMS, SHAPE, RANK: ops that leave the data as it is.

Source: tflite/kernels/{reshape,squeeze,expand_dims,shape,rank}.cc, kernels/internal/reshape_utils.h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    OTHER,
    SHIFTED,
    TESTED,
    Check,
    at_run,
    cycle,
    equal_quantization,
    index,
    known,
    numbers,
    one_type,
    sizes,
    symmetric_int16,
    tensor,
)
from delegraph.core.ops.opdef import Case, Form, Kernel, Node, OpDef, Result

# --- RESHAPE ------------------------------------------------------------------------------------------------------


def _shape_operand(node: Node) -> bool:
    """Whether the shape operand counts: only an int32 vector does, else the option new_shape is used."""
    if not node.has_input(1):
        return False
    operand = node.input(1)
    return operand.dtype is DType.INT32 and len(operand.shape) == 1


def _new_shape(node: Node) -> list[int]:
    """The option new_shape; old files write [0] for a scalar."""
    wanted = numbers(node.options.new_shape)
    return [] if wanted == [0] else wanted


def resolve_shape(check: Check, shape: Shape, wanted: Sequence[int]) -> Shape:
    """``wanted`` with its -1, if there is one, replaced. Source: ResolveOutputShape (reshape_utils.h)."""
    check(
        min(wanted, default=0) >= -1 and list(wanted).count(-1) <= 1,
        "new shape",
        "sizes of at least 0 with one -1 at most",
        list(wanted),
    )
    others = [n for n in wanted if n != -1]
    if math.prod(shape) == 0 and math.prod(others) != 0:
        inferred = 0
    else:
        # Zeros are left out on both sides: [0, 3] as [0, -1] gives [0, 3].
        inferred = math.prod(n for n in shape if n) // math.prod(n for n in others if n)
    new = tuple(inferred if n == -1 else n for n in wanted)
    check(
        math.prod(new) == math.prod(shape),
        "new shape",
        f"a shape for {math.prod(shape)} elements",
        list(wanted),
    )
    return new


def _reshape_shapes(node: Node) -> Sequence[Shape | None]:
    wanted = known(node, 1) if _shape_operand(node) else _new_shape(node)
    return [None if wanted is None else resolve_shape(node.expect, node.input(0).shape, wanted)]


def _reshape(node: Node) -> Kernel:
    wanted = known(node, 1) if _shape_operand(node) else _new_shape(node)
    check = at_run(node)

    def run(x: Array, shape: Array | None = None) -> Sequence[Array]:
        return (x.reshape(resolve_shape(check, x.shape, numbers(shape) if wanted is None else wanted)),)

    return run


def _reshape_cases(rng: np.random.Generator) -> Iterator[Case]:
    pairs = [
        ((2, 3), [3, 2]),
        ((2, 3), [-1]),
        ((4, 3), [2, -1, 3]),
        ((1, 1), []),
        ((), [1]),
        ((), [1, -1]),
        ((0, 3), [3, 0]),
        ((0, 3), [-1, 3]),
        ((0, 3), [0, -1]),
        ((2, 0), [0, 5, -1]),
        ((2, 3), [4, 2]),
        ((2, 3), [-1, -1]),
        ((2, 3), [-1, 4]),
        ((2, 3), [-2, 3]),
        ((3, 4, 5), [5, 1, 1, 1, 1, 1, 2, 1, -1]),
    ]
    for i, (shape, wanted) in enumerate(pairs):
        x = tensor(rng, DType.FLOAT32, shape)
        result = (Result(DType.FLOAT32),)
        new_shape = {"new_shape": wanted}
        yield Case(f"operand_{i}", (x, index(wanted)), result)
        yield Case(f"dynamic_{i}", (x, index(wanted, constant=False)), result)
        if len(wanted) <= 8:
            yield Case(f"option_{i}", (x,), result, new_shape)
    x = tensor(rng, DType.FLOAT32, (1, 1))
    yield Case("legacy_scalar", (x,), (Result(DType.FLOAT32),), {"new_shape": [0]})
    yield Case("no_options", (x,), (Result(DType.FLOAT32),))
    x = tensor(rng, DType.FLOAT32, (2, 3))
    # A shape operand that is no int32 vector is ignored.
    yield Case("int64_operand", (x, index([6], DType.INT64)), (Result(DType.FLOAT32),), {"new_shape": [3, 2]})
    yield Case("scalar_operand", (x, index(6)), (Result(DType.FLOAT32),), {"new_shape": [3, 2]})
    for dtype in (*TESTED, DType.STRING, DType.INT4):
        operand = tensor(rng, dtype, (2, 6), SHIFTED if dtype in (DType.INT8, DType.UINT8) else None)
        result = (Result(dtype, OTHER if dtype is DType.INT8 else None),)  # quantization is not looked at
        yield Case(f"{dtype}", (operand, index([3, -1])), result)
        constant = tensor(rng, dtype, (2, 6), constant=True)
        yield Case(f"{dtype}_constant", (constant, index([4, 3])), (Result(dtype),))


# --- SQUEEZE ------------------------------------------------------------------------------------------------------


def _squeezed(node: Node) -> list[int]:
    """The axes to drop, from the option squeeze_dims or, without, all of size 1."""
    shape = node.input(0).shape
    dims = numbers(node.options.squeeze_dims)
    if not dims:
        return [i for i, n in enumerate(shape) if n == 1]
    for axis in dims:
        node.expect(
            -len(shape) <= axis < len(shape) and shape[axis] == 1,
            "squeeze_dims",
            f"axes of size 1 of {shape}",
            axis,
        )
    return [axis % len(shape) for axis in dims]


def _squeeze_shapes(node: Node) -> Sequence[Shape | None]:
    shape = node.input(0).shape
    node.expect(len(shape) <= 8, "inputs[0]", "up to 8 dimensions", shape)
    dropped = _squeezed(node)
    return [tuple(n for i, n in enumerate(shape) if i not in dropped)]


def _squeeze(node: Node) -> Kernel:
    dropped = _squeezed(node)

    def run(x: Array) -> Sequence[Array]:
        return (x.reshape([n for i, n in enumerate(x.shape) if i not in dropped]),)

    return run


def _squeeze_cases(rng: np.random.Generator) -> Iterator[Case]:
    table: list[tuple[Shape, list[int]]] = [
        ((1, 3, 1), []),
        ((1, 3, 1), [0]),
        ((1, 3, 1), [-1, 0]),
        ((1, 3, 1), [0, 0]),
        ((1, 3, 1), [1]),
        ((1, 3, 1), [3]),
        ((1, 3, 1), [-4]),
        ((), []),
        ((1,), [0]),
        ((1, 0), []),
        ((1,) * 8, [7, 2]),
        ((1,) * 9, [7, 2]),
        ((2, 3), []),
    ]
    for i, (shape, dims) in enumerate(table):
        x = tensor(rng, DType.FLOAT32, shape)
        yield Case(f"dims_{i}", (x,), (Result(DType.FLOAT32),), {"squeeze_dims": dims})
    for dtype in (*TESTED, DType.INT4, DType.STRING):
        shape = sizes(rng, 4, 1, 2)
        yield Case(f"{dtype}", (tensor(rng, dtype, shape),), (Result(dtype),), {"squeeze_dims": []})


# --- EXPAND_DIMS --------------------------------------------------------------------------------------------------


def _expanded(check: Check, shape: Shape, axis: Sequence[int]) -> Shape:
    check(len(axis) == 1, "axis", "one element", list(axis))
    rank = len(shape) + 1
    check(-rank <= axis[0] < rank, "axis", f"an axis of {rank} dimensions", axis[0])
    at = axis[0] % rank
    return (*shape[:at], 1, *shape[at:])


def _expand_dims_shapes(node: Node) -> Sequence[Shape | None]:
    axis = known(node, 1)
    node.expect(node.input(1).n_elements == 1, "inputs[1]", "one element", node.input(1).shape)
    return [None if axis is None else _expanded(node.expect, node.input(0).shape, axis)]


def _expand_dims(node: Node) -> Kernel:
    check = at_run(node)

    def run(x: Array, axis: Array) -> Sequence[Array]:
        return (x.reshape(_expanded(check, x.shape, numbers(axis))),)

    return run


def _expand_dims_cases(rng: np.random.Generator) -> Iterator[Case]:
    for i, axis in enumerate([0, 1, 2, -1, -2, -3, 3, -4]):
        x = tensor(rng, DType.FLOAT32, (2, 3))
        for kind in (DType.INT32, DType.INT64):
            for constant in (True, False):
                yield Case(
                    f"axis_{i}_{kind}_{'constant' if constant else 'dynamic'}",
                    (x, index(axis if i % 2 else [axis], kind, constant)),
                    (Result(DType.FLOAT32),),
                )
    yield Case("scalar", (tensor(rng, DType.INT32, ()), index(-1)), (Result(DType.INT32),))
    yield Case("empty", (tensor(rng, DType.INT32, (2, 0)), index(1)), (Result(DType.INT32),))
    yield Case("two_axes", (tensor(rng, DType.INT32, (2, 2)), index([0, 1])), (Result(DType.INT32),))
    for dtype in (*TESTED, DType.STRING, DType.INT4):
        shape = sizes(rng, int(rng.integers(0, 5)), 1, 3)
        axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
        yield Case(f"{dtype}", (tensor(rng, dtype, shape), index(axis)), (Result(dtype),))
    for name, q in (("same", SHIFTED), ("other", OTHER)):
        for dtype in (DType.INT8, DType.UINT8, DType.INT16):
            x = tensor(rng, dtype, (2, 3), SHIFTED)
            yield Case(f"{dtype}_{name}", (x, index(1)), (Result(dtype, q),))


# --- SHAPE, RANK --------------------------------------------------------------------------------------------------


def _shape(node: Node) -> Kernel:
    dtype = node.outputs[0].dtype.numpy
    return lambda x: (np.array(x.shape, dtype),)


def _out_type(node: Node) -> bool:
    return bool(node.options.out_type == node.outputs[0].dtype.value)


def _rank(node: Node) -> Kernel:
    return lambda x: (np.array(x.ndim, np.int32),)


def _shape_cases(rng: np.random.Generator) -> Iterator[Case]:
    # Not (): LiteRT's Python interface can't read the empty result ("Invalid tensor size").
    shapes: list[Shape] = [(0,), (2, 0, 3), (1, 2, 3, 4, 5, 6)]
    for i, dtype in enumerate((*TESTED, DType.STRING)):
        shape = cycle(shapes, i)
        for kind in (DType.INT32, DType.INT64):
            x = tensor(rng, dtype, shape)
            yield Case(f"{dtype}_{kind}", (x,), (Result(kind),), {"out_type": kind.value})
    yield Case("int16", (tensor(rng, DType.INT8, (2,)),), (Result(DType.INT16),), {"out_type": DType.INT16.value})
    yield Case("constant", (tensor(rng, DType.INT8, (2, 4), constant=True),), (Result(DType.INT32),), {"out_type": 2})


def _rank_cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes: list[Shape] = [(), (0,), (2, 0, 3), (1, 2, 3, 4, 5, 6)]
    for i, dtype in enumerate((*TESTED, DType.STRING)):
        yield Case(f"{dtype}", (tensor(rng, dtype, cycle(shapes, i)),), (Result(DType.INT32),))


# --- declarations -------------------------------------------------------------------------------------------------

RESHAPE = OpDef(
    name="RESHAPE",
    inputs=("input", "shape?"),
    outputs=("output",),
    options="ReshapeOptions",
    shapes=_reshape_shapes,
    forms=(one_type("{T}, any? -> {T}", _reshape, "any"),),
    bound=bounds.exact,
    cases=_reshape_cases,
)

SQUEEZE = OpDef(
    name="SQUEEZE",
    inputs=("input",),
    outputs=("output",),
    options="SqueezeOptions",
    versions=(1, 2),
    shapes=_squeeze_shapes,
    forms=(one_type("{T} -> {T}", _squeeze, "any"),),
    bound=bounds.exact,
    cases=_squeeze_cases,
)

EXPAND_DIMS = OpDef(
    name="EXPAND_DIMS",
    inputs=("input", "axis"),
    outputs=("output",),
    options="ExpandDimsOptions",
    shapes=_expand_dims_shapes,
    forms=(one_type("{T}, int32|int64 -> {T}", _expand_dims, "any"),),
    constraints=(equal_quantization(), symmetric_int16()),
    bound=bounds.exact,
    cases=_expand_dims_cases,
)

SHAPE = OpDef(
    name="SHAPE",
    inputs=("input",),
    outputs=("shape",),
    options="ShapeOptions",
    shapes=lambda node: [(len(node.input(0).shape),)],
    forms=(Form("any -> int32|int64", _shape, _out_type, "of the option's type"),),
    bound=bounds.exact,
    cases=_shape_cases,
)

RANK = OpDef(
    name="RANK",
    inputs=("input",),
    outputs=("rank",),
    options="RankOptions",
    shapes=lambda node: [()],
    forms=(Form("any -> int32", _rank),),
    bound=bounds.exact,
    cases=_rank_cases,
)

OPS = (RESHAPE, SQUEEZE, EXPAND_DIMS, SHAPE, RANK)
