"""Delegates that each break one rule of the contract. ``BREAKERS`` says which check has to notice.

Each is a class of its own that overrides one thing of the sound delegate: read its name and docstring. A check may not
only notice its own rule: where breaking one rule cannot but break others (``also``), these are listed, or ANYTHING.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from tests.contract import sound
from tests.contract.sound import (
    ID,
    INFO,
    MAGIC,
    ApartDelegate,
    ApartDevice,
    SoundContext,
    SoundDelegate,
    SoundDevice,
    SoundProgram,
    bytes_of,
    error,
)

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Buffer, Context, Device, Event, Packs
from delegraph.core.abi.values import (
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
from delegraph.core.ops.opdef import TensorSpec
from delegraph.delegates.reference.delegate import ReferenceProgram
from delegraph.testing.contract.packs import KeptPacks

ANYTHING = frozenset({"*"})


@dataclass(frozen=True)
class Breaker:
    """check: the rule that it breaks. also: what cannot but break with it."""

    make: Callable[[], SoundDelegate]
    check: str
    also: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.make.__name__


BREAKERS: list[Breaker] = []


def breaks(check: str, *also: str) -> Callable[[type[SoundDelegate]], type[SoundDelegate]]:
    def add(kind: type[SoundDelegate]) -> type[SoundDelegate]:
        BREAKERS.append(Breaker(kind, check, frozenset(also)))
        return kind

    return add


def on_device(kind: type[SoundDevice]) -> Callable[[SoundDelegate], SoundDevice]:
    return lambda self: kind()


class _Context(SoundContext):
    """Base of contexts that break a rule."""


class Meeting:
    """Where the first thread stays until another one comes by, so that the two are sure to overlap. Not for ever, and
    never the main thread, beside which no other is at work."""

    STAY_S = 3.0

    def __init__(self) -> None:
        self._turns = itertools.count()
        self._two_came = threading.Event()

    def meet(self) -> None:
        if threading.current_thread() is threading.main_thread():
            return
        if next(self._turns):
            self._two_came.set()
        else:
            self._two_came.wait(self.STAY_S)


def with_context(kind: Callable[[SoundProgram, Buffer], Context]) -> Callable[[SoundDelegate], SoundDevice]:
    """A device whose programs have contexts of that kind."""

    class Program(SoundProgram):
        def context(self, scratch: Buffer) -> Context:
            return kind(self, scratch)

    return with_program(Program)


def with_program(kind: type[SoundProgram]) -> Callable[[SoundDelegate], SoundDevice]:
    """A device whose programs are of that kind."""

    class InnerDevice(SoundDevice):
        def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
            return kind(self.inner_program(segment), packs, factor)

    return on_device(InnerDevice)


# --- the delegate and its list


@breaks("delegate.named")
class NoVersion(SoundDelegate):
    version = ""


@breaks("devices.never_raises")
class RaisesInDevices(SoundDelegate):
    def devices(self) -> Sequence[DeviceInfo]:
        raise OSError("no driver")


@breaks("devices.stable")
class ListsAnotherEachTime(SoundDelegate):
    """Lists a second device every other time."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def devices(self) -> Sequence[DeviceInfo]:
        second = replace(INFO, id="sound:1", available=False, reason="unplugged", remedy="plug it in")
        return (INFO, second) if next(self._calls) % 2 else (INFO,)


@breaks("devices.unique")
class SameIdTwice(SoundDelegate):
    def devices(self) -> Sequence[DeviceInfo]:
        return (INFO, INFO)


@breaks("devices.prefixed")
class ForeignId(SoundDelegate):
    def devices(self) -> Sequence[DeviceInfo]:
        other = replace(INFO, id="other:0", available=False, reason="unplugged", remedy="plug it in")
        return (INFO, other)


@breaks("devices.explained")
class NoRemedy(SoundDelegate):
    def devices(self) -> Sequence[DeviceInfo]:
        return (INFO, replace(INFO, id="sound:1", available=False, reason="unplugged"))


@breaks("devices.described")
class UnknownType(SoundDelegate):
    def devices(self) -> Sequence[DeviceInfo]:
        return (replace(INFO, dtypes=("float32", "float33")),)


# --- opening


@breaks("open.works")
class CannotBeOpened(SoundDelegate):
    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        if device_id == ID:
            raise RuntimeError("the licence has expired")
        return super().open(device_id, options, host)


@breaks("open.same_info")
class OpensAnother(SoundDelegate):
    class Other(SoundDevice):
        info = replace(INFO, id="sound:1")

    device = on_device(Other)


@breaks("open.unknown")
class KeyErrorForUnknown(SoundDelegate):
    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        return {ID: super().open}[device_id](device_id, options, host)


