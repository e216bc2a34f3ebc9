"""What kernels have in common: their names, loops over tensors, vectors that end where the data ends.

A kernel is a frozen dataclass of everything that shapes its code; equal kernels are compiled once. What differs from
op to op without shaping code (weights, scales, zero points, bounds) is data that it reads through pointers. Its
signature is ``void kernel(ptr output, ptr input..., ptr parameters...)``.

Where a number of elements is no multiple of the vector's, the last vector is moved back to end with the data, and
computes some elements again: no masks, nothing read or written outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from delegraph.delegates.cpu.ir import Function, Value, const
from delegraph.delegates.cpu.isa import Target


class Kernel(Protocol):
    """A function to be generated; hashable by value."""

    @property
    def stem(self) -> str:
        """``<op>_<dtypes>_<variant>``: what the code does, for people."""

    def build(self, name: str, target: Target) -> Function:
        """The function in IR."""


def kernel_name(kernel: Kernel, target: Target) -> str:
    """``<op>_<dtypes>_<variant>_<digest of the shape>__<target>``."""
    digest = hashlib.sha256(repr(kernel).encode()).hexdigest()[:8]
    return f"{kernel.stem}_{digest}__{target.name}"


def pow2_floor(n: int) -> int:
    """The largest power of two that is not above ``n``."""
    return 1 << (n.bit_length() - 1)


def width(n: int, most: int) -> int:
    """Lanes of the vectors that cover ``n`` elements."""
    return pow2_floor(min(n, most))


@contextmanager
def nest(
    f: Function, sizes: Sequence[int], pointers: Sequence[Value], strides: Sequence[Sequence[int]]
) -> Iterator[list[Value]]:
    """Loops over ``sizes``; gives the pointers at each step. strides: per pointer, bytes along each size."""
    if not sizes:
        yield list(pointers)
        return
    with f.loop(0, sizes[0]) as turn:
        moved = [
            p if s[0] == 0 or sizes[0] == 1 else f.at(p, turn.index, s[0])
            for p, s in zip(pointers, strides, strict=True)
        ]
        with nest(f, sizes[1:], moved, [s[1:] for s in strides]) as inner:
            yield inner


@contextmanager
def tiles(f: Function, n: int, size: int) -> Iterator[Value]:
    """A loop over tiles of ``size`` that cover ``n`` ≥ size; gives the first element of each. The last ends at n."""
    with f.loop(0, n, size) as turn:
        yield turn.index if n % size == 0 else f.intrinsic("smin", turn.index, const("i64", n - size))


def spans(f: Function, n: int, lanes: int) -> Iterator[Value]:
    """As ``tiles``, with a body of its own for the last: for loops that are short in code and long in turns."""
    whole = n // lanes * lanes
    with f.loop(0, whole, lanes) as turn:
        yield turn.index
    if n % lanes:
        yield const("i64", n - lanes)


def store_part(f: Function, value: Value, pointer: Value, n: int, element_bytes: int) -> None:
    """Stores the first ``n`` elements of a vector."""
    start = 0
    while start < n:
        size = pow2_floor(n - start)
        f.store(f.shuffle(value, None, range(start, start + size)), f.at(pointer, start * element_bytes))
        start += size
