"""CONV_2D and DEPTHWISE_CONV_2D. Imports core.ops, launches, layouts, lowering, sums.

A work item of CONV_2D makes LANES output channels of PIXELS neighbouring pixels, so that it loads each weight once for
all of them; one of DEPTHWISE_CONV_2D makes one element. Weights lie in layout "conv4", packed once.
Integer sums are modulo 2^32, as the reference's accumulator.
"""

from __future__ import annotations

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.convolution import window_axes
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.kernels.sums import (
    CONSTANT_BIAS,
    CONSTANT_WEIGHTS,
    CTYPES,
    bias_values,
    fixed_point_args,
    float_args,
    grouped,
)
from delegraph.delegates.opencl.launches import Arg, Emitter, Int, Read, Write
from delegraph.delegates.opencl.layouts import LANES, padded
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.rules import ACTIVATION

PIXELS = 4

# Text that differs between the types: how a sum starts, takes a product, and becomes an output.
_FLOAT = {
    "acc4": "float4",
    "acc": "float",
    "w4": "vload4(0, w_row)",
    "w1": "w[t * channels + c]",
    "x": "{}",
    "out": "clamp_float({sum} + bias[{c}], low, high)",
}
_BYTES = {
    "acc4": "uint4",
    "acc": "uint",
    "w4": "as_uint4(convert_int4(vload4(0, w_row)) - w_zero)",
    "w1": "as_uint((int)w[t * channels + c] - w_zero)",
    "x": "as_uint((int){} - x_zero)",
    "out": "requantize(as_int({sum} + as_uint(bias[{c}])), q[{c}], shift[{c}], zero, low, high)",
}

# Neighbouring items make neighbouring channels of the same pixels: the lanes of all groups come first. A partial sum
# per tap, added to the total at its end, keeps float errors small in deep layers.
_CONV = """
const int i = get_global_id(0);
if (i >= n) return;
const int lane = i % n_lanes, pixel = i / n_lanes * {pixels};
const int group = lane / lanes_per_group, first = lane % lanes_per_group * {lanes};
int top[{pixels}], left[{pixels}];
const __global {ctype} *image[{pixels}];
{acc4} total[{pixels}];
for (int k = 0; k < {pixels}; ++k) {{
  const int at = min(pixel + k, n_pixels - 1);
  top[k] = at / out_w % out_h * stride_h - pad_h;
  left[k] = at % out_w * stride_w - pad_w;
  image[k] = x + (at / out_w / out_h) * (in_h * in_w * in_c) + group * depth;
  total[k] = ({acc4})(0);
}}
const __global {ctype} *w_row = w + group * ({window_h} * {window_w}) * depth * out_lanes + first;
for (int ky = 0; ky < {window_h}; ++ky)
  for (int kx = 0; kx < {window_w}; ++kx) {{
    const __global {ctype} *row[{pixels}];
    bool inside[{pixels}];
    {acc4} part[{pixels}];
    for (int k = 0; k < {pixels}; ++k) {{
      const int iy = top[k] + ky * dilation_h, ix = left[k] + kx * dilation_w;
      inside[k] = iy >= 0 && iy < in_h && ix >= 0 && ix < in_w;
      row[k] = image[k] + (inside[k] ? (iy * in_w + ix) * in_c : 0);
      part[k] = ({acc4})(0);
    }}
    for (int c = 0; c < depth; ++c, w_row += out_lanes) {{
      const {acc4} weight = {w4};
      for (int k = 0; k < {pixels}; ++k) part[k] += weight * {x};
    }}
    for (int k = 0; k < {pixels}; ++k) if (inside[k]) total[k] += part[k];
  }}
for (int k = 0; k < {pixels} && pixel + k < n_pixels; ++k) {{
  {acc} sums[{lanes}];
  vstore4(total[k], 0, sums);
  for (int j = 0; j < {lanes} && first + j < out_per_group; ++j) {{
    const int c = group * out_lanes + first + j;
    y[(pixel + k) * out_c + group * out_per_group + first + j] = {out};
  }}
}}
"""

_DEPTHWISE = """
const int i = get_global_id(0);
if (i >= n) return;
const int c = i % channels, pixel = i / channels;
const int top = pixel / out_w % out_h * stride_h - pad_h, left = pixel % out_w * stride_w - pad_w;
const __global {ctype} *image = x + (pixel / out_w / out_h) * (in_h * in_w * in_c) + c / multiplier;
{acc} total = 0;
for (int ky = 0; ky < {window_h}; ++ky)
  for (int kx = 0; kx < {window_w}; ++kx) {{
    const int iy = top + ky * dilation_h, ix = left + kx * dilation_w, t = ky * {window_w} + kx;
    if (iy >= 0 && iy < in_h && ix >= 0 && ix < in_w) total += {w1} * {x};
  }}
y[i] = {out};
"""


