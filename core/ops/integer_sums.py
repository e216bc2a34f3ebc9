"""Sums of integer products, exact by way of BLAS, and how they are brought to the output's scale. Imports core.ops.

BLAS sums in floating point, which is exact as long as no partial sum leaves the mantissa: float32 where
Σ|w|·max|x - zp| < 2^24, else float64 (2^53).

Source: PopulateConvolutionQuantizationParams, GetQuantizedConvolutionMultipler (tflite/kernels/kernel_util.cc).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.fixed_point import multiply_by_quantized_multiplier, quantize_multipliers
from delegraph.core.ops.movement import params
from delegraph.core.ops.opdef import Constraint, Node

BLOCK_ELEMENTS = 1 << 16
"""What is rescaled at a time: temporaries of 8 bytes an element stay in the second-level cache."""


def blocks(n_rows: int, row_elements: int) -> Iterator[slice]:
    """Slices that cover ``n_rows`` rows, each of about BLOCK_ELEMENTS elements."""
    step = max(1, BLOCK_ELEMENTS // max(1, row_elements))
    for start in range(0, n_rows, step):
        yield slice(start, min(n_rows, start + step))


# --- sums ---------------------------------------------------------------------------------------------------------


def value_range(dtype: DType, zero_point: int) -> int:
    """The largest |x - zero_point| of a type."""
    info = np.iinfo(dtype.numpy)
    return max(abs(int(info.min) - zero_point), abs(int(info.max) - zero_point))


def exact_float(weights: Array, axis: int | tuple[int, ...], x_range: int) -> Any:
    """The float type in which Σ w·x is exact for |x| ≤ x_range, summing over ``axis``; weights: int32."""
    largest = int(np.abs(weights).sum(axis, dtype=np.int64).max(initial=0)) * x_range
    return np.float32 if largest < 1 << 24 else np.float64


def centred(x: Array, zero_point: int, dtype: Any) -> Array:
    """``x - zero_point`` as floats of a type that holds it exactly."""
    y: Array = x.astype(dtype)
    y -= y.dtype.type(zero_point)
    return y


# --- rescaling ----------------------------------------------------------------------------------------------------


def conv_multipliers(node: Node, channels: int, x_slot: int = 0) -> tuple[Array, Array]:
    """Per output channel the fixed-point ``s_in · s_w / s_out``; the weights are input 1.

    int8 multiplies in double; uint8 takes the product of the two float32 scales in float32 first.
    """
    s_in, s_out = node.quantization(x_slot).scale, node.output_quantization().scale
    scales = np.asarray(node.quantization(1).scales, np.float32)
    node.expect(scales.size in (1, channels), "inputs[1].quantization", f"1 or {channels} scales", scales.size)
    if node.input(x_slot).dtype is DType.UINT8:
        product = (np.float32(s_in) * scales[:1]).astype(np.float64)
    else:
        product = np.float64(s_in) * scales.astype(np.float64)
    real = product / np.float64(s_out)
    q, shift = quantize_multipliers(np.broadcast_to(real, channels))
    return q, shift


def conv_weights_zero(node: Node, x_slot: int = 0) -> int:
    """The zero point of a convolution's weights, input 1, as its kernels take it: that of int8 weights, which are
    symmetric, is not read."""
    return node.quantization(1).zero_point if node.input(x_slot).dtype is DType.UINT8 else 0


def accumulated(sums: Array, bias: Array | None) -> Array:
    """Exact float sums plus a bias, as the 32-bit accumulator holds them: it wraps. int32."""
    acc = sums.astype(np.int64)
    if bias is not None:
        acc += bias.reshape(-1)
    return acc.astype(np.int32)


def rescaled(acc: Array, multiplier: Any, shift: Any, zero_point: int, low: int, high: int) -> Array:
    """``acc`` times a fixed-point multiplier, moved by the zero point and clamped. int64."""
    scaled = multiply_by_quantized_multiplier(acc, multiplier, shift)
    scaled += zero_point
    return np.clip(scaled, low, high)


# --- rules --------------------------------------------------------------------------------------------------------


def expect_bias(node: Node, channels: int, slot: int = 2) -> None:
    """Raises InvalidModel unless the bias, where there is one, has an element per output channel."""
    if node.has_input(slot):
        bias = node.input(slot)
        node.expect(bias.n_elements == channels, f"inputs[{slot}]", f"a bias of {channels} elements", bias.shape)


def weight_scales(channel_axis: int, x_slot: int = 0) -> Constraint:
    """The rule on the scales of the weights, input 1, whose output channels are along ``channel_axis``."""

    def test(node: Node) -> str | None:
        weights = node.inputs[1]
        if weights is None or weights.quantization is None or node.input(x_slot).dtype is DType.FLOAT32:
            return None
        n_scales, axis = weights.quantization.scales.size, weights.quantization.axis
        if n_scales <= 1:
            return None
        if weights.dtype is DType.UINT8:
            return f"{n_scales} scales of uint8 weights"
        if not 0 <= axis < len(weights.shape) or n_scales != weights.shape[channel_axis]:
            return f"{n_scales} scales along axis {axis}"
        return None if weights.shape[axis] == n_scales else f"{n_scales} scales along axis {axis}"

    return Constraint("weight_scales", "the weights must have one scale or, of int8, one per output channel", test)


def bias_scale(dtypes: tuple[DType, ...], x_slot: int = 0, bias_slot: int = 2) -> Constraint:
    """The rule that a bias has about the scale of the products, for weights with one scale.

    dtypes: the input's types for which LiteRT looks.
    """

    def test(node: Node) -> str | None:
        if not node.has_input(bias_slot) or node.input(x_slot).dtype not in dtypes:
            return None
        weights = node.input(1).quantization
        if weights is not None and weights.scales.size > 1:
            return None
        products = params(node.input(x_slot))[0] * params(node.input(1))[0]
        found, out = params(node.input(bias_slot))[0], params(node.outputs[0])[0]
        if out > 0 and abs(products - found) / out <= 0.02:
            return None
        return f"{found:g} where that product is {products:g}"

    return Constraint("bias_scale", "the bias must have the scale of the input times that of the weights", test)
