"""Devices for tests of the runtime: the reference's kernels behind other ids, limits and manners."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from delegraph import registry
from delegraph.core.abi import host
from delegraph.core.abi.protocols import Buffer, Delegate, Device, Event, Packs, Program
from delegraph.core.abi.values import (
    SUPPORTED,
    Artifact,
    DeviceInfo,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Node
from delegraph.delegates.reference import ReferenceDelegate

Takes = Callable[[Node], bool]


class _Apart:
    """A buffer in memory that the host may not look at."""

    def __init__(self, memory: Array) -> None:
        self.memory = memory

    @property
    def size_bytes(self) -> int:
        return int(self.memory.nbytes)

    def host_view(self) -> Array | None:
        return None


class EchoDevice(Device):
    """Computes with the reference's kernels. apart: its buffers are memory of its own."""

    def __init__(self, info: DeviceInfo, takes: Takes, apart: bool) -> None:
        self.info = info
        self._inner = ReferenceDelegate().open("reference", {})
        self._takes, self._apart = takes, apart

    def supports(self, view: GraphView) -> Sequence[Support]:
        answers = self._inner.supports(view)
        refusal = Support(Verdict.NO, "echo.chosen", "the test keeps this op from the device")
        return [a if not a.runs or self._takes(n) else refusal for a, n in zip(answers, view.nodes, strict=True)]

    def check(self, segment: Segment) -> Support:
        return SUPPORTED

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        return self._inner.compile(segment, packs, options, deadline=deadline)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        program = self._inner.load(artifact, segment, packs)
        return _ApartProgram(program) if self._apart else program

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        buffer = host.allocate(size_bytes, alignment)
        return _Apart(buffer.memory) if self._apart else buffer

    def import_host(self, memory: Array) -> Buffer | None:
        return None if self._apart else host.HostBuffer(memory)

    def write(self, source: Array, target: Buffer, *, after: Sequence[Event] = ()) -> Event:
        assert isinstance(target, _Apart)
        target.memory[: source.nbytes] = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        return host.FINISHED

    def read(self, source: Buffer, target: Array, *, after: Sequence[Event] = ()) -> Event:
        assert isinstance(source, _Apart)
        target.reshape(-1).view(np.uint8)[:] = source.memory[: target.nbytes]
        return host.FINISHED


class _ApartProgram(Program):
    def __init__(self, program: Program) -> None:
        self._program = program

    def context(self, scratch: Buffer):  # type: ignore[no-untyped-def]
        return _ApartContext(self._program.context(host.allocate(0)))

    def close(self) -> None:
        self._program.close()


class _ApartContext:
    def __init__(self, context) -> None:  # type: ignore[no-untyped-def]
        self._context = context

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        self._context.bind(*([host.HostBuffer(b.memory) for b in side] for side in (inputs, outputs)))  # type: ignore[attr-defined]

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        event: Event = self._context.run(after=after, deadline=deadline)
        return event


_instances = itertools.count()


class EchoDelegate(Delegate):
    """A delegate of devices "echo:NAME"."""

    version = "1"

    def __init__(self, name: str, takes: Takes, *, apart: bool = False, **info: object) -> None:
        self.name = f"echo:{name}"
        own = {"instance": str(next(_instances))}  # no artifact of another test fits
        base = DeviceInfo(self.name, "accelerator", "tests", "1", fingerprint=own)
        self._info = replace(base, **info)  # type: ignore[arg-type]
        self._takes, self._apart = takes, apart

    def devices(self) -> Sequence[DeviceInfo]:
        return (self._info,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        return EchoDevice(self._info, self._takes, self._apart)


@contextmanager
def registered(*delegates: Delegate) -> Iterator[None]:
    """These delegates are known while the block lasts; their devices' slots and failures are forgotten behind it."""
    for delegate in delegates:
        registry.add(delegate)
    try:
        yield
    finally:
        for delegate in delegates:
            registry._loaded.pop(delegate.name, None)
            for info in delegate.devices():
                registry._slots.pop(info.id, None)
                registry.health.forget(info.id)
