"""RESIZE_BILINEAR: a work item makes one element, from tables of neighbours and weights per axis.

Imports core.ops, launches, lowering. Source: core.ops.families.resize.
"""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.families.resize import Axis, axes_of, float_axis, integer_axis
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.kernels.sums import CTYPES
from delegraph.delegates.opencl.launches import Emitter, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.rules import known

_BODY = """
const int i = get_global_id(0);
if (i >= n) return;
const int c = i % channels, column = i / channels % out_w, line = i / channels / out_w % out_h;
const __global {ctype} *image = x + i / channels / out_w / out_h * (in_h * in_w * channels) + c;
const int top = rows[2 * line] * in_w, bottom = rows[2 * line + 1] * in_w;
const int left = columns[2 * column], right = columns[2 * column + 1];
const {wide} y_low = row_weights[2 * line], y_high = row_weights[2 * line + 1];
const {wide} x_low = column_weights[2 * column], x_high = column_weights[2 * column + 1];
{wide} total = image[(top + left) * channels] * y_low * x_low;
total += image[(bottom + left) * channels] * y_high * x_low;
total += image[(top + right) * channels] * y_low * x_high;
total += image[(bottom + right) * channels] * y_high * x_high;
{finish}
"""

_FINISH = {
    DType.FLOAT32: "y[i] = total;",
    DType.UINT8: "y[i] = (uchar)(int)(total + 0.5f);",
    DType.INT8: "y[i] = (total - (total < 0 ? 1 : 0) + (1 << 19)) >> 20;",  # halves away from zero
}


def _tables(axis: Axis, weight_type: type[np.float32] | type[np.int32]) -> tuple[Array, Array]:
    """[out, 2] neighbours (int32) and weights."""
    neighbours = np.stack([axis.low, axis.high], 1).astype(np.int32)
    return neighbours, np.stack([axis.low_weight, axis.high_weight], 1).astype(weight_type)


def _emit(node: Node, emit: Emitter) -> None:
    x, y = node.input(0), node.outputs[0]
    is_integer = x.dtype is DType.INT8
    make, weight_type = (integer_axis, np.int32) if is_integer else (float_axis, np.float32)
    h, w = axes_of(node, make, y.shape[1:3])
    (rows, row_weights), (columns, column_weights) = _tables(h, weight_type), _tables(w, weight_type)
    ctype, wide = CTYPES[x.dtype], "int" if is_integer else "float"
    args = (
        Read(ctype, "x", emit.input(node, 0)),
        Read("int", "rows", emit.blob(rows)),
        Read("int", "columns", emit.blob(columns)),
        Read(wide, "row_weights", emit.blob(row_weights)),
        Read(wide, "column_weights", emit.blob(column_weights)),
        Write(ctype, "y", emit.output(node)),
        Int("n", y.n_elements),
        Int("channels", x.shape[3]),
        Int("in_h", x.shape[1]),
        Int("in_w", x.shape[2]),
        Int("out_h", y.shape[1]),
        Int("out_w", y.shape[2]),
    )
    body = _BODY.format(ctype=ctype, wide=wide, finish=_FINISH[x.dtype])
    emit.launch(f"resize_bilinear_{x.dtype}", y.n_elements, args, body)


LOWERINGS = (
    Lowering(
        "RESIZE_BILINEAR",
        tuple(f"{dtype}, int32 -> {dtype}" for dtype in _FINISH),
        _emit,
        (known(1, "size"),),
    ),
)
