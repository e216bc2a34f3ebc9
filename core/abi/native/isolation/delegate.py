"""A delegate in a child process, as a Delegate. Imports process, encoding, memory.

One child serves all devices of a delegate. Each device has two lanes, one for runs and one for all else, so that a run
waits for no compilation and no device for another, as in one process. A child that died is replaced at the next
question: the device opens again in a fresh one; programs and contexts of the old one stay lost (DEVICE_LOST), and core
loads them again. Devices are watched (``may_hang``), and tensors lie in memory that both processes map.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from delegraph.core.abi import host
from delegraph.core.abi.native import guard
from delegraph.core.abi.native.isolation import encoding
from delegraph.core.abi.native.isolation.encoding import field
from delegraph.core.abi.native.isolation.memory import shared_memory
from delegraph.core.abi.native.isolation.process import Ask, Child, GoneError, Lane, Patience
from delegraph.core.abi.native.isolation.wire import BadMessage, Blob, Message
from delegraph.core.abi.native.plugin import PluginSpec
from delegraph.core.abi.native.segment_model import segment_model
from delegraph.core.abi.protocols import Buffer, Context, Delegate, Device, Event, Packs, Program
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
)
from delegraph.core.errors import InvalidArgument
from delegraph.core.forks import RenewedLock
from delegraph.core.graph.graph import Array

T = TypeVar("T")

_numbers = itertools.count(1)


class IsolatedDelegate(Delegate):
    """The delegate of ``spec`` in a child process, which starts now. options: for the plug-in, plain values.

    Raises:
        InvalidArgument: options that can't travel, or a plug-in that can't be used.
        DelegateError: the child died or hung at its start.
    """

    def __init__(self, spec: PluginSpec, options: Options | None = None, patience: Patience | None = None) -> None:
        self._spec, self._options = spec, encoding.plain_options(options or {})
        self.patience = patience or Patience()
        self._guard = RenewedLock()
        self._child: Child | None = None
        self.name = self.version = ""
        self._infos: tuple[DeviceInfo, ...] = ()
        self.child()

    @property
    def process_id(self) -> int | None:
        """The child's process id, while there is one."""
        child = self._child
        return None if child is None or not child.is_usable else child.process_id

    def devices(self) -> Sequence[DeviceInfo]:
        """The devices as they were when the plug-in was loaded; a child whose devices are others is refused."""
        return self._infos

    def open(self, device_id: str, options: Options, host: Device | None = None) -> IsolatedDevice:
        """host: not handed on; what an isolated delegate computes with lives in its own process."""
        info = next((d for d in self._infos if d.id == device_id), None)
        if info is None:
            raise DelegateError(device_id, ErrorCode.INVALID, f"open: {self.name} has no such device")
        return IsolatedDevice(self, info, encoding.plain_options(options))

    def child(self) -> Child:
        """The child, started anew if it is gone (or another process's). Raises as the class says."""
        with self._guard.lock:
            if self._child is None or not self._child.is_usable:
                self._child = self._started()
            return self._child

    def close(self) -> None:
        """Ends the child; a later use starts a fresh one."""
        with self._guard.lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()

    def _started(self) -> Child:
        """Raises as the class says, and DelegateError when the plug-in is no longer the one that was loaded."""
        name = self.name or str(self._spec)
        child = Child(name, self.patience)
        try:
            header = {"do": "hello", "spec": self._spec.to_json(), "options": self._options}
            reply = child.control.call(name, header, limit_s=self.patience.start)
            found = field(reply.header, "name", str), field(reply.header, "version", str)
            infos = tuple(_watched(encoding.info_of_json(raw)) for raw in field(reply.header, "devices", list))
            if self.name and (*found, infos) != (self.name, self.version, self._infos):
                # what core knows of its devices, and keeps artifacts under, is of the other one
                message = "its plug-in changed on disk, or its devices did; load it again"
                raise DelegateError(name, ErrorCode.DEVICE_LOST, message)
        except BadMessage as exc:
            child.close()
            raise DelegateError(name, ErrorCode.INTERNAL, f"hello: {exc}") from None
        except DelegateError as exc:
            child.close()
            if exc.code is ErrorCode.INTERNAL and not self.name:
                raise InvalidArgument(
                    f"delegate {self._spec}", "a plug-in that can be loaded", exc.message, "mend or reinstall it"
                ) from exc
            raise
        self.name, self.version = found
        self._infos = infos
        return child


