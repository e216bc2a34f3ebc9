"""What the sums of products share: activation limits, bias, multipliers per channel, and the text that ends a sum.

Imports core.ops, launches, layouts.
"""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.fixed_point import activation_bounds, activation_range
from delegraph.core.ops.integer_sums import conv_multipliers, conv_weights_zero
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.launches import Arg, Emitter, Float, Int, Read
from delegraph.delegates.opencl.layouts import pad_lanes
from delegraph.delegates.opencl.rules import known

CONSTANT_WEIGHTS, CONSTANT_BIAS = known(1, "weights"), known(2, "bias")

CTYPES = {DType.FLOAT32: "float", DType.INT8: "char", DType.UINT8: "uchar"}


def grouped(values: Array, groups: int) -> Array:
    """Per-channel values in the order of "conv4": each group filled up to whole lanes."""
    return pad_lanes(values.reshape(groups, -1)).reshape(-1)


def bias_values(node: Node, channels: int) -> Array:
    """The bias, or zeros, per channel."""
    dtype = np.float32 if node.input(0).dtype is DType.FLOAT32 else np.int32
    if not node.has_input(2):
        return np.zeros(channels, dtype)
    value = node.input(2).value
    assert value is not None
    return np.asarray(value.reshape(-1), dtype)


def float_args(node: Node, emit: Emitter, bias: Array) -> tuple[Arg, ...]:
    """Bias and activation limits of a float kernel."""
    low, high = activation_bounds(int(node.options.fused_activation_function))
    return (Read("float", "bias", emit.blob(bias)), Float("low", low), Float("high", high))


def zero_args(node: Node, w_zero: int) -> tuple[Arg, ...]:
    """Zero points and limits. w_zero: the weights' zero point, as the op takes it."""
    y_q = node.output_quantization()
    low, high = activation_range(int(node.options.fused_activation_function), node.outputs[0].dtype, y_q)
    return (
        Int("x_zero", node.quantization(0).zero_point),
        Int("w_zero", w_zero),
        Int("zero", y_q.zero_point),
        Int("low", low),
        Int("high", high),
    )


def fixed_point_args(node: Node, emit: Emitter, channels: int, groups: int) -> tuple[Arg, ...]:
    """Bias, multipliers and shifts per channel of a convolution of 8 bits, zero points and limits."""
    q, shift = conv_multipliers(node, channels)
    columns = [grouped(np.asarray(v, np.int32), groups) for v in (bias_values(node, channels), q, shift)]
    names = ("bias", "q", "shift")
    reads = tuple(Read("int", name, emit.blob(v)) for name, v in zip(names, columns, strict=True))
    return (*reads, *zero_args(node, conv_weights_zero(node)))
