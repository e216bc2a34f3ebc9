"""A segment loaded on a device, and the private memory of its runs. Imports core.abi, core.runtime.border.

Two ways to run. On a device that is not watched (in-tree CPU code) a run binds the caller's arrays and happens on the
caller's thread. A watched device (``may_hang``) never sees a user's memory: inputs are copied to buffers of its own,
it runs on the worker of its resource, and the caller waits with a time limit. A run that is late is abandoned with all
that it is bound to.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import numpy as np

from delegraph.core import forks
from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Segment
from delegraph.core.graph.graph import Array
from delegraph.core.runtime.border import PREPARE_LIMIT_S, DeviceSlot, Opening
from delegraph.core.runtime.worker import Ticket, worker_for

log = logging.getLogger("delegraph")

IDLE_KEPT = 8
"""Contexts of a segment that wait for a run, each with its scratch: what a burst of runs needed beyond it is let go."""


class NotRunError(DelegateError):
    """The device was lost while a run waited for its turn: the run was not begun."""


class _Loaded:
    """A program on an open device. It is closed when nothing can run it any more: neither the segment nor a place of
    it, which a run that hangs holds too; and the device behind it."""

    def __init__(self, opening: Opening, program: Program, slot: DeviceSlot) -> None:
        self.opening, self.program = opening, program
        self._closing = weakref.finalize(self, _close, program, slot, opening)
        self._closing.atexit = not slot.info.may_hang  # at the end there is no thread to do it on
        forks.register(self)

    def renew(self) -> None:
        """In a child process: the program is the parent's to close."""
        self._closing.detach()


@dataclass(slots=True, eq=False)
class _Place:
    """One caller's context, and for a watched device the buffers that it is bound to. unbind: makes the context forget
    the caller's memory."""

    loaded: _Loaded
    context: Context
    unbind: Callable[[], None]
    inputs: Sequence[Buffer] = ()
    outputs: Sequence[Buffer] = ()


