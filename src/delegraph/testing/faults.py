"""Faults on request: ``with faults.inject("reference", faults.FailRun(at=3)): ...``.

While a fault is injected, the device is wrapped: it does its work as before, until the fault says otherwise. Faults
count calls over all models of the process. Compile the models inside the ``with`` block: what was loaded before keeps
running on the device as it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Options, Segment
from delegraph.core.graph.graph import Array


@dataclass(frozen=True)
class Fault:
    """What goes wrong. at: the first call that does (from 0); times: how many in a row do, None for all that follow."""

    at: int = 0
    times: int | None = 1

    def strikes(self, call: int) -> bool:
        return call >= self.at and (self.times is None or call < self.at + self.times)


@dataclass(frozen=True)
class FailCompile(Fault):
    """``compile`` raises INTERNAL."""


@dataclass(frozen=True)
class FailRun(Fault):
    """``run`` fails with this code, or with another exception than DelegateError if ``raises`` is given."""

    code: ErrorCode = ErrorCode.INTERNAL
    raises: Callable[[], BaseException] | None = None


@dataclass(frozen=True)
class OutOfMemory(Fault):
    """``allocate`` and ``import_host`` raise OUT_OF_MEMORY."""


@dataclass(frozen=True)
class LoseDevice(Fault):
    """``run`` raises DEVICE_LOST, and so does every call on this opening of the device from then on."""


@dataclass(frozen=True)
class Hang(Fault):
    """``run`` does not return for this many seconds, then goes on as if nothing had happened: a late writer."""

    seconds: float = 3600.0


@dataclass(frozen=True)
class CorruptArtifact(Fault):
    """``load`` gets an artifact with a changed byte and another format name."""


@dataclass(frozen=True)
class WrongOutputs(Fault):
    """``run`` ends well, but the outputs hold other values: a device that lies. No border can see that."""


class Faults:
    """The faults of one device and how often each kind of call has been made. Thread-safe."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self.calls: dict[str, int] = {"compile": 0, "load": 0, "run": 0, "memory": 0}
        self.struck: list[Fault] = []

    def next(self, call: str, *kinds: type[Fault]) -> Fault | None:
        """Counts a call; the fault of these kinds that strikes at it, if any."""
        with self._lock:
            n = self.calls[call]
            self.calls[call] += 1
            for fault in self._faults:
                if isinstance(fault, kinds) and fault.strikes(n):
                    self.struck.append(fault)
                    return fault
        return None


@contextmanager
def inject(device: str, *faults: Fault) -> Iterator[Faults]:
    """Wraps a device of this process while the block lasts. The device is opened anew on entry and on exit."""
    from delegraph import registry

    (info,) = (info for info in registry.devices() if info.id == device)
    slot = registry.slot(info)
    state = Faults(faults)
    try:
        with slot.wrapped(lambda opened: cast(Device, _Device(opened, state))):
            yield state
    finally:
        registry.health.forget(device)


class _Around:
    """Passes on whatever it does not say otherwise, so that what is optional in a protocol stays what it is inside."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Device(_Around):
    def __init__(self, device: Device, faults: Faults) -> None:
        super().__init__(device)
        self._faults = faults
        self.is_lost = False

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        self._alive()
        if self._faults.next("compile", FailCompile):
            raise DelegateError(self.info.id, ErrorCode.INTERNAL, "an injected failure to compile")
        return cast(Artifact, self._inner.compile(segment, packs, options, deadline=deadline))

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        self._alive()
        if self._faults.next("load", CorruptArtifact):
            payload = bytearray(artifact.payload) or bytearray(1)
            payload[len(payload) // 2] ^= 0xFF
            artifact = Artifact(artifact.format + " damaged", bytes(payload), artifact.packs)
        return cast(Program, _Program(self._inner.load(artifact, segment, packs), self))

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        self._memory()
        return cast(Buffer, self._inner.allocate(size_bytes, alignment))

    def import_host(self, memory: Array) -> Buffer | None:
        self._memory()
        return cast("Buffer | None", self._inner.import_host(memory))

    def _memory(self) -> None:
        self._alive()
        if self._faults.next("memory", OutOfMemory):
            raise DelegateError(self.info.id, ErrorCode.OUT_OF_MEMORY, "an injected lack of memory")

    def _alive(self) -> None:
        if self.is_lost:
            raise DelegateError(self.info.id, ErrorCode.DEVICE_LOST, "an injected loss of the device")


class _Program(_Around):
    def __init__(self, program: Program, device: _Device) -> None:
        super().__init__(program)
        self._device = device

    def context(self, scratch: Buffer) -> Context:
        return cast(Context, _Context(self._inner.context(scratch), self._device))


class _Context(_Around):
    def __init__(self, context: Context, device: _Device) -> None:
        super().__init__(context)
        self._device = device
        self._outputs: Sequence[Buffer] = ()

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        self._outputs = outputs
        self._inner.bind(inputs, outputs)

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        device = self._device
        device._alive()
        fault = device._faults.next("run", FailRun, LoseDevice, Hang, WrongOutputs)
        if isinstance(fault, FailRun):
            self._spoil()
            if fault.raises is not None:
                raise fault.raises()
            raise DelegateError(device.info.id, fault.code, "an injected failure")
        if isinstance(fault, LoseDevice):
            device.is_lost = True
            self._spoil()
            device._alive()
        if isinstance(fault, Hang):
            time.sleep(fault.seconds)
        event: Event = self._inner.run(after=after, deadline=deadline)
        if isinstance(fault, WrongOutputs):
            event.wait()
            self._spoil()
        return event

    def _spoil(self) -> None:
        """Half-written outputs, as a device that dies in the middle leaves them."""
        for buffer in self._outputs:
            view = buffer.host_view()
            if view is not None:
                view[: view.size // 2 + 1] = 0xA5
