"""Kernels that move bytes: copies between layouts, fills, tables of 256 bytes."""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.delegates.cpu.ir import Function, Value, const, vector
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.kernel import nest, spans, width


@dataclass(frozen=True)
class Copy:
    """``kernel(out, in)``: runs of bytes. sizes: outer dimensions; strides in bytes; run: contiguous bytes."""

    sizes: tuple[int, ...]
    out_strides: tuple[int, ...]
    in_strides: tuple[int, ...]
    run: int

    @property
    def stem(self) -> str:
        return "copy_b8_runs"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr")])
        with nest(f, self.sizes, [f["out"], f["in"]], [self.out_strides, self.in_strides]) as (out, source):
            lanes = width(self.run, 4 * target.lanes)
            for index in spans(f, self.run, lanes):
                value = f.load(vector(lanes, "i8"), f.at(source, index))
                f.store(value, f.at(out, index))
        return f


@dataclass(frozen=True)
class Fill:
    """``kernel(out, value)``: runs of one repeated element, which is read from ``value``."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    run: int
    element: str = "i8"

    @property
    def stem(self) -> str:
        return f"fill_{self.element}_runs"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("value", "ptr")])
        size = int(self.element[1:]) // 8
        n = self.run // size
        lanes = width(n, 4 * target.lanes // size)
        value = f.splat(f.load(self.element, f["value"]), lanes)
        with nest(f, self.sizes, [f["out"]], [self.strides]) as (out,):
            for index in spans(f, n, lanes):
                f.store(value, f.at(out, index, size))
        return f


@dataclass(frozen=True)
class LookUp:
    """``kernel(out, in, table)``: ``table[in]`` for bytes, by their bit patterns."""

    n: int

    @property
    def stem(self) -> str:
        return "lookup_b8_table"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("table", "ptr")])
        if target.has_vbmi and self.n >= 64:
            self._in_registers(f)
        else:
            with f.loop(0, self.n) as turn:
                byte = f.load("i8", f.at(f["in"], turn.index))
                value = f.load("i8", f.at(f["table"], f.convert("zext", byte, "i64")))
                f.store(value, f.at(f["out"], turn.index))
        return f

    def _in_registers(self, f: Function) -> None:
        type_ = vector(64, "i8")
        table = [f.load(type_, f.at(f["table"], 64 * k)) for k in range(4)]

        def half(index: Value, k: int) -> Value:
            return f.call("llvm.x86.avx512.vpermi2var.qi.512", type_, table[k], index, table[k + 1])

        for at in spans(f, self.n, 64):
            index = f.load(type_, f.at(f["in"], at))
            high = f.compare("slt", index, const(type_, 0))
            f.store(f.select(high, half(index, 2), half(index, 0)), f.at(f["out"], at))


@dataclass(frozen=True)
class Pad:
    """``kernel(out, in, value)``: images with a border of one repeated byte. rows, row: of the data (number, bytes);
    top, gap, bottom: bytes of border before the first row, between two, behind the last."""

    images: int
    rows: int
    row: int
    top: int
    gap: int
    bottom: int

    @property
    def stem(self) -> str:
        return "pad_b8_border"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("value", "ptr")])
        byte = f.load("i8", f["value"])
        most = 4 * target.lanes

        def fill(pointer: Value, n: int) -> None:
            if n:
                lanes = width(n, most)
                value = f.splat(byte, lanes)
                for index in spans(f, n, lanes):
                    f.store(value, f.at(pointer, index))

        def copy(out: Value, source: Value) -> None:
            lanes = width(self.row, most)
            for index in spans(f, self.row, lanes):
                f.store(f.load(vector(lanes, "i8"), f.at(source, index)), f.at(out, index))

        pitch = self.row + self.gap
        image = self.top + self.rows * pitch - self.gap + self.bottom
        with nest(f, (self.images,), [f["out"], f["in"]], [(image,), (self.rows * self.row,)]) as (out, source):
            fill(out, self.top)
            with nest(f, (self.rows,), [f.at(out, self.top), source], [(pitch,), (self.row,)]) as (line, data):
                copy(line, data)
                if self.rows > 1:  # the gap behind the last row is part of the bottom, which is written later
                    fill(f.at(line, self.row), self.gap)
            fill(f.at(out, self.top + self.rows * pitch - self.gap), self.bottom)
        return f
