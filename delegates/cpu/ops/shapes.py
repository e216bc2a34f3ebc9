"""Shapes as loops: dimensions that all operands step through alike become one."""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.graph.graph import Shape


def collapse(shape: Shape, strides: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The loops over ``shape`` with each operand's strides, in as few dimensions as can be, at least one.

    strides: per operand, one a dimension; 0 where it repeats.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(k[-1] == h * n for k, h in zip(steps, here, strict=True)):
            sizes[-1] *= n
            for k, h in zip(steps, here, strict=True):
                k[-1] = h
        else:
            sizes.append(n)
            for k, h in zip(steps, here, strict=True):
                k.append(h)
    if not sizes:
        return (1,), [(0,) for _ in strides]
    return tuple(sizes), [tuple(k) for k in steps]


def broadcast_strides(shape: Shape, out: Shape) -> tuple[int, ...]:
    """Elements between neighbours along each axis of ``out`` for an operand that broadcasts to it."""
    aligned = (1,) * (len(out) - len(shape)) + shape
    strides, step = [], 1
    for n in reversed(aligned):
        strides.append(0 if n == 1 else step)
        step *= n
    return tuple(reversed(strides))
