"""MUL and DIV.

Source: tflite/kernels/{mul,div}.cc; kernels/internal/reference/{mul,div}.h, reference/integer_ops/mul.h.

Quantized products and quotients are scaled once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.arithmetic import (
    activation_of,
    arithmetic_op,
    clamp_integers,
    float16_kernel,
    integer_kernel,
    small_integers,
)
from delegraph.core.ops.broadcasting import elementwise, is_quantized, per_tensor
from delegraph.core.ops.cases import quantized
from delegraph.core.ops.fixed_point import (
    activation_range,
    count_leading_sign_bits,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal,
    rounding_divide_by_pot,
    rounding_divide_by_pot_x86,
    saturating_rounding_doubling_high_mul,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, Operand, Result, forms

# --- numbers that are not quantized -----------------------------------------------------------------------------------


def _complex(node: Node) -> Kernel:
    node.expect(
        activation_of(node) == 0,
        "fused_activation_function",
        "NONE with complex numbers",
        activation_of(node),
    )

    def product(a: Array, b: Array) -> Array:  # NumPy's own fuses multiply and add
        out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.complex64)
        out.real = a.real * b.real - a.imag * b.imag
        out.imag = a.real * b.imag + a.imag * b.real
        return out

    return elementwise(node, product)


def _integer_div(node: Node) -> Kernel:
    """Quotients truncated toward zero. LiteRT refuses divisors of zero and crashes on -2^31 / -1."""
    activation = activation_of(node)

    def quotient(a: Array, b: Array) -> Array:
        overflows = (b == -1) & (a == np.iinfo(np.int32).min)
        node.require(not overflows.any(), "quotients within int32", "-2147483648 / -1")
        # In double, a quotient of int32 values never rounds up to the next integer.
        return clamp_integers((a.astype(np.float64) / b).astype(np.int32), activation)

    divide = elementwise(node, quotient)

    def run(a: Array, b: Array) -> Sequence[Array]:
        node.require(bool(np.all(b != 0)), "divisors that are not zero", "a zero")
        return divide(a, b)

    return run


# --- quantized products and quotients -----------------------------------------------------------------------------


def product_multiplier(node: Node) -> float:
    """What the product of the operands less their zero points is multiplied by: computed in float32. Source: Prepare of
    mul.cc."""
    x, y, z = (per_tensor(node, slot).scale for slot in (0, 1, None))
    return float(x * y / z)


def _mul_quantized(node: Node) -> Kernel:
    (x, y, z) = (per_tensor(node, slot) for slot in (0, 1, None))
    multiplier = quantize_multiplier(product_multiplier(node))
    low, high = activation_range(activation_of(node), node.outputs[0].dtype, z)

    def function(a: Array, b: Array) -> Any:
        product = (a.astype(np.int64) - x.zero_point) * (b.astype(np.int64) - y.zero_point)
        return np.clip(multiply_by_quantized_multiplier(product, *multiplier) + z.zero_point, low, high)

    return small_integers(node, function)


def _mul_int16_to_bytes(node: Node) -> Kernel:
    """int16 operands are taken as fractions in [-1, 1), whatever their scales. Source: reference_ops.h, Mul."""
    z = per_tensor(node, None)
    low, high = activation_range(activation_of(node), node.outputs[0].dtype, z)

    def function(a: Array, b: Array) -> Any:
        product = (a.astype(np.int64) * b.astype(np.int64) + (1 << 14)) >> 15
        product = rounding_divide_by_pot(np.minimum(product, 32767), 8)
        return np.maximum(np.minimum(product, high - z.zero_point), low - z.zero_point) + z.zero_point

    return elementwise(node, function)


def _mul_symmetric(node: Node) -> str | None:
    if node.input(0).dtype is not DType.INT16 or node.outputs[0].dtype is not DType.INT16:
        return None
    points = [per_tensor(node, slot).zero_point for slot in (0, 1, None)] if is_quantized(node, None) else [0]
    return None if not any(points) else f"zero points {points}"


def _mul_narrowing(node: Node) -> str | None:
    x, y = node.input(0), node.input(1)
    narrows = x.dtype is DType.INT16 and node.outputs[0].dtype is not DType.INT16
    return f"{x.shape} and {y.shape}" if narrows and x.shape != y.shape else None


MUL_CONSTRAINTS = (
    Constraint("int16_symmetric", "int16 operands have to have zero points of 0", _mul_symmetric),
    Constraint("int16_broadcast", "MUL of int16 operands to 8 bits does not broadcast", _mul_narrowing),
)


def _div_quantized(node: Node) -> Kernel:
    """The dividend, shifted to use all 31 bits, times the reciprocal of the divisor. Source: reference/div.h."""
    (x, y, z) = (per_tensor(node, slot) for slot in (0, 1, None))
    multiplier, shift = quantize_multiplier(float(x.scale / (y.scale * z.scale)))
    low, high = activation_range(activation_of(node), node.outputs[0].dtype, z)

    def function(a: Array, b: Array) -> Any:
        divisor = b.astype(np.int64) - y.zero_point
        dividend = (a.astype(np.int64) - x.zero_point) * np.where(divisor < 0, -1, 1)
        inverse, over = reciprocal(np.abs(divisor))
        headroom = count_leading_sign_bits(dividend)
        quotient = saturating_rounding_doubling_high_mul(dividend << headroom, inverse)
        quotient = saturating_rounding_doubling_high_mul(quotient, multiplier)
        scaled = rounding_divide_by_pot_x86(quotient, headroom + over - shift)
        return np.clip(scaled + z.zero_point, low, high)

    divide = small_integers(node, function)

    def run(a: Array, b: Array) -> Sequence[Array]:
        node.require(bool(np.all(b != y.zero_point)), "divisors that are not zero", "a zero")
        return divide(a, b)

    return run


# --- cases ----------------------------------------------------------------------------------------------------------


def _narrowing_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (DType.INT8, DType.UINT8):
        z, _ = quantized(rng, dtype, ())
        (x, a), (y, b) = quantized(rng, DType.INT16, (3, 20)), quantized(rng, DType.INT16, (3, 20))
        a[0, :2] = b[0, :2] = (-32768, 32767)
        options = {"fused_activation_function": int(rng.integers(0, 4))}
        yield Case(f"int16_to_{dtype}", (Operand(a, x), Operand(b, y)), (Result(dtype, z),), options)


# --- declarations ---------------------------------------------------------------------------------------------------

_T = "{T}, {T} -> {T}"

MUL = arithmetic_op(
    "MUL",
    8,
    (
        *forms(_T, integer_kernel, T=("int32", "int64", "uint32")),
        Form(
            "int16, int16 -> int16",
            integer_kernel,
            when=lambda node: not is_quantized(node, None),
            note="not quantized",
        ),
        Form("float16, float16 -> float16", float16_kernel),
        Form("complex64, complex64 -> complex64", _complex),
        *forms(_T, _mul_quantized, T=("int8", "uint8")),
        Form("int16, int16 -> int16", _mul_quantized),
        Form("int16, int16 -> int8", _mul_int16_to_bytes),
        Form("int16, int16 -> uint8", _mul_int16_to_bytes),
    ),
    MUL_CONSTRAINTS,
    _narrowing_cases,
)
DIV = arithmetic_op(
    "DIV",
    2,
    (
        Form("int32, int32 -> int32", _integer_div),
        *forms(_T, _div_quantized, T=("int8", "uint8", "int16")),
    ),
)
OPS = (MUL, DIV)
