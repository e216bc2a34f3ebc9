"""Layouts of packed constants: pure functions from a model's constant to the bytes that kernels read. Imports numpy.

A layout's name with its parameters is part of the pack's name, so that equal names mean equal bytes; whoever changes
a function here gives it a new name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from delegraph.core.graph.graph import Array

LANES = 4
"""Output channels that one work item of the sums of products makes."""


def padded(n: int) -> int:
    """``n`` rounded up to whole lanes."""
    return -(-n // LANES) * LANES


def pad_lanes(values: Array) -> Array:
    """The last axis filled up with zeros to whole lanes."""
    n = values.shape[-1]
    out = np.zeros((*values.shape[:-1], padded(n)), values.dtype)
    out[..., :n] = values
    return out


def _plain(values: Array) -> Array:
    return np.ascontiguousarray(values)


def _dense(weights: Array) -> Array:
    """[units, depth] → [depth, units in whole lanes]."""
    return pad_lanes(weights.T)


def _conv(weights: Array, groups: int) -> Array:
    """[out, h, w, in / groups] → [groups, h, w, in / groups, out / groups in whole lanes]."""
    grouped = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
    return pad_lanes(grouped.transpose(0, 2, 3, 4, 1))


_LAYOUTS: dict[str, Callable[..., Array]] = {"plain": _plain, "dense4": _dense, "conv4": _conv}


def arrange(value: Array, layout: str) -> Array:
    """A constant in a layout: ``"conv4:2"`` is layout "conv4" with parameter 2. Raises KeyError for an unknown one."""
    name, _, parameters = layout.partition(":")
    return np.ascontiguousarray(_LAYOUTS[name](value, *(int(p) for p in parameters.split(",") if p)))
