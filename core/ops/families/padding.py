"""PAD, PADV2, MIRROR_PAD: tensors with a margin.

Source: tflite/kernels/{pad,mirror_pad}.cc, kernels/internal/reference/pad.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    OTHER,
    QUANTIZED,
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
from delegraph.core.ops.opdef import Case, Constraint, Kernel, Node, OpDef, Operand, Result

# --- PAD, PADV2 ---------------------------------------------------------------------------------------------------

PAD_TYPES = "float32|float16|bfloat16|int8|uint8|int16|int32|int64|bool"


def _paddings(check: Check, rank: int, found: Sequence[int]) -> list[tuple[int, int]]:
    """Elements to add before and after, per axis."""
    check(
        len(found) == 2 * rank and min(found, default=0) >= 0,
        "paddings",
        f"{rank} pairs of at least 0",
        list(found),
    )
    return list(zip(found[::2], found[1::2], strict=True))


def _expect_pairs(node: Node, rank: int, slot: int = 1) -> None:
    found = node.input(slot).shape
    node.expect(found == (rank, 2), f"inputs[{slot}]", f"a matrix of shape {(rank, 2)}", found)


def _pad_shapes(node: Node) -> Sequence[Shape | None]:
    shape, found = node.input(0).shape, known(node, 1)
    node.expect(len(shape) <= 5, "inputs[0]", "up to 5 dimensions", shape)
    _expect_pairs(node, len(shape))
    if node.has_input(2):
        node.expect(node.input(2).n_elements == 1, "inputs[2]", "one element", node.input(2).shape)
    if found is None:
        return [None]
    pairs = _paddings(node.expect, len(shape), found)
    return [tuple(before + n + after for n, (before, after) in zip(shape, pairs, strict=True))]


def default_fill(node: Node) -> int:
    """What PAD adds where no operand says so: the zero point of a quantized type, else 0. Source: Eval (pad.cc)."""
    return params(node.outputs[0])[1] if node.input(0).dtype in QUANTIZED else 0


def _pad(node: Node) -> Kernel:
    check = at_run(node)
    fill = default_fill(node)

    def run(x: Array, paddings: Array, value: Array | None = None) -> Sequence[Array]:
        pairs = _paddings(check, x.ndim, numbers(paddings))
        if not any(before or after for before, after in pairs):
            return (x,)
        shape = [before + n + after for n, (before, after) in zip(x.shape, pairs, strict=True)]
        out = np.full(shape, fill if value is None else value.reshape(()), x.dtype)
        out[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, pairs, strict=True))] = x
        return (out,)

    return run


def _is_quantized(node: Node) -> bool:
    """int8 and int16 count as quantized only with parameters, uint8 always. Source: Eval (pad.cc)."""
    x = node.input(0)
    return x.dtype is DType.UINT8 or (x.dtype in QUANTIZED and x.quantization is not None)


def _zero_in_range(node: Node) -> str | None:
    if not _is_quantized(node) or node.has_input(2):
        return None
    info, zero = np.iinfo(node.outputs[0].dtype.numpy), params(node.outputs[0])[1]
    return None if info.min <= zero <= info.max else f"zero point {zero}"


def _same_scale_value(node: Node) -> str | None:
    if not _is_quantized(node) or not node.has_input(2):
        return None
    value, out = params(node.input(2)), params(node.outputs[0])
    return None if value == out else f"{value} and {out}"


def _pad_cases(rng: np.random.Generator, with_value: bool) -> Iterator[Case]:
    def operands(x: Operand, pairs: Any, kind: DType, constant: bool, q: Quantization | None) -> Any:
        given = (x, index(np.reshape(pairs, (-1, 2)), kind, constant))
        return (*given, tensor(rng, x.dtype or DType.INT32, (), q, constant)) if with_value else given

    kinds = (DType.INT32, DType.INT64, DType.INT8, DType.INT16)
    for dtype in map(DType.parse, f"{PAD_TYPES}|uint32|float64".replace("bfloat16|", "").split("|")):
        for i in range(4):
            shape = sizes(rng, int(rng.integers(1, 6)), 1, 4)
            pairs: Any = rng.integers(0, 3, (len(shape), 2))
            q = None
            if dtype in QUANTIZED and i % 2:
                q = Quantization.per_tensor(0.5, int(rng.choice([-128, 0, 127]) if dtype is DType.INT8 else 200))
            x = tensor(rng, dtype, shape, q, i == 3)
            yield Case(f"{dtype}_{i}", operands(x, pairs, kinds[i % 2], i < 2, q), (Result(dtype, q),))
    x = tensor(rng, DType.FLOAT32, (2, 3))
    result = (Result(DType.FLOAT32),)
    for kind in kinds:
        yield Case(f"paddings_{kind}", operands(x, [[1, 2], [3, 0]], kind, True, None), result)
    yield Case("paddings_bool", operands(x, [[1, 0], [1, 1]], DType.BOOL, True, None), result)
    for i, pairs in enumerate([[[0, 0], [0, 0]], [[0, -1], [0, 0]], [[1, 1]], [[1, 1], [0, 0], [0, 0]]]):
        for constant in (True, False):
            yield Case(f"pairs_{i}_{constant}", operands(x, pairs, DType.INT32, constant, None), result)
    image = tensor(rng, DType.INT8, (1, 4, 5, 2), SHIFTED)
    pairs = [[0, 0], [1, 2], [2, 1], [0, 0]]
    yield Case("image", operands(image, pairs, DType.INT32, True, SHIFTED), (Result(DType.INT8, SHIFTED),))
    yield Case("scales", operands(image, pairs, DType.INT32, True, OTHER), (Result(DType.INT8, OTHER),))
    yield Case("other_value", operands(image, pairs, DType.INT32, True, SHIFTED), (Result(DType.INT8, OTHER),))
    far = Quantization.per_tensor(0.5, 300)
    yield Case("zero_point", operands(image, pairs, DType.INT32, True, far), (Result(DType.INT8, far),))
    empty = tensor(rng, DType.FLOAT32, (0, 3))
    yield Case("empty", operands(empty, [[1, 1], [0, 1]], DType.INT32, True, None), result)
    scalar = tensor(rng, DType.FLOAT32, ())
    yield Case("scalar", operands(scalar, np.zeros((0, 2)), DType.INT32, True, None), result)
    for rank in (5, 6):
        x = tensor(rng, DType.FLOAT32, (1,) * rank)
        yield Case(f"rank_{rank}", operands(x, [[1, 0]] * rank, DType.INT32, True, None), result)
    x = tensor(rng, DType.FLOAT32, (2, 3))
    given = (x, index([[1, 1], [1, 1]]), None)
    yield Case("no_value", given, result)


# --- MIRROR_PAD ---------------------------------------------------------------------------------------------------


def _mirror_paddings(node: Node, check: Check, shape: Shape, found: Sequence[int]) -> list[tuple[int, int]]:
    pairs = _paddings(check, len(shape), found)
    offset = int(node.options.mode == 0)
    check(
        all(max(pair) <= n - offset for n, pair in zip(shape, pairs, strict=True)),
        "paddings",
        f"at most the sizes {shape}" + (" less 1" if offset else ""),
        list(found),
    )
    return pairs


def _mirror_pad_shapes(node: Node) -> Sequence[Shape | None]:
    shape, found = node.input(0).shape, known(node, 1)
    node.expect(node.options.mode in (0, 1), "mode", "REFLECT (0) or SYMMETRIC (1)", node.options.mode)
    _expect_pairs(node, len(shape))
    if found is None:
        return [None]
    pairs = _mirror_paddings(node, node.expect, shape, found)
    return [tuple(before + n + after for n, (before, after) in zip(shape, pairs, strict=True))]


def _mirror_pad(node: Node) -> Kernel:
    check, offset = at_run(node), int(node.options.mode == 0)

    def run(x: Array, paddings: Array) -> Sequence[Array]:
        for axis, (before, after) in enumerate(_mirror_paddings(node, check, x.shape, numbers(paddings))):
            if before or after:
                n = x.shape[axis]
                left = np.arange(before - 1, -1, -1) + offset
                right = n - 1 - offset - np.arange(after)
                x = np.take(x, np.concatenate([left, np.arange(n), right]), axis)
        return (x,)

    return run


def _mirror_pad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in TESTED:
        for i in range(3):
            mode = int(rng.integers(0, 2))
            shape = sizes(rng, int(rng.integers(0 if i == 0 else 1, 7)), 1, 4)
            pairs = np.array([rng.integers(0, n + mode, 2) for n in shape]).reshape(-1, 2)
            q = SHIFTED if dtype in (DType.INT8, DType.UINT8) else None
            operands = (tensor(rng, dtype, shape, q), index(pairs, (DType.INT32, DType.INT64)[i % 2], i < 2))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype, q),), {"mode": mode})
    x = tensor(rng, DType.FLOAT32, (2, 3))
    table = [
        ([[1, 1], [2, 2]], 0),
        ([[2, 2], [3, 3]], 1),
        ([[2, 0], [0, 0]], 0),
        ([[3, 0], [0, 0]], 1),
        ([[-1, 0], [0, 0]], 1),
    ]
    for i, (found, mode) in enumerate([*table, ([[0, 0]], 0)]):
        for constant in (True, False):
            operands = (x, index(found, constant=constant))
            yield Case(f"pairs_{i}_{constant}", operands, (Result(DType.FLOAT32),), {"mode": mode})
    for dtype in QUANTIZED:
        y = tensor(rng, dtype, (2,), SHIFTED)
        yield Case(f"{dtype}_scales", (y, index([[1, 1]])), (Result(dtype, OTHER),), {"mode": 1})
        yield Case(f"{dtype}_same", (y, index([[1, 1]])), (Result(dtype, SHIFTED),), {"mode": 1})
    yield Case(
        "empty",
        (tensor(rng, DType.INT32, (0, 2)), index([[0, 0], [1, 1]])),
        (Result(DType.INT32),),
        {"mode": 1},
    )


# --- declarations -------------------------------------------------------------------------------------------------

_PAD_RULES = (
    Constraint("zero_point", "the output's zero point must be a value of its type", _zero_in_range),
    Constraint("value_scale", "the value must have the output's scale and zero point", _same_scale_value),
)
_PAD_FORMS = (one_type("{T}, int32|int64|int8|int16|bool, {T}? -> {T}", _pad, PAD_TYPES),)

PAD = OpDef(
    name="PAD",
    inputs=("input", "paddings", "value?"),
    outputs=("output",),
    options="PadOptions",
    versions=(1, 6),
    shapes=_pad_shapes,
    forms=_PAD_FORMS,
    constraints=_PAD_RULES,
    bound=bounds.exact,
    cases=lambda rng: _pad_cases(rng, with_value=False),
)

PADV2 = OpDef(
    name="PADV2",
    inputs=("input", "paddings", "value?"),
    outputs=("output",),
    options="PadV2Options",
    versions=(1, 6),
    shapes=_pad_shapes,
    forms=_PAD_FORMS,
    constraints=_PAD_RULES,
    bound=bounds.exact,
    cases=lambda rng: _pad_cases(rng, with_value=True),
)

MIRROR_PAD = OpDef(
    name="MIRROR_PAD",
    inputs=("input", "paddings"),
    outputs=("output",),
    options="MirrorPadOptions",
    versions=(1, 3),
    shapes=_mirror_pad_shapes,
    forms=(one_type("{T}, int32|int64 -> {T}", _mirror_pad, WORDS),),
    constraints=(equal_quantization("uint8|int8|int16"), symmetric_int16()),
    bound=bounds.exact,
    cases=_mirror_pad_cases,
)

OPS = (PAD, PADV2, MIRROR_PAD)
