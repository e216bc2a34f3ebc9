"""QUANTIZE of float32 and DEQUANTIZE, per tensor or per channel. Imports core.ops, indexing, launches, lowering."""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.graph import Quantization
from delegraph.core.ops.families.conversion import scale_shape
from delegraph.core.ops.fixed_point import BELOW_HALF
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.delegates.opencl.indexing import broadcast_offset
from delegraph.delegates.opencl.kernels.sums import CTYPES
from delegraph.delegates.opencl.launches import Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.render import divided
from delegraph.delegates.opencl.rules import EXACT_DIVISION

# Just less than a half is added, so that nothing below one is rounded up; the sum with the zero point wraps.
_QUANTIZE = """
const int i = get_global_id(0);
if (i >= n) return;
const int c = {channel};
const float ratio = {ratio};
const int rounded = to_int(ratio + copysign({half}, ratio));
y[i] = clamp(as_int(as_uint(rounded) + as_uint(zeros[c])), low, high);
"""

_DEQUANTIZE = """
const int i = get_global_id(0);
if (i >= n) return;
const int c = {channel};
y[i] = ((float)x[i] - (float)zeros[c]) * scales[c];
"""


def _emit_quantize(node: Node, emit: Emitter) -> None:
    y, q = node.outputs[0], node.output_quantization()
    info = np.iinfo(y.dtype.numpy)
    args = (
        Read("float", "x", emit.input(node, 0)),
        *_parameters(q, emit),
        Write(CTYPES[y.dtype], "y", emit.output(node)),
        Int("n", y.n_elements),
        Int("low", int(info.min)),
        Int("high", int(info.max)),
    )
    half = float(BELOW_HALF).hex() + "f"
    body = _QUANTIZE.format(channel=_channel(y, q), half=half, ratio=divided("x[i]", "scales[c]", emit.traits))
    emit.launch(f"quantize_{y.dtype}", y.n_elements, args, body)


def _emit_dequantize(node: Node, emit: Emitter) -> None:
    x, q = node.input(0), node.quantization(0)
    args = (
        Read(CTYPES[x.dtype], "x", emit.input(node, 0)),
        *_parameters(q, emit),
        Write("float", "y", emit.output(node)),
        Int("n", x.n_elements),
    )
    emit.launch(f"dequantize_{x.dtype}", x.n_elements, args, _DEQUANTIZE.format(channel=_channel(x, q)))


def _parameters(q: Quantization, emit: Emitter) -> tuple[Read, Read]:
    scales = emit.blob(np.asarray(q.scales, np.float32))
    zeros = emit.blob(np.broadcast_to(np.asarray(q.zero_points, np.int32), q.scales.shape))
    return Read("float", "scales", scales), Read("int", "zeros", zeros)


def _channel(spec: TensorSpec, q: Quantization) -> str:
    """The number of element ``i``'s scale."""
    return broadcast_offset(spec.shape, scale_shape(q, spec.shape))


LOWERINGS = (
    Lowering("QUANTIZE", ("float32 -> int8|uint8",), _emit_quantize, (EXACT_DIVISION,)),
    Lowering("DEQUANTIZE", ("int8|uint8 -> float32",), _emit_dequantize),
)
