"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: constants, layouts, and the choice of a tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.families.convolution import window_axes
from delegraph.core.ops.families.fully_connected import rescaling_factors, weights_zero
from delegraph.core.ops.fixed_point import activation_bounds, activation_range
from delegraph.core.ops.integer_sums import conv_multipliers, conv_weights_zero, value_range
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.windows import Axis
from delegraph.delegates.cpu import packing
from delegraph.delegates.cpu.constraints import computable, constant
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.depthwise import Depthwise
from delegraph.delegates.cpu.kernels.dots import GROUPS
from delegraph.delegates.cpu.kernels.gemm import Gemm
from delegraph.delegates.cpu.kernels.kernel import width
from delegraph.delegates.cpu.lower import Lowering, Ref
from delegraph.delegates.cpu.ops.inputs import Source, padded_source
from delegraph.delegates.cpu.ops.registry import lowering

WEIGHTS_CONSTANT = constant(1, what="weights")
BIAS_CONSTANT = constant(2, what="bias")
TYPES = ("float32, float32, float32? -> float32", "int8, int8, int32? -> int8", "uint8, uint8, int32? -> uint8")

CACHE_BYTES = 1 << 19
"""Weights up to this size stay in the second-level cache while the pixels pass by."""


# --- sums as data -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What a quantized sum of products needs per channel. weights: [channels, elements] less their zero point."""

    weights: Array
    bias: Array
    x_zero: int
    w_zero: int
    x_range: int

    @classmethod
    def of(cls, node: Node, weights: Array, w_zero: int) -> Sums:
        """weights: [channels, elements] as stored."""
        channels = weights.shape[0]
        bias = np.zeros(channels, np.int32)
        if node.has_input(2):
            given = node.input(2).value
            assert given is not None  # a bias that is no constant is refused before
            bias = given.reshape(-1)
        x_zero = node.quantization(0).zero_point
        return cls(
            weights.astype(np.int64) - w_zero,
            bias.astype(np.int64),
            x_zero,
            w_zero,
            value_range(node.input(0).dtype, x_zero),
        )

    def largest(self) -> Array:
        """Per channel, the largest |sum| that any input gives."""
        found: Array = np.abs(self.weights).sum(1) * self.x_range + np.abs(self.bias)
        return found

    def folded_bias(self, x_zero: int) -> Array:
        """The bias for inputs that are summed up with the zero point ``x_zero`` still in them."""
        found: Array = self.bias - x_zero * self.weights.sum(1)
        return found


def _float_block(low: Lowering, node: Node, channels: int, index: Array | None) -> tuple[Ref, str]:
    """Constants of a float kernel, and its finish. index: channels of the vectors, None for their own order."""
    value = node.input(2).value if node.has_input(2) else None
    bias = np.zeros(channels, np.float32) if value is None else value.reshape(-1)
    least, most = activation_bounds(node.options.fused_activation_function)
    head = packing.head(least, most, dtype=np.float32)
    arranged = bias.reshape(-1, 1) if index is None else packing.vectors_of(bias, index).astype(np.float32)
    kind = "plain" if (least, most) == (-np.inf, np.inf) else "clamp"
    return low.constant(packing.block(head, [arranged])), kind


def _fixed_block(low: Lowering, node: Node, sums: Sums, bias: Array, index: Array, w_zero: int) -> tuple[Ref, str]:
    """Constants of a fixed-point kernel, and its finish. bias: folded; w_zero: for kernels that sum up the inputs."""
    y = node.outputs[0]
    zero_point = node.output_quantization().zero_point
    low_value, high = activation_range(node.options.fused_activation_function, y.dtype, node.output_quantization())
    multiplier, shift = conv_multipliers(node, len(bias))
    head = packing.head(low_value, high, zero_point, w_zero)
    if packing.fast_fits(sums.largest(), multiplier, shift, zero_point):
        arrays = packing.fast_constants(
            packing.vectors_of(multiplier, index, 1 << 30), packing.vectors_of(shift, index, -1), zero_point
        )
        kind, bias = "fast", bias + 2**31
    else:
        arrays = packing.general_constants(packing.vectors_of(multiplier, index), packing.vectors_of(shift, index))
        kind = "general"
    arranged = packing.wrapped_int32(packing.vectors_of(packing.wrapped_int32(bias), index))
    return low.constant(packing.block(head, [arranged, *arrays])), kind


def _double_block(low: Lowering, node: Node, bias: Array, index: Array, w_zero: int) -> tuple[Ref, str]:
    """Constants of FULLY_CONNECTED's rescaling."""
    y_q = per_tensor(node, None)
    least, most = activation_range(node.options.fused_activation_function, node.outputs[0].dtype, y_q)
    factors = packing.vectors_of(np.broadcast_to(rescaling_factors(node), bias.shape), index).astype(np.float64)
    head = packing.head(least, most, y_q.zero_point, w_zero)
    arranged = packing.wrapped_int32(packing.vectors_of(packing.wrapped_int32(bias), index))
    return low.constant(packing.block(head, [arranged, factors])), "double"


