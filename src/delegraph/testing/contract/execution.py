"""Programs and runs as the checks make them: every buffer between guard zones, outputs filled with a pattern first.

Memory is chosen as core chooses it (core.runtime.loaded), unless a check wants another kind. Imports core.abi and
expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import Artifact
from delegraph.core.graph.graph import Array
from delegraph.testing.contract.expected import Expectation, complaint, of_feed
from delegraph.testing.contract.finding import expect, fail
from delegraph.testing.contract.sketch import Specimen

WAIT_S = 30.0
"""How long a check waits for a run of a tiny graph."""

GUARD_BYTES = 256

Memory = Literal["usual", "imported", "allocated", "tight"]
"""Where a tensor lies. usual: where core would put it, which is in the user's array (imported), unless the device is
watched or can't bind that one. allocated: in a larger buffer of the device's own; tight: in one of just its size."""


def wait(event: Event) -> None:
    event.wait(WAIT_S)


@dataclass
class Cell:
    """A buffer between guard zones. In host memory that was imported both sides are guarded, in memory of the device's
    own what lies behind the tensor, unless it is tight.

    image: all of it as the host last wrote or read it; start, size_bytes: where the tensor lies in it.
    """

    device: Device
    buffer: Buffer
    image: Array
    start: int
    size_bytes: int
    guard: int
    is_imported: bool

    @classmethod
    def make(cls, device: Device, size_bytes: int, alignment: int, guard: int, memory: Memory) -> Cell:
        room = max(GUARD_BYTES, alignment)
        block = np.empty(size_bytes + 2 * room + alignment, np.uint8)
        start = room + -(block.ctypes.data + room) % alignment
        buffer = None
        if memory == "imported" or (memory == "usual" and not device.info.may_hang):
            buffer = device.import_host(block[start : start + size_bytes])
        is_imported = buffer is not None
        if buffer is None:
            buffer = device.allocate(max(1, size_bytes + (0 if memory == "tight" else GUARD_BYTES)), alignment)
            block, start = np.empty(buffer.size_bytes, np.uint8), 0
        expect(buffer.size_bytes >= size_bytes, f"a buffer of {size_bytes} bytes has only {buffer.size_bytes}")
        cell = cls(device, buffer, block, start, size_bytes, guard, is_imported)
        cell.fill(guard ^ 0x5A)
        return cell

    @property
    def _middle(self) -> slice:
        return slice(self.start, self.start + self.size_bytes)

    def set(self, value: Array) -> None:
        """Writes the tensor, and the guard zones anew."""
        self.image[: self.start] = self.guard
        self.image[self._middle] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self.image[self.start + self.size_bytes :] = self.guard
        if self.is_imported:
            return
        view = self.buffer.host_view()
        if view is None:
            wait(self.device.write(self.image, self.buffer))
        else:
            view[: self.image.size] = self.image

    def fill(self, pattern: int) -> None:
        """Writes the tensor's bytes with a pattern that depends on the place."""
        self.set(pattern_bytes(pattern, self.size_bytes))

    def get(self) -> Array:
        """The tensor's bytes now."""
        if not self.is_imported:
            view = self.buffer.host_view()
            if view is None:
                wait(self.device.read(self.buffer, self.image))
            else:
                self.image[:] = view[: self.image.size]
        return self.image[self._middle].copy()

    def overrun(self) -> str:
        """Where the guard zones were written, or ""."""
        self.get()
        before = np.flatnonzero(self.image[: self.start] != self.guard)
        behind = np.flatnonzero(self.image[self.start + self.size_bytes :] != self.guard)
        if before.size:
            return f"{before.size} bytes in front of it, the nearest at -{self.start - int(before[-1])}"
        if behind.size:
            return f"{behind.size} bytes behind its end, the first at +{int(behind[0])}"
        return ""


def pattern_bytes(pattern: int, size_bytes: int) -> Array:
    return ((np.arange(size_bytes) * 7 + pattern) & 0xFF).astype(np.uint8)


