"""A segment loaded on a device, and the private memory of its runs. Imports core.abi, core.runtime.border.

Two ways to run. On a device that is not watched (in-tree CPU code) a run binds the caller's arrays and happens on the
caller's thread. A watched device (``may_hang``) never sees a user's memory: inputs are copied to buffers of its own,
it runs on the worker of its resource, and the caller waits with a time limit. A run that is late is abandoned with all
that it is bound to.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Segment
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import TensorSpec
from delegraph.core.runtime import forks
from delegraph.core.runtime.border import PREPARE_LIMIT_S, DeviceSlot
from delegraph.core.runtime.worker import Ticket, worker_for


@dataclass(slots=True, eq=False)
class _Place:
    """One caller's context, and for a watched device the buffers that it is bound to."""

    device: Device
    context: Context
    alignment: int
    inputs: list[Buffer]
    outputs: list[Buffer]


class LoadedSegment:
    """A segment on one device. Thread-safe: each run has a context and buffers of its own.

    artifact: what it was loaded from, kept for loading again when the device was reopened.
    """

    def __init__(self, segment: Segment, slot: DeviceSlot, artifact: Artifact, packs: Packs) -> None:
        self.segment, self.slot, self.artifact = segment, slot, artifact
        self._packs = packs
        self._delivered = (*segment.outputs, *segment.variables)
        self.runs, self.seconds = 0, 0.0
        """Runs that ended well, and the time that they took in all."""
        self.renew()
        forks.register(self)
        slot.bounded("load", self._load, PREPARE_LIMIT_S)

    def renew(self) -> None:
        """In a child process: nothing that was loaded may be used."""
        self._lock = threading.Lock()
        self._program: Program | None = None
        self.generation = -1
        self._idle: list[_Place] = []

    @property
    def is_watched(self) -> bool:
        return self.slot.info.may_hang

    @property
    def copies(self) -> bool:
        """Whether inputs and outputs are copied to and from memory of the device's own."""
        return self.is_watched or self.slot.info.memory_domain != "host"

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Runs on the caller's thread, bound to the arrays themselves where the device can. Raises DelegateError.

        outputs: for ``segment.outputs + segment.variables``, of their dtype and shape.
        """
        start = time.perf_counter()
        with self.slot.guard("run"):
            place = self._take()
            device, alignment = place.device, place.alignment
            bound_in = [_bindable(device, np.ascontiguousarray(a), alignment) for a in inputs]
            bound_out = [_bindable(device, a, alignment) for a in outputs]
            for (buffer, is_own), array in zip(bound_in, inputs, strict=True):
                if is_own and (event := _move(device, np.ascontiguousarray(array), buffer)) is not None:
                    event.wait()
            place.context.bind([buffer for buffer, _ in bound_in], [buffer for buffer, _ in bound_out])
            place.context.run().wait()
            for (buffer, is_own), array in zip(bound_out, outputs, strict=True):
                if is_own:
                    _fetch(device, buffer, array, None)
        self._give_back(place, time.perf_counter() - start)

    def start(self, inputs: Sequence[Array], timeout_s: float) -> WatchedRun:
        """Starts a run on the worker of the device's resource; the inputs are copied before it returns."""
        staged = [np.array(array, order="C") for array in inputs]
        ticket = worker_for(self.slot.resource).submit(lambda: self._watched(staged, timeout_s))
        return WatchedRun(self, staged, ticket, timeout_s)

    def _watched(self, staged: list[Array], timeout_s: float) -> list[Array]:
        """On the worker: moves, runs, moves back. Returns fresh arrays. The place is given up when anything fails."""
        start = time.perf_counter()
        deadline = time.monotonic() + timeout_s
        with self.slot.guard("run"):
            place = self._take(watched=True)
            moved = [_move(place.device, a, b) for a, b in zip(staged, place.inputs, strict=True)]
            after = [event for event in moved if event is not None]
            place.context.run(after=after, deadline=deadline).wait(max(0.0, deadline - time.monotonic()))
            results = [np.empty(_spec.shape, _spec.dtype.numpy) for _spec in self._specs()]
            for buffer, result in zip(place.outputs, results, strict=True):
                _fetch(place.device, buffer, result, deadline)
        if time.monotonic() < deadline:  # else nobody waits any more, and the device may be lost
            self._give_back(place, time.perf_counter() - start)
        return results

    def _specs(self) -> list[TensorSpec]:
        return [self.segment.specs[i] for i in self._delivered]

    def _give_back(self, place: _Place, seconds: float) -> None:
        self._idle.append(place)
        with self._lock:
            self.runs += 1
            self.seconds += seconds

    def _take(self, *, watched: bool = False) -> _Place:
        device = self.slot.device()
        while True:
            try:
                place = self._idle.pop()
            except IndexError:
                break
            if place.device is device:
                return place
        program = self._load()
        scratch = device.allocate(program.scratch_bytes, max(64, program.alignment))
        place = _Place(device, program.context(scratch), program.alignment, [], [])
        if watched:
            place.inputs = [self._buffer(device, i, program) for i in self.segment.inputs]
            place.outputs = [self._buffer(device, i, program) for i in self._delivered]
            place.context.bind(place.inputs, place.outputs)
        return place

    def _buffer(self, device: Device, tensor: int, program: Program) -> Buffer:
        wanted = max(1, self.segment.specs[tensor].size_bytes)
        buffer = device.allocate(wanted, program.alignment)
        if buffer.size_bytes < wanted:
            raise DelegateError(
                self.slot.id, ErrorCode.INTERNAL, f"allocate: expected {wanted} bytes, found {buffer.size_bytes}"
            )
        return buffer

    def _load(self) -> Program:
        """The program, loaded again if the device was reopened since. Loading holds no lock: it may hang."""
        self.slot.device()
        generation = self.slot.generation
        with self._lock:
            if self._program is not None and self.generation == generation:
                return self._program
        program = self.slot.load(self.artifact, self.segment, self._packs)
        weakref.finalize(self, _close, program, self.slot)
        with self._lock:
            self._program, self.generation = program, generation
        return program


