"""A segment loaded on a device, and the private memory of its runs. Imports core.abi, core.runtime.border.

Two ways to run. On a device that is not watched (in-tree CPU code) a run binds the caller's arrays and happens on the
caller's thread. A watched device (``may_hang``) never sees a user's memory: inputs are copied to buffers of its own,
it runs on the worker of its resource, and the caller waits with a time limit. A run that is late is abandoned with all
that it is bound to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Segment
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import TensorSpec
from delegraph.core.runtime.border import PREPARE_LIMIT_S, DeviceSlot
from delegraph.core.runtime.worker import Ticket, worker_for


@dataclass(slots=True, eq=False)
class _Place:
    """One caller's context, and for a watched device the buffers that it is bound to."""

    generation: int
    context: Context
    inputs: list[Buffer]
    outputs: list[Buffer]


class LoadedSegment:
    """A segment on one device. Thread-safe: each run has a context and buffers of its own.

    artifact: what it was loaded from, kept for loading again when the device was reopened.
    """

    def __init__(self, segment: Segment, slot: DeviceSlot, artifact: Artifact, packs: Packs) -> None:
        self.segment, self.slot, self.artifact = segment, slot, artifact
        self._packs = packs
        self._lock = threading.Lock()
        self._program: Program | None = None
        self._generation = -1
        self._idle: list[_Place] = []
        self._delivered = (*segment.outputs, *segment.variables)
        self.runs, self.seconds = 0, 0.0
        """Runs that ended well, and the time that they took in all."""
        slot.bounded("load", self._load, PREPARE_LIMIT_S)

    @property
    def is_watched(self) -> bool:
        return self.slot.info.may_hang

    @property
    def copies(self) -> bool:
        """Whether inputs and outputs are copied to and from memory of the device's own."""
        return self.is_watched or self.slot.info.memory_domain != "host"

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Runs on the caller's thread, bound to the arrays themselves. Raises DelegateError.

        outputs: for ``segment.outputs + segment.variables``, of their dtype and shape.
        """
        place = self._take()
        start = time.perf_counter()
        with self.slot.guard("run"):
            device = self.slot.device()
            place.context.bind(
                [_import(device.import_host(np.ascontiguousarray(a)), self.slot) for a in inputs],
                [_import(device.import_host(a), self.slot) for a in outputs],
            )
            place.context.run().wait()
        self._give_back(place, time.perf_counter() - start)

    def start(self, inputs: Sequence[Array], timeout_s: float) -> WatchedRun:
        """Starts a run on the worker of the device's resource; the inputs are copied before it returns."""
        staged = [np.array(array, order="C") for array in inputs]
        deadline = time.monotonic() + timeout_s
        ticket = worker_for(self.slot.resource).submit(lambda: self._watched(staged, deadline))
        return WatchedRun(self, ticket, deadline)

    def _watched(self, staged: list[Array], deadline: float) -> list[Array]:
        """On the worker: moves, runs, moves back. Returns fresh arrays. The place is given up when anything fails."""
        start = time.perf_counter()
        with self.slot.guard("run"):
            place = self._take(watched=True)
            device = self.slot.device()
            moved = [_move(device, a, b) for a, b in zip(staged, place.inputs, strict=True)]
            after = [event for event in moved if event is not None]
            place.context.run(after=after, deadline=deadline).wait(max(0.0, deadline - time.monotonic()))
            results = []
            for i, buffer in zip(self._delivered, place.outputs, strict=True):
                spec = self.segment.specs[i]
                view = buffer.host_view()
                if view is None:
                    result = np.empty(spec.shape, spec.dtype.numpy)
                    device.read(buffer, result).wait(max(0.0, deadline - time.monotonic()))
                else:
                    result = view[: spec.size_bytes].view(spec.dtype.numpy).reshape(spec.shape).copy()
                results.append(result)
        if time.monotonic() < deadline:  # else nobody waits any more, and the device may be lost
            self._give_back(place, time.perf_counter() - start)
        return results

    def _give_back(self, place: _Place, seconds: float) -> None:
        self._idle.append(place)
        with self._lock:
            self.runs += 1
            self.seconds += seconds

    def _take(self, *, watched: bool = False) -> _Place:
        while self._idle:
            place = self._idle.pop()
            if place.generation == self._fresh_generation():
                return place
        program = self._load()
        with self.slot.guard("run"):
            device = self.slot.device()
            scratch = device.allocate(program.scratch_bytes, program.alignment)
            place = _Place(self._generation, program.context(scratch), [], [])
            if watched:
                place.inputs = [self._buffer(i, program) for i in self.segment.inputs]
                place.outputs = [self._buffer(i, program) for i in self._delivered]
                place.context.bind(place.inputs, place.outputs)
            return place

    def _buffer(self, tensor: int, program: Program) -> Buffer:
        wanted = _size(self.segment.specs[tensor])
        buffer = self.slot.device().allocate(wanted, program.alignment)
        if buffer.size_bytes < wanted:
            raise DelegateError(
                self.slot.id, ErrorCode.INTERNAL, f"allocate: expected {wanted} bytes, found {buffer.size_bytes}"
            )
        return buffer

    def _fresh_generation(self) -> int:
        self.slot.device()
        return self.slot.generation

    def _load(self) -> Program:
        """The program, loaded again if the device was reopened since."""
        with self._lock:
            generation = self._fresh_generation()
            if self._program is None or self._generation != generation:
                self._program = self.slot.load(self.artifact, self.segment, self._packs)
                self._generation = generation
            return self._program


class WatchedRun:
    """A run under way on a watched device."""

    def __init__(self, loaded: LoadedSegment, ticket: Ticket, deadline: float) -> None:
        self._slot, self._ticket, self._deadline = loaded.slot, ticket, deadline

    def finish(self) -> list[Array]:
        """Waits for the end; the results in fresh arrays. Raises DelegateError; after TIMEOUT the worker's thread, the
        context and its buffers are left to the late run."""
        try:
            found: list[Array] = self._ticket.result(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            worker_for(self._slot.resource).abandon()
            raise DelegateError(self._slot.id, ErrorCode.TIMEOUT, "run: not ended in time") from None
        return found


def _size(spec: TensorSpec) -> int:
    return max(1, spec.size_bytes)


def _import(buffer: Buffer | None, slot: DeviceSlot) -> Buffer:
    if buffer is None:
        raise DelegateError(slot.id, ErrorCode.INTERNAL, "import_host: expected a buffer over host memory, found None")
    return buffer


def _move(device: Device, array: Array, buffer: Buffer) -> Event | None:
    """Copies an array into a buffer: at once where the host can address it, else by the device."""
    view = buffer.host_view()
    if view is None:
        return device.write(array, buffer)
    np.copyto(view[: array.nbytes].view(array.dtype).reshape(array.shape), array)
    return None
