"""What ADD, SUB, MUL, DIV and SQUARED_DIFFERENCE share: formulas, fused activations, kernels and cases.

Imports core.graph and core.ops. Source: tflite/kernels/kernel_util.h (CalculateActivationRange), common.h
(ActivationFunctionWithMinMax).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import (
    binary_shapes,
    elementwise,
    elementwise_bytes,
    shape_pairs,
    some_pairs,
)
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.expression import Expression, arg, evaluate
from delegraph.core.ops.fixed_point import LARGEST_FLOAT, activation_bounds, clamp_float
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result

EXPRESSIONS = {
    "ADD": arg(0) + arg(1),
    "SUB": arg(0) - arg(1),
    "MUL": arg(0) * arg(1),
    "DIV": arg(0) / arg(1),
    "SQUARED_DIFFERENCE": (arg(0) - arg(1)) * (arg(0) - arg(1)),
}
"""The formulas, before the fused activation."""


def formula_of(node: Node) -> Expression:
    """The op's formula."""
    return EXPRESSIONS[node.op.name]


def activation_of(node: Node) -> int:
    """The fused activation, schema enum ActivationFunctionType; SQUARED_DIFFERENCE has none."""
    return 0 if node.op.name == "SQUARED_DIFFERENCE" else int(node.options.fused_activation_function)


# --- kernels --------------------------------------------------------------------------------------------------------


def clamp_integers(y: Array, activation: int) -> Array:
    """A fused activation on integers of the array's type (-1 wraps in an unsigned one)."""
    if activation == 0:
        return y
    low, high = activation_bounds(activation)
    y = np.maximum(y, np.array(int(low)).astype(y.dtype))
    return y if high == LARGEST_FLOAT else np.minimum(y, np.array(int(high)).astype(y.dtype))


def float_kernel(node: Node) -> Kernel:
    """The formula in float32 and the fused activation."""
    formula, activation = formula_of(node), activation_of(node)
    if node.op.name == "SQUARED_DIFFERENCE":  # has no limits either
        return elementwise(node, lambda a, b: evaluate(formula, (a, b)))
    return elementwise(node, lambda a, b: clamp_float(evaluate(formula, (a, b)), activation))


def integer_kernel(node: Node) -> Kernel:
    """Integers wrap around."""
    formula, activation = formula_of(node), activation_of(node)
    return elementwise(node, lambda a, b: clamp_integers(evaluate(formula, (a, b)), activation))


def float16_kernel(node: Node) -> Kernel:
    """NOTE: without limits of its own, the reference clamps float16 as its float32 limits convert: to infinities."""
    formula = formula_of(node)
    low, high = (np.float16(limit) for limit in activation_bounds(activation_of(node)))
    return elementwise(node, lambda a, b: np.clip(evaluate(formula, (a, b)), low, high))


def small_integers(node: Node, function: Callable[[Array, Array], Any]) -> Kernel:
    """A kernel on two quantized operands of 8 or 16 bits."""
    if node.input(0).dtype is DType.INT16:
        return elementwise(node, function)
    return elementwise_bytes(node, function)


# --- cases ----------------------------------------------------------------------------------------------------------

FUSED = ("none", "relu", "relu_n1_to_1", "relu6")


def cases(
    rng: np.random.Generator, name: str, extra: Callable[[np.random.Generator], Iterator[Case]] | None = None
) -> Iterator[Case]:
    """Every type and way to broadcast, special values, quantization of all kinds, and what ``extra`` adds."""
    for label, a, b in shape_pairs(rng):
        fused = int(rng.integers(0, 4))
        yield _case(rng, name, DType.FLOAT32, f"{label}_{FUSED[fused]}", a, b, fused)
    types = TYPES[name]
    for dtype in types:
        for i, (label, a, b) in enumerate(some_pairs(rng, 4)):
            yield _case(rng, name, dtype, f"{i}_{label}_{FUSED[i]}", a, b, i)
    yield from _special_floats(rng, name)
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        if dtype in types:
            for i in range(6):
                yield _quantized_case(rng, name, dtype, i)
    if extra is not None:
        yield from extra(rng)


TYPES = {
    "ADD": (DType.INT32, DType.INT64, DType.INT16, DType.FLOAT16, DType.INT8, DType.UINT8),
    "SUB": (DType.INT32, DType.INT64, DType.INT8, DType.UINT8, DType.INT16),
    "MUL": (
        DType.INT32,
        DType.INT64,
        DType.UINT32,
        DType.INT16,
        DType.FLOAT16,
        DType.COMPLEX64,
        DType.INT8,
        DType.UINT8,
    ),
    "DIV": (DType.INT32, DType.INT8, DType.UINT8, DType.INT16),
    "SQUARED_DIFFERENCE": (DType.INT32, DType.INT8),
}
"""What each op takes besides float32."""


def fused_options(name: str, fused: int) -> dict[str, int]:
    return {} if name == "SQUARED_DIFFERENCE" else {"fused_activation_function": fused}


