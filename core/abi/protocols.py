"""The protocols that a delegate implements. Imports core.abi.values.

Ownership: whoever creates an object closes it; a Program outlives its Contexts. Threads: Device and Program may be used
by several threads at once, a Context by one at a time. Errors: DelegateError; whatever else is raised becomes one with
code INTERNAL at the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from delegraph.core.abi.values import Artifact, DeviceInfo, GraphView, Options, Segment, Support
from delegraph.core.graph.graph import Array


class Buffer(Protocol):
    """Memory of one device. Since 0.1."""

    @property
    def size_bytes(self) -> int: ...

    def host_view(self) -> Array | None:
        """The memory as a uint8 array if the host can address it, else None."""


class Event(Protocol):
    """The end of an asynchronous step. Since 0.1."""

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the step has ended well.

        Raises:
            DelegateError: the step failed, or TIMEOUT after ``timeout`` seconds.
        """


class Context(Protocol):
    """One caller's private execution of a program; one thread at a time. Since 0.1."""

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        """Sets the memory of ``segment.inputs`` and of ``segment.outputs + segment.variables``, dense and row-major.
        The buffers stay the caller's; inputs are never written. A binding lasts until the next one."""

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        """Starts one run once ``after`` have ended. deadline: a ``time.monotonic`` value. Outputs are complete when
        the event has ended well, and not to be read otherwise."""


class Program(Protocol):
    """An artifact loaded on a device. Thread-safe. Since 0.1."""

    @property
    def scratch_bytes(self) -> int:
        """Working memory that each context needs; the executor lends it."""

    @property
    def alignment(self) -> int:
        """Alignment in bytes of scratch and of bound buffers."""

    def context(self, scratch: Buffer) -> Context: ...

    def close(self) -> None: ...


class Device(Protocol):
    """One thing to run on, opened. Thread-safe. Since 0.1."""

    @property
    def info(self) -> DeviceInfo: ...

    def supports(self, view: GraphView) -> Sequence[Support]:
        """One answer per node of ``view``, in its order. Never raises for a model's sake."""

    def check(self, segment: Segment) -> Support:
        """What only the whole segment shows."""

    def compile(self, segment: Segment, options: Options, *, deadline: float | None = None) -> Artifact:
        """Deterministic in results. Raises DelegateError; UNSUPPORTED only for what ``check`` refuses."""

    def load(self, artifact: Artifact, segment: Segment) -> Program:
        """Raises DelegateError ARTIFACT_REFUSED when the artifact does not fit this device; core compiles again."""

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer: ...

    def import_host(self, memory: Array) -> Buffer | None:
        """A buffer over host memory (C-contiguous; kept alive by the buffer), or None if the device can't."""

    def close(self) -> None: ...


class Delegate(Protocol):
    """A driver for a family of devices; what plug-ins implement. Since 0.1.

    name and version are part of every cache key.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def devices(self) -> Sequence[DeviceInfo]:
        """Every device, also the unusable ones with reason and remedy. Never raises."""

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        """host: an exact device to compute with, for delegates that only imagine their own."""