# --- the choice of a kernel ---------------------------------------------------------------------------------------


def dot_kind(target: Target, dtype: DType) -> str:
    """How sums of products of a type are computed."""
    if dtype is DType.FLOAT32:
        return "f32"
    if not target.has_vnni:
        return "i16"
    return "s8" if dtype is DType.INT8 else "u8"


def choose_tile(target: Target, pixels: int, n_vectors: int, row_sums: bool) -> tuple[int, int]:
    """(pixels, vectors) of a register tile: the least work over all tiles, loads and idle lanes counted.

    A model of the loop: a product a cycle, loads at a bit more than half of that, at least 8 sums in flight.
    """
    registers = target.registers - 4
    best, best_cost = (1, 1), float("inf")
    for nv in range(1, min(8, n_vectors) + 1):
        for mr in range(1, min(pixels, 14) + 1):
            sums = mr * (nv + row_sums)
            if sums + nv > registers + 2 or sums > registers:
                continue
            cost = -(-pixels // mr) * -(-n_vectors // nv) * (max(sums, 8) + 0.6 * (mr + nv) + 1)
            if cost < best_cost:
                best, best_cost = (mr, nv), cost
    return best


@dataclass(frozen=True, slots=True)
class Geometry:
    """A sum of products over an image: sizes of the output, and the runs that each of it sums up. swapped: what is
    called a row is a column of the image: tiles lie along the longer side."""

    images: int
    rows: int
    pixels: int
    taps: tuple[tuple[int, int], ...]
    depth: int
    swapped: bool = False

    def strides(self, pixel: int) -> tuple[int, int, int]:
        """Bytes along image, row and pixel of a dense output."""
        image = self.rows * self.pixels * pixel
        return (image, pixel, self.rows * pixel) if self.swapped else (image, self.pixels * pixel, pixel)


NARROW = 6
"""Rows shorter than this make poor tiles; columns are taken instead where they are longer."""


def emit_gemm(
    low: Lowering, node: Node, op: str, source: Source, shape: Geometry, channels: int, group: int, groups: int
) -> None:
    """The command for one group of channels. channels: of the group."""
    x, y = node.input(0), node.outputs[0]
    dot = dot_kind(low.target, x.dtype)
    n_taps = int(np.prod([n for n, _ in shape.taps], initial=1))
    value = node.input(1).value
    assert value is not None
    weights = np.asarray(value).reshape(groups, channels, -1)[group]
    lanes = max(4, width(channels, low.target.lanes))
    stored_zero = _weights_zero(node, op)
    offset = {"s8": 0, "u8": 128}.get(dot, stored_zero)  # what packed weights are less than stored ones
    w_zero = stored_zero - offset
    row_sums = dot in ("s8", "u8") and w_zero != 0
    mr, nv = choose_tile(low.target, shape.pixels, -(-channels // lanes), row_sums)
    index = packing.channel_vectors(channels, lanes, nv)
    if dot == "f32":
        constants, finish = _float_part(low, node, channels, index, group, groups)
    else:
        sums = Sums.of(node, np.asarray(value).reshape(groups * channels, -1), stored_zero)
        # Inputs are summed up as they lie in memory: int8 plus 128, uint8 as it is, int16 less the zero point.
        x_zero = {"s8": sums.x_zero + 128, "u8": sums.x_zero}.get(dot, 0)
        bias = sums.folded_bias(x_zero)
        at = index + np.where(index >= 0, group * channels, 0)
        if op == "fully_connected":
            constants, finish = _double_block(low, node, bias, at, w_zero)
        else:
            constants, finish = _fixed_block(low, node, sums, bias, at, w_zero)
    layout = packing.GemmLayout(dot, lanes, nv, channels, n_taps, shape.depth, group, groups, offset)
    element = y.dtype.numpy.itemsize
    pixel = groups * channels * element
    kernel = Gemm(
        op,
        dot,
        lanes,
        shape.images,
        shape.rows,
        shape.pixels,
        channels,
        shape.depth,
        shape.taps,
        source.strides,
        shape.strides(pixel),
        finish,
        row_sums,
        mr,
        nv,
        panels_outer=weights.size * GROUP_BYTES[dot] > CACHE_BYTES,
    )
    start = source.place + group * (node.input(1).shape[-1]) * source.element
    low.emit(kernel, low.output(node) + group * channels * element, start, low.pack(node, 1, layout), constants)


GROUP_BYTES = {kind: 4 // n for kind, n in GROUPS.items()}


def _float_part(low: Lowering, node: Node, channels: int, index: Array, group: int, groups: int) -> tuple[Ref, str]:
    at = index + np.where(index >= 0, group * channels, 0)
    return _float_block(low, node, groups * channels, at)


def _weights_zero(node: Node, op: str) -> int:
    """The weights' zero point, where the op reads it."""
    if node.input(1).dtype is DType.FLOAT32:
        return 0
    return weights_zero(node) if op == "fully_connected" else conv_weights_zero(node)


def rescaling(node: Node) -> object:
    """What a quantized convolution's results are scaled by and kept within."""
    if node.input(0).dtype is DType.FLOAT32:
        return activation_bounds(node.options.fused_activation_function)
    y, activation = node.outputs[0], node.options.fused_activation_function
    limits = activation_range(activation, y.dtype, node.output_quantization())
    return conv_multipliers(node, y.shape[-1]), node.quantization(0), limits


def real_rescaling(node: Node) -> object:
    """The same of FULLY_CONNECTED."""
    if node.input(0).dtype is DType.FLOAT32:
        return activation_bounds(node.options.fused_activation_function)
    y_q = per_tensor(node, None)
    limits = activation_range(node.options.fused_activation_function, node.outputs[0].dtype, y_q)
    return per_tensor(node, 0), node.quantization(1), limits


# --- ops ----------------------------------------------------------------------------------------------------------


@lowering("CONV_2D", *TYPES, constraints=(WEIGHTS_CONSTANT, BIAS_CONSTANT, computable(rescaling)))
def lower_conv(low: Lowering, node: Node) -> None:
    x, w, (h, v) = node.input(0), node.input(1), window_axes(node)
    groups, dot = x.shape[3] // w.shape[3], dot_kind(low.target, x.dtype)
    joined = groups == 1 and v.dilation == 1
    depth = w.shape[2] * w.shape[3] if joined else w.shape[3]
    source = padded_source(low, node, h, v, wide=dot == "i16", slack=depth % GROUPS[dot] != 0)
    if h.window == v.window == 1 and h.stride == v.stride == 1:
        shape = Geometry(1, 1, x.n_elements // x.shape[3], (), depth)
    else:
        loops = [(h.window, h.dilation * source.strides[1])]
        if not joined:
            loops.append((v.window, v.dilation * source.strides[2]))
        taps = tuple(t for t in loops if t[0] > 1)
        source = source.strided(h.stride, v.stride)
        shape = Geometry(x.shape[0], h.out, v.out, taps, depth)
        if v.out < min(NARROW, h.out):
            shape, source = Geometry(x.shape[0], v.out, h.out, taps, depth, swapped=True), source.swapped()
    for group in range(groups):
        emit_gemm(low, node, "conv_2d", source, shape, w.shape[0] // groups, group, groups)


@lowering("FULLY_CONNECTED", *TYPES, constraints=(WEIGHTS_CONSTANT, BIAS_CONSTANT, computable(real_rescaling)))
def lower_fully_connected(low: Lowering, node: Node) -> None:
    units, depth = node.input(1).shape
    rows = node.input(0).n_elements // depth
    dot = dot_kind(low.target, node.input(0).dtype)
    line = Axis(1, 1, 1, 1, 0, 1)
    source = padded_source(
        low, node, line, line, wide=dot == "i16", slack=depth % GROUPS[dot] != 0, shape=(1, 1, rows, depth)
    )
    emit_gemm(low, node, "fully_connected", source, Geometry(1, 1, rows, (), depth), units, 0, 1)


@lowering("DEPTHWISE_CONV_2D", *TYPES, constraints=(WEIGHTS_CONSTANT, BIAS_CONSTANT, computable(rescaling)))
def lower_depthwise(low: Lowering, node: Node) -> None:
    x, w, y, (h, v) = node.input(0), node.input(1), node.outputs[0], window_axes(node)
    channels = w.shape[3]
    is_float = x.dtype is DType.FLOAT32
    value = node.input(1).value
    assert value is not None
    lanes = width(channels, low.target.lanes) if is_float else max(8, width(channels, 2 * low.target.lanes)) // 2
    pad_channels = channels if is_float else max(channels, 2 * lanes)
    source = padded_source(
        low, node, h, v, wide=False, slack=False, repeat=channels // x.shape[3], channels=pad_channels
    )
    taps = (h.dilation * source.strides[1], v.dilation * source.strides[2])
    source = source.strided(h.stride, v.stride)
    if is_float:
        constants, finish = _float_block(low, node, channels, None)
        weights = low.constant_tensor(node, 1)
        dot = "f32"
    else:
        zero = _weights_zero(node, "depthwise_conv_2d")
        index = packing.interleaved_vectors(channels, lanes)
        sums = Sums.of(node, np.asarray(value).reshape(-1, channels).T, zero)
        constants, finish = _fixed_block(low, node, sums, sums.folded_bias(sums.x_zero), index, 0)
        weights = low.pack(node, 1, packing.DepthwiseLayout(lanes, w.shape[1], w.shape[2], channels, zero))
        dot = "s8" if x.dtype is DType.INT8 else "u8"
    pixel = channels * y.dtype.numpy.itemsize
    columns = min(v.out, 6 if is_float and low.target.registers == 32 else 4 if low.target.registers == 32 else 2)
    kernel = Depthwise(
        dot,
        lanes,
        x.shape[0],
        h.out,
        v.out,
        channels,
        (w.shape[1], w.shape[2]),
        source.strides,
        (h.out * v.out * pixel, v.out * pixel, pixel),
        taps,
        finish,
        columns,
    )
    low.emit(kernel, low.output(node), source.place, weights, constants)
