"""Resizing of images: neighbours and weights along both axes come from tables, lanes are channels."""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.delegates.cpu.ir import Function, Value, const, vector
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.kernel import nest, spans, tiles, width

ENTRY_BYTES = 16
"""A table's entry: byte offsets of the lower and the higher neighbour (int32), and their weights (float or int32)."""


@dataclass(frozen=True)
class Bilinear:
    """``kernel(out, in, rows, columns)``. element: "float", "u8" (by way of float) or "i8" (20-bit fixed point).

    Each product is rounded as in the reference, (value · row weight) · column weight, and added in its order. Source:
    core.ops.families.resize.
    """

    element: str
    images: int
    image_bytes: int
    rows: int
    columns: int
    channels: int

    @property
    def stem(self) -> str:
        return f"resize_bilinear_{'f32' if self.element == 'float' else self.element}_tables"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("rows", "ptr"), ("columns", "ptr")])
        size = 4 if self.element == "float" else 1
        pixel = self.channels * size
        lanes = width(self.channels, target.lanes)
        out_row = self.columns * pixel
        strides = [(self.rows * out_row,), (self.image_bytes,)]
        with nest(f, (self.images,), [f["out"], f["in"]], strides) as (out_i, in_i), f.loop(0, self.rows) as y:
            rows, row_weights = self._entry(f, f["rows"], y.index, in_i, lanes)
            out_y = f.at(out_i, y.index, out_row)
            with f.loop(0, self.columns) as x:
                ends = [self._entry(f, f["columns"], x.index, row, lanes) for row in rows]
                weights = ends[0][1]
                with tiles(f, self.channels, lanes) as channel:
                    corners = [(row, column) for column in (0, 1) for row in (0, 1)]
                    values = [self._load(f, f.at(ends[r][0][c], channel, size), lanes) for r, c in corners]
                    if self.element == "i8":
                        result = self._fixed(f, values, row_weights, weights)
                    else:
                        result = self._real(f, values, row_weights, weights)
                    f.store(result, f.at(f.at(out_y, x.index, pixel), channel, size))
        return f

    def _entry(
        self, f: Function, table: Value, index: Value, base: Value, lanes: int
    ) -> tuple[list[Value], list[Value]]:
        """The two neighbours' places and weights."""
        entry = f.at(table, index, ENTRY_BYTES)
        places = [f.at(base, f.convert("sext", f.load("i32", f.at(entry, 4 * k)), "i64")) for k in (0, 1)]
        number = "i32" if self.element == "i8" else "float"
        return places, [f.splat(f.load(number, f.at(entry, 8 + 4 * k)), lanes) for k in (0, 1)]

    def _load(self, f: Function, pointer: Value, lanes: int) -> Value:
        if self.element == "float":
            return f.load(vector(lanes, "float"), pointer)
        value = f.load(vector(lanes, "i8"), pointer)
        if self.element == "i8":
            return f.convert("sext", value, vector(lanes, "i32"))
        return f.convert("uitofp", value, vector(lanes, "float"))

    def _real(self, f: Function, values: list[Value], rows: list[Value], columns: list[Value]) -> Value:
        products = [f.mul(f.mul(v, rows[k % 2]), columns[k // 2]) for k, v in enumerate(values)]
        total = products[0]
        for product in products[1:]:
            total = f.add(total, product)
        if self.element == "float":
            return total
        bytes_ = f.convert("fptosi", f.add(total, const(total.type, 0.5)), total.type.replace("float", "i32"))
        return f.convert("trunc", bytes_, total.type.replace("float", "i8"))

    def _fixed(self, f: Function, values: list[Value], rows: list[Value], columns: list[Value]) -> Value:
        sides = [f.add(f.mul(values[2 * k], rows[0]), f.mul(values[2 * k + 1], rows[1])) for k in (0, 1)]
        total = f.add(f.mul(sides[0], columns[0]), f.mul(sides[1], columns[1]))
        total = f.sub(total, f.binary("lshr", total, 31))
        y = f.binary("ashr", f.add(total, 1 << 19), 20)
        return f.convert("trunc", y, y.type.replace("i32", "i8"))


@dataclass(frozen=True)
class Nearest:
    """``kernel(out, in, rows, columns)``: tables of byte offsets (int32). pixel: bytes of all channels."""

    images: int
    image_bytes: int
    rows: int
    columns: int
    pixel: int

    @property
    def stem(self) -> str:
        return "resize_nearest_b8_tables"

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("rows", "ptr"), ("columns", "ptr")])
        lanes = width(self.pixel, 4 * target.lanes)
        out_row = self.columns * self.pixel
        strides = [(self.rows * out_row,), (self.image_bytes,)]

        def moved(base: Value, table: str, index: Value) -> Value:
            return f.at(base, f.convert("sext", f.load("i32", f.at(f[table], index, 4)), "i64"))

        with nest(f, (self.images,), [f["out"], f["in"]], strides) as (out_i, in_i), f.loop(0, self.rows) as y:
            source_y, out_y = moved(in_i, "rows", y.index), f.at(out_i, y.index, out_row)
            with f.loop(0, self.columns) as x:
                source, out = moved(source_y, "columns", x.index), f.at(out_y, x.index, self.pixel)
                for index in spans(f, self.pixel, lanes):
                    f.store(f.load(vector(lanes, "i8"), f.at(source, index)), f.at(out, index))
        return f
