"""EQUAL, NOT_EQUAL, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, LOGICAL_AND, LOGICAL_OR and LOGICAL_NOT.

Source: tflite/kernels/{comparisons,logical,elementwise}.cc; kernels/internal/reference/comparisons.h,
string_comparisons.h.

Quantized operands are scaled by ``2^8 · scale``, rounded to integers, and those are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops.broadcasting import (
    binary_shapes,
    by_expression,
    elementwise,
    is_quantized,
    per_tensor,
    shape_pairs,
    some_pairs,
)
from delegraph.core.ops.cases import booleans, integers, reals
from delegraph.core.ops.expression import FUNCTIONS, Expression, arg, call
from delegraph.core.ops.fixed_point import (
    multiply_by_quantized_multiplier_smaller_than_one_exp,
    quantize_multiplier,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result, forms
from delegraph.core.ops.pointwise import all_values, look_up, same_shape, widen

LEFT_SHIFT = 8


# --- kernels ------------------------------------------------------------------------------------------------------


def _compare(node: Node) -> Callable[..., Any]:
    """The comparison as a NumPy function."""
    return FUNCTIONS[node.op.name.lower()]


def _plain(node: Node) -> Kernel:
    compare, dtype = _compare(node), node.input(0).dtype
    return elementwise(node, lambda a, b: compare(widen(a, dtype), widen(b, dtype)))


def _strings(node: Node) -> Kernel:
    return elementwise(node, _compare(node))


def _quantized(node: Node) -> Kernel:
    compare, (scale_a, scale_b) = _compare(node), (_scaling(node, slot) for slot in (0, 1))
    return elementwise(node, lambda a, b: compare(scale_a(a), scale_b(b)))


def _scaling(node: Node, slot: int) -> Callable[[Array], Array]:
    """What an operand's values are compared by. Source: ComparisonQuantized (comparisons.cc)."""
    quantization, dtype = per_tensor(node, slot), node.input(slot).dtype
    multiplier = quantize_multiplier(float(quantization.scale))

    def scale(x: Array) -> Array:
        shifted = (x.astype(np.int64) - quantization.zero_point) << LEFT_SHIFT
        return multiply_by_quantized_multiplier_smaller_than_one_exp(shifted, *multiplier)

    if dtype.bits != 8:
        return scale
    table = scale(all_values(dtype)).astype(np.int32)
    return lambda x: look_up(table, x)


def _unit_scale(node: Node) -> str | None:
    if not _is_scaled(node):
        return None
    scales = [per_tensor(node, slot).scale for slot in (0, 1)]
    return f"scales {scales[0]} and {scales[1]}" if 1.0 in scales else None


def _is_scaled(node: Node) -> bool:
    """Whether operands are compared by their real values: 8-bit ones are, int16 only where the kernel sees to it."""
    match node.input(0).dtype:
        case DType.INT8 | DType.UINT8:
            return True
        case DType.INT16:
            return node.op.name in ("EQUAL", "NOT_EQUAL") and is_quantized(node, 0)
    return False


# --- cases --------------------------------------------------------------------------------------------------------


def _cases(rng: np.random.Generator, name: str) -> Iterator[Case]:
    for label, a, b in shape_pairs(rng):
        x, y = (np.rint(reals(rng, shape, -2, 2)).astype(np.float32) for shape in (a, b))
        yield _case(f"float32_{label}", x, y)
    special = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    yield _case("special", special[:, None], special)
    types = [DType.INT32, DType.INT64, DType.FLOAT16, DType.INT16]
    types += {"EQUAL": [DType.BOOL, DType.STRING], "NOT_EQUAL": [DType.BOOL, DType.STRING]}.get(name, [])
    if name == "NOT_EQUAL":  # leaves its output as it was for int16 that is not quantized
        types.remove(DType.INT16)
    for dtype in types:
        for i, (label, a, b) in enumerate(some_pairs(rng, 3)):
            operands = (_values(rng, dtype, a), _values(rng, dtype, b))
            # LiteRT's Python interface cuts a string that has no dimensions at its first zero byte.
            constant = [dtype is DType.STRING and x.ndim == 0 for x in operands]
            yield Case(
                f"{dtype}_{i}_{label}",
                tuple(Operand(x, constant=c) for x, c in zip(operands, constant, strict=True)),
                (Result(DType.BOOL),),
            )
    if name == "LESS":  # LiteRT's Python interface passes bfloat16 as constants only
        x, y = (_values(rng, DType.BFLOAT16, (20,)) for _ in range(2))
        halves = tuple(Operand(v, constant=True, dtype=DType.BFLOAT16) for v in (x, y))
        yield Case("bfloat16", halves, (Result(DType.BOOL),))
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        for i in range(8):
            yield _quantized_case(rng, dtype, i)


def _case(label: str, x: Array, y: Array, *quantizations: Quantization | None) -> Case:
    qx, qy = quantizations or (None, None)
    return Case(label, (Operand(x, qx), Operand(y, qy)), (Result(DType.BOOL),))


