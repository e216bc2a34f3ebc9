"""What a run does to the memory that it is bound to, and to all other memory."""

from __future__ import annotations

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import Cell, Lane, Memory, pattern_bytes, wait
from delegraph.testing.contract.finding import expect, fail
from delegraph.testing.contract.subject import Subject


@check("inputs.unwritten", "A run never writes to its inputs.")
def unwritten(subject: Subject) -> None:
    lane = subject.bench().lane()
    for k in range(2):
        lane.run(k)
        for i, (cell, value) in enumerate(zip(lane.inputs, lane.bench.specimen.feed(k), strict=True)):
            after = cell.get()
            changed = np.flatnonzero(after != np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            expect(not changed.size, f"{changed.size} bytes of input {i} changed, the first at {changed[:1]}")


@check("outputs.complete", "A run writes every byte of its outputs, whatever was in them before.")
def complete(subject: Subject) -> None:
    lane = subject.bench().lane()
    one, two = lane.run(0, canary=0x11), lane.run(0, canary=0x8E)
    for i, (a, b) in enumerate(zip(one, two, strict=True)):
        is_left = (_bytes(a) == pattern_bytes(0x11, a.nbytes)) & (_bytes(b) == pattern_bytes(0x8E, b.nbytes))
        left = np.flatnonzero(is_left)
        if left.size:
            fail(f"{left.size} of {a.nbytes} bytes of output {i} are what they were before, the first at {left[0]}")


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


@check("outputs.inside", "A run writes nothing in front of or behind the buffers that it is bound to.")
def inside(subject: Subject) -> None:
    bench = subject.bench()
    kinds: tuple[Memory, ...] = ("imported", "allocated")  # of the one both sides are guarded, core may use the other
    for memory in kinds:
        lane = bench.lane(memory)
        for k in range(2):
            lane.run(k)
            for what, cells in (("input", lane.inputs), ("output", lane.outputs), ("scratch", [lane.scratch])):
                for i, cell in enumerate(cells):
                    written = cell.overrun()
                    expect(not written, f"{what} {i} of {cell.size_bytes} bytes: it wrote {written}")


@check(
    "memory.bound",
    "A run is right wherever its tensors lie: in imported arrays or the device's own buffers, of their size or larger.",
)
def bound(subject: Subject) -> None:
    bench = subject.bench()
    kinds: tuple[Memory, ...] = ("imported", "allocated", "tight")
    for memory in kinds:
        lane = bench.lane(memory)
        for k in range(2):
            lane.check(k, f"with {memory} memory")


@check("scratch.sane", "scratch_bytes is a whole number from 0, alignment a power of two up to 4096.")
def sane(subject: Subject) -> None:
    program = subject.bench().program
    scratch, alignment = program.scratch_bytes, program.alignment
    whole = isinstance(scratch, int) and not isinstance(scratch, bool)
    expect(whole and scratch >= 0, f"scratch_bytes is {scratch!r}")
    good = isinstance(alignment, int) and 0 < alignment <= 4096 and not alignment & (alignment - 1)
    expect(good, f"alignment is {alignment!r}")


@check("scratch.stateless", "Nothing is kept in scratch from run to run: core lends it to others in between.")
def stateless(subject: Subject) -> None:
    lane = subject.bench().lane()
    for k, pattern in enumerate((0x00, 0xFF, 0x7B)):
        lane.scratch.fill(pattern)
        lane.check(k, "after its scratch was filled with a pattern")


@check(
    "context.rebind", "A binding lasts until the next one: then the new memory is read and written, the old left alone."
)
def rebind(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.check(0)
    old_inputs, old_outputs = lane.inputs, lane.rebind()
    for cell in old_outputs:
        cell.fill(0x3C)
    for cell in old_inputs:
        cell.fill(0xC4)
    lane.check(1, "after other buffers were bound")
    for i, cell in enumerate(old_outputs):
        expect(_is_filled(cell, 0x3C), f"output {i} of the binding before was written")
    lane.check(2, "run once more with that binding")


def _is_filled(cell: Cell, pattern: int) -> bool:
    found = cell.get()
    cell.fill(pattern)
    return bool((found == cell.get()).all())


@check("context.in_place", "A run reads what its inputs hold when it starts, not what they held when they were bound.")
def in_place(subject: Subject) -> None:
    lane = subject.bench().lane()
    for k in (0, 1, 2, 0):
        lane.check(k, "inputs changed where they lie, without a new binding")


@check("context.too_small", "A buffer that is too small for its tensor is refused, by bind() or by run().")
def too_small(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.check(0)
    refused = _is_refused(lane, "outputs", 0) and _is_refused(lane, "inputs", 0)
    expect(refused, "a buffer of half the size was bound, and the run ended well")


def _is_refused(lane: Lane, side: str, position: int) -> bool:
    cells = {"inputs": list(lane.inputs), "outputs": list(lane.outputs)}
    cell = cells[side][position]
    small = lane.bench.device.allocate(cell.size_bytes // 2, max(1, lane.bench.program.alignment))
    if small.size_bytes >= cell.size_bytes:
        return True
    buffers = {name: [c.buffer for c in some] for name, some in cells.items()}
    buffers[side][position] = small
    try:
        lane.context.bind(buffers["inputs"], buffers["outputs"])
        wait(lane.start())
    except Exception:  # errors.typed says of which kind it should be
        return True
    return False
