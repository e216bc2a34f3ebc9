"""Depthwise convolutions: lanes are channels, a tile is a few outputs of a row, each input is loaded once for all.

Floats multiply and add. Bytes are widened to int16, the values of two rows of taps interleaved into pairs, and pairs
multiplied and added; interleaving within 128 bits leaves channels in the order of ``packing.interleaved_vectors``.

Source: facts-cpu.md §2.2 (loop order, tiles).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from delegraph.delegates.cpu.ir import Function, Value, vector, zero
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.dots import add_pairs
from delegraph.delegates.cpu.kernels.finish import HEAD_BYTES, Finish, spill, vector_bytes
from delegraph.delegates.cpu.kernels.kernel import store_part, tiles
from delegraph.delegates.cpu.kernels.mathematics import fma


@dataclass(frozen=True)
class Depthwise:
    """``kernel(out, in, weights, constants)``; strides in bytes.

    dot: "f32", "s8" or "u8". lanes: 32-bit elements of a vector; bytes come in blocks of twice as many channels.
    in_strides, out_strides: along image, row, pixel (of the output). tap_strides: along a window's rows and columns.
    """

    dot: str
    lanes: int
    images: int
    rows: int
    pixels: int
    channels: int
    window: tuple[int, int]
    in_strides: tuple[int, int, int]
    out_strides: tuple[int, int, int]
    tap_strides: tuple[int, int]
    finish: str
    columns: int

    @property
    def stem(self) -> str:
        return f"depthwise_conv_2d_{self.dot}_{self.finish}1x{self.columns}"

    @property
    def block(self) -> int:
        """Channels that are computed together."""
        return self.lanes if self.dot == "f32" else 2 * self.lanes

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("weights", "ptr"), ("constants", "ptr")])
        if self.dot == "f32":
            self._floats(f, target)
        else:
            self._bytes(f, target)
        return f

    @contextmanager
    def _outputs(self, f: Function) -> Iterator[tuple[Value, Value]]:
        """Loops over tiles; gives the places of their first input and output."""
        with ExitStack() as stack:
            image = stack.enter_context(f.loop(0, self.images)).index
            row = stack.enter_context(f.loop(0, self.rows)).index
            pixel = stack.enter_context(tiles(f, self.pixels, self.columns))
            source, out = f["in"], f["out"]
            for index, i, o in zip((image, row, pixel), self.in_strides, self.out_strides, strict=True):
                source, out = f.at(source, index, i), f.at(out, index, o)
            yield source, out

    # --- floats

    def _floats(self, f: Function, target: Target) -> None:
        finish = Finish(f, self.finish, f["constants"], self.lanes, "float")
        with self._outputs(f) as (source, out), tiles(f, self.channels, self.lanes) as channel:
            source, out = f.at(source, channel, 4), f.at(out, channel, 4)
            weights = f.at(f["weights"], channel, 4)
            bias = f.load(vector(self.lanes, "float"), f.at(f.at(f["constants"], HEAD_BYTES), channel, 4))
            sums = [bias] * self.columns
            n_rows, n_columns = self.window
            if n_rows * n_columns * self.columns <= 128:
                for ky in range(n_rows):
                    row, w = f.at(source, ky * self.tap_strides[0]), f.at(weights, ky * n_columns * self.channels * 4)
                    sums = self._float_row(f, target, row, w, sums)
            else:
                with f.loop(0, n_rows, carry=sums) as turn:
                    row = f.at(source, turn.index, self.tap_strides[0])
                    w = f.at(weights, turn.index, n_columns * self.channels * 4)
                    turn.carry = self._float_row(f, target, row, w, turn.carry)
                sums = turn.results
            for j, y in enumerate(sums):
                f.store(finish.floats(y), f.at(out, j * self.out_strides[2]))

    def _float_row(self, f: Function, target: Target, row: Value, weights: Value, sums: list[Value]) -> list[Value]:
        """Adds one row of the window to all sums."""
        type_ = vector(self.lanes, "float")
        loaded: dict[int, Value] = {}
        sums = list(sums)
        for kx in range(self.window[1]):
            w = f.load(type_, f.at(weights, kx * self.channels * 4))
            for j in range(self.columns):
                offset = j * self.in_strides[2] + kx * self.tap_strides[1]
                if offset not in loaded:
                    loaded[offset] = f.load(type_, f.at(row, offset))
                sums[j] = fma(f, target, loaded[offset], w, sums[j])
        return sums

    # --- bytes

    def _bytes(self, f: Function, target: Target) -> None:
        finish = Finish(f, self.finish, f["constants"], self.lanes, "i32")
        size, step = self.lanes * 4, vector_bytes(self.finish, self.lanes)
        n_pairs = -(-self.window[0] // 2)
        block_weights = n_pairs * self.window[1] * 2 * size
        n_blocks = max(1, -(-self.channels // self.block))
        with self._outputs(f) as (source, out), f.loop(0, n_blocks) as turn:
            channel = self._channel(f, turn.index, n_blocks)
            source, out = f.at(source, channel), f.at(out, channel)
            weights = f.at(f["weights"], turn.index, block_weights)
            constants = f.at(f.at(f["constants"], HEAD_BYTES), turn.index, 2 * step)
            biases = [f.load(vector(self.lanes, "i32"), f.at(constants, k * step)) for k in range(2)]
            sums = self._byte_sums(f, target, source, weights, biases * self.columns)
            self._store_bytes(f, finish, sums, out, constants)

    def _byte_sums(self, f: Function, target: Target, source: Value, weights: Value, sums: list[Value]) -> list[Value]:
        """Adds all rows of the window, two at a time; large windows in a loop."""
        pair_rows, pair_weights = 2 * self.tap_strides[0], self.window[1] * 2 * self.lanes * 4
        whole, rest = divmod(self.window[0], 2)
        if self.window[0] * self.window[1] * self.columns <= 128:
            for pair in range(whole):
                rows, w = f.at(source, pair * pair_rows), f.at(weights, pair * pair_weights)
                sums = self._byte_rows(f, target, rows, w, 2, sums)
        elif whole:
            with f.loop(0, whole, carry=sums) as turn:
                rows, w = f.at(source, turn.index, pair_rows), f.at(weights, turn.index, pair_weights)
                turn.carry = self._byte_rows(f, target, rows, w, 2, turn.carry)
            sums = turn.results
        if rest:
            rows, w = f.at(source, whole * pair_rows), f.at(weights, whole * pair_weights)
            sums = self._byte_rows(f, target, rows, w, 1, sums)
        return sums

    def _channel(self, f: Function, index: Value, n_blocks: int) -> Value:
        first = f.mul(index, self.block)
        if n_blocks * self.block <= self.channels:
            return first
        return f.intrinsic("smin", first, Value(str(max(0, self.channels - self.block)), "i64"))

    def _byte_rows(
        self, f: Function, target: Target, source: Value, weights: Value, n: int, sums: list[Value]
    ) -> list[Value]:
        """Adds ``n`` (1 or 2) rows of the window to all sums."""
        sums, size = list(sums), self.lanes * 4
        known: dict[int, tuple[Value, Value]] = {}
        for kx in range(self.window[1]):
            w = [f.load(vector(self.lanes, "i32"), f.at(weights, (2 * kx + k) * size)) for k in range(2)]
            for j in range(self.columns):
                offset = j * self.in_strides[2] + kx * self.tap_strides[1]
                if offset not in known:
                    known[offset] = self._pairs(f, source, n, offset)
                for k in range(2):
                    sums[2 * j + k] = add_pairs(f, target, sums[2 * j + k], known[offset][k], w[k])
        return sums

    def _pairs(self, f: Function, source: Value, n: int, offset: int) -> tuple[Value, Value]:
        """The values of two rows of taps as pairs of int16: the lower and upper half of each 128 bits."""
        words = vector(self.block, "i16")
        rows = []
        for ky in (0, 1):
            if ky >= n:
                rows.append(zero(words))
                continue
            loaded = f.load(vector(self.block, "i8"), f.at(source, ky * self.tap_strides[0] + offset))
            rows.append(f.convert("sext" if self.dot == "s8" else "zext", loaded, words))
        halves = []
        for half in (0, 4):
            order = [
                side + 8 * part + half + k
                for part in range(self.block // 8)
                for k in range(4)
                for side in (0, self.block)
            ]
            mixed = f.shuffle(rows[0], rows[1], order)
            halves.append(f.convert("bitcast", mixed, vector(self.lanes, "i32")))
        return halves[0], halves[1]

    def _store_bytes(self, f: Function, finish: Finish, sums: list[Value], out: Value, constants: Value) -> None:
        memory, size, step = spill(f, sums), self.lanes * 4, vector_bytes(self.finish, self.lanes)
        natural = [side + 4 * part + k for part in range(self.lanes // 4) for side in (0, self.lanes) for k in range(4)]
        with f.loop(0, self.columns) as turn:
            halves = []
            for k in range(2):
                x = f.load(vector(self.lanes, "i32"), f.at(memory, f.add(f.mul(turn.index, 2 * size), k * size)))
                y = finish.bytes(x, f.at(constants, k * step + size))
                halves.append(f.convert("trunc", y, vector(self.lanes, "i8")))
            result = f.shuffle(halves[0], halves[1], natural)
            store_part(f, result, f.at(out, turn.index, self.out_strides[2]), min(self.block, self.channels), 1)