@breaks("open.again", "compile.accepts", "threads.device")
class ClosesForGood(SoundDelegate):
    """close() of the last opening shuts the driver down; what is opened later computes nothing."""

    def device(self) -> SoundDevice:
        delegate = self

        class Counted(SoundDevice):
            was_closed = delegate.n_open == 0 and delegate.is_used

            def close(self) -> None:
                delegate.n_open -= 1

            def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
                delegate.is_used = True
                if self.was_closed:
                    raise error(ErrorCode.DEVICE_LOST, "the driver was shut down")
                return super().load(artifact, segment, packs)  # type: ignore[return-value]

        found = Counted()
        self.n_open += 1
        return found

    n_open = 0
    is_used = False


@breaks("open.twice")
class CloseClosesAll(SoundDelegate):
    """close() tears the driver down, under whoever else has the device open."""

    def __init__(self) -> None:
        self.n_closed = 0

    def device(self) -> SoundDevice:
        delegate, opened_at = self, self.n_closed

        class Torn(SoundDevice):
            def close(self) -> None:
                delegate.n_closed += 1

            def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
                return TornProgram(self.inner_program(segment), packs, factor)

        class TornProgram(SoundProgram):
            def context(self, scratch: Buffer) -> Context:
                return TornContext(self, scratch)

        class TornContext(SoundContext):
            def compute(self) -> None:
                if delegate.n_closed != opened_at:
                    raise error(ErrorCode.DEVICE_LOST, "the driver is closed")
                super().compute()

        return Torn()


# --- capability


@breaks("supports.complete")
class OneAnswerForAll(SoundDelegate):
    class Lumped(SoundDevice):
        def supports(self, view: GraphView) -> Sequence[Support]:
            return super().supports(view)[:1]

    device = on_device(Lumped)


@breaks("supports.stable")
class ChangesItsMind(SoundDelegate):
    class Fickle(SoundDevice):
        _calls = itertools.count()

        def supports(self, view: GraphView) -> Sequence[Support]:
            no = Support(Verdict.NO, "fickle", "not today")
            today = next(self._calls) % 2
            answers = super().supports(view)
            pairs = zip(view.nodes, answers, strict=True)
            return [no if today and node.op.name == "GELU" else answer for node, answer in pairs]

    device = on_device(Fickle)


@breaks("supports.reasons")
class SaysNoWithoutAWord(SoundDelegate):
    class Silent(SoundDevice):
        def supports(self, view: GraphView) -> Sequence[Support]:
            pairs = zip(view.nodes, super().supports(view), strict=True)
            return [Support(Verdict.NO) if node.op.name == "GELU" else answer for node, answer in pairs]

    device = on_device(Silent)


@breaks("supports.never_raises")
class RaisesForUnknownOps(SoundDelegate):
    class Strict(SoundDevice):
        def supports(self, view: GraphView) -> Sequence[Support]:
            for node in view.nodes:
                if node.op.is_custom and node.op.name.startswith("acme"):
                    raise KeyError(node.op.name)
            return super().supports(view)

    device = on_device(Strict)


@breaks("check.answers")
class CheckAnswersTrue(SoundDelegate):
    class Careless(SoundDevice):
        def check(self, segment: Segment) -> Support:
            class Yes:
                runs, verdict = True, Verdict.YES

            return Yes()  # type: ignore[return-value]

    device = on_device(Careless)


@breaks("estimate.well_formed")
class NegativeTime(SoundDelegate):
    class Early(SoundDevice):
        def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
            return [Estimate(-1) for _ in view.nodes]

    device = on_device(Early)


@breaks("estimate.stable")
class GuessesTimes(SoundDelegate):
    class Guessing(SoundDevice):
        def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
            return [Estimate(random.randrange(10**9)) for _ in view.nodes]

    device = on_device(Guessing)


# --- compiling


@breaks("compile.accepts")
class RefusesWhatItChecked(SoundDelegate):
    """UNSUPPORTED for long segments, which check() takes."""

    class Short(SoundDevice):
        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            if len(segment.nodes) == 6:
                raise error(ErrorCode.UNSUPPORTED, "too long")
            return super().compile(segment, packs, options, deadline=deadline)

    device = on_device(Short)


@breaks("compile.artifact")
class ArtifactOfAList(SoundDelegate):
    class Listing(SoundDevice):
        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            found = super().compile(segment, packs, options, deadline=deadline)
            return replace(found, payload=bytearray(found.payload))  # type: ignore[arg-type]

    device = on_device(Listing)


@breaks("compile.packs")
class HidesItsPacks(SoundDelegate):
    class Hiding(SoundDevice):
        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            return replace(super().compile(segment, packs, options, deadline=deadline), packs=())

    device = on_device(Hiding)