class LoadedSegment:
    """A segment on one device. Thread-safe: each run has a context and buffers of its own.

    artifact: what it was loaded from, kept for loading again when the device was reopened. recompile: makes it anew on
    an open device that refuses it; without it, what is refused stays so.
    """

    def __init__(
        self,
        segment: Segment,
        slot: DeviceSlot,
        artifact: Artifact,
        packs: Packs,
        recompile: Callable[[Opening], Artifact] | None = None,
    ) -> None:
        self.segment, self.slot, self.artifact = segment, slot, artifact
        self._packs = packs
        self._recompile: Callable[[Opening], Artifact] | None = None
        self.delivered = (*segment.outputs, *segment.variables)
        """The tensors that a run makes."""
        self.made = tuple((segment.specs[i].shape, segment.specs[i].dtype.numpy) for i in self.delivered)
        """Their shapes and types."""
        self._sizes = tuple(
            [segment.specs[i].size_bytes for i in tensors] for tensors in (segment.inputs, self.delivered)
        )
        self._guard = slot.guard("run")
        self._shared = worker_for(slot.resource) if slot.info.resource else None
        self.runs, self.seconds = 0, 0.0
        """Runs that ended well, and the time that they took in all."""
        self.renew()
        forks.register(self)
        slot.bounded("load", self._load, PREPARE_LIMIT_S)
        self._recompile = recompile  # from now on: what is refused at once is for the caller to judge

    def renew(self) -> None:
        """In a child process: nothing that was loaded may be used."""
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._idle: list[_Place] = []

    @property
    def is_watched(self) -> bool:
        return self.slot.info.may_hang

    @property
    def copies(self) -> bool:
        """Whether inputs and outputs are copied to and from memory of the device's own."""
        return self.is_watched or self.slot.info.memory_domain != "host"

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Runs on the caller's thread, bound to the arrays themselves where the device can. Raises DelegateError; a
        device that was lost is opened again by the next run.

        outputs: for ``delivered``, as ``made`` says.
        """
        opening: Opening | None = None
        try:
            with self._guard, _AT_ONCE if self._shared is None else self._shared.turn():
                opening = self.slot.opening()
                self._run(opening, inputs, outputs)
        except DelegateError as exc:
            if exc.code in _LOST and opening is not None:
                self.slot.lose(opening)
            raise

    def _run(self, opening: Opening, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        start = time.perf_counter()
        place = self._take(opening)
        device, alignment = opening.device, place.loaded.program.alignment
        sources: list[Buffer] = []
        targets: list[Buffer] = []
        fetched: list[tuple[Buffer, Array]] = []  # what the device could not write in place
        for array in map(np.ascontiguousarray, inputs):
            buffer = _over(device, array, alignment)
            if buffer is None:
                buffer = device.allocate(max(1, array.nbytes), alignment)
                if (event := _move(device, array, buffer)) is not None:
                    event.wait()
            sources.append(buffer)
        for array in outputs:
            buffer = _over(device, array, alignment)
            if buffer is None:
                buffer = device.allocate(max(1, array.nbytes), alignment)
                fetched.append((buffer, array))
            targets.append(buffer)
        place.context.bind(sources, targets)
        place.context.run().wait()
        for buffer, array in fetched:
            if (event := _fetch(device, buffer, array)) is not None:
                event.wait()
        place.unbind()
        self._give_back(place, time.perf_counter() - start)

    def start(self, inputs: Sequence[Array], timeout_s: float, *, insists: bool = True) -> WatchedRun:
        """Starts a run on the worker of the device's resource; the inputs are copied before it returns.

        insists: without it, a run whose device is lost while it waits for its turn is not begun (``NotRunError``).
        """
        staged = [np.array(array, order="C") for array in inputs]
        loaded = self._loaded
        if (
            loaded is None or loaded.opening is not self.slot.current
        ):  # has a limit of its own: it is no part of the run
            loaded = self.slot.bounded("load", self._load, PREPARE_LIMIT_S)
        run = WatchedRun(self, staged, timeout_s, None if insists else loaded.opening)
        with self._guard:
            run.ticket = worker_for(self.slot.resource).submit(lambda: self._watched(run), timeout_s)
        return run

    def _watched(self, run: WatchedRun) -> list[Array]:
        """On the worker: moves, runs, moves back. Returns fresh arrays. The place is given up when anything fails."""
        start = time.perf_counter()
        deadline = time.monotonic() + run.timeout_s
        staged = run.inputs
        if run.only_on is not None and run.only_on is not self.slot.current:
            raise NotRunError(self.slot.id, ErrorCode.DEVICE_LOST, "it was lost before the run began")
        with self._guard:
            run.opening = self.slot.opening()
            place = self._take(run.opening, watched=True)
            device = run.opening.device
            results = [np.empty(shape, dtype) for shape, dtype in self.made]
            under_way: list[Event] = []
            try:
                for array, buffer in zip(staged, place.inputs, strict=True):
                    if (event := _move(device, array, buffer)) is not None:
                        under_way.append(event)
                under_way.append(place.context.run(after=tuple(under_way), deadline=deadline))
                under_way[-1].wait(_left(deadline))
                for buffer, result in zip(place.outputs, results, strict=True):
                    if (event := _fetch(device, buffer, result)) is not None:
                        under_way.append(event)
                        event.wait(_left(deadline))
            except BaseException:
                if under_way:
                    _hold(under_way, (place, staged, results))
                raise
        if time.monotonic() < deadline:  # else nobody waits any more, and the device may be lost
            self._give_back(place, time.perf_counter() - start)
        return results

    def _give_back(self, place: _Place, seconds: float) -> None:
        with self._lock:
            is_current = place.loaded is self._loaded  # else the device was reopened: what is left of it is let go
            if is_current and len(self._idle) < IDLE_KEPT:
                self._idle.append(place)
            self.runs += 1
            self.seconds += seconds

    def _take(self, opening: Opening, *, watched: bool = False) -> _Place:
        device = opening.device
        while True:
            try:
                place = self._idle.pop()
            except IndexError:
                break
            if place.loaded.opening is opening:
                return place
        loaded = self._load(opening)
        program = loaded.program
        scratch = device.allocate(program.scratch_bytes, max(64, program.alignment))
        context = program.context(scratch)
        place = _Place(loaded, context, getattr(context, "unbind", _nothing))
        if watched:
            place.inputs, place.outputs = (
                [self._buffer(device, size, program) for size in sizes] for sizes in self._sizes
            )
            context.bind(place.inputs, place.outputs)
        return place

    def _buffer(self, device: Device, size_bytes: int, program: Program) -> Buffer:
        wanted = max(1, size_bytes)
        buffer = device.allocate(wanted, program.alignment)
        if buffer.size_bytes < wanted:
            raise DelegateError(
                self.slot.id, ErrorCode.INTERNAL, f"allocate: expected {wanted} bytes, found {buffer.size_bytes}"
            )
        return buffer

    def _load(self, opening: Opening) -> _Loaded:
        """The program, loaded again if the device was reopened since. Loading holds no lock: it may hang."""
        with self._lock:
            if self._loaded is not None and self._loaded.opening is opening:
                return self._loaded
        try:
            program = self.slot.load(opening.device, self.artifact, self.segment, self._packs)
        except DelegateError as exc:
            if exc.code is not ErrorCode.ARTIFACT_REFUSED or self._recompile is None:
                raise
            log.info("%s refuses what was compiled before, compiling again: %s", self.slot.id, exc.message)
            self.artifact = self._recompile(opening)
            program = self.slot.load(opening.device, self.artifact, self.segment, self._packs)
        loaded = _Loaded(opening, program, self.slot)
        with self._lock:
            stale = self._loaded, self._idle
            self._loaded, self._idle = loaded, []
        opening.held_by(self)
        del stale  # with no lock held: that closes it
        return loaded

    def let_go(self, opening: Opening) -> None:
        """Forgets the program, and what it would have run with, of a device that was lost."""
        stale: object = None
        with self._lock:
            if self._loaded is not None and self._loaded.opening is opening:
                stale = self._loaded, self._idle
                self._loaded, self._idle = None, []
        del stale  # with no lock held: that closes it


class WatchedRun:
    """A run under way on a watched device. inputs: copies that are nobody else's, for running it elsewhere. only_on:
    the opening that it is for, None for whichever there is. opening: the one that it uses, once it has begun."""

    ticket: Ticket

    def __init__(self, loaded: LoadedSegment, inputs: list[Array], timeout_s: float, only_on: Opening | None) -> None:
        self.inputs, self.timeout_s, self.only_on = inputs, timeout_s, only_on
        self.opening: Opening | None = None
        self._slot = loaded.slot

    @property
    def took_s(self) -> float:
        """Seconds since it began, at most its limit."""
        return self.timeout_s - self.ticket.left(self.timeout_s)

    def finish(self) -> list[Array]:
        """Waits for the end; the results in fresh arrays. Raises DelegateError; after TIMEOUT the worker's thread, the
        context and its buffers are left to the late run. A device that was lost is opened again by the next run."""
        try:
            found: list[Array] = self.ticket.result(self.timeout_s)
        except TimeoutError:
            self._lose()  # first: what waits behind this run must not begin on it
            self.ticket.worker.abandon(self.ticket)
            raise DelegateError(self._slot.id, ErrorCode.TIMEOUT, "run: not ended in time") from None
        except DelegateError as exc:
            if exc.code in _LOST and not isinstance(exc, NotRunError):
                self._lose()
            raise
        return found

    def _lose(self) -> None:
        if self.opening is not None:
            self._slot.lose(self.opening)


_AT_ONCE = nullcontext()
"""In the place of a turn, where there is nobody to take turns with."""

_LOST = (ErrorCode.DEVICE_LOST, ErrorCode.TIMEOUT)
"""After these in a run the device is opened anew."""


def _over(device: Device, array: Array, alignment: int) -> Buffer | None:
    """A buffer over the array itself; None where the device can't, or wants another alignment."""
    if alignment <= 1 or array.__array_interface__["data"][0] % alignment == 0:
        return device.import_host(array)
    return None


