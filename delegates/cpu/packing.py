"""Constants in the layouts that the kernels read: weights as packs, and blocks of constants per channel.

A layout is a text that says all that the bytes depend on besides the constant itself, so that packs can be made from
an artifact's list of layouts, without lowering the segment again. Imports core.graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.core.abi import host
from delegraph.core.graph.graph import Array
from delegraph.delegates.cpu.kernels.dots import GROUPS

VERSION = 1
"""Raised when a layout of the same name changes its bytes."""

# --- which channels a vector holds --------------------------------------------------------------------------------


def channel_vectors(channels: int, lanes: int, nv: int) -> Array:
    """[vectors, lanes]: channels in panels of ``nv`` vectors; vectors past the end are moved back to end there, and
    lanes without a channel are -1. See kernels.gemm."""
    n_panels = -(-channels // (nv * lanes))
    first = np.minimum(np.arange(n_panels * nv) * lanes, max(0, channels - lanes))
    index = first[:, None] + np.arange(lanes)
    return np.where(index < channels, index, -1)


def interleaved_vectors(channels: int, lanes: int) -> Array:
    """[2 * blocks, lanes]: blocks of ``2 * lanes`` channels, the lower and the upper half of each 8. See
    kernels.depthwise."""
    block = 2 * lanes
    n_blocks = max(1, -(-channels // block))
    first = np.minimum(np.arange(n_blocks) * block, max(0, channels - block))
    within = np.arange(block).reshape(-1, 2, 4).transpose(1, 0, 2).reshape(2, lanes)
    index = (first[:, None, None] + within).reshape(-1, lanes)
    return np.where(index < channels, index, -1)


def _take(values: Array, index: Array) -> Array:
    """``values[index]`` along axis 0, zeros for -1."""
    taken = values[np.maximum(index, 0)]
    return np.where((index >= 0).reshape(index.shape + (1,) * (values.ndim - 1)), taken, 0).astype(values.dtype)


# --- weights ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GemmLayout:
    """[panels][taps][groups][nv][lanes][group] of weights [channels, taps, depth]. part: which of ``parts`` equal
    slices of the channels. shift: what is subtracted from each weight, in the dot's element type."""

    dot: str
    lanes: int
    nv: int
    channels: int
    taps: int
    depth: int
    part: int = 0
    parts: int = 1
    shift: int = 0

    def pack(self, value: Array) -> Array:
        w = np.ascontiguousarray(value).reshape(self.parts, self.channels, self.taps, self.depth)[self.part]
        group = GROUPS[self.dot]
        if self.dot != "f32":
            w = (w.astype(np.int16) - self.shift).astype(np.int16 if self.dot == "i16" else np.int8)
        n_groups = -(-self.depth // group)
        padded = np.zeros((self.channels, self.taps, n_groups * group), w.dtype)
        padded[:, :, : self.depth] = w
        index = channel_vectors(self.channels, self.lanes, self.nv).reshape(-1, self.nv, self.lanes)
        taken = _take(padded, index).reshape(*index.shape, self.taps, n_groups, group)
        return taken.transpose(0, 3, 4, 1, 2, 5)


@dataclass(frozen=True)
class DepthwiseLayout:
    """[blocks][pairs of rows][columns][half][lanes][2 rows] int16 of weights [1, rows, columns, channels]."""

    lanes: int
    rows: int
    columns: int
    channels: int
    shift: int = 0

    def pack(self, value: Array) -> Array:
        n_pairs = -(-self.rows // 2)
        w = np.zeros((2 * n_pairs, self.columns, self.channels), np.int16)
        w[: self.rows] = value.reshape(self.rows, self.columns, self.channels).astype(np.int16) - self.shift
        index = interleaved_vectors(self.channels, self.lanes).reshape(-1, 2, self.lanes)
        taken = _take(w.transpose(2, 0, 1), index).reshape(*index.shape, n_pairs, 2, self.columns)
        return taken.transpose(0, 3, 5, 1, 2, 4)


@dataclass(frozen=True)
class PlainLayout:
    """The constant as it is."""

    def pack(self, value: Array) -> Array:
        return value


Layout = GemmLayout | DepthwiseLayout | PlainLayout
_LAYOUTS: dict[str, type[Any]] = {"gemm": GemmLayout, "depthwise": DepthwiseLayout, "plain": PlainLayout}


def layout_text(layout: Layout) -> str:
    """The layout's name in packs: ``gemm1:s8,16,2,...``."""
    kind = next(k for k, t in _LAYOUTS.items() if type(layout) is t)
    fields = ",".join(str(getattr(layout, name)) for name in layout.__dataclass_fields__)
    return f"{kind}{VERSION}:{fields}"


def parse_layout(text: str) -> Layout:
    """The layout of a text. Raises ValueError for one that this version does not make."""
    kind, _, fields = text.partition(":")
    if not kind.endswith(str(VERSION)) or kind.removesuffix(str(VERSION)) not in _LAYOUTS:
        raise ValueError(f"no layout {text!r}")
    values = [v if not v.lstrip("-").isdigit() else int(v) for v in fields.split(",") if v]
    layout: Layout = _LAYOUTS[kind.removesuffix(str(VERSION))](*values)
    return layout


def make_pack(layout: Layout, value: Array) -> Array:
    """The packed bytes, at an address that vectors like."""
    packed = np.ascontiguousarray(layout.pack(value))
    out: Array = host.allocate(max(64, packed.nbytes) + 64).memory  # dot products may read a few bytes on
    out[: packed.nbytes] = packed.reshape(-1).view(np.uint8)
    out[packed.nbytes :] = 0
    return out


# --- constants per channel ----------------------------------------------------------------------------------------


def fast_fits(largest: Array, multiplier: Array, shift: Array, zero_point: int) -> bool:
    """Whether ``fixed.fast_scale`` is exact: no left shifts, and nothing leaves 32 bits.

    largest: per channel, the largest |sum| that can occur.
    """
    right = -shift
    if np.any(right < 1) or np.any(right > 29) or np.any(multiplier < 1 << 30) or np.any(largest >= 2**31 - 1):
        return False
    y = largest.astype(np.float64) * multiplier / 2.0**31 + 2
    return bool(np.all(y + 2.0 ** (right - 1) + (abs(zero_point) + 1) * 2.0**right < 2**31 - 1))


def fast_constants(multiplier: Array, shift: Array, zero_point: int) -> list[Array]:
    """For vectors [n, lanes] of multipliers and shifts: five arrays [n, 4 * lanes bytes]."""
    m, right = multiplier.astype(object), (-shift).astype(object)
    wide = (2**31 + ((2 ** (right - 1) - 1 + zero_point * 2**right - m) * 2**32)) % 2**64
    double = (2 * m).astype(np.uint64)
    wide = wide.astype(np.uint64)
    return [
        *(np.ascontiguousarray(a) for a in (double[:, ::2], double[:, 1::2], wide[:, ::2], wide[:, 1::2])),
        (-shift).astype(np.int32),
    ]


def general_constants(multiplier: Array, shift: Array) -> list[Array]:
    return [
        multiplier.astype(np.int32),
        np.maximum(shift, 0).astype(np.int32),
        np.maximum(-shift, 0).astype(np.int32),
    ]


def head(*words: float, dtype: Any = np.int32) -> bytes:
    """The 64 bytes in front of the channels' constants."""
    return np.array(words, dtype).tobytes().ljust(64, b"\0")


def block(head_bytes: bytes, arrays: list[Array]) -> bytes:
    """The head and, vector by vector, the arrays [n, ...]."""
    flat = [np.ascontiguousarray(a).reshape(len(a), -1).view(np.uint8) for a in arrays]
    return head_bytes + np.concatenate(flat, axis=1).tobytes()


def vectors_of(values: Array, index: Array, fill: float = 0) -> Array:
    """Per-channel values as vectors; ``fill`` in lanes without a channel."""
    taken = values[np.maximum(index, 0)]
    return np.where(index >= 0, taken, fill)


def wrapped_int32(values: Array) -> Array:
    """int64 values modulo 2^32, as int32."""
    return np.asarray(values, np.int64).astype(np.int32)


def n_elements(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
