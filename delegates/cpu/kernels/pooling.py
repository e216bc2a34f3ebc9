"""Pooling over windows: lanes are channels, the elements of a window are added (or compared) row by row.

Sums of floats are added up in the reference's order, so that they have its bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.core.ops.fixed_point import LARGEST_FLOAT
from delegraph.delegates.cpu.ir import Function, Value, const, vector, zero
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.elementwise import words
from delegraph.delegates.cpu.kernels.kernel import nest, tiles, width

Along = tuple[int, int, int, int, int]
"""Size, window, stride, padding before, number of outputs."""


@dataclass(frozen=True)
class Pool:
    """``kernel(out, in, parameters)``: parameters are the least and greatest result. kind: "average" or "max"."""

    kind: str
    element: str
    images: int
    rows: Along
    columns: Along
    channels: int

    @property
    def stem(self) -> str:
        return f"{self.kind}_pool_2d_{'f32' if self.element == 'float' else self.element}_window"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("parameters", "ptr")])
        is_float = self.element == "float"
        size, lanes = (4 if is_float else 1), width(self.channels, target.lanes)
        type_ = vector(lanes, "float" if is_float else "i32")
        low, high = words(f, f["parameters"], lanes, 2, "float" if is_float else "i32")
        pixel = self.channels * size
        row = self.columns[0] * pixel
        image = self.rows[0] * row
        out_row = self.columns[4] * pixel
        out_image = self.rows[4] * out_row
        with nest(f, (self.images,), [f["out"], f["in"]], [(out_image,), (image,)]) as (out_i, in_i):
            with f.loop(0, self.rows[4]) as y:
                y0, n_y = self._inside(f, y.index, self.rows)
                with f.loop(0, self.columns[4]) as x, tiles(f, self.channels, lanes) as channel:
                    x0, n_x = self._inside(f, x.index, self.columns)
                    first = f.at(f.at(f.at(in_i, y0, row), x0, pixel), channel, size)
                    least = -LARGEST_FLOAT if is_float else -128
                    total = zero(type_) if self.kind == "average" else const(type_, least)
                    with f.loop(0, n_y, carry=[total]) as ky:
                        line = f.at(first, ky.index, row)
                        with f.loop(0, n_x, carry=ky.carry) as kx:
                            value = self._load(f, f.at(line, kx.index, pixel), lanes)
                            kx.carry = [self._combine(f, kx.carry[0], value)]
                        ky.carry = kx.results
                    result = ky.results[0]
                    if self.kind == "average":
                        result = self._mean(f, result, f.convert("trunc", f.mul(n_y, n_x), "i32"), lanes)
                    result = f.clamp(result, low, high)
                    if not is_float:
                        result = f.convert("trunc", result, vector(lanes, "i8"))
                    f.store(result, f.at(f.at(f.at(out_i, y.index, out_row), x.index, pixel), channel, size))
        return f

    @staticmethod
    def _inside(f: Function, index: Value, along: Along) -> tuple[Value, Value]:
        """The first element of a window that lies inside, and how many do."""
        size, window, stride, before, _ = along
        start = f.sub(f.mul(index, stride), before)
        stop = f.intrinsic("smin", f.add(start, window), const("i64", size))
        start = f.intrinsic("smax", start, const("i64", 0))
        return start, f.sub(stop, start)

    def _load(self, f: Function, pointer: Value, lanes: int) -> Value:
        if self.element == "float":
            return f.load(vector(lanes, "float"), pointer)
        value = f.load(vector(lanes, "i8"), pointer)
        return f.convert("sext" if self.element == "i8" else "zext", value, vector(lanes, "i32"))

    def _combine(self, f: Function, total: Value, value: Value) -> Value:
        if self.kind == "average":
            return f.add(total, value)
        if self.element == "float":  # a NaN is never greater
            return f.select(f.compare("ogt", value, total), value, total)
        return f.intrinsic("smax", total, value)

    def _mean(self, f: Function, total: Value, n: Value, lanes: int) -> Value:
        floats = vector(lanes, "float")
        if self.element == "float":
            return f.binary("fdiv", total, f.splat(f.convert("sitofp", n, "float"), lanes))
        # (|total| + n / 2) / n: below 2^24 a float32 quotient cut off is exact
        count = f.splat(n, lanes)
        negative = f.compare("slt", total, zero(total.type))
        size = f.select(negative, f.sub(zero(total.type), total), total)
        dividend = f.add(size, f.binary("lshr", count, 1))
        quotient = f.binary("fdiv", f.convert("sitofp", dividend, floats), f.convert("sitofp", count, floats))
        mean = f.convert("fptosi", quotient, total.type)
        return f.select(negative, f.sub(zero(total.type), mean), mean)
