"""TRANSPOSE_CONV.

Source: tflite/kernels/transpose_conv.cc; kernels/internal/reference/transpose_conv.h, reference/integer_ops/
transpose_conv.h. Weights are [out, h, w, in]; each input element adds its products to a window of the output. The
padding is that of the convolution which would lead from the output back to the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import bias_for, integers, quantized, reals
from delegraph.core.ops.fixed_point import activation_range, clamp_float
from delegraph.core.ops.integer_sums import (
    accumulated,
    bias_scale,
    blocks,
    centred,
    conv_multipliers,
    conv_weights_zero,
    exact_float,
    expect_bias,
    rescaled,
    value_range,
    weight_scales,
)
from delegraph.core.ops.movement import Check, at_run, known, numbers, params
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
    packed,
)
from delegraph.core.ops.windows import Axis

SHAPE, WEIGHTS, INPUT, BIAS = 0, 1, 2, 3

# --- shapes and work ----------------------------------------------------------------------------------------------


def _axes(node: Node, out: Sequence[int]) -> tuple[Axis, Axis]:
    """The windows of the convolution from the output (of shape ``out``) to the input."""
    w, o = node.input(WEIGHTS).shape, node.options
    return (
        Axis.of(out[1], w[1], o.stride_h, 1, o.padding),
        Axis.of(out[2], w[2], o.stride_w, 1, o.padding),
    )


def _output_shape(node: Node, check: Check, dims: Sequence[int]) -> Shape:
    """The output's shape, from the operand that gives it."""
    x, w = node.input(INPUT).shape, node.input(WEIGHTS).shape
    check(len(dims) == 4, "inputs[0]", "4 numbers", len(dims))
    check(
        dims[0] == x[0] and dims[3] == w[0] and min(dims[1:3]) > 0,
        "inputs[0]",
        f"the shape [{x[0]}, h, w, {w[0]}]",
        list(dims),
    )
    h, ww = _axes(node, dims)
    check(
        (h.out, ww.out) == (x[1], x[2]),
        "inputs[0]",
        f"an output that a convolution makes {x[1]} x {x[2]}",
        f"one that it makes {h.out} x {ww.out}",
    )
    return tuple(dims)


def _shapes(node: Node) -> Sequence[Shape | None]:
    shape, x, w = node.input(SHAPE).shape, node.input(INPUT).shape, node.input(WEIGHTS).shape
    node.expect(len(shape) == 1, "inputs[0]", "1 dimension", shape)
    node.expect(len(x) == 4 and min(x[1:]) > 0, "inputs[2]", "4 dimensions above 0", x)
    node.expect(len(w) == 4 and min(w[:3]) > 0, "inputs[1]", "4 dimensions above 0", w)
    node.expect(w[3] == x[3], "inputs[1]", f"weights for {x[3]} channels", w)
    for name in ("stride_h", "stride_w"):
        node.expect(0 < getattr(node.options, name) < 1 << 15, name, "1 to 32767", getattr(node.options, name))
    expect_bias(node, w[0], BIAS)
    dims = known(node, SHAPE)
    return [None if dims is None else _output_shape(node, node.expect, dims)]


