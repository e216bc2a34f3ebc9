"""What becomes of the sums of a convolution: bias, scale, bounds. Shared by the matrix and depthwise kernels.

Constants lie in one block: a head of 64 bytes (low, high, zero point, zero point of the weights), then for each vector
of channels the bias and what the way of finishing needs:

| finish | constants behind the bias | does |
| --- | --- | --- |
| plain | | nothing |
| clamp | | bounds on floats |
| fast | 5 vectors, see ``fixed.fast_scale`` | fixed point; the bias is 2^31 more |
| general | multiplier, left, right | fixed point, any multipliers |
| double | factors as double | rescaling of FULLY_CONNECTED |
"""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.delegates.cpu.ir import Function, Value, lanes_of
from delegraph.delegates.cpu.kernels.fixed import double_scale, fast_scale, general_scale

VECTORS = {"plain": 1, "clamp": 1, "fast": 6, "general": 4, "double": 3}
"""Vectors of constants per vector of channels, the bias among them."""

HEAD_BYTES = 64


class Finish:
    """The finish of one kernel; reads the head once."""

    def __init__(self, f: Function, kind: str, constants: Value, lanes: int, element: str) -> None:
        self._f, self._kind = f, kind
        self.low = self.high = self.zero_point = None
        if kind != "plain":
            self.low, self.high = (f.splat(f.load(element, f.at(constants, 4 * k)), lanes) for k in range(2))
        if kind in ("general", "double"):
            self.zero_point = f.splat(f.load("i32", f.at(constants, 8)), lanes)

    def floats(self, y: Value) -> Value:
        """Float sums within bounds."""
        if self.low is None or self.high is None:
            return y
        return self._f.clamp(y, self.low, self.high)

    def bytes(self, x: Value, pointer: Value) -> Value:
        """int32 sums as vectors of int32 within the output's bounds. pointer: the constants behind the bias."""
        f = self._f
        assert self.low is not None and self.high is not None
        if self._kind == "fast":
            return f.clamp(fast_scale(f, x, pointer), self.low, self.high)
        assert self.zero_point is not None
        if self._kind == "general":
            return general_scale(f, x, pointer, self.zero_point, self.low, self.high)
        return f.clamp(double_scale(f, x, pointer, self.zero_point), self.low, self.high)


def vector_bytes(kind: str, lanes: int) -> int:
    """Bytes of constants per vector of channels."""
    return VECTORS[kind] * lanes * 4


def spill(f: Function, values: Sequence[Value]) -> Value:
    """Stores vectors one behind the other on the stack: finishing them in a loop keeps the constants in registers."""
    size = lanes_of(values[0].type) * 4
    memory = f.alloca(size * len(values))
    for k, value in enumerate(values):
        f.store(value, f.at(memory, k * size))
    return memory