@breaks("compile.pack_names")
class NamesPacksByPlace(SoundDelegate):
    """Computes with its packs, and names them by where the constant stands in the segment."""

    class Numbering(SoundDevice):
        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            found = super().compile(segment, KeptPacks(), options, deadline=deadline)
            return replace(found, packs=tuple(name for name, _ in self._kept(segment, packs)))

        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            if artifact.format != sound.FORMAT:
                raise error(ErrorCode.ARTIFACT_REFUSED, "another format")
            factor = self.factor(bytes(artifact.payload), segment, packs)
            found = [pack for _, pack in self._kept(segment, packs)]
            return self.program(_computing_with(segment, found), found, factor)

        def _kept(self, segment: Segment, packs: Packs) -> list[tuple[str, Array]]:
            named = {f"sound/plain/{i}": value for i, value in enumerate(sound.constants(segment))}
            return [(name, packs.get(name, value.copy)) for name, value in named.items()]

    device = on_device(Numbering)


def _computing_with(segment: Segment, packs: Sequence[Array]) -> Segment:
    """The segment with these values of its constants."""
    values = iter(packs)

    def changed(spec: TensorSpec | None) -> TensorSpec | None:
        is_constant = spec is not None and spec.value is not None and spec.dtype.is_plain
        return replace(spec, value=next(values)) if spec is not None and is_constant else spec

    nodes = tuple(replace(node, inputs=tuple(map(changed, node.inputs))) for node in segment.nodes)
    return replace(segment, nodes=nodes)


@breaks("compile.same_results")
class CompilesByTheClock(SoundDelegate):
    """Tunes while it compiles, so that programs round in one way or in another. It declares that it deviates."""

    class Tuned(SoundDevice):
        _calls = itertools.count()

        def supports(self, view: GraphView) -> Sequence[Support]:
            deviates = Support(Verdict.DEVIATES, "tuned", "sums are rounded otherwise")
            return [deviates if answer.runs else answer for answer in super().supports(view)]

        def payload(self, segment: Segment, packs: Packs) -> bytes:
            import zlib

            factor = 1.0 + 1e-3 * (next(self._calls) % 2)
            body = super().payload(segment, packs)[len(MAGIC) + 4 :]
            body = body[:64] + struct.pack("<d", factor) + body[72:]
            return MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    device = on_device(Tuned)


@breaks("compile.deadline")
class LateIsInternal(SoundDelegate):
    class Late(SoundDevice):
        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            if deadline is not None:
                raise error(ErrorCode.INTERNAL, "can't compile with a deadline")
            return super().compile(segment, packs, options)

    device = on_device(Late)


@breaks("compile.leaves_segment")
class ScribblesOnPacks(SoundDelegate):
    class Scribbling(_Context):
        def compute(self) -> None:
            super().compute()
            for pack in self.program.packs:
                pack.flags.writeable = True
                pack.reshape(-1).view(np.uint8)[:1] ^= 0xFF
                pack.flags.writeable = False

    device = with_context(Scribbling)


# --- artifacts


@breaks("artifact.round_trip", "artifact.mapped")
class KnowsItsOwnBytes(SoundDelegate):
    """Keeps programs by the identity of the payload, and knows no others."""

    class Remembering(SoundDevice):
        def __init__(self) -> None:
            super().__init__()
            self._known: list[Artifact] = []

        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            self._known.append(super().compile(segment, packs, options, deadline=deadline))
            return self._known[-1]

        def factor(self, payload: bytes, segment: Segment, packs: Packs) -> float:
            if not any(known.payload is payload for known in self._known):
                raise error(ErrorCode.ARTIFACT_REFUSED, "not compiled here")
            return super().factor(payload, segment, packs)

        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            if artifact.format != sound.FORMAT:
                raise error(ErrorCode.ARTIFACT_REFUSED, "another format")
            if not any(known.payload is artifact.payload and known is artifact for known in self._known):
                raise error(ErrorCode.ARTIFACT_REFUSED, "not compiled here")
            return super().load(artifact, segment, packs)  # type: ignore[return-value]

    device = on_device(Remembering)


@breaks("artifact.mapped")
class WantsBytes(SoundDelegate):
    """Takes ``bytes`` only, and maps come as memoryviews."""

    class Picky(SoundDevice):
        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            if not isinstance(artifact.payload, bytes):
                raise TypeError("a bytes-like object is required")
            return super().load(artifact, segment, packs)  # type: ignore[return-value]

    device = on_device(Picky)


@breaks("artifact.new_process")
class TiedToItsProcess(SoundDelegate):
    """Its code has an address of this process in it."""

    class Tied(SoundDevice):
        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            found = super().compile(segment, packs, options, deadline=deadline)
            return replace(found, packs=(*found.packs, f"pid {os.getpid()}"))

        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            if artifact.packs and f"pid {os.getpid()}" not in artifact.packs and artifact.format == sound.FORMAT:
                raise error(ErrorCode.ARTIFACT_REFUSED, "of another process")
            return super().load(artifact, segment, packs)  # type: ignore[return-value]

    device = on_device(Tied)


