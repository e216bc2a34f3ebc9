"""DENSIFY: a sparse constant as a dense one.

Source: tflite/kernels/densify.cc, kernels/internal/utils/sparsity_format_converter.cc; schema.fbs, table
SparsityParameters (the format of TACO): dimensions are walked level by level in traversal order, those from the rank on
being the blocks of the ones that block_map names; a dense level has all its coordinates, a sparse one those listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.model.table import Table
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import integers, reals
from delegraph.core.ops.movement import one_type
from delegraph.core.ops.opdef import Case, Constraint, Kernel, Node, OpDef, Operand, Result
from delegraph.core.ops.pointwise import same_shape

DENSE, SPARSE_CSR = 0, 1  # schema enum DimensionType


# --- decoding -----------------------------------------------------------------------------------------------------


def densify(values: Array, sparsity: Table, shape: Shape) -> Array:
    """The dense array of a sparse one: values: the stored elements, 1-D. The reader has checked ``sparsity``."""
    flat = stored_positions(sparsity, shape)
    out = np.zeros(int(np.prod(shape, dtype=np.int64)), values.dtype)
    out[flat] = values[: flat.size]
    return out.reshape(shape)


def stored_positions(sparsity: Table, shape: Shape) -> Array:
    """Where in the flattened dense array each stored element belongs, in the order of storage."""
    rank, order = len(shape), sparsity.traversal_order.tolist()
    block_map = [] if sparsity.block_map is None else sparsity.block_map.tolist()
    levels = sparsity.dim_metadata
    coordinates = _coordinates(levels, order)
    where = coordinates[:rank]
    for k, blocked in enumerate(block_map):
        block_size = levels[order.index(rank + k)].dense_size
        where[blocked] = where[blocked] * block_size + coordinates[rank + k]
    flat = np.zeros(where[0].size if where else 1, np.int64)
    for size, coordinate in zip(shape, where, strict=True):
        flat = flat * size + coordinate
    return flat


def _coordinates(levels: Sequence[Table], order: Sequence[int]) -> list[Array]:
    """Per dimension, the coordinate of each stored element."""
    found: dict[int, Array] = {}
    entries = np.zeros(1, np.int64)  # of the level above, by number
    for level, dimension in zip(levels, order, strict=True):
        if level.format == DENSE:
            counts = np.full(entries.size, level.dense_size)
            starts = entries * level.dense_size
        else:
            segments = level.array_segments.values.astype(np.int64)
            starts, counts = segments[entries], np.diff(segments)[entries]
        parents = np.repeat(np.arange(entries.size), counts)
        within = np.arange(parents.size) - np.repeat(np.cumsum(counts) - counts, counts)
        entries = starts[parents] + within
        found = {d: c[parents] for d, c in found.items()}
        found[dimension] = within if level.format == DENSE else level.array_indices.values.astype(np.int64)[entries]
    return [found[d] for d in range(len(order))]


# --- DENSIFY ------------------------------------------------------------------------------------------------------


def _densify(node: Node) -> Kernel:
    x = node.input(0)
    assert x.sparsity is not None and x.value is not None
    dense = densify(x.value, x.sparsity, x.shape)
    dense.flags.writeable = False
    return lambda _: (dense,)


def _is_dense(node: Node) -> str | None:
    x = node.input(0)
    return None if x.value is not None and x.sparsity is not None else "a dense or computed tensor"


SPARSE_CONSTANT = Constraint("sparse_constant", "the input must be a sparse constant", _is_dense)


# --- cases --------------------------------------------------------------------------------------------------------


def random_sparsity(
    rng: np.random.Generator, shape: Shape, formats: Sequence[int], blocks: Sequence[tuple[int, int]] = ()
) -> tuple[Table, int]:
    """The structure of a sparse tensor, and how many values it stores.

    formats: DENSE or SPARSE_CSR per dimension, in a random order of traversal. blocks: (dimension, size) of each
    block.
    """
    rank, sizes = len(shape), list(shape)
    for dimension, size in blocks:
        sizes[dimension] //= size
        sizes.append(size)
    order = [*rng.permutation(rank).tolist(), *(rank + rng.permutation(len(blocks))).tolist()]
    levels, n_stored = [], 1
    vector, dtype = [("Int32Vector", np.int32), ("Uint16Vector", np.uint16), ("Uint8Vector", np.uint8)][
        int(rng.integers(0, 3))
    ]
    for dimension in order:
        if dimension >= rank or formats[dimension] == DENSE:
            levels.append(Table("DimensionMetadata", format=DENSE, dense_size=sizes[dimension]))
            n_stored *= sizes[dimension]
            continue
        rows = [np.flatnonzero(rng.random(sizes[dimension]) < 0.5) for _ in range(n_stored)]
        segments = np.cumsum([0] + [row.size for row in rows])
        kind, word = ("Int32Vector", np.int32) if segments[-1] > 255 else (vector, dtype)
        levels.append(
            Table(
                "DimensionMetadata",
                format=SPARSE_CSR,
                array_segments=Table(kind, values=segments.astype(word)),
                array_indices=Table(kind, values=np.concatenate([*rows, np.zeros(0, np.int64)]).astype(word)),
            )
        )
        n_stored = int(segments[-1])
    fields = {"block_map": np.array([d for d, _ in blocks], np.int32)} if blocks else {}
    order_array = np.array(order, np.int32)
    return Table("SparsityParameters", traversal_order=order_array, dim_metadata=tuple(levels), **fields), n_stored


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    structures: list[tuple[Shape, tuple[tuple[int, int], ...]]] = [
        ((9,), ()),
        ((4, 5), ()),
        ((6, 8), ((1, 4),)),
        ((4, 6), ((0, 2), (1, 3))),
        ((3, 2, 4), ()),
        ((2, 3, 4, 4), ((3, 2),)),
        ((2, 2, 3, 1, 2), ()),
    ]
    for i, (shape, blocks) in enumerate(structures):
        for dtype in (DType.FLOAT32, DType.FLOAT16, DType.INT8):
            formats = rng.integers(0, 2, len(shape)).tolist()
            sparsity, n = random_sparsity(rng, shape, formats, blocks)
            if n == 0:  # an empty buffer is no constant
                continue
            x = integers(rng, dtype, (n,)) if dtype is DType.INT8 else reals(rng, (n,)).astype(dtype.numpy)
            operand = Operand(x, constant=True, sparsity=sparsity, shape=shape)
            yield Case(f"{dtype}_{i}", (operand,), (Result(dtype),))
    yield Case("dense", (Operand(np.ones((2, 2), np.float32), constant=True),), (Result(DType.FLOAT32),))


# --- declarations -------------------------------------------------------------------------------------------------

DENSIFY = OpDef(
    name="DENSIFY",
    inputs=("input",),
    outputs=("output",),
    options="DensifyOptions",
    shapes=same_shape,
    forms=(one_type("{T} -> {T}", _densify, "float32|float16|int8"),),
    constraints=(SPARSE_CONSTANT,),
    bound=bounds.exact,
    cases=_cases,
)

OPS = (DENSIFY,)
