"""FULLY_CONNECTED.

Source: tflite/kernels/fully_connected.cc; kernels/internal/reference/fully_connected.h, reference/integer_ops/
fully_connected.h. Weights are [units, depth]; the input is read as rows of ``depth`` elements, whatever its rank.

Unlike the convolutions, the reference kernels rescale in floating point: ``round(acc · s_in · s_w / s_out)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.cases import bias_for, integers, quantized, reals
from delegraph.core.ops.fixed_point import activation_range, clamp_float, round_half_away
from delegraph.core.ops.integer_sums import (
    accumulated,
    bias_scale,
    blocks,
    centred,
    exact_float,
    expect_bias,
    value_range,
    weight_scales,
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
    packed,
)
from delegraph.core.ops.pointwise import c_int32

# --- shapes and work ----------------------------------------------------------------------------------------------


def _shapes(node: Node) -> Sequence[Shape | None]:
    x, w = node.input(0).shape, node.input(1).shape
    node.expect(len(w) == 2, "inputs[1]", "2 dimensions", w)
    units, depth = w
    if depth > 0:
        expect_bias(node, units)
    if node.options.keep_num_dims:
        node.expect(len(x) > 0 and x[-1] == depth, "inputs[0]", f"rows of {depth} elements", x)
        return [(*x[:-1], units)]
    if depth == 0:
        return [(math.prod(x[:-1]), units)]
    n = math.prod(x)
    node.expect(n % depth == 0, "inputs[0]", f"a multiple of {depth} elements", x)
    return [(n // depth, units)]


def _work(node: Node) -> Work:
    depth = node.input(1).shape[1]
    return elementwise_work(node, macs=node.outputs[0].n_elements * depth)


# --- kernels ------------------------------------------------------------------------------------------------------


def _rows(x: Array, w: Array) -> Array:
    return x.reshape(-1, w.shape[1])


def _empty(node: Node) -> Kernel | None:
    """The kernel for weights of depth 0: LiteRT writes zeros then, whatever the bias and the zero point."""
    y = node.outputs[0]
    if node.input(1).shape[1] > 0:
        return None
    return lambda *_: (np.zeros(y.shape, y.dtype.numpy),)


def _float(node: Node) -> Kernel:
    activation, shape = node.options.fused_activation_function, node.outputs[0].shape

    def run(x: Array, w: Array, bias: Array | None = None) -> Sequence[Array]:
        y = _rows(x, w) @ w.T
        if bias is not None:
            y += bias.reshape(-1)
        return (clamp_float(y, activation).reshape(shape),)

    return _empty(node) or run


def _magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    """Σ|x||w| + |bias| per output element."""
    plain = Node(node.op, node.inputs, node.outputs, node.options.replace(fused_activation_function=0))
    return _float(plain)(*(None if x is None else np.abs(x) for x in inputs))


def weights_zero(node: Node) -> int:
    """The weights' zero point as the kernels take it: a scale per unit means that they are symmetric, and that their
    zero points are not read."""
    w_q = node.quantization(1)
    return w_q.zero_point if w_q.is_per_tensor else 0


def rescaling_factors(node: Node) -> Array:
    """What sums of 8-bit products are multiplied by: ``s_in · s_w / s_out``, float64 [1 or units]. Source:
    FullyConnected, FullyConnectedPerChannel (reference/integer_ops/fully_connected.h)."""
    x_q, y_q = per_tensor(node, 0), per_tensor(node, None)
    scales = node.quantization(1).scales.astype(np.float64)
    factors: Array = np.float64(x_q.scale) * scales / np.float64(y_q.scale)
    return factors


def _quantized(node: Node) -> Kernel:
    x_q, y_q = per_tensor(node, 0), per_tensor(node, None)
    y = node.outputs[0]
    low, high = activation_range(node.options.fused_activation_function, y.dtype, y_q)
    w_zp, factor = weights_zero(node), rescaling_factors(node)
    x_range = value_range(node.input(0).dtype, x_q.zero_point)

    def pack(w: Array) -> Array:
        weights = w.astype(np.int32) - w_zp
        return weights.astype(exact_float(weights, 1, x_range))

    weights_of = packed(node.input(1), pack)

    def run(x: Array, w: Array, bias: Array | None = None) -> Sequence[Array]:
        weights = weights_of(w)
        rows = _rows(x, w)
        out = np.empty((rows.shape[0], w.shape[0]), y.dtype.numpy)
        sums = centred(rows, x_q.zero_point, weights.dtype) @ weights.T
        for part in blocks(*sums.shape):
            out[part] = _rescaled(accumulated(sums[part], bias), factor, y_q.zero_point, low, high)
        return (out.reshape(y.shape),)

    return _empty(node) or run


def _rescaled(acc: Array, factor: Array, zero_point: int, low: int, high: int) -> Array:
    """``round(acc · factor) + zero_point``, clamped; int32 arithmetic that wraps, as compiled for x86."""
    scaled = c_int32(round_half_away(acc * factor))
    scaled += zero_point
    y: Array = np.clip(scaled.astype(np.int32), low, high)
    return y


# --- rules --------------------------------------------------------------------------------------------------------


def _is_dense(node: Node) -> bool:
    return node.input(1).sparsity is None


def _shuffled(node: Node) -> str | None:
    return "SHUFFLED4x16INT8" if node.options.weights_format == 1 else None


def _channel_axis(node: Node) -> str | None:
    w = node.input(1).quantization
    if w is None or w.scales.size <= 1 or node.input(0).dtype is DType.FLOAT32 or w.axis == 0:
        return None
    return f"axis {w.axis}"


CONSTRAINTS = (
    Constraint("weights_format", "the weights must be in the default format", _shuffled),
    Constraint("channel_axis", "scales per unit must be along axis 0", _channel_axis),
    weight_scales(0),
    bias_scale((DType.INT8, DType.UINT8)),
)


# --- cases --------------------------------------------------------------------------------------------------------


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    # x, units, depth, keep_num_dims
    fixed: list[tuple[tuple[int, ...], int, int, bool]] = [
        ((3, 5), 4, 5, False),
        ((2, 3, 5), 4, 5, False),
        ((2, 3, 5), 4, 5, True),
        ((2, 1, 3, 4), 5, 12, False),
        ((12,), 3, 4, False),
        ((4,), 3, 4, True),
        ((), 3, 1, False),
        ((1, 1), 1, 1, True),
        ((0, 4), 3, 4, False),
        ((2, 4), 0, 4, False),
        ((2, 0), 3, 0, False),
        ((2, 3, 0), 4, 0, True),
        ((1, 300), 3, 300, False),
    ]
    for i in range(3):
        lead = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 4)))
        depth = int(rng.integers(1, 40))
        fixed.append(((*lead, depth), int(rng.integers(1, 9)), depth, bool(i % 2)))
    for i, (x_shape, units, depth, keep) in enumerate(fixed):
        options = {"keep_num_dims": keep, "fused_activation_function": int(rng.integers(0, 4))}
        name = f"{'x'.join(map(str, x_shape))}_to_{units}{'_keep' if keep else ''}_{i}"
        with_bias, constant = bool(rng.random() < 0.7), bool(rng.random() < 0.7)
        bias = Operand(reals(rng, (units,)), constant=bool(rng.random() < 0.8)) if with_bias else None
        w = Operand(reals(rng, (units, depth)), constant=constant)
        x = Operand(reals(rng, x_shape))
        yield Case(f"float32_{name}", (x, w, bias), (Result(DType.FLOAT32),), options)
        for dtype in (DType.INT8, DType.UINT8):
            for per_channel in (False, True) if dtype is DType.INT8 and units > 1 else (False,):
                kind = f"{dtype}{'_per_channel' if per_channel else ''}_{name}"
                yield _quantized_case(
                    rng, kind, dtype, x_shape, (units, depth), per_channel, with_bias, constant, options
                )
    yield from _extremes(rng)
    yield from _refused(rng)


def _weights(
    rng: np.random.Generator, dtype: DType, shape: tuple[int, int], per_channel: bool
) -> tuple[Quantization, Array]:
    if per_channel:
        # zero points per channel are not read
        zeros = rng.integers(-3, 4, shape[0]) if rng.random() < 0.3 else None
        scales = rng.uniform(0.001, 0.05, shape[0])
        return Quantization.per_channel(scales, 0, zeros), integers(rng, dtype, shape)
    zero_point = 0 if dtype is DType.INT8 and rng.random() < 0.5 else None  # the kernels take any
    return quantized(rng, dtype, shape, zero_point=zero_point)


def _quantized_case(
    rng: np.random.Generator,
    name: str,
    dtype: DType,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, int],
    per_channel: bool,
    with_bias: bool,
    constant: bool,
    options: dict[str, Any],
    *,
    out: DType | None = None,
    y_scale: float | None = None,
    x_zp: int | None = None,
    y_zp: int | None = None,
) -> Case:
    out = out or dtype
    x_q, x = quantized(rng, dtype, x_shape, zero_point=x_zp)
    w_q, w = _weights(rng, dtype, w_shape, per_channel)
    if y_scale is None:
        step = float(x_q.scale) * float(np.median(w_q.scales)) * max(1, w_shape[1]) ** 0.5
        y_scale = step * float(rng.uniform(5, 100)) / (200 if out is DType.INT16 else 1)
    if y_zp is None:
        y_zp = 0 if out is DType.INT16 else int(integers(rng, dtype, ()))
    bias = None
    if with_bias:
        data, q = bias_for(rng, x_q, w_q, w_shape[0])
        bias = Operand(data, q, constant=True)
    return Case(
        name,
        (Operand(x, x_q), Operand(w, w_q, constant=constant), bias),
        (Result(out, Quantization.per_tensor(y_scale, y_zp)),),
        options,
    )


def _extremes(rng: np.random.Generator) -> Iterator[Case]:
    """Zero points at the ends, scales far apart, sums that wrap and results out of int32, int16 output."""
    for dtype in (DType.INT8, DType.UINT8):
        info = np.iinfo(dtype.numpy)
        for y_scale in (1e-9, 1e-5, 3e-3, 1e5):
            for end in (int(info.min), int(info.max)):
                name = f"{dtype}_scale_{y_scale:g}_zero_{end}"
                yield _quantized_case(
                    rng,
                    name,
                    dtype,
                    (3, 7),
                    (4, 7),
                    False,
                    False,
                    True,
                    {},
                    y_scale=y_scale,
                    x_zp=end,
                    y_zp=end,
                )
    for i in range(3):
        options = {"fused_activation_function": i}
        name = f"uint8_to_int16_{i}"
        yield _quantized_case(rng, name, DType.UINT8, (2, 9), (5, 9), False, True, bool(i), options, out=DType.INT16)
    # exact halves
    x = np.arange(-20, 20, dtype=np.int8).reshape(-1, 1)
    half, one = Quantization.per_tensor(0.5), Quantization.per_tensor(1.0)
    w = Operand(np.ones((1, 1), np.int8), one, constant=True)
    yield Case("int8_ties", (Operand(x, half), w, None), (Result(DType.INT8, one),))
    big = Operand(np.full(1, 2**31 - 5, np.int32), half, constant=True)
    yield Case("int8_wraps", (Operand(x, half), w, big), (Result(DType.INT8, Quantization.per_tensor(1e8)),))


def _refused(rng: np.random.Generator) -> Iterator[Case]:
    """What LiteRT refuses too."""
    x, w = Operand(reals(rng, (2, 4))), Operand(reals(rng, (3, 4)), constant=True)
    y = (Result(DType.FLOAT32),)
    yield Case("tanh", (x, w), y, {"fused_activation_function": 4})
    yield Case("shuffled", (x, w), y, {"weights_format": 1})
    rows = Operand(reals(rng, (2, 2, 4)))
    yield Case("keep_misfit", (rows, Operand(reals(rng, (3, 8)))), y, {"keep_num_dims": True})
    yield Case("bias_misfit", (x, w, Operand(reals(rng, (2,)))), y)
    yield Case("rank_3_weights", (x, Operand(reals(rng, (3, 2, 2)))), y)
    q, data = quantized(rng, DType.INT8, (2, 3))
    x = Operand(data, q)
    one, out = Quantization.per_tensor(1.0), (Result(DType.INT8, Quantization.per_tensor(1.0)),)
    weights = np.ones((3, 3), np.int8)
    for axis in (0, 1):
        per_unit = Quantization.per_channel([0.1, 0.2, 0.3], axis)
        yield Case(f"int8_axis_{axis}", (x, Operand(weights, per_unit, constant=True)), out)
    q, data = quantized(rng, DType.UINT8, (2, 3))
    x = Operand(data, q)
    w = Operand(weights.view(np.uint8), one, constant=True)
    out = (Result(DType.UINT8, one),)
    per_unit = Quantization.per_channel([0.1, 0.2, 0.3], 0)
    yield Case("uint8_per_channel", (x, Operand(w.data, per_unit, constant=True)), out)
    bias = np.arange(3, dtype=np.int32)
    for name, bias_q in (
        ("near", Quantization.per_tensor(float(q.scale) + 0.0199)),
        ("far", Quantization.per_tensor(float(q.scale) + 0.0201)),
        ("none", None),
    ):
        yield Case(f"uint8_bias_{name}", (x, w, Operand(bias, bias_q, constant=True)), out)


# --- declarations -------------------------------------------------------------------------------------------------

FULLY_CONNECTED = OpDef(
    name="FULLY_CONNECTED",
    inputs=("input", "weights", "bias?"),
    outputs=("output",),
    options="FullyConnectedOptions",
    versions=(1, 14),
    shapes=_shapes,
    work=_work,
    forms=(
        Form("float32, float32, float32? -> float32", _float, _is_dense),
        Form("int8, int8, int32? -> int8", _quantized, _is_dense),
        Form("uint8, uint8, int32? -> uint8", _quantized, _is_dense),
        Form("uint8, uint8, int32 -> int16", _quantized, _is_dense),
    ),
    constraints=CONSTRAINTS,
    bound=bounds.sums(_magnitude),
    cases=_cases,
)

OPS = (FULLY_CONNECTED,)
