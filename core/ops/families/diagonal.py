"""SPARSE_TO_DENSE, MATRIX_DIAG and MATRIX_SET_DIAG: values put at given places of a tensor.

Source: tflite/kernels/sparse_to_dense.cc, matrix_diag.cc, matrix_set_diag.cc; kernels/internal/reference/
reference_ops.h (SparseToDense).
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

# --- sparse to dense ------------------------------------------------------------------------------------------------


def _sparse_shapes(node: Node) -> Sequence[Shape | None]:
    indices, shape, values, default = (node.input(i) for i in range(4))
    node.expect(len(indices.shape) <= 2, "inputs[0]", "at most 2 dimensions", indices.shape)
    node.expect(len(shape.shape) == 1, "inputs[1]", "1 dimension", shape.shape)
    node.expect(len(values.shape) <= 1, "inputs[2]", "at most 1 dimension", values.shape)
    node.expect(default.n_elements == 1, "inputs[3]", "one element", default.shape)
    n, rank = indices.shape if len(indices.shape) == 2 else (indices.n_elements, 1)
    node.expect(shape.n_elements == rank, "inputs[1]", f"{rank} sizes", shape.shape)
    node.expect(values.shape in ((), (n,)), "inputs[2]", f"1 or {n} values", values.shape)
    node.expect(1 <= rank <= 4, "inputs[0]", "indices of 1 to 4 dimensions", rank)
    node.expect(shape.dtype.is_integer, "inputs[1]", "integers", shape.dtype)
    if shape.value is None:
        return [None]
    sizes = tuple(int(s) for s in shape.value)
    node.expect(min(sizes, default=0) >= 0, "inputs[1]", "sizes of at least 0", sizes)
    return [sizes]


def _sparse_to_dense(node: Node) -> Kernel:
    """Of values at the same place the last one stays, as NumPy's assignment has it too."""

    def run(indices: Array, shape: Array, values: Array, default: Array) -> Sequence[Array]:
        sizes = tuple(int(s) for s in shape)
        node.require(min(sizes, default=0) >= 0, "sizes of at least 0", sizes)
        places = indices.reshape(-1, len(sizes)) if indices.ndim == 2 else indices.reshape(-1, 1)
        outside = ((places < 0) | (places >= np.array(sizes))).any(1)
        node.require(not outside.any(), f"indices inside {sizes}", places[outside][:1].tolist())
        out = np.full(sizes, default.reshape(-1)[0], values.dtype)
        out[tuple(places.T)] = values
        return (out,)

    return run


# --- diagonals ------------------------------------------------------------------------------------------------------


def _diag_shapes(node: Node) -> Sequence[Shape | None]:
    shape = node.input(0).shape
    node.expect(len(shape) >= 1, "inputs[0]", "at least 1 dimension", shape)
    return [(*shape, shape[-1])]


def _set_diag_shapes(node: Node) -> Sequence[Shape | None]:
    shape, diagonal = node.input(0).shape, node.input(1).shape
    node.expect(len(shape) >= 2, "inputs[0]", "at least 2 dimensions", shape)
    expected = (*shape[:-2], min(shape[-2:]))
    node.expect(diagonal == expected, "inputs[1]", f"a diagonal {expected}", diagonal)
    return [shape]


def _matrix_diag(node: Node) -> Kernel:
    def run(x: Array) -> Sequence[Array]:
        n = x.shape[-1]
        out = np.zeros((*x.shape, n), x.dtype)
        out[..., np.arange(n), np.arange(n)] = x
        return (out,)

    return run


def _matrix_set_diag(node: Node) -> Kernel:
    def run(x: Array, diagonal: Array) -> Sequence[Array]:
        out = x.copy()
        n = np.arange(diagonal.shape[-1])
        out[..., n, n] = diagonal
        return (out,)

    return run


# --- cases ----------------------------------------------------------------------------------------------------------