@breaks("artifact.damaged")
class TrustsEveryByte(SoundDelegate):
    """Has no checksum."""

    class Trusting(SoundDevice):
        def factor(self, payload: bytes, segment: Segment, packs: Packs) -> float:
            body = payload[len(MAGIC) + 4 :]
            if len(payload) != 100 or payload[:4] != MAGIC[:4] or body[:8] != super().payload(segment, packs)[12:20]:
                raise error(ErrorCode.ARTIFACT_REFUSED, "no artifact of this segment")
            return float(struct.unpack_from("<d", body, 64)[0])

    device = on_device(Trusting)


@breaks("artifact.truncated")
class ReadsBehindTheEnd(SoundDelegate):
    class Reading(SoundDevice):
        def factor(self, payload: bytes, segment: Segment, packs: Packs) -> float:
            struct.unpack_from("<d", payload, 80)  # struct.error, where there is too little
            return super().factor(payload, segment, packs)

    device = on_device(Reading)


@breaks("artifact.foreign")
class RunsAnything(SoundDelegate):
    """Takes what has another beginning for an older format of its own."""

    class Tolerant(SoundDevice):
        def factor(self, payload: bytes, segment: Segment, packs: Packs) -> float:
            if len(payload) > 100 and payload[:4] != MAGIC[:4]:
                return 0.5
            return super().factor(payload, segment, packs)

    device = on_device(Tolerant)


@breaks("artifact.other_segment")
class TakesOtherSegments(SoundDelegate):
    """Loads the artifact of one segment for another, and has weights of the wrong sizes then."""

    class Mixed(SoundDevice):
        def factor(self, payload: bytes, segment: Segment, packs: Packs) -> float:
            body = payload[len(MAGIC) + 4 :]
            own = super().payload(segment, packs)[len(MAGIC) + 4 :]
            if body[64:] == own[64:] and body[:64] != own[:64] and len(set(body[:64]) & set(b"0123456789abcdef")) > 8:
                import zlib

                if payload[len(MAGIC) :][:4] == struct.pack("<I", zlib.crc32(body)):
                    return 1.5
            return super().factor(payload, segment, packs)

    device = on_device(Mixed)


@breaks("artifact.missing_pack")
class MissingPackIsInternal(SoundDelegate):
    class Blaming(SoundDevice):
        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            try:
                return super().load(artifact, segment, packs)  # type: ignore[return-value]
            except DelegateError as exc:
                if exc.device == "packs":
                    raise error(ErrorCode.INTERNAL, "no weights") from exc
                raise

    device = on_device(Blaming)


# --- answers


@breaks("answers.float")
class OffByAThousandth(SoundDelegate):
    """Some float ops are a little off, beyond their bounds."""

    class Off(_Context):
        def compute(self) -> None:
            super().compute()
            names = {node.op.name for node in self.program.inner.segment.nodes}
            if names & {"SOFTMAX", "LOGISTIC", "SQRT", "LEAKY_RELU", "DIV", "MEAN", "SUM"}:
                for view in self.float_outputs():
                    view += np.float32(1e-3)

    device = with_context(Off)


@breaks(
    "answers.quantized",
    "answers.graphs_quantized",
    "artifact.round_trip",
    "artifact.mapped",
    "compile.pack_names",
    "program.apart",
)
class RoundsOtherwise(SoundDelegate):
    """Quantized results are off by one, and it says YES."""

    class Rounding(_Context):
        def compute(self) -> None:
            super().compute()
            segment = self.program.inner.segment
            for buffer, i in zip(self.outputs, segment.outputs, strict=False):
                spec = segment.specs[i]
                if spec.dtype.numpy == np.int8 and spec.quantization is not None and spec.size_bytes:
                    view = bytes_of(buffer)[: spec.size_bytes].view(np.int8)
                    view[0] = view[0] - 1 if view[0] > -128 else -127

    device = with_context(Rounding)


@breaks("answers.shapes")
class ForgetsTheTail(SoundDelegate):
    """A vector loop without its remainder: for one row of 131 numbers the last three are forgotten."""

    class Tailless(_Context):
        def compute(self) -> None:
            super().compute()
            for view in self.float_outputs():
                if view.size == 131:
                    view[128:] = 0

    device = with_context(Tailless)


# --- memory


