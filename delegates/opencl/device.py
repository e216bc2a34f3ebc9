"""An open OpenCL device. Imports core.abi, compiler, program; needs pyopencl, which it imports when it is opened."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from delegraph.core.abi.host import FINISHED
from delegraph.core.abi.protocols import Buffer, Device, Event, Packs
from delegraph.core.abi.values import (
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    GraphView,
    Options,
    Segment,
    Support,
)
from delegraph.core.forks import RenewedLock
from delegraph.core.graph.graph import Array
from delegraph.delegates.opencl import artifact as artifacts
from delegraph.delegates.opencl import capability, layouts
from delegraph.delegates.opencl.compiler import lower
from delegraph.delegates.opencl.events import ClEvent, FailedEvent, wait_list
from delegraph.delegates.opencl.failures import mapped
from delegraph.delegates.opencl.memory import ClBuffer, Home
from delegraph.delegates.opencl.traits import Traits

if TYPE_CHECKING:
    from delegraph.delegates.opencl.program import OpenClProgram

_quiet = RenewedLock()


@cache
def _first_process() -> int:
    """The process that opened an OpenCL device first; a fork of it inherits this answer with the driver's state."""
    return os.getpid()


class OpenClDevice(Device):
    """One device with its OpenCL context.

    Constants lie on the device once, by the names of their packs, as long as a program uses them.
    """

    def __init__(self, info: DeviceInfo, traits: Traits) -> None:
        try:
            import pyopencl as cl
        except ImportError as exc:
            raise DelegateError(info.id, ErrorCode.INVALID, f"pyopencl can't be imported: {exc}") from exc
        if os.getpid() != _first_process():
            what = "OpenCL drivers don't survive a fork; start processes afresh (multiprocessing: spawn)"
            raise DelegateError(info.id, ErrorCode.DEVICE_LOST, what)
        self._cl, self.info, self.traits = cl, info, traits
        self._lock = threading.Lock()
        self._constants: weakref.WeakValueDictionary[str, ClBuffer] = weakref.WeakValueDictionary()
        with mapped(info.id, "open"):
            self._device = _find(cl, info.id, traits)
            self._context = cl.Context([self._device])
            self._copies = cl.CommandQueue(self._context)
        self._home = Home(info.id, self._context)

    # --- programs -------------------------------------------------------------------------------------------------

    def supports(self, view: GraphView) -> Sequence[Support]:
        """See core.abi.protocols.Device."""
        return [capability.support(node, self.traits) for node in view.nodes]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        """See core.abi.protocols.Device."""

        def check() -> None:
            if deadline is not None and time.monotonic() >= deadline:
                raise DelegateError(self.info.id, ErrorCode.TIMEOUT, "compile: not ended in time")

        for node in segment.nodes:
            answer = capability.support(node, self.traits)
            if not answer.runs:
                raise DelegateError(self.info.id, ErrorCode.UNSUPPORTED, f"{node.place}: {answer.reason}")
        lowered = lower(segment, self.traits, packs, check)
        values = _constants(segment)
        for tensor, layout, name in lowered.plan.packs:
            check()
            packs.get(name, partial(layouts.arrange, values[tensor], layout))
        binary = self._build(lowered.source) if lowered.plan.kernels else b""
        check()
        payload = artifacts.encode(lowered.plan, lowered.blobs, binary)
        return Artifact(artifacts.FORMAT, payload, tuple(name for _, _, name in lowered.plan.packs))

    def _build(self, source: str) -> bytes:
        with mapped(self.info.id, "build"):
            program = self._compiled(self._cl.Program(self._context, source))
            (binary,) = program.get_info(self._cl.program_info.BINARIES)
            return bytes(binary)

    def _compiled(self, program: Any) -> Any:
        """Builds without pyopencl's own cache, and without its warning for every line that a compiler prints."""
        with _quiet.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return program.build(self.traits.build_options, [self._device], cache_dir=False)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> OpenClProgram:
        """See core.abi.protocols.Device."""
        from delegraph.delegates.opencl.program import OpenClProgram

        if artifact.format != artifacts.FORMAT:
            raise self._refused(f"expected the format {artifacts.FORMAT}, found {artifact.format!r}")
        try:
            parts = artifacts.decode(artifact.payload)
        except ValueError as exc:
            raise self._refused(str(exc)) from exc
        plan = parts.plan
        if plan.fingerprint != self.traits.fingerprint_digest:
            raise self._refused("it was built for another device or driver")
        values = _constants(segment)
        try:
            uploaded = [self._constant(name, values[tensor], layout, packs) for tensor, layout, name in plan.packs]
        except KeyError as exc:
            raise self._refused(f"it refers to the constant {exc}, which the segment does not have") from exc
        blobs = self._upload(np.frombuffer(parts.blobs, np.uint8))
        program = self._binary(parts.binary, plan.kernels) if plan.kernels else None
        with mapped(self.info.id, "load"):
            return OpenClProgram(self._home, self.traits, plan, program, uploaded, blobs)

    def _refused(self, why: str) -> DelegateError:
        return DelegateError(self.info.id, ErrorCode.ARTIFACT_REFUSED, why)

    def _binary(self, binary: bytes, kernels: Sequence[str]) -> Any:
        cl = self._cl
        try:
            program = self._compiled(cl.Program(self._context, [self._device], [binary]))
            for name in kernels:
                cl.Kernel(program, name)
        except cl.Error as exc:
            raise self._refused(f"the driver does not take its binary: {exc}") from exc
        return program

    def _constant(self, name: str, value: Array, layout: str, packs: Packs) -> ClBuffer:
        with self._lock:
            found = self._constants.get(name)
            if found is None:
                found = self._upload(packs.get(name, partial(layouts.arrange, value, layout)))
                self._constants[name] = found
            return found

    def _upload(self, values: Array) -> ClBuffer:
        buffer = self.allocate(values.nbytes)
        if values.nbytes:
            with mapped(self.info.id, "upload"):
                self._cl.enqueue_copy(self._copies, buffer.memory, np.ascontiguousarray(values), is_blocking=True)
        return buffer

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size_bytes: int, alignment: int = 64) -> ClBuffer:
        """See core.abi.protocols.Device. OpenCL aligns every buffer to its largest type, and for sub-buffers."""
        with mapped(self.info.id, f"allocate {size_bytes} bytes"):
            memory = self._cl.Buffer(self._context, self._cl.mem_flags.READ_WRITE, max(1, size_bytes))
        return ClBuffer(self._context, memory, size_bytes)

    def write(self, source: Array, target: Buffer, *, after: Sequence[Event] = ()) -> Event:
        """See core.abi.protocols.Device."""
        source = np.ascontiguousarray(source)
        memory = self._home.owned(target, "write", source.nbytes).memory
        return self._copy(memory, source, source, after)

    def read(self, source: Buffer, target: Array, *, after: Sequence[Event] = ()) -> Event:
        """See core.abi.protocols.Device."""
        memory = self._home.owned(source, "read", target.nbytes).memory
        if not target.flags.c_contiguous:
            raise DelegateError(self.info.id, ErrorCode.INVALID, "read: expected a C-contiguous array")
        return self._copy(target, memory, target, after)

    def _copy(self, target: Any, source: Any, host: Array, after: Sequence[Event]) -> Event:
        try:
            waits = wait_list(self._home, after)
        except DelegateError as exc:
            return FailedEvent(exc)
        if host.nbytes == 0:
            return FINISHED
        with mapped(self.info.id, "copy"):
            event = self._cl.enqueue_copy(self._copies, target, source, is_blocking=False, wait_for=waits or None)
            self._copies.flush()
        return ClEvent(self._home, event, (target, source))

    def close(self) -> None:
        """See core.abi.protocols.Device. The context goes with the last buffer that refers to it."""
        self._constants.clear()


def _find(cl: Any, device: str, traits: Traits) -> Any:
    """The device where the probe found it; drivers may have changed since."""
    platforms = cl.get_platforms()
    if traits.platform < len(platforms):
        devices = platforms[traits.platform].get_devices()
        if traits.device < len(devices) and devices[traits.device].name.strip() == traits.name:
            return devices[traits.device]
    raise DelegateError(device, ErrorCode.DEVICE_LOST, f"{traits.name} is no longer where it was found")


def _constants(segment: Segment) -> dict[int, Array]:
    """The values of the constants that the segment's ops read, by tensor."""
    return {
        tensor: spec.value
        for node in segment.nodes
        for tensor, spec in zip(node.op.inputs, node.inputs, strict=False)
        if spec is not None and spec.value is not None
    }
