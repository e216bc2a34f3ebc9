"""MEAN: a work item makes one element. Imports core.ops, indexing, launches, lowering.

Float sums carry their rounding error along (Kahan), so that their length does not matter.
"""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.reduction import n_reduced, resolved_axes
from delegraph.core.ops.families.reduction_sums import mean_multiplier
from delegraph.core.ops.fixed_point import quantize_multiplier
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.indexing import dense_strides, merged, offset
from delegraph.delegates.opencl.kernels.sums import CTYPES
from delegraph.delegates.opencl.launches import Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.render import divided
from delegraph.delegates.opencl.rules import known

_FLOAT = """
const int i = get_global_id(0);
if (i >= n) return;
const __global float *start = x + {base};
float total = 0, error = 0;
for (int k = 0; k < n_reduced; ++k) {{
  const float value = start[{step}] - error;
  const float sum = total + value;
  error = sum - total - value;
  /* once the total is no number, the error is none either */
  error = isfinite(error) ? error : 0;
  total = sum;
}}
y[i] = {mean};
"""

# The sum, the zero point's share and the final sum wrap at 32 bits.
_BYTES = """
const int i = get_global_id(0);
if (i >= n) return;
const __global {ctype} *start = x + {base};
uint total = 0;
for (int k = 0; k < n_reduced; ++k) total += as_uint((int)start[{step}]);
const int scaled = rescale(as_int(total - as_uint(zero_share)), q, shift);
y[i] = clamp(as_int(as_uint(scaled) + as_uint(zero)), low, high);
"""


def _emit(node: Node, emit: Emitter) -> None:
    x, y, axis = node.input(0), node.outputs[0], node.input(1).value
    axes = None if axis is None else resolved_axes(axis, len(x.shape))
    assert axes is not None
    strides = dense_strides(x.shape)
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    base, step = (
        offset(merged([x.shape[a] for a in part], [strides[a] for a in part]), index)
        for part, index in ((kept, "i"), (axes, "k"))
    )
    n = n_reduced(x.shape, axes)
    ctype = CTYPES[x.dtype]
    args = (
        Read(ctype, "x", emit.input(node, 0)),
        Write(ctype, "y", emit.output(node)),
        Int("n", y.n_elements),
        Int("n_reduced", n),
    )
    if x.dtype is DType.FLOAT32:
        mean = divided("total", "(float)n_reduced", emit.traits)
        emit.launch("mean_float32", y.n_elements, args, _FLOAT.format(base=base, step=step, mean=mean))
        return
    x_q, y_q, info = node.quantization(0), node.output_quantization(), np.iinfo(y.dtype.numpy)
    q, shift = mean_multiplier(*quantize_multiplier(float(x_q.scale) / float(y_q.scale)), n)
    more = (
        Int("zero_share", _wrapped(x_q.zero_point * n)),
        Int("q", q),
        Int("shift", shift),
        Int("zero", y_q.zero_point),
        Int("low", int(info.min)),
        Int("high", int(info.max)),
    )
    body = _BYTES.format(ctype=ctype, base=base, step=step)
    emit.launch(f"mean_{x.dtype}", y.n_elements, (*args, *more), body)


def _wrapped(value: int) -> int:
    """The value as 32 bits hold it."""
    return (value + 2**31) % 2**32 - 2**31


LOWERINGS = (
    Lowering(
        "MEAN",
        ("float32, int32 -> float32", "int8, int32 -> int8", "uint8, int32 -> uint8"),
        _emit,
        (known(1, "axes"),),
    ),
)
