"""TRANSPOSE, DEPTH_TO_SPACE, SPACE_TO_DEPTH, SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND: the same elements in another order.

Source: tflite/kernels/{transpose,depth_to_space,space_to_depth,space_to_batch_nd,batch_to_space_nd}.cc, kernels/
internal/reference/{depth_to_space,space_to_depth,space_to_batch_nd,batch_to_space_nd}.h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    OTHER,
    SHIFTED,
    TESTED,
    WORDS,
    Check,
    at_run,
    equal_quantization,
    index,
    known,
    numbers,
    one_type,
    params,
    sizes,
    symmetric_int16,
    tensor,
)
from delegraph.core.ops.opdef import Case, Kernel, Node, OpDef, Result

# --- TRANSPOSE ----------------------------------------------------------------------------------------------------


def _permutation(check: Check, rank: int, found: Sequence[int]) -> list[int]:
    perm = [p + rank if p < 0 else p for p in found]
    check(sorted(perm) == list(range(rank)), "perm", f"an order of {rank} axes", list(found))
    return perm


def _transpose_shapes(node: Node) -> Sequence[Shape | None]:
    shape, found = node.input(0).shape, known(node, 1)
    node.expect(len(shape) <= 8, "inputs[0]", "up to 8 dimensions", shape)
    node.expect(
        node.input(1).shape == (len(shape),),
        "inputs[1]",
        f"a vector of {len(shape)} axes",
        node.input(1).shape,
    )
    return [None if found is None else tuple(shape[p] for p in _permutation(node.expect, len(shape), found))]


def _transpose(node: Node) -> Kernel:
    check = at_run(node)
    return lambda x, perm: (x.transpose(_permutation(check, x.ndim, numbers(perm))),)


def _transpose_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (*TESTED, DType.INT4, DType.UINT4, DType.STRING):
        for i in range(3):
            shape = sizes(rng, int(rng.integers(1, 9 if i == 0 else 6)), 1, 3)
            perm: Any = rng.permutation(len(shape)) - len(shape) * rng.integers(0, 2, len(shape))
            q = SHIFTED if dtype is DType.INT8 else None
            operands = (tensor(rng, dtype, shape, q, i == 1), index(perm, constant=i != 2))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype, OTHER if q else None),))
    x = tensor(rng, DType.FLOAT32, (2, 3, 4))
    # Left out, as LiteRT leaves memory as it finds it: scalars, and an axis that is named twice. It also takes an int64
    # perm, and reads it as int32.
    for i, perm in enumerate([[0, 1, 2], [2, 1, 0], [0, 1, 3], [0, 1, -4], [0, 1], [-1, 0, 1]]):
        for constant in (True, False):
            yield Case(f"perm_{i}_{constant}", (x, index(perm, constant=constant)), (Result(DType.FLOAT32),))
    for rank in (8, 9):
        operands = (tensor(rng, DType.INT8, (2, 1, 3) + (1,) * (rank - 3)), index(range(rank)[::-1]))
        yield Case(f"rank_{rank}", operands, (Result(DType.INT8),))
    yield Case("empty", (tensor(rng, DType.INT8, (0, 3)), index([1, 0])), (Result(DType.INT8),))


# --- DEPTH_TO_SPACE, SPACE_TO_DEPTH -------------------------------------------------------------------------------


def _image(node: Node) -> tuple[Shape, int]:
    shape, block = node.input(0).shape, node.options.block_size
    node.expect(len(shape) == 4, "inputs[0]", "4 dimensions", shape)
    node.expect(block > 0, "block_size", "at least 1", block)
    return shape, block


def _depth_to_space_shapes(node: Node) -> Sequence[Shape | None]:
    (n, h, w, c), b = _image(node)
    node.expect(c % (b * b) == 0, "inputs[0]", f"a multiple of {b * b} channels", c)
    return [(n, h * b, w * b, c // (b * b))]


def _depth_to_space(node: Node) -> Kernel:
    b = node.options.block_size

    def run(x: Array) -> Sequence[Array]:
        n, h, w, c = x.shape
        depth = c // (b * b)
        parts = x.reshape(n, h, w, b, b, depth).transpose(0, 1, 3, 2, 4, 5)
        return (parts.reshape(n, h * b, w * b, depth),)

    return run


def _space_to_depth_shapes(node: Node) -> Sequence[Shape | None]:
    (n, h, w, c), b = _image(node)
    node.expect(h % b == 0 and w % b == 0, "inputs[0]", f"height and width in multiples of {b}", (h, w))
    return [(n, h // b, w // b, c * b * b)]


def _space_to_depth(node: Node) -> Kernel:
    b = node.options.block_size

    def run(x: Array) -> Sequence[Array]:
        n, h, w, c = x.shape
        parts = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
        return (parts.reshape(n, h // b, w // b, c * b * b),)

    return run


IMAGE_TYPES = "float32|int8|uint8|int32|int64"


def _depth_cases(rng: np.random.Generator, to_space: bool) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{IMAGE_TYPES}|int16|bool|float16".split("|")):
        for i in range(4):
            block = int(rng.integers(1, 4))
            n, h, w, c = sizes(rng, 4, 1, 3)
            shape: Shape = (n, h, w, c * block * block) if to_space else (n, h * block, w * block, c)
            q = SHIFTED if dtype is DType.INT8 else None  # scales are not compared
            result = (Result(dtype, OTHER if q else None),)
            yield Case(f"{dtype}_{i}", (tensor(rng, dtype, shape, q, i == 0),), result, {"block_size": block})
    for i, (shape, block) in enumerate(
        [
            ((1, 2, 2, 4), 0),
            ((1, 2, 2, 4), -1),
            ((1, 3, 3, 3), 2),
            ((2, 2, 4), 2),
            ((0, 2, 2, 4), 2),
            ((1, 2, 2, 0), 2),
        ]
    ):
        x = tensor(rng, DType.FLOAT32, shape)
        yield Case(f"shape_{i}", (x,), (Result(DType.FLOAT32),), {"block_size": block})
    x = tensor(rng, DType.INT8, (1, 2, 4, 8))  # DEPTH_TO_SPACE 2 is in the default resolver only
    yield Case("version_2", (x,), (Result(DType.INT8),), {"block_size": 2}, 2, "builtin")


# --- SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND -------------------------------------------------------------------------


def _expect_spatial(node: Node) -> int:
    """The number of spatial axes; the operands must fit."""
    shape = node.input(0).shape
    node.expect(3 <= len(shape) <= 4, "inputs[0]", "3 or 4 dimensions", shape)
    m = len(shape) - 2
    for slot, expected in ((1, (m,)), (2, (m, 2))):
        found = node.input(slot).shape
        node.expect(found == expected, f"inputs[{slot}]", f"the shape {expected}", found)
    return m


def _to_batch(check: Check, shape: Shape, blocks: Sequence[int], pads: Sequence[int]) -> Shape:
    check(min(blocks) > 0, "block_shape", "blocks of at least 1", list(blocks))
    check(min(pads) >= 0, "paddings", "at least 0", list(pads))
    padded = [n + pads[2 * i] + pads[2 * i + 1] for i, n in enumerate(shape[1:-1])]
    whole = all(n % b == 0 for n, b in zip(padded, blocks, strict=True))
    check(whole, "paddings", f"padded sizes in multiples of {list(blocks)}", padded)
    return (shape[0] * math.prod(blocks), *(n // b for n, b in zip(padded, blocks, strict=True)), shape[-1])


def _to_space(check: Check, shape: Shape, blocks: Sequence[int], crops: Sequence[int]) -> Shape:
    check(min(blocks) > 0, "block_shape", "blocks of at least 1", list(blocks))
    check(
        shape[0] % math.prod(blocks) == 0,
        "block_shape",
        f"blocks that divide the batch {shape[0]}",
        list(blocks),
    )
    cropped = [
        n * b - crops[2 * i] - crops[2 * i + 1] for i, (n, b) in enumerate(zip(shape[1:-1], blocks, strict=True))
    ]
    check(min(crops) >= 0 and min(cropped) >= 0, "crops", f"at least 0, within {shape}", list(crops))
    return (shape[0] // math.prod(blocks), *cropped, shape[-1])


def _space_to_batch_shapes(node: Node) -> Sequence[Shape | None]:
    _expect_spatial(node)
    blocks, pads = known(node, 1), known(node, 2)
    return [None if blocks is None or pads is None else _to_batch(node.expect, node.input(0).shape, blocks, pads)]


def _space_to_batch(node: Node) -> Kernel:
    check = at_run(node)
    fill = params(node.outputs[0])[1] if node.input(0).dtype.numpy.itemsize == 1 else 0

    def run(x: Array, block_shape: Array, paddings: Array) -> Sequence[Array]:
        blocks, pads = numbers(block_shape), numbers(paddings)
        shape, m = _to_batch(check, x.shape, blocks, pads), x.ndim - 2
        if any(pads):
            padded = [n * b for n, b in zip(shape[1:-1], blocks, strict=True)]
            whole = np.full((x.shape[0], *padded, x.shape[-1]), fill, x.dtype)
            whole[(slice(None), *(slice(p, p + n) for n, p in zip(x.shape[1:-1], pads[::2], strict=True)))] = x
            x = whole
        # [N, H, h, W, w, C] → [h, w, N, H, W, C], where h, w are the places within a block
        split = [n for pair in zip(shape[1:-1], blocks, strict=True) for n in pair]
        inner, outer = range(2, 2 * m + 1, 2), range(1, 2 * m + 1, 2)
        parts = x.reshape(x.shape[0], *split, x.shape[-1]).transpose(*inner, 0, *outer, 2 * m + 1)
        return (parts.reshape(shape),)

    return run


def _batch_to_space_shapes(node: Node) -> Sequence[Shape | None]:
    _expect_spatial(node)
    blocks, crops = known(node, 1), known(node, 2)
    return [None if blocks is None or crops is None else _to_space(node.expect, node.input(0).shape, blocks, crops)]


def _batch_to_space(node: Node) -> Kernel:
    check = at_run(node)

    def run(x: Array, block_shape: Array, crops: Array) -> Sequence[Array]:
        blocks, cut = numbers(block_shape), numbers(crops)
        shape, m = _to_space(check, x.shape, blocks, cut), x.ndim - 2
        # [h, w, N, H, W, C] → [N, H, h, W, w, C]
        order = [m, *(axis for i in range(m) for axis in (m + 1 + i, i)), 2 * m + 1]
        parts = x.reshape(*blocks, shape[0], *x.shape[1:]).transpose(order)
        whole = parts.reshape(shape[0], *(n * b for n, b in zip(x.shape[1:-1], blocks, strict=True)), shape[-1])
        return (whole[(slice(None), *(slice(c, c + n) for n, c in zip(shape[1:-1], cut[::2], strict=True)))],)

    return run


def _batch_cases(rng: np.random.Generator, to_space: bool) -> Iterator[Case]:
    for dtype in TESTED:
        for i in range(3):
            m = int(rng.integers(1, 3))
            blocks: Any = rng.integers(1, 4, m)
            n, c = sizes(rng, 2, 1, 3)
            edges: Any = rng.integers(0, 3, (m, 2))
            inner = rng.integers(1, 4, m) * blocks  # the size of the larger space
            if to_space:
                edges = np.minimum(edges, ((inner - 1) // 2)[:, None])
                shape = (n * int(blocks.prod()), *(int(v) for v in inner // blocks), c)
            else:
                edges[:, 1] += -(inner + edges.sum(1)) % blocks
                shape = (n, *(int(v) for v in inner), c)
            q = SHIFTED if dtype in (DType.INT8, DType.UINT8) else None
            operands = (
                tensor(rng, dtype, shape, q),
                index(blocks, constant=i != 1),
                index(edges, constant=i != 2),
            )
            yield Case(f"{dtype}_{i}", operands, (Result(dtype, q),))
    result = (Result(DType.FLOAT32),)
    x = tensor(rng, DType.FLOAT32, (4, 2, 4, 1))
    for i, (blocks, edges) in enumerate(
        [
            ([2, 2], [[0, 0], [0, 0]]),
            ([3, 2], [[0, 0], [0, 0]]),
            ([0, 1], [[0, 0], [0, 0]]),
            ([2], [[0, 0], [0, 0]]),
            ([2, 2], [[0, 0]]),
            ([1, 1], [[1, 0], [0, 3]]),
            ([2, 2], [[0, 2], [4, 0]]),
        ]
    ):
        for constant in (True, False):
            operands = (x, index(blocks, constant=constant), index(edges, constant=constant))
            yield Case(f"blocks_{i}_{constant}", operands, result)
    for shape in ((4, 2), (1, 2, 2, 2, 1)):
        m = len(shape) - 2
        operands = (tensor(rng, DType.FLOAT32, shape), index(np.ones(m)), index(np.zeros((m, 2))))
        yield Case(f"rank_{len(shape)}", operands, result)
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        for q in (SHIFTED, OTHER):
            operands = (tensor(rng, dtype, (2, 4, 1), SHIFTED), index([1]), index([[1, 1]]))
            yield Case(f"{dtype}_{q.scale}", operands, (Result(dtype, q),))
    operands = (tensor(rng, DType.FLOAT32, (4, 2, 0)), index([2]), index([[0, 0]]))
    yield Case("empty", operands, result)


# --- declarations -------------------------------------------------------------------------------------------------

TRANSPOSE = OpDef(
    name="TRANSPOSE",
    inputs=("input", "perm"),
    outputs=("output",),
    options="TransposeOptions",
    versions=(1, 9),
    shapes=_transpose_shapes,
    forms=(one_type("{T}, int32 -> {T}", _transpose, f"{WORDS}|int4|uint4"),),
    bound=bounds.exact,
    cases=_transpose_cases,
)

DEPTH_TO_SPACE = OpDef(
    name="DEPTH_TO_SPACE",
    inputs=("input",),
    outputs=("output",),
    options="DepthToSpaceOptions",
    versions=(1, 2),
    shapes=_depth_to_space_shapes,
    forms=(one_type("{T} -> {T}", _depth_to_space, IMAGE_TYPES),),
    bound=bounds.exact,
    cases=lambda rng: _depth_cases(rng, to_space=True),
)

SPACE_TO_DEPTH = OpDef(
    name="SPACE_TO_DEPTH",
    inputs=("input",),
    outputs=("output",),
    options="SpaceToDepthOptions",
    versions=(1, 2),
    shapes=_space_to_depth_shapes,
    forms=(one_type("{T} -> {T}", _space_to_depth, IMAGE_TYPES),),
    bound=bounds.exact,
    cases=lambda rng: _depth_cases(rng, to_space=False),
)

_BATCH_RULES = (equal_quantization("uint8|int8|int16"), symmetric_int16())

SPACE_TO_BATCH_ND = OpDef(
    name="SPACE_TO_BATCH_ND",
    inputs=("input", "block_shape", "paddings"),
    outputs=("output",),
    options="SpaceToBatchNDOptions",
    versions=(1, 4),
    shapes=_space_to_batch_shapes,
    forms=(one_type("{T}, int32, int32 -> {T}", _space_to_batch, WORDS),),
    constraints=_BATCH_RULES,
    bound=bounds.exact,
    cases=lambda rng: _batch_cases(rng, to_space=False),
)

BATCH_TO_SPACE_ND = OpDef(
    name="BATCH_TO_SPACE_ND",
    inputs=("input", "block_shape", "crops"),
    outputs=("output",),
    options="BatchToSpaceNDOptions",
    versions=(1, 4),
    shapes=_batch_to_space_shapes,
    forms=(one_type("{T}, int32, int32 -> {T}", _batch_to_space, WORDS),),
    constraints=_BATCH_RULES,
    bound=bounds.exact,
    cases=lambda rng: _batch_cases(rng, to_space=True),
)

OPS = (TRANSPOSE, DEPTH_TO_SPACE, SPACE_TO_DEPTH, SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND)
