"""Rules on weights, biases, windows and strides of convolutions, dense layers and pools. Imports core.devices.rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delegraph.core.devices.rules.operands import (
    POOLS,
    WEIGHTED,
    WINDOWED,
    bias,
    data_inputs,
    weights,
)
from delegraph.core.devices.rules.rule import ACTIVATIONS, HOLDS, NUMBER, TYPES, rule
from delegraph.core.graph.dtype import DType
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.ops.opdef import Node

SAME, VALID = ENUMS["Padding"]["SAME"], ENUMS["Padding"]["VALID"]
DILATED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
DEPTHWISE = frozenset({"DEPTHWISE_CONV_2D"})
FUSING = WEIGHTED | POOLS | {"ADD", "SUB", "MUL", "DIV", "CONCATENATION", "L2_NORMALIZATION"}

# --- weights and biases -------------------------------------------------------------------------------------------


@rule("weights are of type {limit}", TYPES, ops=WEIGHTED, advice="quantize the weights to one of these types")
def weight_dtypes(node: Node, limit: Sequence[DType]) -> str | None:
    spec = weights(node)
    return str(spec.dtype) if spec is not None and spec.dtype not in limit else None


@rule("weights are a constant", HOLDS, ops=WEIGHTED, advice="freeze the weights when converting the model")
def constant_weights(node: Node, limit: bool) -> str | None:
    spec = weights(node)
    return "weights computed in the run" if spec is not None and spec.value is None else None


@rule("the bias is a constant, if there is one", HOLDS, ops=WEIGHTED, advice="freeze the bias, or add it with ADD")
def constant_bias(node: Node, limit: bool) -> str | None:
    spec = bias(node)
    return "a bias computed in the run" if spec is not None and spec.value is None else None


@rule("there is a bias", HOLDS, ops=WEIGHTED, advice="give the op a bias of zeros")
def has_bias(node: Node, limit: bool) -> str | None:
    return "none" if bias(node) is None else None


@rule("a bias fits in {limit} bits", NUMBER, ops=WEIGHTED)
def bias_bits(node: Node, limit: int) -> str | None:
    spec = bias(node)
    if spec is None or spec.value is None or not spec.dtype.is_integer or not spec.value.size:
        return None
    bits = max(int(abs(int(value))).bit_length() for value in (spec.value.min(), spec.value.max()))
    return f"{bits} bits" if bits > limit else None


@rule("the absolute weights of an output channel add up to at most {limit}", NUMBER, ops=WEIGHTED)
def weight_sum(node: Node, limit: int) -> str | None:
    spec = weights(node)
    if spec is None or spec.value is None or not spec.dtype.is_integer or not spec.value.size:
        return None
    q, value = spec.quantization, spec.value.astype(np.int64)
    if q is not None and q.scales.size == 1:
        value = value - q.zero_point
    channel = 3 if node.op.name == "DEPTHWISE_CONV_2D" else 0
    sums = np.abs(value).sum(axis=tuple(i for i in range(value.ndim) if i != channel))
    return f"{sums.max()}" if sums.max() > limit else None


@rule("weights are quantized per tensor", HOLDS, ops=WEIGHTED, advice="convert with disable_per_channel quantization")
def per_tensor_weights(node: Node, limit: bool) -> str | None:
    spec = weights(node)
    q = None if spec is None else spec.quantization
    return f"{q.scales.size} scales" if q is not None and q.scales.size > 1 else None


@rule(
    "data and weights are both float or both integer (no hybrid ops)",
    HOLDS,
    ops=WEIGHTED,
    advice="quantize the activations too, or keep float weights",
)
def not_hybrid(node: Node, limit: bool) -> str | None:
    spec = weights(node)
    data = data_inputs(node)
    if spec is None or not data or spec.dtype.is_float == data[0].dtype.is_float:
        return None
    return f"{data[0].dtype} data with {spec.dtype} weights"


@rule("weights are in the default layout", HOLDS, ops=frozenset({"FULLY_CONNECTED"}))
def default_weights_format(node: Node, limit: bool) -> str | None:
    return "a shuffled layout" if node.options.weights_format else None


# --- windows ------------------------------------------------------------------------------------------------------


@rule("strides are at most {limit}", NUMBER, ops=WINDOWED, advice="use smaller strides and a SLICE or a pool after it")
def stride(node: Node, limit: int) -> str | None:
    return _strides(node) if max(node.options.stride_h, node.options.stride_w) > limit else None


@rule(
    "strides over {limit} need padding VALID and no dilation",
    NUMBER,
    ops=WINDOWED,
    advice="pad with PAD before the op, and use padding VALID",
)
def stride_unless_valid(node: Node, limit: int) -> str | None:
    if max(node.options.stride_h, node.options.stride_w) <= limit:
        return None
    if node.options.padding == VALID and _dilation(node) == (1, 1):
        return None
    padding = "VALID" if node.options.padding == VALID else "SAME"
    return f"{_strides(node)} with padding {padding} and dilation {_dilation(node)[0]}x{_dilation(node)[1]}"


@rule(
    "strides are the same in height and width, or input and window are 1 high and the stride in height is 1",
    HOLDS,
    ops=WINDOWED,
    advice="use one stride for both",
)
def equal_stride(node: Node, limit: bool) -> str | None:
    h, w = node.options.stride_h, node.options.stride_w
    data = data_inputs(node)[0].shape
    is_row = h == 1 and len(data) == 4 and data[1] == 1 and _window(node)[0] == 1
    return None if h == w or is_row else _strides(node)


@rule("dilation is at most {limit}", NUMBER, ops=DILATED)
def dilation(node: Node, limit: int) -> str | None:
    return f"{_dilation(node)[0]}x{_dilation(node)[1]}" if max(_dilation(node)) > limit else None


@rule("dilation is the same in height and width", HOLDS, ops=DILATED, advice="use one dilation for both")
def equal_dilation(node: Node, limit: bool) -> str | None:
    h, w = _dilation(node)
    return f"{h}x{w}" if h != w else None


@rule("a dilated op has strides of at most {limit}", NUMBER, ops=DILATED)
def dilated_stride(node: Node, limit: int) -> str | None:
    too_large = max(node.options.stride_h, node.options.stride_w) > limit
    return _strides(node) if too_large and max(_dilation(node)) > 1 else None


@rule("the window, with dilation, is at most {limit} high", NUMBER, ops=WINDOWED)
def kernel_height(node: Node, limit: int) -> str | None:
    height = _window(node)[0]
    return str(height) if height > limit else None


@rule("the window is at least {limit} high", NUMBER, ops=WINDOWED)
def min_kernel_height(node: Node, limit: int) -> str | None:
    height = _window(node)[0]
    return str(height) if height < limit else None


@rule("height times width of the window, with dilation, is at most {limit}", NUMBER, ops=WINDOWED)
def kernel_area(node: Node, limit: int) -> str | None:
    height, width = _window(node)
    return f"{height}x{width} = {height * width}" if height * width > limit else None


@rule("with padding SAME the window is at most {limit} high and wide", NUMBER, ops=WINDOWED, advice="use padding VALID")
def same_kernel(node: Node, limit: int) -> str | None:
    height, width = _window(node)
    return f"{height}x{width}" if node.options.padding == SAME and max(height, width) > limit else None


@rule("the depth multiplier is at most {limit}", NUMBER, ops=DEPTHWISE)
def depth_multiplier(node: Node, limit: int) -> str | None:
    found = _multiplier(node)
    return str(found) if found > limit else None


@rule("a depth multiplier above 1 goes with at most {limit} input channels", NUMBER, ops=DEPTHWISE)
def multiplied_channels(node: Node, limit: int) -> str | None:
    channels = node.input(0).shape[-1]
    return f"{_multiplier(node)} with {channels}" if _multiplier(node) > 1 and channels > limit else None


@rule("the convolution is not in groups", HOLDS, ops=frozenset({"CONV_2D"}), advice="split it into one per group")
def ungrouped(node: Node, limit: bool) -> str | None:
    depth, filter_depth = node.input(0).shape[-1], node.input(1).shape[-1]
    return f"{depth // max(1, filter_depth)} groups" if depth != filter_depth else None


@rule("the fused activation is {limit}", ACTIVATIONS, ops=FUSING, advice="put the activation into an op of its own")
def activation(node: Node, limit: Sequence[str]) -> str | None:
    codes = {code: name for name, code in ENUMS["ActivationFunctionType"].items()}
    found = codes.get(node.options.fused_activation_function, "an unknown one")
    return None if found in limit else found


@rule(
    "int32 data has no fused activation",
    HOLDS,
    ops=frozenset({"ADD", "SUB", "MUL"}),
    advice="put the activation into an op of its own",
)
def unfused_int32(node: Node, limit: bool) -> str | None:
    if node.input(0).dtype is not DType.INT32:
        return None
    return activation(node, ("NONE",))


def _window(node: Node) -> tuple[int, int]:
    """Height and width of the window, with dilation."""
    if node.op.name in POOLS:
        return node.options.filter_height, node.options.filter_width
    shape = node.input(1).shape
    if len(shape) != 4:
        return 1, 1
    (h, w), (dilation_h, dilation_w) = shape[1:3], _dilation(node)
    return (h - 1) * dilation_h + 1, (w - 1) * dilation_w + 1


def _dilation(node: Node) -> tuple[int, int]:
    if node.op.name not in DILATED:
        return 1, 1
    return node.options.dilation_h_factor, node.options.dilation_w_factor


def _multiplier(node: Node) -> int:
    return node.outputs[0].shape[-1] // max(1, node.input(0).shape[-1]) if node.outputs[0].shape else 1


def _strides(node: Node) -> str:
    return f"{node.options.stride_h}x{node.options.stride_w}"