def _work(node: Node) -> Work:
    w = node.input(WEIGHTS)
    return elementwise_work(node, macs=node.input(INPUT).n_elements * w.n_elements // max(1, w.shape[3]))


# --- kernels ------------------------------------------------------------------------------------------------------


def _scatter(x: Array, weights: Array, h: Axis, w: Axis, out: Array, finish: Callable[[Array], Array]) -> None:
    """out = finish(Σ taps x·w): x [N, H, W, C]; weights [h, w, C, out]; finish: (sums [n, out] → array)."""
    n, rows, columns, depth = x.shape
    channels = weights.shape[3]
    canvas_shape = (
        max((rows - 1) * h.stride + h.window, h.pad_before + h.size),
        max((columns - 1) * w.stride + w.window, w.pad_before + w.size),
        channels,
    )
    for image in range(n):
        canvas = np.zeros(canvas_shape, x.dtype)
        flat = x[image].reshape(-1, depth)
        for ky in range(h.window):
            for kx in range(w.window):
                part = (flat @ weights[ky, kx]).reshape(rows, columns, channels)
                canvas[
                    ky : ky + (rows - 1) * h.stride + 1 : h.stride,
                    kx : kx + (columns - 1) * w.stride + 1 : w.stride,
                ] += part
        sums = canvas[h.pad_before : h.pad_before + h.size, w.pad_before : w.pad_before + w.size]
        for block in blocks(h.size, w.size * channels):
            out[image, block] = finish(sums[block].reshape(-1, channels)).reshape(-1, w.size, channels)


def _taps(w: Array) -> Array:
    """[out, h, w, in] → [h, w, in, out]."""
    return np.ascontiguousarray(w.transpose(1, 2, 3, 0))


def _float(node: Node) -> Kernel:
    activation = node.options.fused_activation_function
    taps_of = packed(node.input(WEIGHTS), _taps)

    def run(dims: Array, w: Array, x: Array, bias: Array | None = None) -> Sequence[Array]:
        shape = _output_shape(node, at_run(node), numbers(dims))
        out = np.empty(shape, np.float32)

        def finish(sums: Array) -> Array:
            return clamp_float(sums if bias is None else sums + bias.reshape(-1), activation)

        _scatter(x, taps_of(w), *_axes(node, shape), out, finish)
        return (out,)

    return run


def _magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    """Σ|x||w| + |bias| per output element."""
    weights = replace(node.input(WEIGHTS), value=None)
    specs = (node.inputs[SHAPE], weights, *node.inputs[INPUT:])
    plain = Node(node.op, specs, node.outputs, node.options.replace(fused_activation_function=0))
    return _float(plain)(inputs[0], *(None if x is None else np.abs(x) for x in inputs[1:]))


def _quantized(node: Node) -> Kernel:
    x_q, y_q, y = node.quantization(INPUT), node.output_quantization(), node.outputs[0]
    low, high = activation_range(node.options.fused_activation_function, y.dtype, y_q)
    multiplier, shift = conv_multipliers(node, node.input(WEIGHTS).shape[0], INPUT)
    w_zp = conv_weights_zero(node, INPUT)
    x_range = value_range(node.input(INPUT).dtype, x_q.zero_point)

    def pack(w: Array) -> Array:
        weights = w.astype(np.int32) - w_zp
        return _taps(weights.astype(exact_float(weights, (1, 2, 3), x_range)))

    taps_of = packed(node.input(WEIGHTS), pack)

    def run(dims: Array, w: Array, x: Array, bias: Array | None = None) -> Sequence[Array]:
        shape = _output_shape(node, at_run(node), numbers(dims))
        out = np.empty(shape, y.dtype.numpy)
        taps = taps_of(w)

        def finish(sums: Array) -> Array:
            return rescaled(accumulated(sums, bias), multiplier, shift, y_q.zero_point, low, high)

        _scatter(centred(x, x_q.zero_point, taps.dtype), taps, *_axes(node, shape), out, finish)
        return (out,)

    return run


# --- rules --------------------------------------------------------------------------------------------------------


def _bias_zero_point(node: Node) -> str | None:
    if not node.has_input(BIAS) or node.input(INPUT).dtype is not DType.INT8:
        return None
    zero_point = params(node.input(BIAS))[1]
    return f"zero point {zero_point}" if zero_point else None


CONSTRAINTS = (
    weight_scales(0, INPUT),
    bias_scale((DType.UINT8,), INPUT, BIAS),
    Constraint("bias_zero_point", "the bias of int8 data must have the zero point 0", _bias_zero_point),
)


# --- cases --------------------------------------------------------------------------------------------------------


def _size(rng: np.random.Generator, x: int, window: int, stride: int, padding: int) -> int:
    """A size that a convolution turns into ``x``."""
    if padding == 1:
        return (x - 1) * stride + window + int(rng.integers(0, stride))
    return (x - 1) * stride + 1 + int(rng.integers(0, stride))


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for i in range(10):
        n, c_in, c_out = (int(k) for k in rng.integers(1, 4, 3))
        rows, columns, kh, kw = (int(k) for k in rng.integers(1, 5, 4))
        sh, sw = (int(k) for k in rng.integers(1, 4, 2))
        padding = int(rng.integers(0, 2))
        shape = (n, _size(rng, rows, kh, sh, padding), _size(rng, columns, kw, sw, padding), c_out)
        dims = Operand(np.array(shape, np.int32), constant=bool(rng.random() < 0.7))
        options = {
            "padding": padding,
            "stride_h": sh,
            "stride_w": sw,
            "fused_activation_function": int(rng.integers(0, 4)),
        }
        constant, with_bias = bool(rng.random() < 0.7), bool(rng.random() < 0.6)
        x_shape, w_shape = (n, rows, columns, c_in), (c_out, kh, kw, c_in)
        bias = Operand(reals(rng, (c_out,)), constant=True) if with_bias else None
        w = Operand(reals(rng, w_shape), constant=constant)
        yield Case(f"float32_{i}", (dims, w, Operand(reals(rng, x_shape)), bias), (Result(DType.FLOAT32),), options)
        for dtype, per_channel in ((DType.INT8, False), (DType.INT8, True), (DType.UINT8, False)):
            name = f"{dtype}{'_per_channel' if per_channel else ''}_{i}"
            yield _quantized_case(rng, name, dtype, dims, x_shape, w_shape, per_channel, with_bias, constant, options)
    yield from _extremes(rng)
    yield from _refused(rng)


def _quantized_case(
    rng: np.random.Generator,
    name: str,
    dtype: DType,
    dims: Operand,
    x_shape: Shape,
    w_shape: Shape,
    per_channel: bool,
    with_bias: bool,
    constant: bool,
    options: dict[str, Any],
    zero_point: int | None = None,
    y_scale: float | None = None,
) -> Case:
    x_q, x = quantized(rng, dtype, x_shape, zero_point=zero_point)
    if per_channel:
        w_q, w = Quantization.per_channel(rng.uniform(0.001, 0.05, w_shape[0])), integers(rng, dtype, w_shape)
    else:
        w_q, w = quantized(rng, dtype, w_shape, scale=0.02, zero_point=0 if dtype is DType.INT8 else None)
    bias = None
    if with_bias:
        data, q = bias_for(rng, x_q, w_q, w_shape[0])
        bias = Operand(data, q, constant=True)
    if y_scale is None:
        y_scale = float(rng.uniform(0.02, 0.2)) * float(x_q.scale) * 40
    if zero_point is None:
        zero_point = int(integers(rng, dtype, ()))
    return Case(
        name,
        (dims, Operand(w, w_q, constant=constant), Operand(x, x_q), bias),
        (Result(dtype, Quantization.per_tensor(y_scale, zero_point)),),
        options,
    )


def _extremes(rng: np.random.Generator) -> Iterator[Case]:
    dims = Operand(np.array((1, 5, 6, 2), np.int32), constant=True)
    options = {"stride_h": 2, "stride_w": 2}
    for dtype in (DType.INT8, DType.UINT8):
        info = np.iinfo(dtype.numpy)
        for scale in (1e-6, 1e-2, 1e4):
            for zero in (int(info.min), int(info.max)):
                name = f"{dtype}_scale_{scale:g}_zero_{zero}"
                yield _quantized_case(
                    rng,
                    name,
                    dtype,
                    dims,
                    (1, 3, 3, 5),
                    (2, 3, 3, 5),
                    False,
                    False,
                    True,
                    options,
                    zero,
                    scale,
                )
    # the window is smaller than the stride: some outputs are the bias alone
    x, w = Operand(reals(rng, (1, 2, 2, 1))), Operand(reals(rng, (2, 1, 1, 1)), constant=True)
    dims = Operand(np.array((1, 6, 4, 2), np.int32), constant=True)
    bias = Operand(reals(rng, (2,)))
    options = {"stride_h": 3, "stride_w": 2}
    yield Case("float32_gaps", (dims, w, x, bias), (Result(DType.FLOAT32),), options)


def _refused(rng: np.random.Generator) -> Iterator[Case]:
    """Shapes that do not fit, and what else LiteRT refuses."""
    x, w = Operand(reals(rng, (1, 3, 3, 2))), Operand(reals(rng, (4, 3, 3, 2)), constant=True)
    y, options = (Result(DType.FLOAT32),), {"stride_h": 2, "stride_w": 2}
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("batch", (2, 6, 6, 4)),
        ("channels", (1, 6, 6, 3)),
        ("height", (1, 7, 6, 4)),
        ("width", (1, 6, 4, 4)),
        ("rank", (6, 6, 4)),
        ("negative", (1, -1, 6, 4)),
    ]
    for constant in (True, False):
        for name, shape in shapes:
            dims = Operand(np.array(shape, np.int32), constant=constant)
            where = "constant" if constant else "given"
            yield Case(f"misfit_{name}_{where}", (dims, w, x), y, options)
    dims = Operand(np.array((1, 6, 6, 4), np.int32), constant=True)
    yield Case("stride_0", (dims, w, x), y)
    yield Case("bias_misfit", (dims, w, x, Operand(reals(rng, (3,)))), y, options)
    yield Case("depth_misfit", (dims, Operand(reals(rng, (4, 3, 3, 1))), x), y, options)
    one = Quantization.per_tensor(1.0)
    for name, dtype, w_q, bias_q in (
        ("uint8_per_channel", DType.UINT8, Quantization.per_channel([1.0, 2.0, 1.0, 1.0]), one),
        ("uint8_bias_near", DType.UINT8, one, Quantization.per_tensor(1.0199)),
        ("uint8_bias_far", DType.UINT8, one, Quantization.per_tensor(1.0201)),
        ("int8_bias_far", DType.INT8, one, Quantization.per_tensor(1.0201)),
        ("int8_bias_zero_point", DType.INT8, one, Quantization.per_tensor(1.0, 3)),
    ):
        operands = (
            dims,
            Operand(integers(rng, dtype, w.data.shape), w_q, constant=True),
            Operand(integers(rng, dtype, x.data.shape), one),
            Operand(np.arange(4, dtype=np.int32), bias_q, constant=True),
        )
        yield Case(name, operands, (Result(dtype, one),), options)


# --- declarations -------------------------------------------------------------------------------------------------

TRANSPOSE_CONV = OpDef(
    name="TRANSPOSE_CONV",
    inputs=("output_shape", "weights", "input", "bias?"),
    outputs=("output",),
    options="TransposeConvOptions",
    versions=(1, 5),
    shapes=_shapes,
    work=_work,
    forms=(
        Form("int32, float32, float32, float32? -> float32", _float),
        Form("int32, int8, int8, int32? -> int8", _quantized),
        Form("int32, uint8, uint8, int32? -> uint8", _quantized),
    ),
    constraints=CONSTRAINTS,
    bound=bounds.sums(_magnitude),
    cases=_cases,
)

OPS = (TRANSPOSE_CONV,)
