"""A sound delegate, written so that every rule of the contract has something to bite on: artifacts with a checksum,
packs, scratch, deadlines, dependencies, one op that deviates. The breakers break it, one rule each.
"""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Buffer, Context, Delegate, Device, Event, Packs, Program
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
    Verdict,
)
from delegraph.core.graph.graph import Array
from delegraph.core.runtime.artifacts import segment_digest
from delegraph.delegates.reference import ReferenceDelegate
from delegraph.delegates.reference.delegate import ReferenceDevice, ReferenceProgram

ID = "sound:0"
MAGIC = b"SOUND-1\n"
FORMAT = "sound-1"
INFO = DeviceInfo(id=ID, kind="accelerator", vendor="tests", driver="1", fingerprint={"driver": "1"})


def error(code: ErrorCode, message: str) -> DelegateError:
    return DelegateError(ID, code, message)


class SoundDelegate(Delegate):
    """Delegate "sound"."""

    name, version = "sound", "1"

    def devices(self) -> Sequence[DeviceInfo]:
        return (INFO,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        if device_id != ID:
            raise error(ErrorCode.INVALID, f"there is no device {device_id!r}")
        return self.device()

    def device(self) -> SoundDevice:
        return SoundDevice()


class SoundDevice(Device):
    """Device "sound:0"."""

    info = INFO

    def __init__(self) -> None:
        self.inner: ReferenceDevice = ReferenceDelegate().open("reference", {})

    def supports(self, view: GraphView) -> Sequence[Support]:
        answers = self.inner.supports(view)
        deviates = Support(Verdict.DEVIATES, "sound.cos", "COS is rounded otherwise")
        return [
            deviates if answer.runs and node.op.name == "COS" else answer
            for node, answer in zip(view.nodes, answers, strict=True)
        ]

    def check(self, segment: Segment) -> Support:
        return SUPPORTED

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        return [Estimate(100 * i) for i, _ in enumerate(view.nodes)]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        if deadline is not None and time.monotonic() > deadline:
            raise error(ErrorCode.TIMEOUT, "compile: no time left")
        names = [self.pack_name(value, packs) for value in constants(segment)]
        for name, value in zip(names, constants(segment), strict=True):
            packs.get(name, lambda value=value: value.copy())  # type: ignore[misc]
        return Artifact(FORMAT, self.payload(segment, packs), tuple(dict.fromkeys(names)))

    def pack_name(self, value: Array, packs: Packs) -> str:
        return f"sound/plain/{packs.digest(value)}"

    def payload(self, segment: Segment, packs: Packs) -> bytes:
        """Magic, checksum of the rest, segment, a factor that is one, padding."""
        body = segment_digest(segment, packs).encode() + struct.pack("<d", 1.0) + bytes(16)
        return MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        if artifact.format != FORMAT:
            raise error(ErrorCode.ARTIFACT_REFUSED, f"format {artifact.format!r}")
        payload = bytes(artifact.payload)
        factor = self.factor(payload, segment, packs)
        found = [packs.get(self.pack_name(value, packs)) for value in constants(segment)]
        return self.program(segment, found, factor)

    def factor(self, payload: bytes, segment: Segment, packs: Packs) -> float:
        body = payload[len(MAGIC) + 4 :]
        if payload[: len(MAGIC)] != MAGIC or payload[len(MAGIC) :][:4] != struct.pack("<I", zlib.crc32(body)):
            raise error(ErrorCode.ARTIFACT_REFUSED, "damaged")
        if body[:64] != segment_digest(segment, packs).encode():
            raise error(ErrorCode.ARTIFACT_REFUSED, "of another segment")
        return float(struct.unpack_from("<d", body, 64)[0])

    def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
        return SoundProgram(self.inner_program(segment), packs, factor)

    def inner_program(self, segment: Segment) -> ReferenceProgram:
        return ReferenceProgram(segment)

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        return host.allocate(size_bytes, alignment)

    def import_host(self, memory: Array) -> Buffer | None:
        return host.HostBuffer(memory)

    def close(self) -> None:
        return None


class SoundProgram(Program):
    """The reference's program. factor: what outputs are multiplied with; 1 unless an artifact was damaged."""

    scratch_bytes = 128
    alignment = 64

    def __init__(self, inner: ReferenceProgram, packs: Sequence[Array], factor: float) -> None:
        self.inner, self.packs, self.factor = inner, list(packs), factor

    def context(self, scratch: Buffer) -> Context:
        return SoundContext(self, scratch)

    def close(self) -> None:
        return None


class SoundContext(Context):
    """Computes when ``run`` is called, on the caller's thread."""

    def __init__(self, program: SoundProgram, scratch: Buffer) -> None:
        self.program, self.scratch = program, scratch
        self.inner = program.inner.context(scratch)
        self.inputs: list[Buffer] = []
        self.outputs: list[Buffer] = []

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        self.inner.bind(inputs, outputs)
        self.inputs, self.outputs = list(inputs), list(outputs)

    def unbind(self) -> None:
        self.inner.unbind()
        self.inputs, self.outputs = [], []

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        self.wait_for(after)
        if deadline is not None and time.monotonic() > deadline:
            raise error(ErrorCode.TIMEOUT, "run: no time left")
        self.compute()
        return host.FINISHED

    def wait_for(self, after: Sequence[Event]) -> None:
        try:
            for event in after:
                event.wait()
        except DelegateError as exc:
            raise error(ErrorCode.DEPENDENCY_FAILED, str(exc)) from exc

    def compute(self) -> None:
        self.inner.run()
        if self.program.factor != 1.0:
            for view in self.float_outputs():
                view *= np.float32(self.program.factor)

    def float_outputs(self) -> list[Array]:
        segment = self.program.inner.segment
        found = zip(self.outputs, segment.outputs, strict=False)
        return [bytes_of(b)[: segment.specs[i].size_bytes].view(np.float32) for b, i in found if _is_float(segment, i)]


def _is_float(segment: Segment, tensor: int) -> bool:
    return segment.specs[tensor].dtype.numpy == np.float32


def bytes_of(buffer: Buffer) -> Array:
    view = buffer.host_view()
    assert view is not None
    return view


def constants(segment: Segment) -> list[Array]:
    """The values of the constants that the segment reads."""
    specs = [spec for node in segment.nodes for spec in node.inputs if spec is not None and spec.value is not None]
    return [spec.value for spec in specs if spec.value is not None and spec.dtype.is_plain]


class ApartBuffer(Buffer):
    """Memory that the host may not look at."""

    def __init__(self, memory: Array) -> None:
        self.memory = memory

    @property
    def size_bytes(self) -> int:
        return int(self.memory.nbytes)

    def host_view(self) -> None:
        return None


class ApartDelegate(SoundDelegate):
    """As sound as the other, with memory of its own."""

    def devices(self) -> Sequence[DeviceInfo]:
        return (replace(INFO, may_hang=True, memory_domain=ID),)

    def device(self) -> SoundDevice:
        return ApartDevice()


class ApartDevice(SoundDevice):
    info = replace(INFO, may_hang=True, memory_domain=ID)

    def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
        return ApartProgram(self.inner_program(segment), packs, factor)

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        return ApartBuffer(host.allocate(size_bytes, alignment).memory)

    def import_host(self, memory: Array) -> Buffer | None:
        return None

    def write(self, source: Array, target: Buffer, *, after: Sequence[Event] = ()) -> Event:
        seen(target)[: source.nbytes] = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        return host.FINISHED

    def read(self, source: Buffer, target: Array, *, after: Sequence[Event] = ()) -> Event:
        target.reshape(-1).view(np.uint8)[:] = seen(source)[: target.nbytes]
        return host.FINISHED


def seen(buffer: Buffer) -> Array:
    """The memory of a device's own buffer, as the device sees it."""
    assert isinstance(buffer, ApartBuffer)
    return buffer.memory


class ApartProgram(SoundProgram):
    def context(self, scratch: Buffer) -> Context:
        return ApartContext(self, host.HostBuffer(seen(scratch)))


class ApartContext(SoundContext):
    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        super().bind(*([host.HostBuffer(seen(buffer)) for buffer in side] for side in (inputs, outputs)))


class ExclusiveDelegate(SoundDelegate):
    """As sound as the other, over hardware that can be open once."""

    def device(self) -> SoundDevice:
        return ExclusiveDevice()


class ExclusiveDevice(SoundDevice):
    _in_use = threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        if not self._in_use.acquire(blocking=False):
            raise error(ErrorCode.DEVICE_LOST, "it is in use")

    def close(self) -> None:
        self._in_use.release()


class LaterDelegate(SoundDelegate):
    """As sound as the other; its runs go on when ``run`` has returned."""

    def device(self) -> SoundDevice:
        return LaterDevice()


class LaterDevice(SoundDevice):
    def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
        return LaterProgram(self.inner_program(segment), packs, factor)


class LaterProgram(SoundProgram):
    def context(self, scratch: Buffer) -> Context:
        return LaterContext(self, scratch)


class LaterContext(SoundContext):
    """Each run on a thread of its own, one after the other."""

    _before: Later | None = None

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        before, super_run = self._before, super().run

        def work() -> None:
            if before is not None:
                before.join()
            super_run(after=after, deadline=deadline)

        self._before = Later(work)
        return self._before


class Later(Event):
    """Work on a thread, as an event."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        time.sleep(0.002)  # so that a look at once comes too early
        try:
            work()
        except Exception as exc:
            self._error = exc

    def join(self) -> None:
        self._thread.join()

    def wait(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise error(ErrorCode.TIMEOUT, "still at work")
        if self._error is not None:
            raise self._error
