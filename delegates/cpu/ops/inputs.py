"""Inputs of windows as the kernels need them: with a border, widened, with readable bytes behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.windows import Axis
from delegraph.delegates.cpu.kernels.elementwise import Elementwise, Stream, Widen
from delegraph.delegates.cpu.kernels.movement import Copy, Fill, Pad
from delegraph.delegates.cpu.lower import SLACK_BYTES, Lowering, Ref
from delegraph.delegates.cpu.ops.pointwise import ELEMENTS


@dataclass(frozen=True, slots=True)
class Source:
    """Where the first window starts, bytes along image, row and pixel, and bytes of an element."""

    place: Ref
    strides: tuple[int, int, int]
    element: int

    def strided(self, rows: int, pixels: int) -> Source:
        """The same with strides from window to window."""
        image, row, pixel = self.strides
        return Source(self.place, (image, row * rows, pixel * pixels), self.element)

    def swapped(self) -> Source:
        """The same with columns for rows."""
        image, row, pixel = self.strides
        return Source(self.place, (image, pixel, row), self.element)


def padded_source(
    low: Lowering,
    node: Node,
    h: Axis,
    v: Axis,
    *,
    wide: bool,
    slack: bool,
    shape: tuple[int, ...] | None = None,
    repeat: int = 1,
    channels: int = 0,
) -> Source:
    """Input 0 with the border that the windows reach over, copied only where it has to be.

    wide: as int16 less the zero point. slack: a few bytes behind it may be read. shape: to see it as, [N, H, W, C].
    repeat: each channel so many times in a row. channels: of a pixel in the copy, if more than the data has.
    """
    x = node.input(0)
    n, rows, columns, depth = x.shape if shape is None else shape
    size = x.dtype.numpy.itemsize
    channels = max(channels, depth * repeat)
    all_rows, all_columns = h.pad_before + rows + h.pad_after, v.pad_before + columns + v.pad_after
    is_padded = (all_rows, all_columns) != (rows, columns)
    place = low.input(node, 0)
    if not (wide or is_padded or channels != depth or (slack and not low.has_slack(node, 0))):
        return Source(place, (rows * columns * depth * size, columns * depth * size, depth * size), size)
    element = 2 if wide else size
    pixel = channels * element
    row = all_columns * pixel
    image = all_rows * row
    copy = low.temporary(n * image + row + SLACK_BYTES)  # the last row writes the gap behind it
    start = h.pad_before * row + v.pad_before * pixel
    zero_point = 0 if x.dtype is DType.FLOAT32 else node.quantization(0).zero_point
    source = Source(copy, (image, row, pixel), element)
    sizes, strides = (n, rows), (image, row)
    if wide:
        low.emit(Fill((), (), n * image), copy, low.constant(np.zeros(1, np.int8)))
        body = Widen(ELEMENTS[str(x.dtype)])
        line = columns * depth
        streams = (Stream("i16", strides), Stream(ELEMENTS[str(x.dtype)], (rows * line, line)))
        kernel = Elementwise(body, streams[0], (streams[1],), (*sizes, line))
        low.emit(kernel, copy + start, place, low.words(zero_point))
        return source
    fill = low.constant(np.array([zero_point & 0xFF], np.uint8))
    line = columns * depth * size
    if channels == depth:
        low.emit(Pad(n, rows, line, start, row - line, image - start - rows * row + row - line), copy, place, fill)
        return source
    low.emit(Fill((), (), n * image), copy, fill)
    dense = (rows * line, line, depth * size)
    if repeat == 1:
        low.emit(Copy((*sizes, columns), (*strides, pixel), dense, depth * size), copy + start, place)
    else:
        outer = (*sizes, columns, depth, repeat)
        low.emit(Copy(outer, (*strides, pixel, repeat * size, size), (*dense, size, 0), size), copy + start, place)
    return source
