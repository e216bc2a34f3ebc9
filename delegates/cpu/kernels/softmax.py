"""SOFTMAX along the last dimension.

Floats: exponentials are added up from left to right as in the reference. Bytes: e^-distance from a table, and the
reference's fixed-point reciprocal once a row. Source: core.ops.families.softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.core.ops.families.softmax import SUM_BITS
from delegraph.delegates.cpu.ir import Function, Value, const, vector
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.kernel import nest, spans, width
from delegraph.delegates.cpu.kernels.mathematics import exp


@dataclass(frozen=True)
class SoftmaxFloat:
    """``kernel(out, in, parameters)``; the parameter is beta."""

    rows: int
    depth: int

    @property
    def stem(self) -> str:
        return "softmax_f32_rows"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("parameters", "ptr")])
        lanes, pitch = width(self.depth, target.lanes), 4 * self.depth
        type_ = vector(lanes, "float")
        beta = f.splat(f.load("float", f["parameters"]), lanes)
        with nest(f, (self.rows,), [f["out"], f["in"]], [(pitch,), (pitch,)]) as (out, source):
            most = f.splat(self._maximum(f, source, lanes), lanes)
            for index in spans(f, self.depth, lanes):
                distance = f.sub(f.load(type_, f.at(source, index, 4)), most)
                f.store(exp(f, target, f.mul(distance, beta)), f.at(out, index, 4))
            with f.loop(0, self.depth, carry=[const("float", 0.0)]) as turn:
                turn.carry = [f.add(turn.carry[0], f.load("float", f.at(out, turn.index, 4)))]
            total = turn.results[0]
            whole = self.depth // lanes * lanes
            with f.loop(0, whole, lanes) as turn:
                place = f.at(out, turn.index, 4)
                f.store(f.binary("fdiv", f.load(type_, place), f.splat(total, lanes)), place)
            if whole < self.depth:
                with f.loop(whole, self.depth) as turn:
                    place = f.at(out, turn.index, 4)
                    f.store(f.binary("fdiv", f.load("float", place), total), place)
        return f

    def _maximum(self, f: Function, source: Value, lanes: int) -> Value:
        """The greatest of a row, NaNs left out: they reach every result through the sum."""
        type_ = vector(lanes, "float")
        with f.loop(0, self.depth, lanes, carry=[const(type_, float("-inf"))]) as turn:
            index = turn.index
            if self.depth % lanes:
                index = f.intrinsic("smin", index, const("i64", self.depth - lanes))
            x = f.load(type_, f.at(source, index, 4))
            turn.carry = [f.select(f.compare("ogt", x, turn.carry[0]), x, turn.carry[0])]
        most = f.extract(turn.results[0], 0)
        for lane in range(1, lanes):
            x = f.extract(turn.results[0], lane)
            most = f.select(f.compare("ogt", x, most), x, most)
        return most


@dataclass(frozen=True)
class SoftmaxBytes:
    """``kernel(out, in, exponentials, parts)``: tables of int32 by distance from the maximum."""

    element: str
    rows: int
    depth: int

    @property
    def stem(self) -> str:
        return f"softmax_{self.element}_table"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("exponentials", "ptr"), ("parts", "ptr")])
        with nest(f, (self.rows,), [f["out"], f["in"]], [(self.depth,), (self.depth,)]) as (out, source):
            most = self._maximum(f, source, 4 * target.lanes)
            with f.loop(0, self.depth, carry=[const("i64", 0)]) as turn:
                part = f.load("i32", f.at(f["parts"], self._distance(f, most, source, turn.index), 4))
                turn.carry = [f.add(turn.carry[0], f.convert("zext", part, "i64"))]
            inverse, exponent = self._reciprocal(f, turn.results[0])
            half = f.binary("shl", const("i64", 1), f.sub(exponent, 1))
            low, high = (0, 255) if self.element == "u8" else (-128, 127)
            with f.loop(0, self.depth) as turn:
                at = self._distance(f, most, source, turn.index)
                value = f.convert("zext", f.load("i32", f.at(f["exponentials"], at, 4)), "i64")
                y = f.binary("ashr", f.add(_high_mul(f, inverse, value), half), exponent)
                y = f.clamp(f.add(y, low), const("i64", low), const("i64", high))
                f.store(f.convert("trunc", y, "i8"), f.at(out, turn.index))
        return f

    def _maximum(self, f: Function, source: Value, most_lanes: int) -> Value:
        lanes = width(self.depth, most_lanes)
        type_ = vector(lanes, "i8")
        greater, least = ("umax", 0) if self.element == "u8" else ("smax", -128)
        with f.loop(0, self.depth, lanes, carry=[const(type_, least)]) as turn:
            index = turn.index
            if self.depth % lanes:
                index = f.intrinsic("smin", index, const("i64", self.depth - lanes))
            x = f.load(type_, f.at(source, index))
            turn.carry = [f.intrinsic(greater, turn.carry[0], x)]
        found = turn.results[0]
        while lanes > 1:
            lanes //= 2
            halves = [f.shuffle(found, None, range(k * lanes, (k + 1) * lanes)) for k in (0, 1)]
            found = f.intrinsic(greater, *halves)
        return self._wide(f, f.extract(found, 0))

    def _wide(self, f: Function, byte: Value) -> Value:
        return f.convert("zext" if self.element == "u8" else "sext", byte, "i64")

    def _distance(self, f: Function, most: Value, source: Value, index: Value) -> Value:
        return f.sub(most, self._wide(f, f.load("i8", f.at(source, index))))

    def _reciprocal(self, f: Function, total: Value) -> tuple[Value, Value]:
        """1 / total of fractions of 2^19, and the shift that brings products with it to 8 bits."""
        zeros = f.emit("i64", f"call i64 @llvm.ctlz.i64({total}, i1 true)")
        f.declarations["declare i64 @llvm.ctlz.i64(i64, i1)"] = None
        n_bits = f.sub(const("i64", 64), zeros)
        none = const("i64", 0)
        left = f.intrinsic("smax", f.sub(const("i64", 32), n_bits), none)
        right = f.intrinsic("smax", f.sub(n_bits, 32), none)
        normal = f.binary("shl", f.binary("lshr", total, right), left)
        half = f.binary("ashr", f.add(f.sub(normal, 1 << 31), 1 << 31), 1)
        y = f.add(_high_mul(f, half, const("i64", -1010580540)), 1515870810)
        for _ in range(3):
            rest = f.sub(const("i64", 1 << 29), _high_mul(f, half, y))
            y = f.add(y, _saturated(f, f.binary("shl", _high_mul(f, y, rest), 2)))
        return _saturated(f, f.binary("shl", y, 1)), f.add(n_bits, SUM_BITS - 32 + 31 - 8)


def _high_mul(f: Function, a: Value, b: Value) -> Value:
    """``saturating_rounding_doubling_high_mul`` of int32 values held as i64."""
    high = f.binary("ashr", f.add(f.mul(a, b), 1 << 30), 31)
    return f.intrinsic("smin", high, const("i64", 2**31 - 1))


def _saturated(f: Function, x: Value) -> Value:
    return f.clamp(x, const("i64", -(2**31)), const("i64", 2**31 - 1))