def _values(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Few different values, so that many are equal."""
    if dtype is DType.BOOL:
        return booleans(rng, shape)
    if dtype is DType.STRING:
        words = np.array([b"", b"a", b"b", b"ab", b"a\0b", "ä".encode()], object)
        return np.asarray(words[rng.integers(0, words.size, shape)], object).reshape(shape)
    if dtype is DType.BFLOAT16:
        return (rng.integers(-3, 4, shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype.is_float:
        return np.asarray(rng.integers(-3, 4, shape), dtype.numpy)
    return integers(rng, dtype, shape, *((-2, 2) if rng.random() < 0.5 else ()))


def _quantized_case(rng: np.random.Generator, dtype: DType, i: int) -> Case:
    """Scales that are equal, near and of all sizes. NOTE: at 1 LiteRT aborts; above 1 its shifts are undefined in C."""
    shapes = [((40,), (40,)), ((6, 1), (1, 7)), ((), (5,)), ((0, 2), (2,))][i % 4]
    s1 = float(np.exp(rng.uniform(-7, 0)))
    s2 = s1 if i < 3 else s1 * float(np.exp(rng.uniform(-1, 0)))
    s2 = float(np.exp(rng.uniform(0.05, 4))) if i == 5 else 1.0 if i == 7 else s2
    points = [0 if dtype is DType.INT16 and i % 2 else int(integers(rng, dtype, ())) for _ in range(2)]
    if i < 2:
        points[1] = points[0]
    qx, qy = (Quantization.per_tensor(s, z) for s, z in zip((s1, s2), points, strict=True))
    x, y = (integers(rng, dtype, shape) for shape in shapes)
    if i == 0:
        y = np.where(rng.random(y.shape) < 0.5, x, y)
    return _case(f"{dtype}_quantized_{i}", x, y, qx, qy)


def _logical_cases(rng: np.random.Generator) -> Iterator[Case]:
    for label, a, b in shape_pairs(rng):
        operands = (Operand(booleans(rng, a)), Operand(booleans(rng, b)))
        yield Case(label, operands, (Result(DType.BOOL),))


def _not_cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((), (5,), (2, 3, 4), (0, 2), (1,) * 7):
        yield Case(f"rank_{len(shape)}_{shape}", (Operand(booleans(rng, shape)),), (Result(DType.BOOL),))


# --- declarations -------------------------------------------------------------------------------------------------

_T = "{T}, {T} -> bool"

UNIT_SCALE = Constraint("scale", "quantized operands may have any scale but 1", _unit_scale)


def _comparison(name: str, options: str, hi: int, more: tuple[Form, ...]) -> OpDef:
    return OpDef(
        name=name,
        inputs=("a", "b"),
        outputs=("output",),
        options=options,
        versions=(1, hi),
        shapes=binary_shapes,
        forms=(
            *forms(_T, _plain, T=("float32", "int32", "int64", "float16")),
            *forms(_T, _quantized, T=("int8", "uint8")),
            *more,
        ),
        constraints=(UNIT_SCALE,),
        expression=call(name.lower(), arg(0), arg(1)),
        cases=lambda rng: _cases(rng, name),
    )


_INT16 = (Form("int16, int16 -> bool", _plain, note="stored values"),)
_INT16_SCALED = Form("int16, int16 -> bool", _quantized, when=lambda node: is_quantized(node, 0), note="quantized")
_BOOL = Form("bool, bool -> bool", _plain)
_STRING = Form("string, string -> bool", _strings)

EQUAL = _comparison("EQUAL", "EqualOptions", 5, (_INT16_SCALED, *_INT16, _BOOL, _STRING))
NOT_EQUAL = _comparison("NOT_EQUAL", "NotEqualOptions", 4, (_INT16_SCALED, _BOOL, _STRING))
GREATER = _comparison("GREATER", "GreaterOptions", 2, _INT16)
GREATER_EQUAL = _comparison("GREATER_EQUAL", "GreaterEqualOptions", 3, _INT16)
LESS = _comparison("LESS", "LessOptions", 3, (*_INT16, Form("bfloat16, bfloat16 -> bool", _plain)))
LESS_EQUAL = _comparison("LESS_EQUAL", "LessEqualOptions", 2, _INT16)


def _logical(name: str, options: str) -> OpDef:
    expression: Expression = call(name.lower(), arg(0), arg(1))
    return OpDef(
        name=name,
        inputs=("a", "b"),
        outputs=("output",),
        options=options,
        shapes=binary_shapes,
        forms=(Form("bool, bool -> bool", by_expression(expression)),),
        expression=expression,
        cases=_logical_cases,
    )


LOGICAL_AND = _logical("LOGICAL_AND", "LogicalAndOptions")
LOGICAL_OR = _logical("LOGICAL_OR", "LogicalOrOptions")

_NOT = call("logical_not", arg(0))

LOGICAL_NOT = OpDef(
    name="LOGICAL_NOT",
    inputs=("input",),
    outputs=("output",),
    options="LogicalNotOptions",
    shapes=same_shape,
    forms=(Form("bool -> bool", by_expression(_NOT)),),
    expression=_NOT,
    cases=_not_cases,
)

OPS: Sequence[OpDef] = (
    *(EQUAL, NOT_EQUAL, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL),
    *(LOGICAL_AND, LOGICAL_OR, LOGICAL_NOT),
)
