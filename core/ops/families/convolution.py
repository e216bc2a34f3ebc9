"""CONV_2D and DEPTHWISE_CONV_2D.

Source: tflite/kernels/conv.cc, depthwise_conv.cc; kernels/internal/reference/{conv,depthwiseconv_float,
depthwiseconv_uint8}.h, reference/integer_ops/{conv,depthwise_conv}.h. Weights are [out, h, w, in / groups] and
[1, h, w, in * multiplier].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import bias_for, integers, quantized, reals
from delegraph.core.ops.fixed_point import (
    activation_range,
    clamp_float,
)
from delegraph.core.ops.integer_sums import (
    accumulated,
    bias_scale,
    centred,
    conv_multipliers,
    conv_weights_zero,
    exact_float,
    expect_bias,
    rescaled,
    value_range,
    weight_scales,
)
from delegraph.core.ops.opdef import Case, Form, Kernel, Node, OpDef, Operand, Result, Work, packed
from delegraph.core.ops.windows import VALID, Axis, pad_spatial, row_blocks, windows

# --- shapes and work ----------------------------------------------------------------------------------------------


def window_axes(node: Node) -> tuple[Axis, Axis]:
    """The windows along height and width."""
    x, w, o = node.input(0).shape, node.input(1).shape, node.options
    return (
        _axis(node, x[1], w[1], o.stride_h, o.dilation_h_factor),
        _axis(node, x[2], w[2], o.stride_w, o.dilation_w_factor),
    )


def _axis(node: Node, size: int, window: int, stride: int, dilation: int) -> Axis:
    """The window along one axis. Where TFLite's division, which rounds towards 0, gives less than no element, it
    refuses; up to there the result is empty (Source: tflite/kernels/conv.cc, Prepare)."""
    along = Axis.of(size, window, stride, dilation, node.options.padding)
    extent = (window - 1) * dilation + 1
    if node.options.padding == VALID:
        least = extent - 2 * stride + 1
        node.expect(
            size >= least, "inputs[0]", f"at least {least} elements along an axis with a window of {extent}", size
        )
    return along


def _conv_shapes(node: Node) -> Sequence[Shape | None]:
    x, w = node.input(0).shape, node.input(1).shape
    node.expect(len(x) == 4, "inputs[0]", "4 dimensions", x)
    node.expect(len(w) == 4, "inputs[1]", "4 dimensions", w)
    node.expect(
        w[3] > 0 and x[3] % w[3] == 0 and w[0] % max(1, x[3] // w[3]) == 0,
        "inputs[1]",
        f"weights for {x[3]} input channels, in whole groups",
        w,
    )
    expect_bias(node, w[0])
    h, ww = window_axes(node)
    return [(x[0], h.out, ww.out, w[0])]


def _depthwise_shapes(node: Node) -> Sequence[Shape | None]:
    x, w = node.input(0).shape, node.input(1).shape
    node.expect(len(x) == 4, "inputs[0]", "4 dimensions", x)
    node.expect(len(w) == 4 and w[0] == 1, "inputs[1]", "weights [1, h, w, channels]", w)
    node.expect(x[3] > 0 and w[3] % x[3] == 0, "inputs[1]", f"a multiple of {x[3]} channels", w)
    expect_bias(node, w[3])
    h, ww = window_axes(node)
    return [(x[0], h.out, ww.out, w[3])]


def _conv_work(node: Node) -> Work:
    w, y = node.input(1), node.outputs[0]
    taps = w.shape[1] * w.shape[2] * w.shape[3]
    return Work(
        macs=y.n_elements * taps,
        element_ops=y.n_elements,
        bytes_read=sum(spec.size_bytes for spec in node.inputs if spec is not None),
        bytes_written=y.size_bytes,
    )


def _depthwise_work(node: Node) -> Work:
    work = _conv_work(node)
    w, y = node.input(1), node.outputs[0]
    return Work(y.n_elements * w.shape[1] * w.shape[2], work.element_ops, work.bytes_read, work.bytes_written)


# --- sums of products ---------------------------------------------------------------------------------------------


def _sum_conv(node: Node, x: Array, fill: Any, weights: Array, finish: Any, out: Array) -> None:
    """out[block] = finish(im2col(x) @ weights) for blocks of rows.

    x [N, H, W, C]; weights [groups, window·C/groups, out/groups]; finish: (products [n, out] → array).
    """
    h, w = window_axes(node)
    groups, depth, per_group = weights.shape
    x = pad_spatial(x, h, w, fill)
    view = windows(x, h, w)
    channels = view.shape[-1] // groups
    for image, rows in row_blocks(out.shape[0], h.out, w.out * depth * x.itemsize):
        block = view[image, rows]
        if groups == 1:
            sums = np.ascontiguousarray(block).reshape(block.shape[0] * w.out, depth) @ weights[0]
        else:
            sums = np.empty((block.shape[0] * w.out, groups * per_group), x.dtype)
            for g in range(groups):
                part = np.ascontiguousarray(block[..., g * channels : (g + 1) * channels])
                sums[:, g * per_group : (g + 1) * per_group] = part.reshape(len(sums), depth) @ weights[g]
        out[image, rows] = finish(sums).reshape(block.shape[0], w.out, out.shape[3])


def _group_weights(w: Array, groups: int) -> Array:
    """[out, h, w, in / groups] → [groups, h·w·in / groups, out / groups]."""
    return w.reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1)


def _sum_depthwise(node: Node, x: Array, fill: Any, weights: Array, finish: Any, out: Array) -> None:
    """out[block] = finish(Σ taps x·w): x [N, H, W, C]; weights [h, w, C, multiplier]."""
    h, w = window_axes(node)
    x = pad_spatial(x, h, w, fill)
    view = windows(x, h, w)
    channels, multiplier = weights.shape[2:]
    for image, rows in row_blocks(out.shape[0], h.out, w.out * out.shape[3] * x.itemsize * 2):
        block = view[image, rows]
        sums = np.zeros((block.shape[0], w.out, channels, multiplier), x.dtype)
        for ky in range(h.window):
            for kx in range(w.window):
                sums += block[:, :, ky, kx, :, None] * weights[ky, kx]
        rows_of = finish(sums.reshape(block.shape[0] * w.out, out.shape[3]))
        out[image, rows] = rows_of.reshape(block.shape[0], w.out, out.shape[3])


# --- float kernels ------------------------------------------------------------------------------------------------


def _conv_float(node: Node) -> Kernel:
    activation, shape = node.options.fused_activation_function, node.outputs[0].shape

    def run(x: Array, w: Array, bias: Array | None = None) -> Sequence[Array]:
        out = np.empty(shape, np.float32)
        groups = x.shape[3] // w.shape[3]

        def finish(sums: Array) -> Array:
            return clamp_float(sums if bias is None else sums + bias.reshape(-1), activation)

        _sum_conv(node, x, 0, _group_weights(w, groups), finish, out)
        return (out,)

    return run


def _depthwise_float(node: Node) -> Kernel:
    activation, shape = node.options.fused_activation_function, node.outputs[0].shape

    def run(x: Array, w: Array, bias: Array | None = None) -> Sequence[Array]:
        out = np.empty(shape, np.float32)

        def finish(sums: Array) -> Array:
            return clamp_float(sums if bias is None else sums + bias.reshape(-1), activation)

        _sum_depthwise(node, x, 0, w.reshape(*w.shape[1:3], x.shape[3], -1), finish, out)
        return (out,)

    return run


def _magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    """Σ|x||w| + |bias| per output element."""
    plain = Node(node.op, node.inputs, node.outputs, node.options.replace(fused_activation_function=0))
    kernel = _conv_float(plain) if node.op.name == "CONV_2D" else _depthwise_float(plain)
    return kernel(*(None if x is None else np.abs(x) for x in inputs))


# --- quantized kernels --------------------------------------------------------------------------------------------


def _quantized(node: Node, depthwise: bool) -> Kernel:
    x_zp, y_zp = node.quantization(0).zero_point, node.output_quantization().zero_point
    y = node.outputs[0]
    low, high = activation_range(node.options.fused_activation_function, y.dtype, node.output_quantization())
    channels = y.shape[3]
    multiplier, shift = conv_multipliers(node, channels)
    w_zp = conv_weights_zero(node)
    x_range = value_range(node.input(0).dtype, x_zp)
    in_channels = node.input(0).shape[3]

    def pack(w: Array) -> Array:
        weights = w.astype(np.int32) - w_zp
        if depthwise:
            kind = exact_float(weights, (0, 1, 2), x_range)
            return weights.astype(kind).reshape(*w.shape[1:3], in_channels, -1)
        kind = exact_float(weights, (1, 2, 3), x_range)
        return np.ascontiguousarray(_group_weights(weights.astype(kind), in_channels // w.shape[3]))

    weights_of = packed(node.input(1), pack)
    total = _sum_depthwise if depthwise else _sum_conv

    def run(x: Array, w: Array, bias: Array | None = None) -> Sequence[Array]:
        out = np.empty(y.shape, y.dtype.numpy)
        weights = weights_of(w)

        def finish(sums: Array) -> Array:
            return rescaled(accumulated(sums, bias), multiplier, shift, y_zp, low, high)

        total(node, centred(x, x_zp, weights.dtype), 0, weights, finish, out)
        return (out,)

    return run


def _conv_quantized(node: Node) -> Kernel:
    return _quantized(node, depthwise=False)


def _depthwise_quantized(node: Node) -> Kernel:
    return _quantized(node, depthwise=True)


# --- cases --------------------------------------------------------------------------------------------------------


def _cases(rng: np.random.Generator, depthwise: bool) -> Iterator[Case]:
    for i in range(12):
        n, size = int(rng.integers(1, 3)), rng.integers(1, 9, 2)
        window = rng.integers(1, 4, 2)
        dilation = (1, 1) if i % 3 else tuple(int(d) for d in rng.integers(1, 3, 2))
        padding = int(rng.integers(0, 2))
        if padding == 1:  # VALID: the window has to fit
            size = np.maximum(size, (window - 1) * dilation + 1)
        groups = 1 if depthwise or i % 4 else 2
        c_in = groups * int(rng.integers(1, 5))
        c_out = c_in * int(rng.integers(1, 4)) if depthwise else groups * int(rng.integers(1, 5))
        w_shape = (1, *window, c_out) if depthwise else (c_out, *window, c_in // groups)
        options = {
            "padding": padding,
            "stride_h": int(rng.integers(1, 4)),
            "stride_w": int(rng.integers(1, 4)),
            "dilation_h_factor": int(dilation[0]),
            "dilation_w_factor": int(dilation[1]),
            "fused_activation_function": int(rng.integers(0, 4)),
        }
        if depthwise:
            options["depth_multiplier"] = c_out // c_in
            options["stride_w"] = options["stride_h"]
        x_shape = (n, *(int(s) for s in size), c_in)
        x, w = reals(rng, x_shape), reals(rng, w_shape)
        with_bias = bool(i % 5) or not depthwise  # LiteRT's CONV_2D refuses to do without
        bias = Operand(reals(rng, (c_out,)), constant=True) if with_bias else None
        yield Case(
            f"float32_{i}",
            (Operand(x), Operand(w, constant=True), bias),
            (Result(DType.FLOAT32),),
            options,
        )
        for dtype in (DType.INT8, DType.UINT8):
            if groups > 1 and dtype is DType.UINT8:
                continue
            for per_channel in (False, True) if dtype is DType.INT8 else (False,):
                qx, xq = quantized(rng, dtype, x_shape)
                axis = 3 if depthwise else 0
                qw, wq = _weights(rng, dtype, w_shape, axis, per_channel)
                qb = bias_for(rng, qx, qw, c_out) if with_bias else None
                qy = Quantization.per_tensor(
                    float(rng.uniform(0.02, 0.2)) * float(qx.scale) * 40, int(integers(rng, dtype, ()))
                )
                bias = Operand(qb[0], qb[1], constant=True) if qb is not None else None
                yield Case(
                    f"{dtype}{'_per_channel' if per_channel else ''}_{i}",
                    (Operand(xq, qx), Operand(wq, qw, constant=True), bias),
                    (Result(dtype, qy),),
                    options,
                )


def _all_cases(rng: np.random.Generator, depthwise: bool) -> Iterator[Case]:
    yield from _cases(rng, depthwise)
    yield from _extremes(rng, depthwise)


def _extremes(rng: np.random.Generator, depthwise: bool) -> Iterator[Case]:
    """Zero points at the ends, scales far apart, weights that are no constant, what LiteRT refuses."""
    x_shape, w_shape = (1, 4, 3, 2), ((1, 2, 2, 4) if depthwise else (4, 2, 2, 2))
    options = {"stride_h": 1, "stride_w": 1, "depth_multiplier": 2}
    if not depthwise:
        del options["depth_multiplier"]
    x, w = Operand(reals(rng, x_shape)), Operand(reals(rng, w_shape))
    bias, y = Operand(reals(rng, (4,))), (Result(DType.FLOAT32),)
    yield Case("float32_dynamic_weights", (x, w, bias), y, options)
    yield Case("bias_misfit", (x, w, Operand(reals(rng, (3,)))), y, options)
    yield Case("no_window_fits", (Operand(x.data[:, :1]), w, bias), y, {**options, "padding": 1})
    for dtype in (DType.INT8, DType.UINT8):
        info = np.iinfo(dtype.numpy)
        for y_scale in (1e-6, 1e-2, 1e4):
            for end in (int(info.min), int(info.max)):
                x_q, data = quantized(rng, dtype, x_shape, zero_point=end)
                w_q, weights = _weights(rng, dtype, w_shape, 0, False)
                bias_data, bias_q = bias_for(rng, x_q, w_q, 4)
                yield Case(
                    f"{dtype}_scale_{y_scale:g}_zero_{end}",
                    (Operand(data, x_q), Operand(weights, w_q), Operand(bias_data, bias_q, constant=True)),
                    (Result(dtype, Quantization.per_tensor(y_scale, end)),),
                    options,
                )
    per_channel = Quantization.per_channel([0.1, 0.2, 0.3, 0.4], 3 if depthwise else 0)
    one = Quantization.per_tensor(1.0)
    x = Operand(integers(rng, DType.UINT8, x_shape), one)
    data, offsets = integers(rng, DType.UINT8, w_shape), np.arange(4, dtype=np.int32)
    for name, w_q, bias_q in (
        ("per_channel", per_channel, one),
        ("bias_scale_near", one, Quantization.per_tensor(1.0199)),
        ("bias_scale_far", one, Quantization.per_tensor(1.0201)),
    ):
        operands = (x, Operand(data, w_q, constant=True), Operand(offsets, bias_q, constant=True))
        yield Case(f"uint8_{name}", operands, (Result(DType.UINT8, one),), options)


def _weights(
    rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], axis: int, per_channel: bool
) -> tuple[Quantization, Array]:
    if dtype is DType.UINT8:
        return quantized(rng, dtype, shape)
    data = rng.integers(-127, 128, shape).astype(np.int8)
    if per_channel:
        return Quantization.per_channel(rng.uniform(0.001, 0.05, shape[axis]), axis), data
    return Quantization.per_tensor(float(rng.uniform(0.001, 0.05)), 0), data


# --- declarations -------------------------------------------------------------------------------------------------

CONV_2D = OpDef(
    name="CONV_2D",
    inputs=("input", "weights", "bias?"),
    outputs=("output",),
    options="Conv2DOptions",
    versions=(1, 8),
    shapes=_conv_shapes,
    work=_conv_work,
    forms=(
        Form("float32, float32, float32? -> float32", _conv_float),
        Form("int8, int8, int32? -> int8", _conv_quantized),
        Form("uint8, uint8, int32? -> uint8", _conv_quantized),
    ),
    constraints=(weight_scales(0), bias_scale((DType.UINT8,))),
    bound=bounds.sums(_magnitude),
    cases=lambda rng: _all_cases(rng, depthwise=False),
)

DEPTHWISE_CONV_2D = OpDef(
    name="DEPTHWISE_CONV_2D",
    inputs=("input", "weights", "bias?"),
    outputs=("output",),
    options="DepthwiseConv2DOptions",
    versions=(1, 7),
    shapes=_depthwise_shapes,
    work=_depthwise_work,
    forms=(
        Form("float32, float32, float32? -> float32", _depthwise_float),
        Form("int8, int8, int32? -> int8", _depthwise_quantized),
        Form("uint8, uint8, int32? -> uint8", _depthwise_quantized),
    ),
    constraints=(weight_scales(3), bias_scale((DType.UINT8,))),
    bound=bounds.sums(_magnitude),
    cases=lambda rng: _all_cases(rng, depthwise=True),
)

OPS = (CONV_2D, DEPTHWISE_CONV_2D)
