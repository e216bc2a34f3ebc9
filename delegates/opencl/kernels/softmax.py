"""SOFTMAX along the last dimension: a group of work items a row. Imports core.ops, launches, lowering.

The reference adds the exponentials up from left to right; so does the first item of the group, over values that all of
them made. Of 8 bits, exponentials are tables over the distance from the row's maximum.
Source: core.ops.families.softmax.
"""

from __future__ import annotations

import numpy as np

from delegraph.core.ops.families.softmax import SUM_BITS, exponential_tables
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.kernels.sums import CTYPES
from delegraph.delegates.opencl.launches import GROUP, Emitter, Float, Int, Read, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.render import divided
from delegraph.delegates.opencl.rules import less_accurate

_FLOAT = """
__local float most_of[{group}];
__local float shared_total;
const int row = get_group_id(0), item = get_local_id(0);
const __global float *x_row = x + row * depth;
__global float *y_row = y + row * depth;
float most = x_row[0];  /* a NaN counts as the greatest */
for (int k = item; k < depth; k += {group}) most = x_row[k] > most || isnan(x_row[k]) ? x_row[k] : most;
most_of[item] = most;
barrier(CLK_LOCAL_MEM_FENCE);
for (int k = 0; k < {group}; ++k) most = most_of[k] > most || isnan(most_of[k]) ? most_of[k] : most;
for (int k = item; k < depth; k += {group}) {{
  const float scaled = (x_row[k] - most) * beta;
  y_row[k] = {exp};
}}
barrier(CLK_GLOBAL_MEM_FENCE);
if (item == 0) {{
  float total = y_row[0];
  for (int k = 1; k < depth; ++k) total += y_row[k];
  shared_total = total;
}}
barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
for (int k = item; k < depth; k += {group}) y_row[k] = {quotient};
"""

_BYTES = """
__local int most_of[{group}];
__local long total_of[{group}];
const int row = get_group_id(0), item = get_local_id(0);
const __global {ctype} *x_row = x + row * depth;
int most = x_row[0];
for (int k = item; k < depth; k += {group}) most = max(most, (int)x_row[k]);
most_of[item] = most;
barrier(CLK_LOCAL_MEM_FENCE);
for (int k = 0; k < {group}; ++k) most = max(most, most_of[k]);
long total = 0;
for (int k = item; k < depth; k += {group}) total += parts[most - x_row[k]];
total_of[item] = total;
barrier(CLK_LOCAL_MEM_FENCE);
total = 0;
for (int k = 0; k < {group}; ++k) total += total_of[k];
const int n_bits = 64 - clz(total);
const long normal = (total >> max(n_bits - 32, 0)) << max(32 - n_bits, 0);
const long inverse = one_over(normal - 2147483648L);
for (int k = item; k < depth; k += {group}) {{
  const long product = high_mul(inverse, (long)exps[most - x_row[k]]);
  y[row * depth + k] = (int)clamp(half_away(product, n_bits + {shift}) + low, (long)low, (long)high);
}}
"""


def _emit_float(node: Node, emit: Emitter) -> None:
    x, depth = node.input(0), node.input(0).shape[-1]
    args = (
        Read("float", "x", emit.input(node, 0)),
        Write("float", "y", emit.output(node)),
        Float("beta", node.options.beta),
        Int("depth", depth),
    )
    exp = "(float)exp((double)scaled)" if emit.traits.fp64 else "exp(scaled)"
    body = _FLOAT.format(group=GROUP, exp=exp, quotient=divided("y_row[k]", "shared_total", emit.traits))
    emit.launch("softmax_float32", x.n_elements // depth * GROUP, args, body)


def _emit_bytes(node: Node, emit: Emitter) -> None:
    x, y, depth = node.input(0), node.outputs[0], node.input(0).shape[-1]
    exps, parts = (t.astype(np.int32) for t in exponential_tables(node))
    ctype, info = CTYPES[x.dtype], np.iinfo(y.dtype.numpy)
    args = (
        Read(ctype, "x", emit.input(node, 0)),
        Read("int", "exps", emit.blob(exps)),
        Read("int", "parts", emit.blob(parts)),
        Write(ctype, "y", emit.output(node)),
        Int("depth", depth),
        Int("low", int(info.min)),
        Int("high", int(info.max)),
    )
    # n_bits + SUM_BITS - 32 are the bits of the reciprocal, 31 - 8 those that the output has less.
    body = _BYTES.format(group=GROUP, ctype=ctype, shift=SUM_BITS - 32 + 31 - y.dtype.bits)
    emit.launch(f"softmax_{x.dtype}", x.n_elements // depth * GROUP, args, body)


_EXP = less_accurate("8 units in the last place", lambda traits: not traits.fp64)

LOWERINGS = (
    Lowering("SOFTMAX", ("float32 -> float32",), _emit_float, (_EXP,)),
    Lowering("SOFTMAX", ("int8 -> int8", "uint8 -> uint8"), _emit_bytes),
)