def _data(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    return reals(rng, shape) if dtype is DType.FLOAT32 else integers(rng, dtype, shape)


_SPARSE_TYPES = ("float32", "int32", "int64", "int8", "uint8")


def _sparse_cases(rng: np.random.Generator) -> Iterator[Case]:
    def case(name: str, places: Array, shape: Any, values: Array, dtype: DType) -> Case:
        kind = np.dtype(np.int32 if rng.integers(2) else np.int64)
        operands = (
            Operand(np.asarray(places, kind)),
            Operand(np.array(shape, np.int32 if rng.integers(2) else np.int64), constant=bool(rng.integers(2))),
            Operand(values),
            Operand(_data(rng, dtype, ())),
        )
        return Case(name, operands, (Result(dtype),))

    for dtype in map(DType.parse, _SPARSE_TYPES):
        for rank in (1, 2, 3, 4):
            shape = rng.integers(1, 5, rank)
            n = int(rng.integers(1, 8))
            places = rng.integers(0, shape, (n, rank))
            for scalar in (False, True):
                values = _data(rng, dtype, () if scalar else (n,))
                yield case(f"{dtype}_{rank}_{scalar}", places, shape, values, dtype)
        yield case(f"{dtype}_vector", rng.integers(0, 6, 3), [6], _data(rng, dtype, (3,)), dtype)
        yield case(f"{dtype}_one", np.array(2), [4], _data(rng, dtype, ()), dtype)
    for name, bad, sizes, n in (
        ("outside", [[0, 2]], [2, 2], 1),
        ("negative", [[-1, 0]], [2, 2], 1),
        ("too_few_values", [[0, 0], [1, 1]], [2, 2], 1),
        ("rank_differs", [[0, 0]], [2, 2, 2], 1),
        ("rank_5", [[0, 0, 0, 0, 0]], [2, 2, 2, 2, 2], 1),
    ):
        yield case(name, np.array(bad), sizes, np.ones(n, np.float32), DType.FLOAT32)


_DIAG_TYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "uint32")


def _diag_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, _DIAG_TYPES):
        for i, shape in enumerate([(4,), (2, 3), (2, 1, 3), (1,), (2, 0), (2, 2, 1, 2, 2), ()]):
            yield Case(f"{dtype}_{i}", (Operand(_data(rng, dtype, shape)),), (Result(dtype),))


def _set_diag_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, _DIAG_TYPES):
        for i, shape in enumerate([(4, 4), (2, 3), (5, 2, 3, 2), (1, 1), (2, 0, 3), (2, 2, 4, 3), (3,)]):
            diagonal = (*shape[:-2], min(shape[-2:]))
            operands = (Operand(_data(rng, dtype, shape)), Operand(_data(rng, dtype, diagonal)))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))


# --- declarations ---------------------------------------------------------------------------------------------------

SPARSE_TO_DENSE = OpDef(
    name="SPARSE_TO_DENSE",
    inputs=("indices", "output_shape", "values", "default_value"),
    outputs=("output",),
    options="SparseToDenseOptions",
    versions=(1, 3),
    shapes=_sparse_shapes,
    forms=forms("int32|int64, int32|int64, {T}, {T} -> {T}", _sparse_to_dense, T=_SPARSE_TYPES),
    bound=bounds.exact,
    cases=_sparse_cases,
)

MATRIX_DIAG = OpDef(
    name="MATRIX_DIAG",
    inputs=("diagonal",),
    outputs=("output",),
    options="MatrixDiagOptions",
    shapes=_diag_shapes,
    forms=forms("{T} -> {T}", _matrix_diag, T=_DIAG_TYPES),
    bound=bounds.exact,
    cases=_diag_cases,
)

MATRIX_SET_DIAG = OpDef(
    name="MATRIX_SET_DIAG",
    inputs=("input", "diagonal"),
    outputs=("output",),
    options="MatrixSetDiagOptions",
    shapes=_set_diag_shapes,
    forms=forms("{T}, {T} -> {T}", _matrix_set_diag, T=_DIAG_TYPES),
    bound=bounds.exact,
    cases=_set_diag_cases,
)

OPS = (SPARSE_TO_DENSE, MATRIX_DIAG, MATRIX_SET_DIAG)
