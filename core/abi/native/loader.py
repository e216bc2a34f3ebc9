"""A Delegate from a shared library: ``NativeDelegate(path, options)``. Imports library, lend, segment_model.

Everything that the library returns is checked before it is used; a rule of ``delegraph_delegate.h`` that it breaks is a
DelegateError INTERNAL. Against crashes there is ``isolation``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path

from delegraph.core.abi import host
from delegraph.core.abi.native import guard, lend, structs
from delegraph.core.abi.native.device_info import device_infos
from delegraph.core.abi.native.library import (
    Handle,
    Library,
    bytes_at,
    deadline_ns,
    int64_array,
    items,
    open_library,
    string_array,
    text,
    texts,
)
from delegraph.core.abi.native.packs import LentPacks
from delegraph.core.abi.native.segment_model import SegmentModel, segment_model
from delegraph.core.abi.native.structs import BadStruct
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

_VERDICTS = {0: Verdict.NO, 1: Verdict.YES, 2: Verdict.DEVIATES}


class NativeDelegate(Delegate):
    """The delegate in a shared library. options: go to ``devices`` and, under those of ``open``, to ``open``. stamp: of
    the file that was opened.

    Raises:
        InvalidArgument: the library can't be used, with the reason and what to do.
    """

    def __init__(self, path: str | os.PathLike[str], options: Options | None = None) -> None:
        self._library = open_library(Path(path).resolve())
        self._options = dict(options or {})
        lend.LentOptions(self._options)  # refuses values that C has no type for
        self.name, self.version, self.stamp = self._library.name, self._library.version, self._library.stamp

    def devices(self) -> Sequence[DeviceInfo]:
        """The library's list; one unusable device when it fails to give a proper one."""
        library, options = self._library, lend.LentOptions(self._options)
        try:
            with library.returned(self.name, "devices", "release_devices", options.array, options.count) as found:
                return device_infos(found, self.name)
        except DelegateError as exc:
            remedy = "see the plug-in's own documentation"
            return (DeviceInfo(self.name, "accelerator", "", "", available=False, reason=exc.message, remedy=remedy),)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> NativeDevice:
        info = next((d for d in self.devices() if d.id == device_id), None)
        if info is None:
            raise DelegateError(device_id, ErrorCode.INVALID, f"open: {self.name} has no such device")
        lent = lend.LentOptions({**self._options, **options})
        handle = self._library.made(device_id, "open", "release_device", device_id.encode(), lent.array, lent.count)
        return NativeDevice(self._library, info, handle)


class NativeDevice(Device):
    """A device of a library. Its handle is released when neither it nor a program of it is in use any more."""

    def __init__(self, library: Library, info: DeviceInfo, handle: Handle) -> None:
        self._library, self.info = library, info
        self._handle: Handle | None = handle

    def supports(self, view: GraphView) -> Sequence[Support]:
        model = segment_model(view)
        graph = lend.LentGraph(model, lend.LentConstants(model))
        arguments = (self._open().pointer, byref(graph.struct))
        return self._answers("supports", len(view.nodes), *arguments)

    def check(self, segment: Segment) -> Support:
        if not self._library.api.check:
            return SUPPORTED
        model = segment_model(segment)
        lent = lend.LentSegment(model, lend.LentConstants(model))
        return self._answers("check", 1, self._open().pointer, byref(lent.struct))[0]

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        times = int64_array(len(view.nodes))
        if not self._library.api.estimate:
            return [None] * len(view.nodes)
        model = segment_model(view)
        graph = lend.LentGraph(model, lend.LentConstants(model))
        self._library.call(self.info.id, "estimate", self._open().pointer, byref(graph.struct), times)
        return [Estimate(ns) if ns >= 0 else None for ns in times[: len(view.nodes)]]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        model = segment_model(segment)
        lent = lend.LentSegment(model, lend.LentConstants(model, packs))
        lent_packs, lent_options = LentPacks(packs), lend.LentOptions(options)
        with self._library.returned(
            self.info.id,
            "compile",
            "release_artifact",
            self._open().pointer,
            byref(lent.struct),
            byref(lent_packs.struct),
            lent_options.array,
            lent_options.count,
            deadline_ns(deadline),
        ) as found:
            artifact = structs.read(found, structs.Artifact)
            return Artifact(
                text(artifact.format),
                bytes_at(artifact.payload, artifact.size_bytes),
                texts(string_array(artifact.packs), artifact.n_packs),
            )

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> NativeProgram:
        model, device = segment_model(segment), self._open()
        constants = lend.LentConstants(model, packs)
        lent, lent_artifact, lent_packs = (
            lend.LentSegment(model, constants),
            lend.LentArtifact(artifact),
            LentPacks(packs),
        )
        handle = self._library.made(
            self.info.id,
            "load",
            "release_program",
            device.pointer,
            byref(lent_artifact.struct),
            byref(lent.struct),
            byref(lent_packs.struct),
            parents=(device, constants, lent_packs.found),
        )
        return NativeProgram(self._library, self.info.id, handle, model)

    def allocate(self, size_bytes: int, alignment: int = 64) -> GuardedBuffer:
        return GuardedBuffer.allocate(size_bytes, alignment)

    def import_host(self, memory: Array) -> host.HostBuffer:
        return host.HostBuffer(memory)

    def close(self) -> None:
        self._handle = None

    def _open(self) -> Handle:
        handle = self._handle
        if handle is None:
            raise DelegateError(self.info.id, ErrorCode.DEVICE_LOST, "the device is closed")
        return handle

    def _answers(self, function: str, count: int, *arguments: object) -> list[Support]:
        with self._library.returned(self.info.id, function, "release_answers", *arguments) as found:
            answers = structs.read(found, structs.Answers)
            if answers.n_items != count:
                raise BadStruct(f"expected {count} answers, found {answers.n_items}")
            return [_support(s) for s in items(answers.items, count, structs.Support)]