def _move(device: Device, array: Array, buffer: Buffer) -> Event | None:
    """Copies an array into a buffer: at once where the host can address it, else by the device."""
    view = buffer.host_view()
    if view is None:
        return device.write(array, buffer)
    np.copyto(view[: array.nbytes].view(array.dtype).reshape(array.shape), array)
    return None


def _fetch(device: Device, buffer: Buffer, array: Array) -> Event | None:
    """Copies a buffer into an array: at once where the host can address it, else by the device."""
    view = buffer.host_view()
    if view is None:
        return device.read(buffer, array)
    np.copyto(array, view[: array.nbytes].view(array.dtype).reshape(array.shape))
    return None


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _hold(events: Sequence[Event], memory: object) -> None:
    """Keeps memory that the device may still read or write, until every step on it has ended."""
    pending = [event for event in events if not _has_ended(event)]
    if not pending:
        return
    kept = [memory]

    def wait() -> None:
        for event in pending:
            with suppress(Exception):  # however it ends
                event.wait()
        kept.clear()

    with suppress(RuntimeError):  # no thread to be had
        threading.Thread(target=wait, name="delegraph late steps", daemon=True).start()


def _has_ended(event: Event) -> bool:
    try:
        event.wait(0)
    except DelegateError as exc:
        return exc.code is not ErrorCode.TIMEOUT
    except Exception:  # a stranger's code: it says nothing about the step
        return False
    return True


def _nothing() -> None:
    return None


def _close(program: Program, slot: DeviceSlot, opening: Opening) -> None:
    """Gives back what a program holds, when nothing can run it any more. opening: which is closed behind it."""
    slot.closing(program.close)