@dataclass(eq=False)
class Bench:
    """A specimen compiled and loaded on a device."""

    device: Device
    specimen: Specimen
    packs: Packs
    artifact: Artifact
    program: Program
    is_loose: bool = False

    @classmethod
    def make(cls, device: Device, specimen: Specimen, packs: Packs, *, is_loose: bool = False) -> Bench:
        """Compiles and loads. Raises what the device raises."""
        artifact = device.compile(specimen.segment, packs, {})
        return cls(device, specimen, packs, artifact, device.load(artifact, specimen.segment, packs), is_loose)

    def loaded(self, artifact: Artifact, packs: Packs, device: Device | None = None) -> Bench:
        """The same specimen from another artifact."""
        device = self.device if device is None else device
        program = device.load(artifact, self.specimen.segment, packs)
        return Bench(device, self.specimen, packs, artifact, program, self.is_loose)

    def lane(self, memory: Memory = "usual") -> Lane:
        return Lane(self, memory)

    def close(self) -> None:
        self.program.close()

    def expected(self, k: int) -> Expectation:
        """What feed ``k`` has to give."""
        return of_feed(self.specimen, k)

    def complaint(self, outputs: Sequence[Array], k: int) -> str:
        return complaint(self.expected(k), outputs, is_loose=self.is_loose)

    def check_once(self, k: int = 0, when: str = "") -> None:
        """One run in a context of its own; fails the check when it gives wrong answers."""
        self.lane().check(k, when)


class Lane:
    """A context with memory of its own, bound. memory: where its inputs and outputs lie; scratch is always the device's
    own, as core lends it."""

    def __init__(self, bench: Bench, memory: Memory = "usual") -> None:
        self.bench, self.memory = bench, memory
        program, specs = bench.program, bench.specimen.segment.specs
        alignment = max(64, program.alignment)
        self.scratch = Cell.make(bench.device, program.scratch_bytes, alignment, 0xA1, "allocated")
        self.context: Context = program.context(self.scratch.buffer)
        self._sizes = (
            [specs[i].size_bytes for i in bench.specimen.segment.inputs],
            [specs[i].size_bytes for i in bench.specimen.delivered],
        )
        self.inputs: list[Cell] = []
        self.outputs: list[Cell] = []
        self.rebind()

    def _cell(self, size_bytes: int, guard: int) -> Cell:
        return Cell.make(self.bench.device, size_bytes, max(1, self.bench.program.alignment), guard, self.memory)

    def bind(self) -> None:
        self.context.bind([cell.buffer for cell in self.inputs], [cell.buffer for cell in self.outputs])

    def rebind(self) -> list[Cell]:
        """Binds fresh memory; returns the cells of the outputs that were bound before."""
        before = self.outputs
        self.inputs = [self._cell(size, 0xB2) for size in self._sizes[0]]
        self.outputs = [self._cell(size, 0xC3) for size in self._sizes[1]]
        self.bind()
        return before

    def drop(self) -> None:
        """Forgets the memory that is bound."""
        self.inputs, self.outputs = [], []

    def give(self, k: int, canary: int = 0x11) -> None:
        """Writes feed ``k`` into the inputs and a pattern into the outputs."""
        for cell, value in zip(self.inputs, self.bench.specimen.feed(k), strict=True):
            cell.set(value)
        for cell in self.outputs:
            cell.fill(canary)

    def start(self, **options: Any) -> Event:
        return self.context.run(**options)

    def run(self, k: int, canary: int = 0x11) -> list[Array]:
        """Feed ``k`` run to its end: the outputs."""
        self.give(k, canary)
        wait(self.start())
        return self.results()

    def results(self) -> list[Array]:
        specs = self.bench.specimen.segment.specs
        found = []
        for i, cell in zip(self.bench.specimen.delivered, self.outputs, strict=True):
            found.append(cell.get().view(specs[i].dtype.numpy).reshape(specs[i].shape))
        return found

    def check(self, k: int, when: str = "", canary: int = 0x11) -> None:
        """Runs feed ``k``; fails the check when the outputs are wrong."""
        self.judge(self.run(k, canary), k, when)

    def judge(self, outputs: Sequence[Array], k: int, when: str = "") -> None:
        problem = self.bench.complaint(outputs, k)
        if problem:
            fail(f"{self.bench.specimen.name}{', ' + when if when else ''}: {problem}")
