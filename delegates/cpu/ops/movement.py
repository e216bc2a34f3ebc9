"""RESHAPE, SQUEEZE, EXPAND_DIMS, PAD, PADV2, CONCATENATION: data as it is, elsewhere."""

from __future__ import annotations

import math

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.families.joining import rescale_table
from delegraph.core.ops.families.padding import default_fill
from delegraph.core.ops.movement import params
from delegraph.core.ops.opdef import Node
from delegraph.delegates.cpu.constraints import constant
from delegraph.delegates.cpu.kernels.movement import Copy, Fill, LookUp
from delegraph.delegates.cpu.lower import Lowering, Ref, strides_of
from delegraph.delegates.cpu.ops.registry import lowering
from delegraph.delegates.cpu.ops.shapes import collapse

_PLAIN = ("float32", "int8", "uint8", "int16", "int32", "int64")


def emit_copy(
    low: Lowering,
    sizes: tuple[int, ...],
    out: Ref,
    out_strides: tuple[int, ...],
    source: Ref,
    in_strides: tuple[int, ...],
) -> None:
    """Copies bytes between layouts. sizes, strides: of all dimensions down to single bytes (a last one of 1)."""
    loops, (o, i) = collapse(sizes, [out_strides, in_strides])
    run = loops[-1] if (o[-1], i[-1]) == (1, 1) else 1
    if run == 1 and loops != (1,):
        low.emit(Copy(loops, o, i, 1), out, source)
    else:
        low.emit(Copy(loops[:-1], o[:-1], i[:-1], run), out, source)


@lowering("RESHAPE", *(f"{t}, int32? -> {t}" for t in _PLAIN))
@lowering("SQUEEZE", *(f"{t} -> {t}" for t in _PLAIN))
@lowering("EXPAND_DIMS", *(f"{t}, int32|int64 -> {t}" for t in _PLAIN))
def lower_reshape(low: Lowering, node: Node) -> None:
    if not low.alias(node):
        low.emit(Copy((), (), (), node.outputs[0].size_bytes), low.output(node), low.input(node, 0))


@lowering(
    "PAD PADV2",
    *(f"{t}, int32|int64|int8|int16|bool, {t}? -> {t}" for t in _PLAIN),
    constraints=(constant(1, what="paddings"), constant(2, what="value")),
)
def lower_pad(low: Lowering, node: Node) -> None:
    x, y = node.input(0), node.outputs[0]
    paddings = node.input(1).value
    assert paddings is not None
    before = [int(n) for n in np.asarray(paddings).reshape(-1)[::2]]
    if node.has_input(2):
        fill = np.asarray(node.input(2).value).reshape(())
    else:
        fill = np.asarray(default_fill(node), x.dtype.numpy)
    size = x.dtype.numpy.itemsize
    out = low.output(node)
    if x.shape != y.shape:
        low.emit(Fill((), (), y.size_bytes, f"i{8 * size}"), out, low.constant(fill))
    strides = strides_of(y.shape, size)
    start = sum(n * s for n, s in zip(before, strides, strict=True))
    emit_copy(low, (*x.shape, size), out + start, (*strides, 1), low.input(node, 0), (*strides_of(x.shape, size), 1))


@lowering("CONCATENATION", *(f"{t}* -> {t}" for t in _PLAIN))
def lower_concatenation(low: Lowering, node: Node) -> None:
    y = node.outputs[0]
    size = y.dtype.numpy.itemsize
    rank = len(node.input(0).shape)
    axis = node.options.axis % rank if rank else 0
    pitch = math.prod(y.shape[axis:]) * size
    outer = math.prod(y.shape[:axis])
    place = low.output(node)
    for slot in range(len(node.inputs)):
        x = node.input(slot)
        source, run = low.input(node, slot), math.prod(x.shape[axis:]) * size
        table = rescale_table(*params(x), *params(y)) if rank and y.dtype is DType.UINT8 else None
        if table is not None:
            rescaled = low.temporary(x.size_bytes)
            low.emit(LookUp(x.n_elements), rescaled, source, low.constant(table))
            source = rescaled
        emit_copy(low, (outer, run), place, (pitch, 1), source, (run, 1))
        place = place + run
