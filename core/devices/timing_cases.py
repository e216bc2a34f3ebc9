"""The ops that a device is calibrated with: the usual kinds, types and sizes, of no model. Imports core.ops, core.abi.

They are in an order such that a calibration which runs out of time has seen the most telling ones of each kind. Weights
are random, as a kernel may look at them; their quantization is what converters make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap, zip_longest
from typing import Any

import numpy as np

from delegraph.core.abi.values import Segment
from delegraph.core.devices.calibration import case_segment
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization, Shape
from delegraph.core.ops.opdef import Case, Operand, Result

FLOAT, INT, UINT = DType.FLOAT32, DType.INT8, DType.UINT8
SAME, VALID = 0, 1

# height, width and channels of the input, channels of the output, window, stride, padding
CONVS = (
    (28, 28, 32, 64, (1, 1), 1, SAME),
    (14, 14, 96, 96, (3, 3), 1, SAME),
    (96, 96, 3, 16, (3, 3), 2, SAME),
    (56, 56, 16, 96, (1, 1), 1, SAME),
    (7, 7, 256, 256, (1, 1), 1, SAME),
    (28, 28, 96, 16, (1, 1), 1, SAME),
    (1, 1, 1024, 1000, (1, 1), 1, SAME),
    (56, 56, 24, 24, (3, 3), 1, SAME),
    (1, 1, 256, 32, (1, 1), 1, SAME),
    (14, 14, 384, 64, (1, 1), 1, SAME),
    (10, 10, 72, 6, (3, 3), 1, SAME),
    (112, 112, 3, 32, (3, 3), 2, VALID),
    (40, 40, 16, 24, (5, 5), 2, SAME),
    (32, 32, 48, 8, (1, 1), 1, SAME),
    (4, 4, 128, 128, (3, 3), 2, SAME),
    (64, 64, 1, 8, (3, 3), 1, SAME),
    (14, 14, 64, 200, (1, 1), 1, SAME),
    (2, 2, 512, 24, (1, 1), 1, SAME),
    (80, 80, 32, 3, (3, 3), 1, SAME),
    (40, 40, 88, 24, (1, 1), 1, SAME),
    (48, 1, 40, 30, (5, 1), 1, VALID),
)

# height, width and channels of the input, multiplier, window, stride, padding
DEPTHWISE = (
    (28, 28, 96, 1, (3, 3), 1, SAME),
    (56, 56, 32, 1, (3, 3), 2, SAME),
    (7, 7, 384, 1, (3, 3), 1, SAME),
    (80, 80, 16, 1, (3, 3), 1, SAME),
    (48, 48, 1, 8, (3, 3), 2, SAME),
    (14, 14, 192, 1, (5, 5), 1, SAME),
    (14, 14, 240, 1, (3, 3), 2, SAME),
    (48, 48, 8, 1, (3, 3), 1, SAME),
    (30, 30, 64, 1, (3, 3), 1, VALID),
    (57, 57, 72, 1, (3, 3), 2, VALID),
    (64, 64, 48, 1, (3, 3), 1, SAME),
    (20, 20, 40, 1, (5, 5), 2, SAME),
    (4, 4, 48, 1, (3, 3), 1, SAME),
    (40, 30, 1, 8, (7, 7), 2, SAME),
    (12, 1, 64, 1, (12, 1), 1, VALID),
)

# rows, depth, units
DENSE = (
    (1, 128, 128),
    (32, 128, 256),
    (1, 1024, 256),
    (1, 640, 10),
    (512, 80, 128),
    (1, 32, 32),
    (4, 400, 100),
)

# shapes of the two operands; a constant second operand where it broadcasts
PAIRS: tuple[tuple[Shape, Shape], ...] = (
    ((1, 28, 28, 64), (1, 28, 28, 64)),
    ((1, 64, 64, 32), (32,)),
    ((1, 14, 14, 32), (1, 14, 14, 32)),
    ((1, 40, 40, 3), (3,)),
    ((1, 32, 32, 24), ()),
    ((1, 1, 1, 96), (1, 1, 1, 96)),
    ((1, 56, 56, 64), (1, 56, 56, 64)),
    ((1, 16, 16, 48), (1, 1, 1, 48)),
)
SLOPES: tuple[tuple[Shape, Shape], ...] = (
    ((1, 28, 28, 64), (1, 1, 64)),
    ((1, 12, 12, 128), (1, 1, 128)),
    ((1, 80, 80, 16), (1, 1, 16)),
)
SHAPES: tuple[Shape, ...] = ((1, 28, 28, 32), (1, 96), (1, 56, 56, 64), (1, 14, 14, 48), (1, 40, 40, 2))

# height and width, channels, height and width of the result, whether corners are aligned
RESIZES = ((16, 32, 32, False), (8, 64, 33, True), (20, 16, 80, False), (26, 64, 52, False))

# height and width, channels, window, stride, padding
AVERAGES = ((7, 256, 7, 1, VALID), (24, 24, 3, 1, SAME), (32, 48, 32, 1, VALID), (16, 64, 2, 2, VALID))
MAXIMA = ((28, 32, 2, 2, SAME), (13, 64, 5, 1, SAME), (56, 48, 3, 2, SAME))


def cases() -> Iterator[Segment]:
    """One op each: half of the products, two of each other kind, then the rest of both."""
    products = [_halves(group) for types in ((INT, FLOAT), (UINT,)) for group in _products(types)]
    others = [(group[:2], group[2:]) for group in map(list, _others())]
    signed, unsigned = products[:8], products[8:]
    yield from _in_turns([first for first, _ in signed])
    yield from _in_turns([first for first, _ in others])
    yield from _in_turns([first for first, _ in unsigned])
    yield from _in_turns([rest for _, rest in products])
    yield from _in_turns([rest for _, rest in others])


def _halves(group: Iterator[Segment]) -> tuple[list[Segment], list[Segment]]:
    members = list(group)
    half = -(-len(members) // 2)
    return members[:half], members[half:]


def _in_turns(groups: Sequence[Sequence[Segment]]) -> Iterator[Segment]:
    """The first of each, then the second of each, and so on."""
    for row in zip_longest(*groups):
        yield from (segment for segment in row if segment is not None)


def _products(types: Sequence[DType]) -> Iterator[Iterator[Segment]]:
    for dtype in types:
        yield starmap(convolution, [("CONV_2D", dtype, *size) for size in CONVS])
        yield starmap(convolution, [("DEPTHWISE_CONV_2D", dtype, *size) for size in DEPTHWISE])
        yield starmap(dense, [(dtype, *size) for size in DENSE])
        yield starmap(pair, [("ADD", dtype, *shapes) for shapes in PAIRS])


def _others() -> Iterator[Iterator[Segment]]:
    for dtype in (INT, FLOAT):
        yield starmap(pair, [("MUL", dtype, *shapes) for shapes in PAIRS[:5]])
        for op in ("LOGISTIC", "RELU"):
            yield starmap(unary, [(op, dtype, shape) for shape in SHAPES[:3]])
        yield starmap(softmax, [(dtype, shape) for shape in ((1, 1000), (400, 16), (1, 12), (1500, 2))])
        yield starmap(pool, [("AVERAGE_POOL_2D", dtype, *size) for size in AVERAGES])
        yield starmap(pool, [("MAX_POOL_2D", dtype, *size) for size in MAXIMA])
        yield _means(dtype)
        yield _padded(dtype)
        yield _renamed(dtype)
        yield _joined(dtype)
        yield starmap(resize, [("RESIZE_BILINEAR", dtype, *size) for size in RESIZES])
        yield starmap(resize, [("RESIZE_NEAREST_NEIGHBOR", dtype, *size) for size in RESIZES])
    yield starmap(converted, [("QUANTIZE", FLOAT, INT, shape) for shape in SHAPES[:3]])
    yield starmap(converted, [("DEQUANTIZE", INT, FLOAT, shape) for shape in SHAPES[:3]])
    yield starmap(resize, [("RESIZE_BILINEAR", UINT, *size) for size in RESIZES])
    yield starmap(pair, [("PRELU", FLOAT, *shapes) for shapes in SLOPES])
    for op in ("TANH", "HARD_SWISH", "EXP", "RSQRT", "LEAKY_RELU"):
        yield starmap(unary, [(op, FLOAT, shape) for shape in SHAPES[:2]])
    yield starmap(pair, [("DIV", FLOAT, *shapes) for shapes in PAIRS[:3]])


# --- ops ----------------------------------------------------------------------------------------------------------


def _quantization(dtype: DType, scale: float = 0.05) -> Quantization | None:
    if dtype is FLOAT:
        return None
    return Quantization.per_tensor(scale, {INT: -7, UINT: 121}.get(dtype, 0))


def _data(dtype: DType, shape: Shape, scale: float = 0.05) -> Operand:
    values = np.ones(shape, dtype.numpy)
    return Operand(values, _quantization(dtype, scale))


def _constant(values: Any, dtype: Any = np.int32) -> Operand:
    return Operand(np.asarray(values, dtype), constant=True)


def _weights(dtype: DType, shape: Shape, axis: int, n: int) -> tuple[Operand, Operand]:
    """Weights and bias: per channel in int8, with a zero point in uint8."""
    rng = np.random.default_rng(n)
    if dtype is FLOAT:
        weights = Operand(rng.uniform(-0.1, 0.1, shape).astype(np.float32), constant=True)
        return weights, _constant(np.zeros(n), np.float32)
    if dtype is UINT:
        quantization, bias = Quantization.per_tensor(0.005, 118), Quantization.per_tensor(0.00025)
        values = rng.integers(60, 180, shape, np.uint8)
    else:
        scales = np.full(n, 0.005, np.float32)
        quantization = Quantization.per_channel(scales, axis)
        bias = Quantization.per_channel(scales * np.float32(0.05))
        values = rng.integers(-60, 60, shape).astype(np.int8)
    return (
        Operand(values, quantization, constant=True),
        Operand(np.zeros(n, np.int32), bias, constant=True),
    )


def _segment(
    op: str, inputs: Sequence[Operand], out: DType, options: Mapping[str, Any] | None = None, scale: float = 0.05
) -> Segment:
    result = Result(out, _quantization(out, scale))
    return case_segment(op, Case("timing", tuple(inputs), (result,), options or {}))


def convolution(
    op: str,
    dtype: DType,
    height: int,
    width: int,
    depth: int,
    n: int,
    window: tuple[int, int],
    stride: int,
    padding: int,
) -> Segment:
    """n: channels of the result, or for DEPTHWISE_CONV_2D the multiplier."""
    options = {"stride_h": stride, "stride_w": stride, "padding": padding}
    if op == "DEPTHWISE_CONV_2D":
        channels = depth * n
        weights = _weights(dtype, (1, *window, channels), 3, channels)
        options["depth_multiplier"] = n
    else:
        weights = _weights(dtype, (n, *window, depth), 0, n)
    return _segment(op, (_data(dtype, (1, height, width, depth)), *weights), dtype, options, 0.1)


def dense(dtype: DType, rows: int, depth: int, units: int) -> Segment:
    weights, bias = _weights(dtype, (units, depth), 0, units)
    if dtype is INT:  # per tensor, as most models have it
        weights = Operand(weights.data, Quantization.per_tensor(0.005), constant=True)
        bias = Operand(bias.data, Quantization.per_tensor(0.00025), constant=True)
    return _segment("FULLY_CONNECTED", (_data(dtype, (rows, depth)), weights, bias), dtype, {}, 0.1)


def pair(op: str, dtype: DType, a: Shape, b: Shape) -> Segment:
    second = _data(dtype, b, 0.03)
    if b != a:
        second = Operand(second.data, second.quantization, constant=True)
    return _segment(op, (_data(dtype, a), second), dtype, {}, 0.07)


FIXED_RANGES = {("LOGISTIC", INT): (1 / 256, -128), ("LOGISTIC", UINT): (1 / 256, 0)}
FIXED_RANGES |= {("TANH", INT): (1 / 128, 0), ("TANH", UINT): (1 / 128, 128)}
FIXED_RANGES |= {("SOFTMAX", INT): (1 / 256, -128), ("SOFTMAX", UINT): (1 / 256, 0)}
"""Ops whose result has one range, whatever the data: TFLite asks for these scales and zero points."""


def unary(op: str, dtype: DType, shape: Shape, options: Mapping[str, Any] | None = None) -> Segment:
    fixed = FIXED_RANGES.get((op, dtype))
    quantization = _quantization(dtype) if fixed is None else Quantization.per_tensor(*fixed)
    case = Case("timing", (_data(dtype, shape),), (Result(dtype, quantization),), options or {})
    return case_segment(op, case)


def softmax(dtype: DType, shape: Shape) -> Segment:
    return unary("SOFTMAX", dtype, shape, {"beta": 1.0})


def pool(op: str, dtype: DType, size: int, n: int, window: int, stride: int, padding: int) -> Segment:
    options = {"filter_height": window, "filter_width": window, "stride_h": stride, "stride_w": stride}
    return unary(op, dtype, (1, size, size, n), {**options, "padding": padding})


def _means(dtype: DType) -> Iterator[Segment]:
    for shape, axes in (((1, 7, 7, 256), [1, 2]), ((1, 48, 48, 32), [1, 2]), ((1, 200, 80), [2])):
        yield _segment("MEAN", (_data(dtype, shape), _constant(axes)), dtype, {"keep_dims": True})


def _padded(dtype: DType) -> Iterator[Segment]:
    for size, n in ((28, 32), (7, 96), (56, 48), (48, 3)):
        data = _data(dtype, (1, size, size, n))
        yield _segment("PAD", (data, _constant([[0, 0], [1, 1], [1, 1], [0, 0]])), dtype)
        if size < 48:
            yield _segment("PAD", (data, _constant([[0, 0], [0, 0], [0, 0], [0, n]])), dtype)


def _renamed(dtype: DType) -> Iterator[Segment]:
    for size, n in ((28, 32), (7, 96), (56, 48)):
        data, flat = _data(dtype, (1, size, size, n)), [1, size * size, n]
        yield _segment("RESHAPE", (data, _constant(flat)), dtype, {"new_shape": flat})


def _joined(dtype: DType) -> Iterator[Segment]:
    for size, n in ((28, 32), (7, 96), (40, 3)):
        yield _segment("CONCATENATION", [_data(dtype, (1, size, size, n))] * 2, dtype, {"axis": 3})
    yield _segment("CONCATENATION", [_data(dtype, (1, n, 4)) for n in (1600, 400, 100)], dtype, {"axis": 1})


def resize(op: str, dtype: DType, size: int, n: int, to: int, is_aligned: bool) -> Segment:
    options = {"align_corners": is_aligned, "half_pixel_centers": not is_aligned}
    return _segment(op, (_data(dtype, (1, size, size, n)), _constant([to, to])), dtype, options)


def converted(op: str, source: DType, target: DType, shape: Shape) -> Segment:
    return _segment(op, (_data(source, shape),), target)