def _watched(info: DeviceInfo) -> DeviceInfo:
    """The device as it is through the process: it may hang, and its buffers are host memory."""
    return replace(info, may_hang=True, memory_domain="host")


@dataclass(frozen=True, slots=True, eq=False)
class _Opening:
    """A device as it is open in one child. asking: the lane for all but runs."""

    child: Child
    number: int
    asking: Lane
    running: Lane


class IsolatedDevice(Device):
    """One device of the child."""

    def __init__(self, delegate: IsolatedDelegate, info: DeviceInfo, options: dict[str, Any]) -> None:
        self.info = info
        self.patience = delegate.patience
        self._delegate, self._options = delegate, options
        self._guard = RenewedLock()
        self._opening: _Opening | None = None
        self._is_closed = False
        self._with_opening(lambda opening: None)

    def _open(self) -> _Opening:
        """The device in the child that there is now."""
        with self._guard.lock:
            if self._is_closed:
                raise DelegateError(self.info.id, ErrorCode.DEVICE_LOST, "the device is closed")
            if self._opening is None or not self._opening.child.is_usable:
                child, number = self._delegate.child(), next(_numbers)
                opening = _Opening(child, number, child.lane(self.info.id), child.lane(self.info.id))
                header = {"do": "open", "number": number, "id": self.info.id, "options": self._options}
                opening.asking.call(self.info.id, header, limit_s=self.patience.call)
                self._opening = opening
            return self._opening

    def _with_opening(self, task: Callable[[_Opening], T]) -> T:
        """What the task returns. A child that is ended for another call (a run that was late, say) may still be there
        when a task begins: then that is tried once more, in a fresh one."""
        try:
            return task(self._open())
        except GoneError:
            return task(self._open())

    def _ask(
        self,
        do: str,
        segment: Segment | GraphView,
        blobs: Sequence[Blob] = (),
        *,
        limit_s: float,
        deadline: float | None = None,
        ask: Ask | None = None,
        **header: Any,
    ) -> tuple[_Opening, Message]:
        """A request about a segment, with its constants in shared memory."""
        model = segment_model(segment)
        raw, size = encoding.segment_to_json(model)
        blobs = (model.to_bytes(), *blobs)
        with contextlib.ExitStack() as stack:
            fds: tuple[int, ...] = ()
            if size:
                fd, memory = stack.enter_context(shared_memory(size))
                encoding.fill(raw, model, memory)
                fds = (fd,)

            def call(opening: _Opening) -> tuple[_Opening, Message]:
                request = {"do": do, "device": opening.number, "segment": raw, **header}
                limits: dict[str, Any] = {"limit_s": limit_s, "deadline": deadline}
                return opening, opening.asking.call(self.info.id, request, blobs, fds, ask=ask, **limits)

            return self._with_opening(call)

    @contextlib.contextmanager
    def _reading(self, do: str) -> Any:
        try:
            yield
        except BadMessage as exc:
            raise DelegateError(self.info.id, ErrorCode.INTERNAL, f"{do}: {exc}") from None

    def _answers(self, do: str, segment: Segment | GraphView, count: int) -> list[Support]:
        _, reply = self._ask(do, segment, limit_s=self.patience.call)
        with self._reading(do):
            found = [encoding.support_of_json(raw) for raw in field(reply.header, "answers", list)]
            if len(found) != count:
                raise BadMessage(f"expected {count} answers, found {len(found)}")
            return found

    def supports(self, view: GraphView) -> Sequence[Support]:
        return self._answers("supports", view, len(view.nodes))

    def check(self, segment: Segment) -> Support:
        return self._answers("check", segment, 1)[0]

    def _estimates(self, do: str, segment: Segment | GraphView, count: int) -> list[Estimate | None]:
        _, reply = self._ask(do, segment, limit_s=self.patience.call)
        with self._reading(do):
            found = [encoding.estimate_of_json(raw) for raw in field(reply.header, "estimates", list)]
            if len(found) != count:
                raise BadMessage(f"expected {count} estimates, found {len(found)}")
            return found

    def estimate(self, view: GraphView) -> Sequence[Estimate | None]:
        return self._estimates("estimate", view, len(view.nodes))

    def estimate_segment(self, segment: Segment) -> Estimate | None:
        return self._estimates("estimate_segment", segment, 1)[0]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        _, reply = self._ask(
            "compile",
            segment,
            limit_s=self.patience.compile,
            deadline=deadline,
            ask=_PackServer(packs, self._delegate.name),
            options=encoding.plain_options(options),
        )
        with self._reading("compile"):
            names = field(reply.header, "packs", list)
            if len(reply.blobs) != 1 or not all(isinstance(name, str) for name in names):
                raise BadMessage(f"expected an artifact, found {len(reply.blobs)} payloads")
            return Artifact(field(reply.header, "format", str), reply.blobs[0], tuple(names))

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> IsolatedProgram:
        number = next(_numbers)
        opening, reply = self._ask(
            "load",
            segment,
            (artifact.payload,),
            limit_s=self.patience.compile,
            ask=_PackServer(packs, self._delegate.name),
            number=number,
            format=artifact.format,
            packs=list(artifact.packs),
        )
        with self._reading("load"):
            sizes = field(reply.header, "scratch_bytes", int), field(reply.header, "alignment", int)
        needs = tuple(
            tuple(segment.specs[i].size_bytes for i in ends)
            for ends in (segment.inputs, segment.outputs + segment.variables)
        )
        return IsolatedProgram(_Remote(opening.running, self, "program", number), *sizes, needs)

    def allocate(self, size_bytes: int, alignment: int = 64) -> SharedBuffer:
        """alignment: pages are aligned enough for any."""
        number, whole = next(_numbers), size_bytes + guard.GUARD_BYTES
        with shared_memory(whole) as (fd, memory):
            header = {"do": "buffer", "number": number, "size_bytes": whole}

            def hand_over(opening: _Opening) -> Lane:
                opening.running.call(self.info.id, header, (), (fd,), limit_s=self.patience.call)
                return opening.running

            lane = self._with_opening(hand_over)
        return SharedBuffer(_Remote(lane, self, "buffer", number), *guard.split(memory))

    def close(self) -> None:
        """Closes the device; a child that is busy with a call of it is killed. One that is busy with another's goes on:
        that may be this very device, opened anew."""
        with self._guard.lock:
            self._is_closed, opening, self._opening = True, self._opening, None
        if opening is not None and opening.child.is_usable:
            opening.child.release("device", opening.number)
            for lane in (opening.asking, opening.running):
                lane.kill_if_busy("its device was closed while it was busy")


