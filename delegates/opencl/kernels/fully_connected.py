"""FULLY_CONNECTED. Imports core.ops, launches, layouts, lowering, sums.

A work item makes LANES units of one row; neighbouring items read neighbouring weights (layout "dense4"). Float sums are
added up in blocks of BLOCK products, which keeps their error small. The reference rescales 8-bit sums in double.
"""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.fully_connected import rescaling_factors, weights_zero
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.kernels.sums import (
    CONSTANT_BIAS,
    CONSTANT_WEIGHTS,
    CTYPES,
    bias_values,
    float_args,
    grouped,
    zero_args,
)
from delegraph.delegates.opencl.launches import Arg, Emitter, Int, Read, Write
from delegraph.delegates.opencl.layouts import LANES, padded
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.rules import ACTIVATION, needs_fp64

BLOCK = 256

_BODY = """
const int i = get_global_id(0), n_lanes = unit_lanes / {lanes};
if (i >= n) return;
const int first = i % n_lanes * {lanes}, row = i / n_lanes;
const __global {ctype} *x_row = x + row * depth;
const __global {ctype} *w_row = w + first;
{acc4} total = ({acc4})(0);
for (int start = 0; start < depth; start += {block}) {{
  {acc4} part = ({acc4})(0);
  const int end = min(depth, start + {block});
  for (int k = start; k < end; ++k, w_row += unit_lanes) part += {w} * {x};
  total += part;
}}
{acc} sums[{lanes}];
vstore4(total, 0, sums);
for (int j = 0; j < {lanes} && first + j < units; ++j) {{
  const int c = first + j;
  y[row * units + c] = {out};
}}
"""

_FLOAT = {
    "acc": "float",
    "acc4": "float4",
    "w": "vload4(0, w_row)",
    "x": "x_row[k]",
    "out": "clamp_float(sums[j] + bias[c], low, high)",
}
# The sum with the zero point wraps before it is clamped.
_BYTES = {
    "acc": "uint",
    "acc4": "uint4",
    "w": "as_uint4(convert_int4(vload4(0, w_row)) - w_zero)",
    "x": "as_uint((int)x_row[k] - x_zero)",
    "out": "clamp(as_int(as_uint(round_to_int((double)as_int(sums[j] + as_uint(bias[c])) * factor[c])) "
    "+ as_uint(zero)), low, high)",
}


def _emit(node: Node, emit: Emitter) -> None:
    x, w, y = node.input(0), node.input(1), node.outputs[0]
    units, depth = w.shape
    n = padded(units) // LANES * (y.n_elements // units)
    is_float = x.dtype is DType.FLOAT32
    ctype = CTYPES[x.dtype]
    body = _BODY.format(lanes=LANES, block=BLOCK, ctype=ctype, **(_FLOAT if is_float else _BYTES))
    args: tuple[Arg, ...] = (
        Read(ctype, "x", emit.input(node, 0)),
        Read(ctype, "w", emit.packed(node.op.inputs[1], w, "dense4")),
        Write(ctype, "y", emit.output(node)),
        *(float_args(node, emit, grouped(bias_values(node, units), 1)) if is_float else _byte_args(node, emit, units)),
        Int("n", n),
        Int("units", units),
        Int("unit_lanes", padded(units)),
        Int("depth", depth),
    )
    emit.launch(f"dense_{x.dtype}", n, args, body, contract=is_float)


def _byte_args(node: Node, emit: Emitter, units: int) -> tuple[Arg, ...]:
    factor = np.broadcast_to(rescaling_factors(node), (units,))
    return (
        Read("int", "bias", emit.blob(grouped(bias_values(node, units), 1))),
        Read("double", "factor", emit.blob(grouped(factor, 1))),
        *zero_args(node, weights_zero(node)),
    )


_BYTES_FP64 = needs_fp64((DType.INT8, DType.UINT8), "rescaling sums of 8 bits")

LOWERINGS = (
    Lowering(
        "FULLY_CONNECTED",
        (
            "float32, float32, float32? -> float32",
            "int8, int8, int32? -> int8",
            "uint8, uint8, int32? -> uint8",
        ),
        _emit,
        (ACTIVATION, CONSTANT_WEIGHTS, CONSTANT_BIAS, _BYTES_FP64),
    ),
)
