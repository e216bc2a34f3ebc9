"""Means along axes: lanes are neighbours that are kept, or else neighbours that are added up."""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.delegates.cpu.ir import Function, Value, const, vector, zero
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.elementwise import words
from delegraph.delegates.cpu.kernels.fixed import multiply
from delegraph.delegates.cpu.kernels.kernel import nest, tiles, width

Loops = tuple[tuple[int, int], ...]
"""(length, stride in bytes) from the outermost in."""


@dataclass(frozen=True)
class Mean:
    """``kernel(out, in, parameters)``. Parameters: the number of elements (float), or of bytes: zero point times that,
    multiplier, left, right, zero point of the output. Source: core.ops.families.reduction_sums."""

    element: str
    kept: Loops
    reduced: Loops

    @property
    def stem(self) -> str:
        return f"mean_{'f32' if self.element == 'float' else self.element}_axes"

    @property
    def size(self) -> int:
        return 4 if self.element == "float" else 1

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("parameters", "ptr")])
        if self.kept and self.kept[-1][1] == self.size:
            self._across(f, width(self.kept[-1][0], target.lanes))
        else:
            self._along(f, width(self.reduced[-1][0], target.lanes) if self.reduced else 1)
        return f

    def _out_strides(self) -> tuple[int, ...]:
        strides, step = [], self.size
        for n, _ in reversed(self.kept):
            strides.append(step)
            step *= n
        return tuple(reversed(strides))

    def _across(self, f: Function, lanes: int) -> None:
        """Neighbours are kept: one mean a lane."""
        outer = self.kept[:-1]
        out_strides = self._out_strides()[:-1]
        ready = self._ready(f, lanes)
        with nest(f, [n for n, _ in outer], [f["out"], f["in"]], [out_strides, [s for _, s in outer]]) as (out, source):
            with tiles(f, self.kept[-1][0], lanes) as index:
                start = f.at(source, index, self.size)
                total = self._sum(f, start, zero(self._sum_type(lanes)), self.reduced, lanes)
                f.store(self._finish(f, total, ready), f.at(out, index, self.size))

    def _along(self, f: Function, lanes: int) -> None:
        """Neighbours are added up: one mean at a time, lanes are joined at its end."""
        ready = self._ready(f, 1)
        with nest(
            f, [n for n, _ in self.kept], [f["out"], f["in"]], [self._out_strides(), [s for _, s in self.kept]]
        ) as (
            out,
            source,
        ):
            total = zero(self._sum_type(1))
            if not self.reduced:
                total = self._load(f, source, 1)
            else:
                n = self.reduced[-1][0]
                parts = self._rows(f, source, lanes, n)
                for lane in range(lanes):
                    one = f.shuffle(parts, None, [lane])
                    total = f.add(total, one)
                if n % lanes:
                    total = self._tail(f, source, total, n - n % lanes, n)
            f.store(self._finish(f, total, ready), out)

    def _rows(self, f: Function, source: Value, lanes: int, n: int) -> Value:
        """Vector sums over all but what is left at the ends of rows."""
        inner = ((n // lanes, self.reduced[-1][1] * lanes),)
        return self._sum(f, source, zero(self._sum_type(lanes)), (*self.reduced[:-1], *inner), lanes)

    def _tail(self, f: Function, source: Value, total: Value, start: int, stop: int) -> Value:
        stride = self.reduced[-1][1]
        loops = (*self.reduced[:-1], (stop - start, stride))
        return self._sum(f, f.at(source, start * stride), total, loops, 1)

    def _sum(self, f: Function, source: Value, total: Value, loops: Loops, lanes: int) -> Value:
        if not loops:
            return f.add(total, self._load(f, source, lanes))
        (n, stride), rest = loops[0], loops[1:]
        with f.loop(0, n, carry=[total]) as turn:
            turn.carry = [self._sum(f, f.at(source, turn.index, stride), turn.carry[0], rest, lanes)]
        return turn.results[0]

    def _sum_type(self, lanes: int) -> str:
        return vector(lanes, "float" if self.element == "float" else "i32")

    def _load(self, f: Function, pointer: Value, lanes: int) -> Value:
        if self.element == "float":
            return f.load(vector(lanes, "float"), pointer)
        value = f.load(vector(lanes, "i8"), pointer)
        return f.convert("sext" if self.element == "i8" else "zext", value, vector(lanes, "i32"))

    def _ready(self, f: Function, lanes: int) -> list[Value]:
        if self.element == "float":
            return words(f, f["parameters"], lanes, 1, "float")
        return words(f, f["parameters"], lanes, 5)

    def _finish(self, f: Function, total: Value, ready: list[Value]) -> Value:
        if self.element == "float":
            return f.binary("fdiv", total, ready[0])
        scaled = f.add(multiply(f, f.sub(total, ready[0]), *ready[1:4]), ready[4])
        low, high = (0, 255) if self.element == "u8" else (-128, 127)
        y = f.clamp(scaled, const(total.type, low), const(total.type, high))
        return f.convert("trunc", y, total.type.replace("i32", "i8"))
