"""Sliding windows: padding arithmetic and im2col in blocks, for convolutions and pooling. Imports core.graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.graph import Array

SAME, VALID = 0, 1  # schema enum Padding

BLOCK_BYTES = 1 << 20
"""What one block of im2col may take: it should stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A window along one axis: sizes in elements. Source: tflite/kernels/padding.h."""

    size: int
    window: int
    stride: int
    dilation: int
    pad_before: int
    out: int

    @classmethod
    def of(cls, size: int, window: int, stride: int, dilation: int, padding: int) -> Axis:
        """The window for a padding scheme.

        Raises:
            InvalidModel: stride or dilation below 1.
        """
        if stride < 1 or dilation < 1:
            raise InvalidModel("stride and dilation", "at least 1", f"{stride} and {dilation}")
        extent = (window - 1) * dilation + 1
        if padding == SAME:
            out = -(-size // stride)
        elif padding == VALID:
            out = (size + stride - extent) // stride
        else:
            raise InvalidModel("padding", "SAME (0) or VALID (1)", str(padding))
        pad = max(0, (out - 1) * stride + extent - size)
        return cls(size, window, stride, dilation, pad // 2, max(out, 0))

    @property
    def pad_after(self) -> int:
        """Elements to add behind the data so that every window lies inside (0 when data is left over)."""
        last = (self.out - 1) * self.stride + (self.window - 1) * self.dilation + 1
        return max(0, last - self.size - self.pad_before)


def pad_spatial(x: Array, h: Axis, w: Axis, fill: Any) -> Array:
    """``x`` [N, H, W, C] with its spatial axes padded by ``fill``; ``x`` itself where there is nothing to add."""
    if not (h.pad_before or h.pad_after or w.pad_before or w.pad_after):
        return x
    n, _, _, c = x.shape
    padded = np.full((n, h.pad_before + h.size + h.pad_after, w.pad_before + w.size + w.pad_after, c), fill, x.dtype)
    padded[:, h.pad_before : h.pad_before + h.size, w.pad_before : w.pad_before + w.size] = x
    return padded


def windows(padded: Array, h: Axis, w: Axis) -> Array:
    """A view [N, out_h, out_w, window_h, window_w, C] on padded data: nothing is copied."""
    n, _, _, c = padded.shape
    sn, sh, sw, sc = padded.strides
    return as_strided(
        padded,
        (n, h.out, w.out, h.window, w.window, c),
        (sn, sh * h.stride, sw * w.stride, sh * h.dilation, sw * w.dilation, sc),
        writeable=False,
    )


def row_blocks(n: int, rows: int, row_bytes: int) -> Iterator[tuple[int, slice]]:
    """(image, rows) pairs that cover ``n`` images of ``rows`` rows, each block about BLOCK_BYTES."""
    step = max(1, min(rows, BLOCK_BYTES // max(1, row_bytes)))
    for image in range(n):
        for start in range(0, rows, step):
            yield image, slice(start, min(rows, start + step))
