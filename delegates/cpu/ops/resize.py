"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: positions are worked out ahead, with the reference's own arithmetic."""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.families import resize
from delegraph.core.ops.opdef import Node
from delegraph.delegates.cpu.constraints import constant
from delegraph.delegates.cpu.kernels.resize import Bilinear, Nearest
from delegraph.delegates.cpu.lower import Lowering
from delegraph.delegates.cpu.ops.pointwise import ELEMENTS
from delegraph.delegates.cpu.ops.registry import lowering

SIZE_CONSTANT = constant(1, what="size")


def _table(axis: resize.Axis, step: int) -> Array:
    """[n, 4] words: the neighbours' offsets in steps of so many bytes, and their weights."""
    real = axis.low_weight.dtype.kind == "f"
    weights = [
        np.asarray(w, np.float32 if real else np.int32).view(np.int32) for w in (axis.low_weight, axis.high_weight)
    ]
    return np.stack([(axis.low * step).astype(np.int32), (axis.high * step).astype(np.int32), *weights], axis=1)


@lowering(
    "RESIZE_BILINEAR", *(f"{t}, int32 -> {t}" for t in ("float32", "int8", "uint8")), constraints=(SIZE_CONSTANT,)
)
def lower_bilinear(low: Lowering, node: Node) -> None:
    x, y = node.input(0), node.outputs[0]
    axis = resize.integer_axis if x.dtype is DType.INT8 else resize.float_axis
    pixel = x.shape[3] * x.dtype.numpy.itemsize
    tables = [
        low.constant(_table(along, step))
        for along, step in zip(resize.axes_of(node, axis, y.shape[1:3]), (x.shape[2] * pixel, pixel), strict=True)
    ]
    image = x.shape[1] * x.shape[2] * pixel
    kernel = Bilinear(ELEMENTS[str(x.dtype)], x.shape[0], image, y.shape[1], y.shape[2], x.shape[3])
    low.emit(kernel, low.output(node), low.input(node, 0), *tables)


@lowering(
    "RESIZE_NEAREST_NEIGHBOR",
    *(f"{t}, int32 -> {t}" for t in ("float32", "int8", "uint8", "int16", "int32")),
    constraints=(SIZE_CONSTANT,),
)
def lower_nearest(low: Lowering, node: Node) -> None:
    x, y = node.input(0), node.outputs[0]
    pixel = x.shape[3] * x.dtype.numpy.itemsize
    rows, columns = resize.axes_of(node, resize.nearest_axis, y.shape[1:3])
    tables = [low.constant((index * n).astype(np.int32)) for index, n in ((rows, x.shape[2] * pixel), (columns, pixel))]
    image = x.shape[1] * x.shape[2] * pixel
    kernel = Nearest(x.shape[0], image, y.shape[1], y.shape[2], pixel)
    low.emit(kernel, low.output(node), low.input(node, 0), *tables)