def _support(found: structs.Support) -> Support:
    if found.verdict not in _VERDICTS:
        raise BadStruct(f"expected DG_NO, DG_YES or DG_DEVIATES, found verdict {found.verdict}")
    words = (text(w) for w in (found.constraint, found.reason, found.advice, found.value, found.limit))
    return Support(_VERDICTS[found.verdict], *words)


@dataclass(frozen=True, slots=True, eq=False)
class GuardedBuffer:
    """Host memory with a guard behind it."""

    memory: Array
    guard: Array

    @classmethod
    def allocate(cls, size_bytes: int, alignment: int) -> GuardedBuffer:
        return cls(*guard.split(host.allocate(size_bytes + guard.GUARD_BYTES, alignment).memory))

    @property
    def size_bytes(self) -> int:
        return int(self.memory.nbytes)

    def host_view(self) -> Array:
        return self.memory


class NativeProgram(Program):
    """A loaded artifact. The sizes are asked once and checked by core."""

    def __init__(self, library: Library, device: str, handle: Handle, model: SegmentModel) -> None:
        self._library, self._device = library, device
        self._handle: Handle | None = handle
        self._needs = tuple(
            tuple(model.tensors[i].spec.size_bytes for i in ends)
            for ends in (model.inputs, model.outputs + model.variables)
        )
        self.scratch_bytes = int(library.plain("scratch_bytes", handle.pointer))
        self.alignment = int(library.plain("alignment", handle.pointer))
        if self.scratch_bytes > 1 << 40:
            found = f"found {self.scratch_bytes}"
            raise DelegateError(device, ErrorCode.INTERNAL, f"load: expected scratch_bytes of at most 1 TiB, {found}")

    def context(self, scratch: Buffer) -> NativeContext:
        program = self._handle
        if program is None:
            raise DelegateError(self._device, ErrorCode.INVALID, "context: the program is closed")
        lent = lend.LentBuffers([_memory(scratch, self.scratch_bytes, self._device)])
        handle = self._library.made(
            self._device,
            "context",
            "release_context",
            program.pointer,
            byref(lent.structs[0]),
            parents=(program, lent, scratch),
        )
        return NativeContext(self._library, self._device, handle, self._needs, scratch)

    def close(self) -> None:
        self._handle = None


class NativeContext(Context):
    """One caller's runs. A run holds the handle, so that one which hangs keeps what it works on."""

    def __init__(
        self, library: Library, device: str, handle: Handle, needs: tuple[tuple[int, ...], ...], scratch: Buffer
    ) -> None:
        self._library, self._device, self._handle = library, device, handle
        self._needs = needs
        self._scratch = scratch
        self._guards: tuple[tuple[str, Array], ...] = ()
        self._bound: tuple[object, ...] = ()

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        lent = [
            lend.LentBuffers([_memory(b, n, self._device) for b, n in zip(buffers, needs, strict=True)])
            for buffers, needs in zip((inputs, outputs), self._needs, strict=True)
        ]
        named = [("scratch", self._scratch), *((f"output {i}", b) for i, b in enumerate(outputs))]
        self._library.call(
            self._device,
            "bind",
            self._handle.pointer,
            lent[0].array,
            lent[0].count,
            lent[1].array,
            lent[1].count,
        )
        self._guards = tuple((name, b.guard) for name, b in named if isinstance(b, GuardedBuffer))
        self._bound = (*lent, *inputs, *outputs)

    def unbind(self) -> None:
        """A library that can't let go may go on using what was bound until the next bind: then it is kept for it."""
        if self._library.api.unbind:
            self._library.plain("unbind", self._handle.pointer)
            self._guards, self._bound = (), ()

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        host.await_all(after, self._device)
        self._library.call(self._device, "run", self._handle.pointer, deadline_ns(deadline))
        name = guard.broken(self._guards)
        if name:
            raise DelegateError(self._device, ErrorCode.INTERNAL, f"run: wrote past the end of {name}")
        return host.FINISHED


def _memory(buffer: Buffer, size_bytes: int, device: str) -> Array:
    memory = buffer.host_view()
    if memory is None or memory.nbytes < size_bytes:
        found = "none" if memory is None else f"{memory.nbytes}"
        raise DelegateError(
            device, ErrorCode.INVALID, f"bind: expected {size_bytes} bytes of host memory, found {found}"
        )
    return memory[:size_bytes]
