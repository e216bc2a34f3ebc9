"""The protocols that a delegate implements. Imports core.abi.values.

A class that names the protocol as its base (``class MyDevice(Device):``) inherits the defaults of the optional hooks;
one that has the methods without naming it has to have them all.

Contract, for every method unless it says otherwise:

* Ownership: whoever creates an object closes it; a Program outlives its Contexts, a Device its Programs and Buffers.
* Threads: Delegate, Device and Program may be used by several threads at once; a Context and a Buffer by one at a time.
* Errors: DelegateError. Whatever else is raised, and what breaks a rule, becomes one with code INTERNAL at the border.
* Fork: nothing on the device side is used in a child process; core opens the device again there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from delegraph.core.abi.values import (
    SUPPORTED,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    Estimate,
    GraphView,
    Options,
    Segment,
    Support,
)
from delegraph.core.graph.graph import Array


class Buffer(Protocol):
    """Memory of one device. Since 0.1. It stays valid until nothing refers to it."""

    @property
    def size_bytes(self) -> int: ...

    def host_view(self) -> Array | None:
        """The memory as a uint8 array if the host can address it at any time, else None."""


class Event(Protocol):
    """The end of an asynchronous step. Since 0.1."""

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the step has ended well; may be called by any thread, any number of times.

        Raises:
            DelegateError: the step failed (with its code), or TIMEOUT when it has not ended after ``timeout`` seconds.
        """


class Packs(Protocol):
    """Constants in devices' own layouts, kept once for all placements and processes. Since 0.2. Core implements it."""

    def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
        """The pack of that name, read-only: found, or made now and kept.

        name: what it was made from and how, so that equal names mean equal bytes: by convention
        ``f"{delegate}/{layout}/{digest of the constant}"`` (``digest``). make: without it a missing pack is a
        DelegateError ARTIFACT_REFUSED; what it raises is passed on.
        """

    def digest(self, value: Array) -> str:
        """Identity of a constant: SHA-256 over type, shape and bytes, as hex; memoised for constants of a model."""


class Context(Protocol):
    """One caller's private execution of a program; one thread at a time. Since 0.1."""

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        """Sets the memory of ``segment.inputs`` and of ``segment.outputs + segment.variables``, dense and row-major.

        The buffers are the device's own (``allocate``, ``import_host``) and stay the caller's; inputs are never
        written. A binding lasts until the next one, or until ``unbind``.
        """

    def unbind(self) -> None:
        """Lets go of what was bound, so that the caller's memory can be freed; ``bind`` comes before the next run.
        Since 0.2. Core calls it after each run on a device that it binds to users' memory, if the context has it."""
        return None

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        """Starts one run once ``after`` have ended well; if one failed, the run fails with DEPENDENCY_FAILED.

        deadline: a ``time.monotonic`` value that the device may use to give up. Outputs are complete when the event has
        ended well, and not to be read otherwise.
        """


class Program(Protocol):
    """An artifact loaded on a device. Thread-safe. Since 0.1."""

    scratch_bytes: int = 0
    """Working memory that each context needs; the executor lends it."""

    alignment: int = 64
    """Alignment in bytes of scratch and of bound buffers; a power of two up to 4096."""

    def context(self, scratch: Buffer) -> Context:
        """A new context over ``scratch``: ``scratch_bytes`` of the device's memory that no one else uses meanwhile."""

    def close(self) -> None:
        """Gives back what the program holds. Called once, after the last run has ended."""
        return None


class Device(Protocol):
    """One thing to run on, opened. Thread-safe. Since 0.1."""

    info: DeviceInfo

    def supports(self, view: GraphView) -> Sequence[Support]:
        """One answer per node of ``view``, in its order. Never raises for a model's sake; the same each time."""

    def check(self, segment: Segment) -> Support:
        """What only the whole segment shows; the ops of it were all supported."""
        return SUPPORTED

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        """The cost of each node, None where core's roofline serves as well. Since 0.2."""
        return [None] * len(view.nodes)

    def estimate_segment(self, segment: Segment) -> Estimate | None:
        """The cost of a segment as one, where that is not the sum of its ops. Since 0.2."""
        return None

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        """The segment as code. Deterministic in results: tuning results come in as options.

        Raises:
            DelegateError: UNSUPPORTED only for what ``check`` refuses; TIMEOUT when the deadline has passed.
        """

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        """The program of an artifact, which may come from another process.

        Raises:
            DelegateError: ARTIFACT_REFUSED when it does not fit this device or is damaged; core compiles again.
        """

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        """Memory of this device; contents are undefined. Raises DelegateError OUT_OF_MEMORY."""

    def import_host(self, memory: Array) -> Buffer | None:
        """A buffer over host memory without a copy (C-contiguous; kept alive by the buffer), or None if it can't."""
        return None

    def write(self, source: Array, target: Buffer, *, after: Sequence[Event] = ()) -> Event:
        """Copies host memory to a buffer of this device. ``source`` is left alone until the event has ended.
        Since 0.2. Only called where ``target.host_view()`` is None."""
        raise DelegateError(self.info.id, ErrorCode.INTERNAL, "the device has memory of its own, but no write")

    def read(self, source: Buffer, target: Array, *, after: Sequence[Event] = ()) -> Event:
        """Copies a buffer of this device to host memory. Since 0.2. Only called where ``source.host_view()`` is
        None."""
        raise DelegateError(self.info.id, ErrorCode.INTERNAL, "the device has memory of its own, but no read")

    def close(self) -> None:
        """Gives back what the device holds. Called once, after its programs are closed."""
        return None


class Delegate(Protocol):
    """A driver for a family of devices; what plug-ins implement. Since 0.1.

    name and version are part of every cache key.
    """

    name: str
    version: str

    def devices(self) -> Sequence[DeviceInfo]:
        """Every device, also the unusable ones with reason and remedy. Never raises; quick after the first call."""

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        """Core opens a device once in a process, and anew when it was lost or in a forked child: then the old opening
        may not be closed yet. Hardware that only one can have open refuses the second opening; core uses other devices
        meanwhile and tries again.

        host: an exact device to compute with, for delegates that only imagine their own.

        Raises:
            DelegateError: the device can't be opened now, by this process or at all.
        """
