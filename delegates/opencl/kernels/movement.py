"""RESHAPE, SQUEEZE, EXPAND_DIMS, PAD, PADV2 and CONCATENATION. Imports core.ops, indexing, launches, lowering.

A new shape is the old memory under another name, unless the result has to lie in the caller's memory. What is copied is
copied by the size of its elements.
"""

from __future__ import annotations

import math

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.families.joining import rescale_table
from delegraph.core.ops.families.padding import default_fill
from delegraph.core.ops.movement import params
from delegraph.core.ops.opdef import Node
from delegraph.delegates.opencl.indexing import dense_strides
from delegraph.delegates.opencl.launches import Emitter, Int, Read, TensorRef, Write
from delegraph.delegates.opencl.lowering import Lowering
from delegraph.delegates.opencl.rules import known

_WORDS = {1: "uchar", 2: "ushort", 4: "uint", 8: "ulong"}
_TYPES = "float32|int8|uint8|int16|int32|int64"

_COPY = """
const int i = get_global_id(0);
if (i >= n) return;
y[i / part * whole + start + i % part] = {value};
"""


def _word(dtype: DType) -> str:
    return _WORDS[dtype.numpy.itemsize]


def _emit_reshape(node: Node, emit: Emitter) -> None:
    ref, y = emit.input(node, 0), emit.output(node)
    if isinstance(ref, TensorRef) and y.tensor not in emit.delivered:
        emit.alias(y.tensor, ref.tensor)
        return
    _copy(node, emit, 0, 1, 1, 0)


def _copy(node: Node, emit: Emitter, slot: int, part: int, whole: int, start: int, table: Array | None = None) -> None:
    """Copies an operand in runs of ``part`` elements, to ``start`` within runs of ``whole``; by a table if given."""
    x, word = node.input(slot), _word(node.outputs[0].dtype)
    look_up = () if table is None else (Read("uchar", "table", emit.blob(table)),)
    args = (
        Read(word, "x", emit.input(node, slot)),
        *look_up,
        Write(word, "y", emit.output(node)),
        Int("n", x.n_elements),
        Int("part", part),
        Int("whole", whole),
        Int("start", start),
    )
    body = _COPY.format(value="table[x[i]]" if look_up else "x[i]")
    emit.launch(f"copy_{word}", x.n_elements, args, body)


def _emit_concatenation(node: Node, emit: Emitter) -> None:
    """uint8 operands of another scale go through a table, as in the reference."""
    y = node.outputs[0]
    axis = int(node.options.axis) % len(y.shape)
    inner = math.prod(y.shape[axis + 1 :])
    whole, start = y.shape[axis] * inner, 0
    scale, zero = params(y)
    for slot in range(len(node.inputs)):
        x = node.input(slot)
        part = (x.shape[axis] if x.shape else 1) * inner
        table = None
        if y.dtype is DType.UINT8 and x.shape:
            table = rescale_table(*params(x), scale, zero)
        _copy(node, emit, slot, part, whole, start, table)
        start += part


_PAD = """
const int i = get_global_id(0);
if (i >= n) return;
int rest = i, at = 0;
bool inside = true;
{axes}
y[i] = inside ? x[at] : as_{word}(({signed})fill);
"""

_PAD_AXIS = """{{
  const int k = rest / {out_stride} - {before};
  rest %= {out_stride};
  inside = inside && k >= 0 && k < {size};
  at += k * {stride};
}}"""


def _emit_pad(node: Node, emit: Emitter) -> None:
    x, y, paddings = node.input(0), node.outputs[0], node.input(1).value
    assert paddings is not None
    before = paddings.reshape(-1, 2)[:, 0].tolist() if paddings.size else []
    axes = "\n".join(
        _PAD_AXIS.format(out_stride=out, before=int(b), size=size, stride=stride)
        for out, b, size, stride in zip(dense_strides(y.shape), before, x.shape, dense_strides(x.shape), strict=True)
    )
    word = _word(y.dtype)
    args = (
        Read(word, "x", emit.input(node, 0)),
        Write(word, "y", emit.output(node)),
        Int("n", y.n_elements),
        Int("fill", _fill_bits(node)),
    )
    body = _PAD.format(axes=axes, word=word, signed=word.removeprefix("u"))
    emit.launch(f"pad_{word}", y.n_elements, args, body)


def _fill_bits(node: Node) -> int:
    """The value around the data, as a signed integer of the type's bits."""
    y = node.outputs[0]
    if node.has_input(2):
        value = node.input(2).value
        assert value is not None
        fill = np.asarray(value.reshape(-1)[:1], y.dtype.numpy)
    else:
        fill = np.array([default_fill(node)], y.dtype.numpy)
    return int(fill.view(f"i{fill.itemsize}")[0])


def _pad_types(more: str) -> tuple[str, ...]:
    operand = "int32|int64|int8|int16|bool"
    return tuple(f"{t}, {operand}{more.format(t=t)} -> {t}" for t in ("float32", "int8", "uint8", "int32"))


_PADDINGS = known(1, "paddings")

LOWERINGS = (
    Lowering("RESHAPE", (f"{_TYPES}, any? -> {_TYPES}",), _emit_reshape),
    Lowering("SQUEEZE", (f"{_TYPES} -> {_TYPES}",), _emit_reshape),
    Lowering("EXPAND_DIMS", (f"{_TYPES}, any -> {_TYPES}",), _emit_reshape),
    Lowering("PAD", _pad_types(""), _emit_pad, (_PADDINGS,)),
    Lowering("PADV2", _pad_types(", {t}?"), _emit_pad, (_PADDINGS, known(2, "value"))),
    Lowering("CONCATENATION", (f"{_TYPES}* -> {_TYPES}",), _emit_concatenation),
)
