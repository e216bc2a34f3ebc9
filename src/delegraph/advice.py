"""What to do about an array that a tensor does not take, without losing what the array says. Imports core.graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape

_BITS = (DType.BFLOAT16, DType.FLOAT8_E4M3FN, DType.FLOAT8_E5M2)
"""Types that NumPy lacks: their arrays hold bits."""


# --- types ----------------------------------------------------------------------------------------------------------


def to_dtype(array: Array, dtype: DType, quantization: Quantization | None) -> str:
    """How to make the array one of a tensor's type; "" where no line does that without losing values."""
    found, target = array.dtype, dtype.numpy
    convert = f"convert it with .astype(numpy.{target})"
    if found.newbyteorder("=") == target:  # the bytes are the other way round
        return convert
    if dtype in _BITS:
        return f"pass the bits of its values, as numpy.{target}"
    if found.kind not in "biufc" or (found.kind == "c" and target.kind != "c"):
        return ""
    if quantization is not None and quantization.scales.size and dtype.is_integer:
        # Integers of a few bits are pixels, or quantized as another tensor is: their values stand for something else.
        if found.kind == "f" or found.itemsize <= 2:
            return to_quantized(dtype, quantization)
    if not _fits(array, dtype):
        return f"its values, from {array.min()} to {array.max()}, don't fit"
    if found.kind == "f" and target.kind == "b":
        return "say which values are true, for example x > 0"
    if found.kind == "f" and target.kind in "iu" and (array != np.rint(array)).any():
        return f"round it: numpy.rint(x).astype(numpy.{target})"
    return convert


def to_quantized(dtype: DType, quantization: Quantization, x: str = "x") -> str:
    """How to get a quantized tensor's integers from real values. x: what stands for an array of them."""
    if not quantization.is_per_tensor:
        return "quantize real values with the tensor's scale and zero point of each channel"
    low, high = limits(dtype)
    steps = f"numpy.round({x} / {quantization.scale!s})"
    if quantization.zero_point:
        steps += f" {'+' if quantization.zero_point > 0 else '-'} {abs(quantization.zero_point)}"
    return f"quantize real values with numpy.clip({steps}, {low}, {high}).astype(numpy.{dtype.numpy})"


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest number of an integer or bool tensor."""
    if dtype is DType.BOOL:
        return 0, 1
    bits = dtype.bits or dtype.numpy.itemsize * 8  # a handle has no size in the file
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.numpy.kind == "i" else (0, (1 << bits) - 1)


def _fits(array: Array, dtype: DType) -> bool:
    """Whether every number is in the type's range."""
    target = dtype.numpy
    if not array.size or target.kind == "c" or array.dtype.kind == "b":
        return True
    if target.kind == "f":
        with np.errstate(over="ignore"):
            return bool((np.isfinite(array.astype(target)) | ~np.isfinite(array)).all())
    low, high = limits(dtype)
    return bool(np.isfinite(array).all()) and low <= int(array.min()) and int(array.max()) <= high


# --- shapes ---------------------------------------------------------------------------------------------------------


def to_shape(found: Shape, wanted: Shape) -> str:
    """How to bring an array of shape ``found`` into shape ``wanted`` (-1: any size), with every value in its place; ""
    where neither a missing dimension of size 1 nor another order of the axes explains the difference."""
    target = _sizes(wanted, math.prod(found))
    if target is None or target == found:
        return ""
    if _without_ones(target) == _without_ones(found):
        return f"only dimensions of size 1 differ: numpy.reshape(x, {target})"
    if sorted(_without_ones(target)) != sorted(_without_ones(found)):
        return ""
    if len(found) == len(target):
        return f"if its axes are in another order: numpy.transpose(x, {_order(found, target)})"
    order = _order(found, (1,) * (len(found) - len(_without_ones(found))) + _without_ones(target))
    return f"if its axes are in another order: numpy.transpose(x, {order}).reshape({target})"


def _sizes(wanted: Shape, n_elements: int) -> Shape | None:
    """The wanted shape for that many elements; None if there is none, or more than one."""
    known = math.prod(size for size in wanted if size >= 0)
    n_unknown = sum(size < 0 for size in wanted)
    if n_unknown > 1 or not n_elements or not known or n_elements % known or (not n_unknown and n_elements != known):
        return None
    return tuple(n_elements // known if size < 0 else size for size in wanted)


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _order(found: Shape, target: Shape) -> tuple[int, ...]:
    """The axes of ``found`` in the order of ``target``'s sizes; axes of one size keep their order."""
    left: list[int] = list(range(len(found)))
    order: Sequence[int] = [left.pop(next(at for at, axis in enumerate(left) if found[axis] == n)) for n in target]
    return tuple(order)
