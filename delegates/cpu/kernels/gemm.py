"""Matrix products over pixels: convolutions without im2col, and FULLY_CONNECTED.

In NHWC the inputs under one row of a window are contiguous, so that a convolution is a matrix product whose inner
dimension comes in runs, one a row of taps, and whose rows (pixels) lie at constant distances: nothing is copied, but
the input has to be physically padded. A tile of ``mr`` pixels by ``nv`` vectors of channels stays in registers.

Source: facts-cpu.md §2.1.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from delegraph.delegates.cpu.ir import Function, Value, const, zero
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.dots import GROUPS, add_products, repeated, sum_type
from delegraph.delegates.cpu.kernels.finish import HEAD_BYTES, Finish, spill, vector_bytes
from delegraph.delegates.cpu.kernels.kernel import store_part, tiles


@dataclass(frozen=True)
class Gemm:
    """``kernel(out, in, weights, constants)``; sizes in elements, strides in bytes.

    dot: a kind of ``dots``. lanes: channels in a vector (at most the target's). taps: (number, stride) of the nested
    loops over runs of ``depth`` elements. in_strides, out_strides: along image, row, pixel. finish: see ``finish``.
    row_sums: weights have a zero point, so that the sum of the inputs is subtracted that many times. panels_outer:
    each panel of weights is read once while the pixels pass by; else the other way round.
    """

    op: str
    dot: str
    lanes: int
    images: int
    rows: int
    pixels: int
    channels: int
    depth: int
    taps: tuple[tuple[int, int], ...]
    in_strides: tuple[int, int, int]
    out_strides: tuple[int, int, int]
    finish: str
    row_sums: bool
    mr: int
    nv: int
    panels_outer: bool

    @property
    def stem(self) -> str:
        return f"{self.op}_{self.dot}_{self.finish}{self.mr}x{self.nv}"

    @property
    def n_panels(self) -> int:
        return -(-self.channels // (self.nv * self.lanes))

    @property
    def groups(self) -> int:
        return -(-self.depth // GROUPS[self.dot])

    def build(self, name: str, target: Target) -> Function:
        f = Function(name, [("out", "ptr"), ("in", "ptr"), ("weights", "ptr"), ("constants", "ptr")])
        element = "float" if self.dot == "f32" else "i32"
        finish = Finish(f, self.finish, f["constants"], self.lanes, element)
        with ExitStack() as stack:
            panel = stack.enter_context(f.loop(0, self.n_panels)).index if self.panels_outer else None
            image = stack.enter_context(f.loop(0, self.images)).index
            row = stack.enter_context(f.loop(0, self.rows)).index
            pixel = stack.enter_context(tiles(f, self.pixels, self.mr))
            if panel is None:
                panel = stack.enter_context(f.loop(0, self.n_panels)).index
            source, out = f["in"], f["out"]
            for index, i, o in zip((image, row, pixel), self.in_strides, self.out_strides, strict=True):
                source, out = f.at(source, index, i), f.at(out, index, o)
            step = vector_bytes(self.finish, self.lanes) * self.nv
            constants = f.at(f.at(f["constants"], HEAD_BYTES), panel, step)
            weights = f.at(f["weights"], panel, self._panel_bytes())
            sums = self._sums(f, target, source, weights, constants)
            self._store(f, finish, sums, out, constants, panel)
        return f

    def _panel_bytes(self) -> int:
        n_taps = 1
        for n, _ in self.taps:
            n_taps *= n
        return n_taps * self.groups * self.nv * self.lanes * 4

    # --- sums

    def _sums(self, f: Function, target: Target, source: Value, weights: Value, constants: Value) -> list[Value]:
        """mr x nv sums that start at the bias."""
        type_ = sum_type(self.dot, self.lanes)
        size = vector_bytes(self.finish, self.lanes)
        biases = [f.load(type_, f.at(constants, j * size)) for j in range(self.nv)]
        sums = biases * self.mr
        if self.row_sums:
            sums += [zero(type_)] * self.mr
        *sums, _ = self._over_taps(f, target, source, [*sums, weights], self.taps)
        if self.row_sums:
            zero_point = f.splat(f.load("i32", f.at(f["constants"], 12)), self.lanes)
            totals = [f.mul(s, zero_point) for s in sums[self.mr * self.nv :]]
            sums = [f.sub(s, totals[k // self.nv]) for k, s in enumerate(sums[: self.mr * self.nv])]
        return sums

    def _over_taps(
        self, f: Function, target: Target, source: Value, carry: list[Value], taps: tuple[tuple[int, int], ...]
    ) -> list[Value]:
        if not taps:
            return self._over_depth(f, target, source, carry)
        (n, stride), rest = taps[0], taps[1:]
        with f.loop(0, n, carry=carry) as turn:
            turn.carry = self._over_taps(f, target, f.at(source, turn.index, stride), turn.carry, rest)
        return turn.results

    def _over_depth(self, f: Function, target: Target, source: Value, carry: list[Value]) -> list[Value]:
        """One run; carry: the sums and the place in the weights."""
        group = GROUPS[self.dot]
        whole, rest = divmod(self.depth, group)
        if whole:
            unroll = _unroll(whole, self.mr * self.nv)
            with f.loop(0, whole, unroll, carry=carry) as turn:
                at = f.at(source, turn.index, 4)
                for k in range(unroll):
                    turn.carry = self._step(f, target, f.at(at, 4 * k), turn.carry, group)
            carry = turn.results
        if rest:
            carry = self._step(f, target, f.at(source, 4 * whole), carry, rest)
        return carry

    def _step(self, f: Function, target: Target, source: Value, carry: list[Value], n: int) -> list[Value]:
        """One group of each pixel; ``n`` of its elements are the run's."""
        *sums, weights = carry
        size = self.lanes * 4
        loaded = [f.load(sum_type(self.dot, self.lanes), f.at(weights, j * size)) for j in range(self.nv)]
        ones = const(sum_type(self.dot, self.lanes), 0x01010101 & ((1 << 8 * n) - 1)) if self.row_sums else None
        for i in range(self.mr):
            x = repeated(f, self.dot, f.at(source, i * self.in_strides[2]), self.lanes)
            for j, w in enumerate(loaded):
                k = i * self.nv + j
                sums[k] = add_products(f, target, self.dot, sums[k], x, w)
            if ones is not None:
                k = self.mr * self.nv + i
                sums[k] = add_products(f, target, self.dot, sums[k], x, ones)
        return [*sums, f.at(weights, self.nv * size)]

    # --- results

    def _store(
        self, f: Function, finish: Finish, sums: list[Value], out: Value, constants: Value, panel: Value
    ) -> None:
        element = 4 if self.dot == "f32" else 1
        targets = [f.at(out, self._channel(f, panel, j), element) for j in range(self.nv)]
        n = min(self.lanes, self.channels)
        if self.dot == "f32":
            for k, y in enumerate(sums):
                place = f.at(targets[k % self.nv], k // self.nv * self.out_strides[2])
                store_part(f, finish.floats(y), place, n, 4)
            return
        memory, size = spill(f, sums), self.lanes * 4
        step = vector_bytes(self.finish, self.lanes)
        with f.loop(0, self.mr) as turn:
            tile = f.at(memory, turn.index, self.nv * size)
            for j in range(self.nv):
                x = f.load(sum_type(self.dot, self.lanes), f.at(tile, j * size))
                y = finish.bytes(x, f.at(constants, j * step + size))
                y = f.convert("trunc", y, y.type.replace("i32", "i8"))
                store_part(f, y, f.at(targets[j], turn.index, self.out_strides[2]), n, 1)

    def _channel(self, f: Function, panel: Value, j: int) -> Value:
        """The first channel of a vector; see ``packing.channel_vectors``."""
        first = f.add(f.mul(panel, self.nv * self.lanes), j * self.lanes)
        last = max(0, self.channels - self.lanes)
        if self.n_panels * self.nv * self.lanes <= self.channels:
            return first
        return f.intrinsic("smin", first, const("i64", last))


def _unroll(n: int, tile: int) -> int:
    """Steps of a loop of ``n`` that are written out: a divisor of it, less the more a step takes."""
    if n <= 9 and n * tile <= 128:
        return n
    return max(u for u in (1, 2, 3, 4, 5, 6, 7, 8) if n % u == 0 and u * tile <= 128 or u == 1)