def _emit_conv(node: Node, emit: Emitter) -> None:
    x, w, y = node.input(0), node.input(1), node.outputs[0]
    groups = x.shape[3] // w.shape[3]
    per_group = w.shape[0] // groups
    n_pixels, n_lanes = y.n_elements // y.shape[3], groups * padded(per_group) // LANES
    n = n_lanes * -(-n_pixels // PIXELS)
    text = _FLOAT if x.dtype is DType.FLOAT32 else _BYTES
    body = _CONV.format(
        lanes=LANES,
        pixels=PIXELS,
        window_h=w.shape[1],
        window_w=w.shape[2],
        ctype=CTYPES[x.dtype],
        acc=text["acc"],
        acc4=text["acc4"],
        w4=text["w4"],
        x=text["x"].format("row[k][c]"),
        out=text["out"].format(sum="sums[j]", c="c"),
    )
    args = (
        *_memory(node, emit, f"conv4:{groups}"),
        *_finish(node, emit, groups),
        *_geometry(node),
        Int("n", n),
        Int("n_lanes", n_lanes),
        Int("lanes_per_group", n_lanes // groups),
        Int("n_pixels", n_pixels),
        Int("depth", w.shape[3]),
        Int("out_lanes", padded(per_group)),
        Int("out_per_group", per_group),
        Int("out_c", y.shape[3]),
    )
    name = f"conv_{x.dtype}_{w.shape[1]}x{w.shape[2]}"
    emit.launch(name, n, args, body, contract=True)


def _emit_depthwise(node: Node, emit: Emitter) -> None:
    x, w, y = node.input(0), node.input(1), node.outputs[0]
    text = _FLOAT if x.dtype is DType.FLOAT32 else _BYTES
    body = _DEPTHWISE.format(
        window_h=w.shape[1],
        window_w=w.shape[2],
        ctype=CTYPES[x.dtype],
        acc=text["acc"],
        w1=text["w1"],
        x=text["x"].format("image[(iy * in_w + ix) * in_c]"),
        out=text["out"].format(sum="total", c="c"),
    )
    args = (
        *_memory(node, emit, "plain"),
        *_finish(node, emit, 1),
        *_geometry(node),
        Int("n", y.n_elements),
        Int("channels", y.shape[3]),
        Int("multiplier", y.shape[3] // x.shape[3]),
    )
    name = f"depthwise_{x.dtype}_{w.shape[1]}x{w.shape[2]}"
    emit.launch(name, y.n_elements, args, body, contract=True)


def _memory(node: Node, emit: Emitter, layout: str) -> tuple[Arg, ...]:
    ctype = CTYPES[node.input(0).dtype]
    return (
        Read(ctype, "x", emit.input(node, 0)),
        Read(ctype, "w", emit.packed(node.op.inputs[1], node.input(1), layout)),
        Write(ctype, "y", emit.output(node)),
    )


def _finish(node: Node, emit: Emitter, groups: int) -> tuple[Arg, ...]:
    channels = node.outputs[0].shape[3]
    if node.input(0).dtype is DType.FLOAT32:
        return float_args(node, emit, grouped(bias_values(node, channels), groups))
    return fixed_point_args(node, emit, channels, groups)


def _geometry(node: Node) -> tuple[Arg, ...]:
    x, y, (h, v) = node.input(0).shape, node.outputs[0].shape, window_axes(node)
    values = {
        "in_h": x[1],
        "in_w": x[2],
        "in_c": x[3],
        "out_h": y[1],
        "out_w": y[2],
        "stride_h": h.stride,
        "stride_w": v.stride,
        "pad_h": h.pad_before,
        "pad_w": v.pad_before,
        "dilation_h": h.dilation,
        "dilation_w": v.dilation,
    }
    return tuple(Int(name, value) for name, value in values.items())


_TYPES = (
    "float32, float32, float32? -> float32",
    "int8, int8, int32? -> int8",
    "uint8, uint8, int32? -> uint8",
)
_RULES = (ACTIVATION, CONSTANT_WEIGHTS, CONSTANT_BIAS)

LOWERINGS = (
    Lowering("CONV_2D", _TYPES, _emit_conv, _RULES),
    Lowering("DEPTHWISE_CONV_2D", _TYPES, _emit_depthwise, _RULES),
)
