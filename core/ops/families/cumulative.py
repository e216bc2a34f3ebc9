"""CUMSUM.

Source: tflite/kernels/cumsum.cc; kernels/internal/optimized/optimized_ops.h (CumSum).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import integers, reals
from delegraph.core.ops.opdef import Case, Kernel, Node, OpDef, Operand, Result, forms


def _cumsum_shapes(node: Node) -> Sequence[Shape | None]:
    shape, axis = node.input(0).shape, node.input(1)
    node.expect(len(shape) >= 1, "inputs[0]", "at least 1 dimension", shape)
    node.expect(axis.n_elements == 1 and axis.dtype.is_integer, "inputs[1]", "one integer", axis.shape)
    if axis.value is not None:
        value = int(axis.value.reshape(-1)[0])
        node.expect(-len(shape) <= value < len(shape), "inputs[1]", f"an axis of {len(shape)} dimensions", value)
    return [shape]


def _cumsum(node: Node) -> Kernel:
    rank, dtype = len(node.input(0).shape), node.outputs[0].dtype.numpy
    exclusive, reverse = bool(node.options.exclusive), bool(node.options.reverse)

    def run(x: Array, axis: Array) -> Sequence[Array]:
        a = int(axis.reshape(-1)[0])
        node.require(-rank <= a < rank, f"an axis of {rank} dimensions", a)
        x = np.moveaxis(x, a, 0)
        x = x[::-1] if reverse else x
        if exclusive:
            out = np.zeros_like(x)
            np.add.accumulate(x[:-1], axis=0, dtype=dtype, out=out[1:])
        else:
            out = np.add.accumulate(x, axis=0, dtype=dtype)
        return (np.moveaxis(out[::-1] if reverse else out, 0, a),)

    return run


def _magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    """The cumulative sums of the absolute values."""
    return _cumsum(node)(np.abs(inputs[0]), inputs[1])


def _cumsum_cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((5,), (3, 4), (2, 3, 4), (1, 6, 1, 2), (3, 0, 2), (2, 2, 2, 1, 3), (30, 20))
    for dtype in (DType.FLOAT32, DType.INT32, DType.INT64):
        for i, shape in enumerate(shapes * 2):
            rank = len(shape)
            axis = int(rng.integers(-rank - (i == 8), rank))
            options = {"exclusive": bool(rng.integers(2)), "reverse": bool(rng.integers(2))}
            value = np.array(axis if i % 2 else [axis], np.int32)
            yield Case(
                f"{dtype}_{i}_axis_{axis}",
                (
                    Operand(reals(rng, shape) if dtype is DType.FLOAT32 else integers(rng, dtype, shape)),
                    Operand(value, constant=bool(rng.integers(2))),
                ),
                (Result(dtype),),
                options,
            )
    yield Case(
        "scalar",
        (Operand(np.array(3, np.float32)), Operand(np.array(0, np.int32), constant=True)),
        (Result(DType.FLOAT32),),
    )


CUMSUM = OpDef(
    name="CUMSUM",
    inputs=("input", "axis"),
    outputs=("output",),
    options="CumsumOptions",
    shapes=_cumsum_shapes,
    forms=forms("{T}, int32 -> {T}", _cumsum, T=("float32", "int32", "int64")),
    bound=bounds.sums(_magnitude),
    cases=_cumsum_cases,
)

OPS = (CUMSUM,)
