"""L2_NORMALIZATION, along the last dimension.

Source: tflite/kernels/l2norm.cc, kernels/internal/reference/l2normalization.h, reference/integer_ops/
l2normalization.h.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.fixed_point import (
    inverse_square_root,
    multiply_by_quantized_multiplier,
)
from delegraph.core.ops.opdef import (
    Case,
    Constraint,
    Form,
    Kernel,
    Node,
    OpDef,
    Operand,
    Result,
    Work,
    elementwise_work,
)
from delegraph.core.ops.pointwise import limits
from delegraph.core.ops.rows import (
    SCALAR,
    by_rows,
    fixed_output,
    row_shapes,
    some_shapes,
    special_rows,
    sums,
)

# --- kernels ------------------------------------------------------------------------------------------------------


def _work(node: Node) -> Work:
    return elementwise_work(node, per_element=3)


def _l2_float(node: Node) -> Kernel:
    return by_rows(node, lambda rows: rows / np.maximum(np.sqrt(sums(rows * rows)), np.float32(1e-6)))


def _l2_8_bits(node: Node) -> Kernel:
    """uint8 multiplies by 128 before it rescales, int8 by a larger shift: both round, not always alike."""
    zero_point, y = per_tensor(node, 0).zero_point, node.outputs[0].dtype
    low, high = limits(y)

    def normalize(rows: Array) -> Array:
        x = rows.astype(np.int64) - zero_point
        q, right = inverse_square_root((x * x).sum(axis=1, keepdims=True))
        if y is DType.UINT8:
            scaled = multiply_by_quantized_multiplier(128 * x, q, -right) + 128
        else:
            scaled = multiply_by_quantized_multiplier(x, q, 7 - right)
        clipped: Array = np.clip(scaled, low, high)
        return clipped

    return by_rows(node, normalize)


# --- rules --------------------------------------------------------------------------------------------------------


def _no_activation(node: Node) -> str | None:
    activation = node.options.fused_activation_function
    return f"activation {activation}" if activation else None


# --- cases --------------------------------------------------------------------------------------------------------


def _l2_cases(rng: np.random.Generator) -> Iterator[Case]:
    outputs = {
        DType.INT8: Quantization.per_tensor(1 / 128, 0),
        DType.UINT8: Quantization.per_tensor(1 / 128, 128),
    }
    for name, shape in (*some_shapes(rng), SCALAR):
        yield Case(f"float32_{name}", (Operand(reals(rng, shape)),), (Result(DType.FLOAT32),))
        for dtype, out_q in outputs.items():
            q, data = quantized(rng, dtype, shape)
            if rng.random() < 0.5:  # small values
                zero = min(max(q.zero_point, limits(dtype)[0] + 3), limits(dtype)[1] - 3)
                data = integers(rng, dtype, shape, zero - 3, zero + 3)
            yield Case(f"{dtype}_{name}", (Operand(data, q),), (Result(dtype, out_q),))
    yield Case("float32_special", (Operand(special_rows(rng)),), (Result(DType.FLOAT32),))
    yield Case("float32_tiny", (Operand(reals(rng, (4, 3)) * np.float32(1e-7)),), (Result(DType.FLOAT32),))
    for dtype, out_q in outputs.items():
        low, high = limits(dtype)
        for zero in (low, high, low + 5):
            q = Quantization.per_tensor(0.1, zero)
            for name, values in (
                ("at_zero", [zero, zero, zero]),
                ("one", [zero, min(zero + 1, high), max(zero - 1, low)]),
                ("two", [min(zero + 2, high), zero]),
                ("ends", [low, high, zero, low]),
            ):
                x = Operand(np.array([values], dtype.numpy), q)
                yield Case(f"{dtype}_{name}_{zero}", (x,), (Result(dtype, out_q),))
        x = Operand(integers(rng, dtype, (1, 1500)), q)
        yield Case(f"{dtype}_many", (x,), (Result(dtype, out_q),))
        wrong = Quantization.per_tensor(1 / 128, 1)
        yield Case(f"{dtype}_output_zero_point", (x,), (Result(dtype, wrong),))
        wrong = Quantization.per_tensor(1 / 127, out_q.zero_point)
        yield Case(f"{dtype}_output_scale", (x,), (Result(dtype, wrong),))
    relu = {"fused_activation_function": 1}
    yield Case("activation", (Operand(reals(rng, (2, 3))),), (Result(DType.FLOAT32),), relu)


# --- declarations -------------------------------------------------------------------------------------------------

L2_NORMALIZATION = OpDef(
    name="L2_NORMALIZATION",
    inputs=("input",),
    outputs=("output",),
    options="L2NormOptions",
    versions=(1, 2),
    shapes=row_shapes,
    work=_work,
    forms=(
        Form("float32 -> float32", _l2_float),
        Form("int8 -> int8", _l2_8_bits),
        Form("uint8 -> uint8", _l2_8_bits),
    ),
    constraints=(
        fixed_output({DType.INT8: (1 / 128, 0), DType.UINT8: (1 / 128, 128)}),
        Constraint("activation", "there must be no fused activation", _no_activation),
    ),
    bound=bounds.exact,
    cases=_l2_cases,
)

OPS = (L2_NORMALIZATION,)