def _case(rng: np.random.Generator, name: str, dtype: DType, label: str, a: Shape, b: Shape, fused: int) -> Case:
    q: list[Quantization | None] = [None, None, None]
    if dtype.is_float:
        x, y = reals(rng, a).astype(dtype.numpy), reals(rng, b).astype(dtype.numpy)
    elif dtype is DType.COMPLEX64:
        x, y = (np.asarray(reals(rng, s) + 1j * reals(rng, s), np.complex64) for s in (a, b))
        fused = 0
    else:
        small = (0 if dtype.numpy.kind == "u" else -9, 9) if rng.random() < 0.7 else (None, None)
        x, y = (integers(rng, dtype, s, *small) for s in (a, b))
        if dtype.bits == 8 or (dtype is DType.INT16 and name in ("SUB", "DIV")):
            (q[0], x), (q[1], y) = quantized(rng, dtype, a), quantized(rng, dtype, b)
            q[2] = quantized(rng, dtype, ())[0]
        if name == "DIV":
            zero = 0 if q[1] is None else q[1].zero_point
            y = np.where(y == zero, zero + (1 if zero < 1 else -1), y).astype(y.dtype)
    constant = bool(rng.random() < 0.3)
    return Case(
        f"{dtype}_{label}",
        (Operand(x, q[0]), Operand(y, q[1], constant=constant)),
        (Result(dtype, q[2]),),
        fused_options(name, fused),
    )


def _special_floats(rng: np.random.Generator, name: str) -> Iterator[Case]:
    values = np.array([0, -0.0, 1, -1, 3e38, -3e38, 1e-38, 1e-45, np.inf, -np.inf, np.nan], np.float32)
    for fused, label in enumerate(FUSED):
        yield Case(
            f"special_{label}",
            (Operand(values[:, None]), Operand(values)),
            (Result(DType.FLOAT32),),
            fused_options(name, fused),
        )
    if name == "DIV":
        ones = np.array([1, -7, 7], np.int32)
        for y in ([1, 0, 2], [-2, 2, -2], [-1, -1, -1]):
            operands = (Operand(ones), Operand(np.array(y, np.int32)))
            yield Case(f"int32_by_{y}", operands, (Result(DType.INT32),), fused_options(name, 0))


def _quantized_case(rng: np.random.Generator, name: str, dtype: DType, i: int) -> Case:
    """Scales of all sizes and zero points at the ends of the type, on values of the whole type."""
    info = np.iinfo(dtype.numpy)
    points = [0, 0, 0]
    if dtype is not DType.INT16 or name == "DIV":
        points = [int(rng.choice([int(info.min), 0, int(info.max), int(integers(rng, dtype, ()))])) for _ in range(3)]
    s1, s2 = (float(np.exp(rng.uniform(*((-9, -1) if i < 4 else (-16, 3))))) for _ in range(2))
    typical = {"MUL": s1 * s2 * 100, "DIV": s1 / s2 / 20, "SQUARED_DIFFERENCE": max(s1, s2) ** 2 * 200}
    s_out = typical.get(name, max(s1, s2) * 2) * float(np.exp(rng.uniform(-2, 2) * (1 + (i == 5))))
    shape_a, shape_b = ((40,), (40,)) if i % 2 else ((8, 1, 5), (7, 1))
    a, b = integers(rng, dtype, shape_a), integers(rng, dtype, shape_b)
    if name == "DIV":
        b = np.where(b == points[1], points[1] + (1 if points[1] < info.max else -1), b).astype(b.dtype)
        if i == 0:  # a division by zero
            b.reshape(-1)[3] = points[1]
    if name == "ADD" and dtype is not DType.INT16 and i == 3:  # an output scale that may be too small
        s_out = max(s1, s2) * 2.0 ** -float(rng.integers(17, 22))
    fused = int(rng.integers(0, 4))
    qs = [Quantization.per_tensor(s, p) for s, p in zip((s1, s2, s_out), points, strict=True)]
    options = fused_options(name, fused)
    if dtype is DType.INT16 and name in ("ADD", "SUB"):
        options["pot_scale_int16"] = bool(i % 2)
    return Case(f"{dtype}_quantized_{i}", (Operand(a, qs[0]), Operand(b, qs[1])), (Result(dtype, qs[2]),), options)


# --- declarations ---------------------------------------------------------------------------------------------------


def arithmetic_op(
    name: str,
    hi: int,
    more: tuple[Form, ...],
    constraints: tuple[Constraint, ...] = (),
    extra: Callable[[np.random.Generator], Iterator[Case]] | None = None,
) -> OpDef:
    """The OpDef of an op with a formula in EXPRESSIONS. more: its forms besides float32; extra: its own cases."""
    options = {"SQUARED_DIFFERENCE": "SquaredDifferenceOptions"}.get(name, f"{name.title()}Options")
    return OpDef(
        name=name,
        inputs=("a", "b"),
        outputs=("output",),
        options=options,
        versions=(1, hi),
        shapes=binary_shapes,
        forms=(Form("float32, float32 -> float32", float_kernel), *more),
        constraints=constraints,
        bound=bounds.exact,
        expression=EXPRESSIONS[name],
        cases=lambda rng: cases(rng, name, extra),
    )
