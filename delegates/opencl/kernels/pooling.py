"""AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D: a work item makes one element. Imports core.ops, launches, lowering.

Float sums are added up row by row, as the reference does, so that they are equal to the bit.
"""

from __future__ import annotations

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.pooling import integer_range, window_axes
from delegraph.core.ops.fixed_point import activation_bounds
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.kernels.sums import CTYPES
from delegraph.delegates.opencl.launches import Arg, Emitter, Float, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.render import divided, root
from delegraph.delegates.opencl.rules import ACTIVATION, DIVISION

_BODY = """
const int i = get_global_id(0);
if (i >= n) return;
const int c = i % channels, pixel = i / channels;
const int top = pixel / out_w % out_h * stride_h - pad_h, left = pixel % out_w * stride_w - pad_w;
const __global {ctype} *image = x + (pixel / out_w / out_h) * (in_h * in_w * channels) + c;
const int y_end = min(top + window_h, in_h), x_end = min(left + window_w, in_w);
const int y_start = max(top, 0), x_start = max(left, 0), count = (y_end - y_start) * (x_end - x_start);
{acc} total = {start};
for (int iy = y_start; iy < y_end; ++iy)
  for (int ix = x_start; ix < x_end; ++ix) {{
    const {acc} value = image[(iy * in_w + ix) * channels];
    {step}
  }}
y[i] = {finish};
"""


def _text(node: Node, emit: Emitter) -> dict[str, str]:
    """How values are taken in and what is made of them."""
    is_float = node.input(0).dtype is DType.FLOAT32
    acc = "float" if is_float else "int"
    clamp = "clamp_float({}, low, high)" if is_float else "clamp({}, low, high)"
    mean = divided("total", "(float)count", emit.traits)
    match node.op.name:
        case "MAX_POOL_2D":
            start = "-FLT_MAX" if is_float else "low"  # no NaN is greater
            return {
                "acc": acc,
                "start": start,
                "step": "total = value > total ? value : total;",
                "finish": clamp.format("total"),
            }
        case "L2_POOL_2D":
            return {
                "acc": acc,
                "start": "0",
                "step": "total += value * value;",
                "finish": clamp.format(root(mean, emit.traits)),
            }
    if not is_float:  # halves away from zero
        mean = "(total < 0 ? -((count / 2 - total) / count) : (total + count / 2) / count)"
    return {"acc": acc, "start": "0", "step": "total += value;", "finish": clamp.format(mean)}


def _limits(node: Node) -> tuple[Arg, Arg]:
    if node.outputs[0].dtype is DType.FLOAT32:
        bounds = activation_bounds(int(node.options.fused_activation_function))
        return Float("low", bounds[0]), Float("high", bounds[1])
    limits = integer_range(node)
    return Int("low", limits[0]), Int("high", limits[1])


def _emit(node: Node, emit: Emitter) -> None:
    x, y, (h, w) = node.input(0), node.outputs[0], window_axes(node)
    ctype = CTYPES[x.dtype]
    args = (
        Read(ctype, "x", emit.input(node, 0)),
        Write(ctype, "y", emit.output(node)),
        *_limits(node),
        Int("n", y.n_elements),
        Int("channels", x.shape[3]),
        Int("in_h", x.shape[1]),
        Int("in_w", x.shape[2]),
        Int("out_h", y.shape[1]),
        Int("out_w", y.shape[2]),
        Int("window_h", h.window),
        Int("window_w", w.window),
        Int("stride_h", h.stride),
        Int("stride_w", w.stride),
        Int("pad_h", h.pad_before),
        Int("pad_w", w.pad_before),
    )
    body = _BODY.format(ctype=ctype, **_text(node, emit))
    emit.launch(f"{node.op.name.lower()}_{x.dtype}", y.n_elements, args, body)


_FLOAT, _BYTES = "float32 -> float32", ("int8 -> int8", "uint8 -> uint8")

LOWERINGS = (
    Lowering("AVERAGE_POOL_2D", (_FLOAT, *_BYTES), _emit, (ACTIVATION, DIVISION)),
    Lowering("MAX_POOL_2D", (_FLOAT, *_BYTES), _emit, (ACTIVATION,)),
    Lowering("L2_POOL_2D", (_FLOAT,), _emit, (ACTIVATION, DIVISION)),
)