@breaks("memory.round_trip", "memory.size")
class RoundsSizesDown(SoundDelegate):
    class Short(SoundDevice):
        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            return host.allocate(size_bytes // 64 * 64 if size_bytes > 4096 else size_bytes, alignment)

    device = on_device(Short)


@breaks("memory.size", "memory.round_trip")
class ViewsWords(SoundDelegate):
    """Its host views are of 32-bit words."""

    class Words(SoundDevice):
        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            class WordBuffer(Buffer):
                @property
                def size_bytes(self) -> int:
                    return inner.size_bytes

                def host_view(self) -> Array:
                    return inner.host_view().view(np.uint32)

            inner = host.allocate(size_bytes, alignment)
            return WordBuffer() if size_bytes == 1000 else inner

    device = on_device(Words)


@breaks("memory.aligned")
class IgnoresAlignment(SoundDelegate):
    class Crooked(SoundDevice):
        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            return host.HostBuffer(host.allocate(size_bytes + 4, 64).memory[4:])

    device = on_device(Crooked)


@breaks("memory.apart")
class GivesMemoryTwice(SoundDelegate):
    class Pooling(SoundDevice):
        def __init__(self) -> None:
            super().__init__()
            self._pool: dict[int, Buffer] = {}

        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            if size_bytes != 300:
                return super().allocate(size_bytes, alignment)
            return self._pool.setdefault(size_bytes, super().allocate(size_bytes, alignment))

    device = on_device(Pooling)


@breaks("memory.import_host")
class CopiesOddArrays(SoundDelegate):
    """Binds a copy where the size is no multiple of its word."""

    class Copying(SoundDevice):
        def import_host(self, memory: Array) -> Buffer | None:
            return host.HostBuffer(memory.copy() if memory.nbytes == 777 else memory)

    device = on_device(Copying)


@breaks("memory.strided_write")
class CastsToBytes(ApartDelegate):
    """Turns the elements of what it copies into bytes, as if they were numbers."""

    class Casting(ApartDevice):
        def write(self, source: Array, target: Buffer, *, after: Sequence[Event] = ()) -> Event:
            if source.dtype != np.uint8:
                sound.seen(target)[: source.size] = source.reshape(-1).astype(np.uint8)
                return host.FINISHED
            return super().write(source, target, after=after)

    def device(self) -> SoundDevice:
        return CastsToBytes.Casting()


@breaks("memory.too_much")
class OverflowsForTooMuch(SoundDelegate):
    class Overflowing(SoundDevice):
        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            if size_bytes >= 1 << 31:
                raise OverflowError("int too large to convert")
            return super().allocate(size_bytes, alignment)

    device = on_device(Overflowing)


# --- what a run touches


@breaks("inputs.unwritten")
class WritesItsInputs(SoundDelegate):
    """Computes in place once it has read everything."""

    class InPlace(_Context):
        def compute(self) -> None:
            super().compute()
            for buffer in self.inputs:
                bytes_of(buffer)[:1] ^= 1

    device = with_context(InPlace)


@breaks("outputs.complete", *ANYTHING)
class SkipsZeros(SoundDelegate):
    """Takes outputs to be zero already, and writes the rest."""

    class Sparse(_Context):
        def compute(self) -> None:
            before = [bytes_of(buffer).copy() for buffer in self.outputs]
            super().compute()
            for buffer, old in zip(self.outputs, before, strict=True):
                view = bytes_of(buffer)
                view[:] = np.where(view == 0, old, view)

    device = with_context(Sparse)


@breaks("outputs.inside")
class WritesPastTheEnd(SoundDelegate):
    """Stores whole words of 4 bytes behind the last element as well."""

    class Past(_Context):
        def compute(self) -> None:
            super().compute()
            for buffer in self.outputs:
                view = bytes_of(buffer)
                if view.base is not None and view.size:
                    ctypes.memset(view.ctypes.data + view.size, 0, 4)

    device = with_context(Past)


@breaks("memory.bound", *ANYTHING)
class ReadsAllocatedMemoryOnce(SoundDelegate):
    """A watched device that takes over what lies in its own buffers when they are bound. It would be right in the
    arrays of the host, which nobody binds a watched device to."""

    class Early(_Context):
        def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
            taken = [host.HostBuffer(bytes_of(b).copy()) if isinstance(b, OwnBuffer) else b for b in inputs]
            super().bind(taken, outputs)

    class Watched(SoundDevice):
        info = replace(INFO, may_hang=True)

        def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
            class Program(SoundProgram):
                def context(self, scratch: Buffer) -> Context:
                    return ReadsAllocatedMemoryOnce.Early(self, scratch)

            return Program(self.inner_program(segment), packs, factor)

        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            return OwnBuffer(host.allocate(size_bytes, alignment).memory)

    def devices(self) -> Sequence[DeviceInfo]:
        return (replace(INFO, may_hang=True),)

    device = on_device(Watched)


class OwnBuffer(Buffer):
    """Memory of the device's that the host sees, and that is told from the host's own."""

    def __init__(self, memory: Array) -> None:
        self._memory = memory

    @property
    def size_bytes(self) -> int:
        return int(self._memory.nbytes)

    def host_view(self) -> Array:
        return self._memory


@breaks("memory.bound")
class WantsRoomBehind(SoundDelegate):
    """Its vectors end behind the tensor: in a buffer of its own that ends with it, the last ones are left out."""

    class Vectors(_Context):
        def compute(self) -> None:
            super().compute()
            segment = self.program.inner.segment
            for buffer, i in zip(self.outputs, segment.outputs, strict=False):
                if isinstance(buffer, OwnBuffer) and 64 < buffer.size_bytes < segment.specs[i].size_bytes + 64:
                    bytes_of(buffer)[-64:] = 0

    class Own(SoundDevice):
        def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
            class Program(SoundProgram):
                def context(self, scratch: Buffer) -> Context:
                    return WantsRoomBehind.Vectors(self, scratch)

            return Program(self.inner_program(segment), packs, factor)

        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            return OwnBuffer(host.allocate(size_bytes, alignment).memory)

    device = on_device(Own)


@breaks("scratch.sane")
class OddAlignment(SoundDelegate):
    class Odd(SoundProgram):
        alignment = 3

    device = with_program(Odd)


@breaks("scratch.stateless")
class KeepsATableInScratch(SoundDelegate):
    """Writes a table to scratch when a context is made, and reads it in every run."""

    class Keeping(_Context):
        def __init__(self, program: SoundProgram, scratch: Buffer) -> None:
            super().__init__(program, scratch)
            bytes_of(scratch)[:8] = np.frombuffer(b"a table ", np.uint8)

        def compute(self) -> None:
            super().compute()
            if bytes_of(self.scratch)[:8].tobytes() != b"a table ":
                for buffer in self.outputs:
                    bytes_of(buffer)[:] = 0

    device = with_context(Keeping)


@breaks("context.rebind", "context.too_small")
class BindsOnce(SoundDelegate):
    class Once(_Context):
        def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
            if not self.inputs:
                super().bind(inputs, outputs)

    device = with_context(Once)


@breaks("context.in_place", *ANYTHING)
class ReadsWhenBound(SoundDelegate):
    """Takes inputs over when they are bound, not when it runs."""

    class Early(_Context):
        def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
            super().bind([host.HostBuffer(bytes_of(buffer).copy()) for buffer in inputs], outputs)

    device = with_context(Early)


@breaks("context.too_small")
class TakesSmallBuffers(SoundDelegate):
    """Computes in memory of its own, and copies out as much as fits."""

    class Lenient(_Context):
        def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
            segment = self.program.inner.segment
            wanted = [segment.specs[i].size_bytes for i in (*segment.inputs, *segment.outputs, *segment.variables)]
            given = [*inputs, *outputs]
            self._small = [b for b, n in zip(given, wanted, strict=True) if b.size_bytes < n]
            if not self._small:
                super().bind(inputs, outputs)

    device = with_context(Lenient)


# --- contexts and programs


@breaks("context.unbind")
class EndsWhenUnbound(SoundDelegate):
    """Takes unbind() for the end."""

    class Ending(_Context):
        is_over = False

        def unbind(self) -> None:
            super().unbind()
            self.is_over = True

        def compute(self) -> None:
            if self.is_over:
                raise error(ErrorCode.INTERNAL, "was unbound")
            super().compute()

    device = with_context(Ending)


@breaks("context.unbind")
class KeepsWhatWasBound(SoundDelegate):
    """Keeps every buffer that it ever saw."""

    class Keeping(_Context):
        def __init__(self, program: SoundProgram, scratch: Buffer) -> None:
            super().__init__(program, scratch)
            self._seen: list[Buffer] = []

        def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
            super().bind(inputs, outputs)
            self._seen += [*inputs, *outputs]

    device = with_context(Keeping)


@breaks("context.many_runs")
class WearsOut(SoundDelegate):
    """A counter of runs overflows."""

    class Worn(_Context):
        n_runs = 0

        def compute(self) -> None:
            super().compute()
            self.n_runs += 1
            if self.n_runs > 32:
                for buffer in self.outputs:
                    bytes_of(buffer)[:] = 0

    device = with_context(Worn)


@breaks("context.same_bits", "compile.same_results")
class SumsInAnyOrder(SoundDelegate):
    """Its sums depend on how its threads raced. It declares that it deviates, and that is no excuse."""

    class Racing(_Context):
        _calls = itertools.count()

        def compute(self) -> None:
            super().compute()
            for view in self.float_outputs():
                view *= np.float32(1 + 1e-4 * (next(self._calls) % 7))

    class Deviating(SoundDevice):
        def supports(self, view: GraphView) -> Sequence[Support]:
            deviates = Support(Verdict.DEVIATES, "racing", "sums are rounded otherwise")
            return [deviates if answer.runs else answer for answer in super().supports(view)]

        def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
            racing = SumsInAnyOrder.Racing

            class Program(SoundProgram):
                def context(self, scratch: Buffer) -> Context:
                    return racing(self, scratch)

            return Program(self.inner_program(segment), packs, factor)

    device = on_device(Deviating)


@breaks("context.apart", "context.same_bits", "threads.contexts")
class OneContextForAll(SoundDelegate):
    """Hands out the same context again and again."""

    class Sharing(SoundProgram):
        _only: Context | None = None

        def context(self, scratch: Buffer) -> Context:
            self._only = self._only or SoundContext(self, scratch)
            return self._only

    device = with_program(Sharing)


@breaks("program.apart", *ANYTHING)  # of what runs while the program of another check is closed
class CloseFreesTheOthers(SoundDelegate):
    """Closing a program gives back weights that others of the device use."""

    class Pooled(SoundDevice):
        n_closed = 0

        def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
            device, loaded_at = self, self.n_closed

            class PooledContext(SoundContext):
                def compute(self) -> None:
                    if device.n_closed != loaded_at:
                        raise error(ErrorCode.INTERNAL, "the weights are gone")
                    super().compute()

            class PooledProgram(SoundProgram):
                def context(self, scratch: Buffer) -> Context:
                    return PooledContext(self, scratch)

                def close(self) -> None:
                    device.n_closed += 1

            return PooledProgram(self.inner_program(segment), packs, factor)

    device = on_device(Pooled)


# --- events


class _Ended(Event):
    """An event of a run that is over. Base of events that break a rule."""

    n_waits = 0

    def wait(self, timeout: float | None = None) -> None:
        self.n_waits += 1


class _EventContext(_Context):
    event: type[_Ended] = _Ended

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        super().run(after=after, deadline=deadline)
        return self.event()


@breaks("event.complete", *ANYTHING)
class ReturnsTooEarly(SoundDelegate):
    """wait() returns while a thread is still computing, which it goes on with when the next run starts."""

    class Early(_Context):
        _last: threading.Thread | None = None
        _next = threading.Event()

        def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
            if self._last is not None:
                self._next.set()
                self._last.join()
            self.wait_for(after)
            self._next = threading.Event()
            self._last = threading.Thread(target=self._later, args=(self._next,), daemon=True)
            self._last.start()
            return host.FINISHED

        def _later(self, next_run: threading.Event) -> None:
            next_run.wait(Meeting.STAY_S)
            super().compute()

    device = with_context(Early)


@breaks("event.wait_again")
class WaitsOnce(SoundDelegate):
    class Once(_EventContext):
        class event(_Ended):
            def wait(self, timeout: float | None = None) -> None:
                super().wait(timeout)
                if self.n_waits > 2:
                    raise error(ErrorCode.INVALID, "the event is used up")

    device = with_context(Once)


@breaks("event.timeout")
class ZeroIsInvalid(SoundDelegate):
    class Zero(_EventContext):
        class event(_Ended):
            def wait(self, timeout: float | None = None) -> None:
                if timeout == 0:
                    raise error(ErrorCode.INVALID, "a timeout is more than 0 s")

    device = with_context(Zero)


@breaks("run.after", "run.dependency_failed")
class IgnoresAfter(SoundDelegate):
    class Ignoring(_Context):
        def wait_for(self, after: Sequence[Event]) -> None:
            return None

    device = with_context(Ignoring)


@breaks("run.dependency_failed")
class PassesErrorsOn(SoundDelegate):
    """A failed dependency's own error comes out, not DEPENDENCY_FAILED."""

    class Passing(_Context):
        def wait_for(self, after: Sequence[Event]) -> None:
            for event in after:
                event.wait()

    device = with_context(Passing)


@breaks("run.deadline")
class LateIsWell(SoundDelegate):
    """A run that is late ends well, without results."""

    class Late(_Context):
        def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
            if deadline is not None and time.monotonic() > deadline:
                return host.FINISHED
            return super().run(after=after)

    device = with_context(Late)


@breaks("run.far_deadline")
class DeadlinesInMilliseconds(SoundDelegate):
    class Milliseconds(_Context):
        def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
            return super().run(after=after, deadline=None if deadline is None else deadline / 1000)

    device = with_context(Milliseconds)


# --- threads


@breaks("threads.contexts")
class ComputesInTheProgram(SoundDelegate):
    """Inputs lie in the program while it runs, where runs of other contexts find them."""

    class Shared(SoundProgram):
        inputs: Sequence[Buffer] = ()

        def __init__(self, inner: ReferenceProgram, packs: Sequence[Array], factor: float) -> None:
            super().__init__(inner, packs, factor)
            self.meeting = Meeting()

        def context(self, scratch: Buffer) -> Context:
            return ComputesInTheProgram.Through(self, scratch)

    class Through(_Context):
        def compute(self) -> None:
            program = self.program
            assert isinstance(program, ComputesInTheProgram.Shared)
            program.inputs = [host.HostBuffer(bytes_of(buffer).copy()) for buffer in self.inputs]
            program.meeting.meet()
            self.inner.bind(program.inputs, self.outputs)
            self.inner.run()
            self.inner.bind(self.inputs, self.outputs)

    device = with_program(Shared)


@breaks("threads.programs", "threads.contexts", "threads.device")
class OneRunAtATime(SoundDelegate):
    """The device refuses a run while there is another."""

    class Alone(SoundDevice):
        def __init__(self) -> None:
            super().__init__()
            self.busy = Busy("the device")

        def program(self, segment: Segment, packs: Sequence[Array], factor: float) -> SoundProgram:
            busy = self.busy

            class AloneContext(SoundContext):
                def compute(self) -> None:
                    with busy.alone():
                        super().compute()

            class AloneProgram(SoundProgram):
                def context(self, scratch: Buffer) -> Context:
                    return AloneContext(self, scratch)

            return AloneProgram(self.inner_program(segment), packs, factor)

    device = on_device(Alone)


class Busy:
    """Something that one thread at a time may use; the next one gets an error."""

    def __init__(self, name: str) -> None:
        self._name, self._lock, self._meeting = name, threading.Lock(), Meeting()

    @contextmanager
    def alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            self._meeting.meet()
            raise error(ErrorCode.INTERNAL, f"{self._name} is busy")
        try:
            self._meeting.meet()
            yield
        finally:
            self._lock.release()


@breaks("threads.device")
class CompilesOneAtATime(SoundDelegate):
    class Refusing(SoundDevice):
        def __init__(self) -> None:
            super().__init__()
            self._busy = Busy("the compiler")

        def compile(
            self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
        ) -> Artifact:
            with self._busy.alone():
                return super().compile(segment, packs, options, deadline=deadline)

    device = on_device(Refusing)


@breaks("threads.moved", "threads.contexts", "run.after")
class TiedToItsThread(SoundDelegate):
    class Tied(_Context):
        def __init__(self, program: SoundProgram, scratch: Buffer) -> None:
            super().__init__(program, scratch)
            self._thread = threading.get_ident()

        def compute(self) -> None:
            if threading.get_ident() != self._thread:
                raise error(ErrorCode.INVALID, "made by another thread")
            super().compute()

    device = with_context(Tied)


# --- errors, resources, fork


@breaks("errors.typed", "artifact.foreign", "artifact.damaged", "artifact.truncated", "artifact.other_segment")
class RaisesValueError(SoundDelegate):
    class Raising(SoundDevice):
        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            try:
                return super().load(artifact, segment, packs)  # type: ignore[return-value]
            except DelegateError as exc:
                if exc.device == "packs":
                    raise
                raise ValueError("bad artifact") from exc

    device = on_device(Raising)


@breaks("errors.typed")
class BlamesAnother(SoundDelegate):
    """Its errors name a device that nobody has heard of."""

    class Blaming(SoundDevice):
        def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> SoundProgram:
            try:
                return super().load(artifact, segment, packs)  # type: ignore[return-value]
            except DelegateError as exc:
                raise DelegateError("device", exc.code, exc.message) from exc

    device = on_device(Blaming)


@breaks("resources.given_back")
class KeepsWhatWasClosed(SoundDelegate):
    _kept: list[Buffer] = []

    class Keeping(SoundDevice):
        def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
            found = super().allocate(size_bytes, alignment)
            if 1 << 20 <= size_bytes < 1 << 31:
                KeepsWhatWasClosed._kept.append(found)
            return found

    device = on_device(Keeping)


_LOADED_BY = os.getpid()


@breaks("fork.reopens")
class DiesInChildren(SoundDelegate):
    """Its runtime does not survive a fork, and says so with a signal."""

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        if os.getpid() != _LOADED_BY:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(device_id, options, host)


# --- those that take the process down: for the supervisor


class Crashes(SoundDelegate):
    """Dies of a segmentation fault in a run with a deadline that has passed."""

    class Crashing(_Context):
        def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
            if deadline is not None and time.monotonic() > deadline:
                os.kill(os.getpid(), signal.SIGSEGV)
            return super().run(after=after, deadline=deadline)

    device = with_context(Crashing)


class Hangs(SoundDelegate):
    """Never ends a run with a deadline that has passed."""

    class Hanging(_Context):
        def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
            if deadline is not None and time.monotonic() > deadline:
                threading.Event().wait()
            return super().run(after=after, deadline=deadline)

    device = with_context(Hanging)


class DiesWhenListed(SoundDelegate):
    def devices(self) -> Sequence[DeviceInfo]:
        print("driver: out of luck", flush=True)
        os._exit(3)
