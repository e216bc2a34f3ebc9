"""REVERSE_V2, REVERSE_SEQUENCE: axes from back to front.

Source: tflite/kernels/{reverse,reverse_sequence}.cc, kernels/internal/reference/reverse.h, reference/reference_ops.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    TESTED,
    Check,
    at_run,
    index,
    known,
    numbers,
    one_type,
    sizes,
    tensor,
)
from delegraph.core.ops.opdef import Case, Kernel, Node, OpDef, Result

# --- REVERSE_V2, REVERSE_SEQUENCE ---------------------------------------------------------------------------------


REVERSE_TYPES = "float32|float16|bfloat16|int8|uint8|int16|int32|int64|bool"
SEQUENCE_TYPES = "float32|uint8|int16|int32|int64"


def _flipped(check: Check, rank: int, axes: Sequence[int]) -> list[int]:
    check(all(-rank <= axis < rank for axis in axes), "axes", f"axes of {rank} dimensions", list(axes))
    found = sorted(axis % rank for axis in axes)
    check(
        found == list(range(found[0], found[0] + len(found))) if found else True,
        "axes",
        "neighbours",
        list(axes),
    )
    return found


def _reverse_shapes(node: Node) -> Sequence[Shape | None]:
    shape, axes, found = node.input(0).shape, known(node, 1), node.input(1).shape
    node.expect(len(shape) <= 8, "inputs[0]", "up to 8 dimensions", shape)
    node.expect(len(found) == 1 and found[0] <= len(shape), "inputs[1]", f"a vector of up to {len(shape)} axes", found)
    if axes is not None:
        _flipped(node.expect, len(shape), axes)
    return [shape]


def _reverse(node: Node) -> Kernel:
    check = at_run(node)
    return lambda x, axes: (np.flip(x, tuple(_flipped(check, x.ndim, numbers(axes)))),)


def _reverse_cases(rng: np.random.Generator) -> Iterator[Case]:
    dtypes = [dtype for dtype in TESTED if str(dtype) in (*REVERSE_TYPES.split("|"), "uint32")]
    for i, dtype in enumerate((*dtypes, *dtypes)):
        shape = sizes(rng, int(rng.integers(1, 6)), 1, 4)
        first = int(rng.integers(0, len(shape)))
        axes: Any = np.arange(first, int(rng.integers(first, len(shape))) + 1)
        axes = rng.permutation(axes) - len(shape) * rng.integers(0, 2, axes.size)
        yield Case(f"{dtype}_{i}", (tensor(rng, dtype, shape), index(axes, constant=i % 3 > 0)), (Result(dtype),))
    x = tensor(rng, DType.FLOAT32, (2, 3, 4))
    for i, axes in enumerate([[0, 2], [1, 1], [3], [-4], [0, 1, 2], [-1], [0, 1, 2, 0]]):
        for constant in (True, False):
            yield Case(f"axes_{i}_{constant}", (x, index(axes, constant=constant)), (Result(DType.FLOAT32),))
    yield Case("empty", (tensor(rng, DType.FLOAT32, (2, 0)), index([1])), (Result(DType.FLOAT32),))
    for rank in (8, 9):
        operands = (tensor(rng, DType.INT8, (1, 2) * 4 + (1,) * (rank - 8)), index([1]))
        yield Case(f"rank_{rank}", operands, (Result(DType.INT8),))


def _reverse_sequence_shapes(node: Node) -> Sequence[Shape | None]:
    shape, lengths, o = node.input(0).shape, node.input(1).shape, node.options
    rank = len(shape)
    node.expect(0 <= o.seq_dim < rank, "seq_dim", f"an axis of {rank} dimensions", o.seq_dim)
    node.expect(0 <= o.batch_dim < rank and o.batch_dim != o.seq_dim, "batch_dim", "another axis", o.batch_dim)
    node.expect(lengths == (shape[o.batch_dim],), "inputs[1]", f"a vector of {shape[o.batch_dim]} lengths", lengths)
    return [shape]


def _reverse_sequence(node: Node) -> Kernel:
    seq, batch = node.options.seq_dim, node.options.batch_dim

    def run(x: Array, lengths: Array) -> Sequence[Array]:
        n = x.shape[seq]
        node.require(bool((lengths <= n).all()), f"sequence lengths up to {n}", lengths.max(initial=0))
        at, length = np.arange(n), lengths.reshape(-1, 1).astype(np.int64)
        order = np.where(at < length, length - 1 - at, at)
        view = np.moveaxis(x, (batch, seq), (0, 1))
        out = np.empty_like(x)
        np.moveaxis(out, (batch, seq), (0, 1))[...] = view[np.arange(view.shape[0])[:, None], order]
        return (out,)

    return run


def _reverse_sequence_cases(rng: np.random.Generator) -> Iterator[Case]:
    dtypes = [dtype for dtype in TESTED if str(dtype) in (*SEQUENCE_TYPES.split("|"), "int8")]
    for i, dtype in enumerate((*dtypes, *dtypes, *dtypes)):
        shape = sizes(rng, int(rng.integers(2, 5)), 1, 4)
        seq, batch = (int(axis) for axis in rng.permutation(len(shape))[:2])
        lengths: Any = rng.integers(-1, shape[seq] + 1, shape[batch])
        operands = (tensor(rng, dtype, shape), index(lengths, (DType.INT32, DType.INT64)[i % 2], i % 3 > 0))
        yield Case(f"{dtype}_{i}", operands, (Result(dtype),), {"seq_dim": seq, "batch_dim": batch})
    x = tensor(rng, DType.FLOAT32, (2, 3))
    # Not a length beyond the first that is too long: LiteRT looks at the first alone, and writes outside.
    for i, (lengths, seq, batch) in enumerate(
        [
            ([4, 1], 1, 0),
            ([1, 1], 1, 1),
            ([1, 1], 2, 0),
            ([1, 1], 1, 2),
            ([1], 1, 0),
            ([1, 1], -1, 0),
            ([2, 1, 0], 0, 1),
        ]
    ):
        operands = (x, index(lengths))
        yield Case(f"dims_{i}", operands, (Result(DType.FLOAT32),), {"seq_dim": seq, "batch_dim": batch})


# --- declarations -------------------------------------------------------------------------------------------------

REVERSE_V2 = OpDef(
    name="REVERSE_V2",
    inputs=("input", "axes"),
    outputs=("output",),
    options="ReverseV2Options",
    versions=(1, 4),
    shapes=_reverse_shapes,
    forms=(one_type("{T}, int32 -> {T}", _reverse, REVERSE_TYPES),),
    bound=bounds.exact,
    cases=_reverse_cases,
)

REVERSE_SEQUENCE = OpDef(
    name="REVERSE_SEQUENCE",
    inputs=("input", "seq_lengths"),
    outputs=("output",),
    options="ReverseSequenceOptions",
    shapes=_reverse_sequence_shapes,
    forms=(one_type("{T}, int32|int64 -> {T}", _reverse_sequence, SEQUENCE_TYPES),),
    bound=bounds.exact,
    cases=_reverse_sequence_cases,
)

OPS = (REVERSE_V2, REVERSE_SEQUENCE)