class _PackServer:
    """Answers a child that asks for packs during compile and load; it may make packs of its own delegate only."""

    def __init__(self, packs: Packs, delegate: str) -> None:
        self._packs, self._prefix = packs, f"{delegate}/"

    def __call__(self, message: Message) -> tuple[dict[str, Any], Sequence[Blob]]:
        name = field(message.header, "name", str)
        try:
            if not name.startswith(self._prefix):
                raise DelegateError("packs", ErrorCode.INVALID, f"{name!r} does not start with {self._prefix!r}")
            if message.header["ask"] == "keep pack":
                self._packs.get(name, lambda: _pack(message))
                return {}, ()
            pack = self._packs.get(name)
            header = {"found": True, "dtype": pack.dtype.str, "shape": list(pack.shape)}
            return header, (np.ascontiguousarray(pack).reshape(-1).view(np.uint8).data,)
        except BadMessage:
            raise
        except Exception as exc:  # whatever it is: the child waits for an answer
            code, text = ErrorCode.INTERNAL, f"{type(exc).__name__}: {exc}"
            if isinstance(exc, MemoryError):
                code = ErrorCode.OUT_OF_MEMORY
            elif isinstance(exc, DelegateError):
                code, text = exc.code, exc.message
            if code is ErrorCode.ARTIFACT_REFUSED and message.header["ask"] == "pack":
                return {"found": False}, ()
            return {"error": {"code": code.value, "message": text}}, ()