class WatchedRun:
    """A run under way on a watched device. inputs: copies that are nobody else's, for running it elsewhere."""

    def __init__(self, loaded: LoadedSegment, inputs: list[Array], ticket: Ticket, timeout_s: float) -> None:
        self.inputs = inputs
        self._slot, self._ticket, self._timeout_s = loaded.slot, ticket, timeout_s

    def finish(self) -> list[Array]:
        """Waits for the end; the results in fresh arrays. Raises DelegateError; after TIMEOUT the worker's thread, the
        context and its buffers are left to the late run."""
        try:
            found: list[Array] = self._ticket.result(self._timeout_s)
        except TimeoutError:
            self._ticket.worker.abandon(self._ticket)
            raise DelegateError(self._slot.id, ErrorCode.TIMEOUT, "run: not ended in time") from None
        return found


def _bindable(device: Device, array: Array, alignment: int) -> tuple[Buffer, bool]:
    """A buffer over the array itself, or (where the device can't, or wants another alignment) one of the device's own;
    and whether it is its own."""
    if alignment <= 1 or array.__array_interface__["data"][0] % alignment == 0:
        buffer = device.import_host(array)
        if buffer is not None:
            return buffer, False
    return device.allocate(max(1, array.nbytes), alignment), True


def _move(device: Device, array: Array, buffer: Buffer) -> Event | None:
    """Copies an array into a buffer: at once where the host can address it, else by the device."""
    view = buffer.host_view()
    if view is None:
        return device.write(array, buffer)
    np.copyto(view[: array.nbytes].view(array.dtype).reshape(array.shape), array)
    return None


def _fetch(device: Device, buffer: Buffer, array: Array, deadline: float | None) -> None:
    """Copies a buffer into an array. Raises DelegateError, TIMEOUT behind the deadline."""
    view = buffer.host_view()
    if view is None:
        device.read(buffer, array).wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    else:
        np.copyto(array, view[: array.nbytes].view(array.dtype).reshape(array.shape))


def _close(program: Program, slot: DeviceSlot) -> None:
    """Gives back what a program holds, when nothing can run it any more."""
    slot.closing(program.close)
