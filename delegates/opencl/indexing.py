"""Offsets into operands as OpenCL C expressions of a flat output index. Imports nothing of delegraph."""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[int, ...]


def merged(sizes: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(size, stride) per axis with neighbours joined where one flat index serves both; axes of size 1 are dropped."""
    axes: list[tuple[int, int]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == stride * size:
            axes[-1] = (axes[-1][0] * size, stride)
        else:
            axes.append((size, stride))
    return axes


def dense_strides(shape: Shape) -> list[int]:
    """Elements from one index to the next along each axis, row-major."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def broadcast_strides(shape: Shape, rank: int) -> list[int]:
    """``dense_strides`` of an operand seen with ``rank`` axes: 0 along those that broadcast."""
    padded = (1,) * (rank - len(shape)) + shape
    return [0 if n == 1 else s for n, s in zip(padded, dense_strides(padded), strict=True)]


def offset(axes: Sequence[tuple[int, int]], index: str = "i") -> str:
    """The expression Σ coordinate · stride for a flat ``index`` over ``axes`` (size, stride).

    >>> offset([(2, 0), (3, 1)])
    'i % 3'
    """
    terms = []
    inner = math.prod(size for size, _ in axes)
    for position, (size, stride) in enumerate(axes):
        inner //= size
        if stride == 0:
            continue
        term = index if inner == 1 else f"{index} / {inner}"
        if position > 0:
            term = f"{term} % {size}"
        terms.append(term if stride == 1 and len(axes) > 0 else f"({term}) * {stride}")
    return " + ".join(f"({term})" if len(terms) > 1 else term for term in terms) or "0"


def broadcast_offset(out: Shape, operand: Shape) -> str:
    """Where the operand's element for output element ``i`` lies."""
    return offset(merged(out, broadcast_strides(operand, len(out))))