def _pack(message: Message) -> Array:
    """The array that a child made."""
    shape = field(message.header, "shape", list)
    try:
        dtype = np.dtype(field(message.header, "dtype", str))
        if dtype.kind not in "biufc" or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{dtype}{shape}")
        return np.frombuffer(message.blobs[0], dtype).reshape(shape)
    except (ValueError, TypeError, IndexError) as exc:
        raise BadMessage(f"expected a pack of numbers, found {exc}") from None


class _Remote:
    """An object of the child, dropped there once it is dropped here. lane: for its calls."""

    def __init__(self, lane: Lane, device: IsolatedDevice, kind: str, number: int) -> None:
        self.lane, self.device, self.number = lane, device, number
        weakref.finalize(self, lane.child.release, kind, number).atexit = False

    def call(self, header: dict[str, Any], deadline: float | None = None) -> Message:
        device = self.device
        return self.lane.call(device.info.id, header, limit_s=device.patience.call, deadline=deadline)


class SharedBuffer:
    """A Buffer that parent and child both map, with a guard behind it."""

    def __init__(self, remote: _Remote, memory: Array, guard: Array) -> None:
        self.remote, self.memory, self.guard = remote, memory, guard

    @property
    def size_bytes(self) -> int:
        return int(self.memory.nbytes)

    def host_view(self) -> Array:
        return self.memory


class IsolatedProgram(Program):
    """A program of the child. Its contexts get their scratch there; what core lends is not used."""

    def __init__(self, remote: _Remote, scratch_bytes: int, alignment: int, needs: tuple[tuple[int, ...], ...]) -> None:
        self._remote, self._needs = remote, needs
        self.scratch_bytes = min(0, scratch_bytes)  # a size that can't be is passed on, for core to refuse
        self.alignment = alignment

    def context(self, scratch: Buffer) -> IsolatedContext:
        number = next(_numbers)
        self._remote.call({"do": "context", "number": number, "program": self._remote.number})
        remote = _Remote(self._remote.lane, self._remote.device, "context", number)
        return IsolatedContext(remote, self._remote, self._needs)

    def close(self) -> None:
        return None


class IsolatedContext(Context):
    """A context of the child."""

    def __init__(self, remote: _Remote, program: _Remote, needs: tuple[tuple[int, ...], ...]) -> None:
        self._remote, self._program, self._needs = remote, program, needs
        self._bound: tuple[Buffer, ...] = ()
        self._guards: tuple[tuple[str, Array], ...] = ()

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        ends = [
            [[self._shared(b), n] for b, n in zip(buffers, needs, strict=True)]
            for buffers, needs in zip((inputs, outputs), self._needs, strict=True)
        ]
        self._remote.call({"do": "bind", "context": self._remote.number, "inputs": ends[0], "outputs": ends[1]})
        self._bound = (*inputs, *outputs)
        self._guards = tuple((f"output {i}", b.guard) for i, b in enumerate(outputs) if isinstance(b, SharedBuffer))

    def _shared(self, buffer: Buffer) -> int:
        if not isinstance(buffer, SharedBuffer) or buffer.remote.lane.child is not self._remote.lane.child:
            raise DelegateError(
                self._remote.device.info.id,
                ErrorCode.INVALID,
                f"bind: expected buffers of this device's process, found {type(buffer).__name__}",
            )
        return buffer.remote.number

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        host.await_all(after, self._remote.device.info.id)
        self._remote.call({"do": "run", "context": self._remote.number}, deadline)
        name = guard.broken(self._guards)
        if name:
            device = self._remote.device.info.id
            raise DelegateError(device, ErrorCode.INTERNAL, f"run: wrote past the end of {name}")
        return host.FINISHED
