"""The child's end: makes the plug-in's delegate and answers the parent, on each lane one request after the other.

Objects live in tables under numbers that the parent gave them; all lanes share them. Ends when its first lane does.
Imports core.abi, plugin.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from delegraph.core.abi.native.isolation import encoding
from delegraph.core.abi.native.isolation.memory import mapped
from delegraph.core.abi.native.isolation.wire import Blob, Channel, ClosedError, Message
from delegraph.core.abi.native.plugin import PluginSpec, create
from delegraph.core.abi.protocols import Buffer, Context, Delegate, Device, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Segment
from delegraph.core.graph.graph import Array

_LAST_MOMENT_S = 2.0
"""How long a call may go on after the parent is gone."""

Answer = tuple[dict[str, Any], tuple[Blob, ...]]


def main(fd: int) -> None:
    """Serves on that socket until it is closed."""
    faulthandler.enable(all_threads=False)  # a crash says where, on stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    threading.Thread(target=_end_with_parent, args=(sock,), daemon=True).start()
    objects = _Objects()
    _Server(sock, objects).serve()
    while objects.under_way:  # not while others are in the plug-in, whose destructors may wait for them for ever
        time.sleep(0.01)


def _end_with_parent(sock: socket.socket) -> None:
    """A call that hangs does not keep the process when the parent is gone."""
    poll = select.poll()
    poll.register(sock, 0)  # hang-ups only
    poll.poll()
    time.sleep(_LAST_MOMENT_S)
    os._exit(1)


class _RemotePacks:
    """Core's packs, which are in the parent, lent for one request. Thread-safe. Implements core.abi.protocols.Packs."""

    def __init__(self, channel: Channel, request: int) -> None:
        self._channel, self._request = channel, request
        self._turn = threading.Lock()
        self._is_over = False

    def take_back(self) -> None:
        """At the end of the request: from now on the lane is for other things."""
        with self._turn:
            self._is_over = True

    def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
        found = self._ask({"ask": "pack", "name": name})
        if found.header["found"]:
            pack = np.frombuffer(found.blobs[0], found.header["dtype"]).reshape(found.header["shape"])
            pack.flags.writeable = False
            return pack
        if make is None:
            raise DelegateError("packs", ErrorCode.ARTIFACT_REFUSED, f"there is no pack {name}")
        made = np.ascontiguousarray(make())
        header = {"ask": "keep pack", "name": name, "dtype": made.dtype.str, "shape": list(made.shape)}
        self._ask(header, made.reshape(-1).view(np.uint8).data)
        made.flags.writeable = False
        return made

    def digest(self, value: Array) -> str:
        h = hashlib.sha256(f"{value.dtype.str}|{value.shape}|".encode())
        h.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return h.hexdigest()

    def _ask(self, header: dict[str, Any], *blobs: Blob) -> Message:
        with self._turn:  # a plug-in may pack on several threads
            if self._is_over:
                raise DelegateError("packs", ErrorCode.INVALID, "packs are lent for the time of compile or load only")
            self._channel.send({**header, "request": self._request}, blobs)
            answer = self._channel.receive()
        if "error" in answer.header:
            raise encoding.error_of_json(answer.header["error"], "packs")
        return answer


class _Bound:
    """A context's binding. staged: buffers of the device's own, with the shared memory that they stand for."""

    def __init__(self, device: Device, context: Context, alignment: int) -> None:
        self.device, self.context, self.alignment = device, context, alignment
        self.inputs: list[tuple[Buffer, Array]] = []
        self.outputs: list[tuple[Buffer, Array]] = []

    def bind(self, inputs: list[Array], outputs: list[Array]) -> None:
        self.inputs, self.outputs = [], []
        self.context.bind(
            [self._buffer(a, self.inputs) for a in inputs], [self._buffer(a, self.outputs) for a in outputs]
        )

    def _buffer(self, memory: Array, staged: list[tuple[Buffer, Array]]) -> Buffer:
        buffer = self.device.import_host(memory)
        if buffer is None:
            buffer = self.device.allocate(max(1, memory.nbytes), self.alignment)
            staged.append((buffer, memory))
        return buffer

    def run(self, deadline: float | None) -> None:
        moved = []
        for buffer, memory in self.inputs:
            view = buffer.host_view()
            if view is None:
                moved.append(self.device.write(memory, buffer))
            else:
                np.copyto(view[: memory.nbytes], memory)
        self.context.run(after=moved, deadline=deadline).wait()
        for buffer, memory in self.outputs:
            view = buffer.host_view()
            if view is None:
                self.device.read(buffer, memory).wait()
            else:
                np.copyto(memory, view[: memory.nbytes])


class _Objects:
    """What the parent has made here, by number. under_way: the lanes that are answering."""

    def __init__(self) -> None:
        self.under_way: set[_Server] = set()
        self.delegate: Delegate | None = None
        self.devices: dict[int, Device] = {}
        self.programs: dict[int, tuple[Device, Program]] = {}
        self.contexts: dict[int, _Bound] = {}
        self.buffers: dict[int, Array] = {}


class _Server:
    """One lane: requests by name, one after the other, on the thread that serves it."""

    def __init__(self, sock: socket.socket, objects: _Objects) -> None:
        self._channel = Channel(sock, takes_fds=True)
        self._objects = objects

    def serve(self) -> None:
        """Until the parent closes the lane."""
        with self._channel.socket, contextlib.suppress(ClosedError):  # that is how a lane ends
            while True:
                self._serve_one()

    def _serve_one(self) -> None:
        message = self._channel.receive()
        self._objects.under_way.add(self)
        try:
            header, blobs = self._answer(message)
        except ClosedError:
            raise
        except DelegateError as exc:
            header, blobs = _error(exc.code, exc.message), ()
        except MemoryError as exc:
            header, blobs = _error(ErrorCode.OUT_OF_MEMORY, str(exc) or "no memory"), ()
        except Exception as exc:
            header, blobs = _error(ErrorCode.INTERNAL, f"{type(exc).__name__}: {exc}"), ()
        finally:
            self._objects.under_way.discard(self)
            for fd in message.fds:
                os.close(fd)
        self._channel.send({**header, "request": message.header["request"]}, blobs)

    def _answer(self, message: Message) -> Answer:
        for kind, number in message.header["release"]:
            self._release(kind, number)
        answer: Answer = getattr(self, "_do_" + message.header["do"])(message, message.header)
        return answer

    def _release(self, kind: str, number: int) -> None:
        if kind == "buffer":
            self._objects.buffers.pop(number, None)
        elif kind == "context":
            self._objects.contexts.pop(number, None)
        elif kind == "program" and number in self._objects.programs:
            self._objects.programs.pop(number)[1].close()
        elif kind == "device" and number in self._objects.devices:
            self._objects.devices.pop(number).close()

    def _segment(self, message: Message) -> Segment:
        raw = message.header["segment"]
        size = raw["constants_bytes"]
        memory = mapped(message.fds[0], size) if size else None
        return encoding.segment_of_json(raw, message.blobs[0], memory)

    def _do_hello(self, message: Message, header: dict[str, Any]) -> Answer:
        delegate = self._objects.delegate = create(PluginSpec(**header["spec"]), header["options"])
        infos = [encoding.info_to_json(info) for info in delegate.devices()]
        return {"name": delegate.name, "version": delegate.version, "devices": infos}, ()

    def _do_lane(self, message: Message, header: dict[str, Any]) -> Answer:
        sock = socket.socket(fileno=os.dup(message.fds[0]))
        threading.Thread(target=_Server(sock, self._objects).serve, daemon=True).start()
        return {}, ()

    def _do_open(self, message: Message, header: dict[str, Any]) -> Answer:
        assert self._objects.delegate is not None
        self._objects.devices[header["number"]] = self._objects.delegate.open(header["id"], header["options"])
        return {}, ()

    def _do_supports(self, message: Message, header: dict[str, Any]) -> Answer:
        answers = self._objects.devices[header["device"]].supports(encoding.view_of(self._segment(message)))
        return {"answers": [encoding.support_to_json(a) for a in answers]}, ()

    def _do_check(self, message: Message, header: dict[str, Any]) -> Answer:
        answer = self._objects.devices[header["device"]].check(self._segment(message))
        return {"answers": [encoding.support_to_json(answer)]}, ()

    def _do_estimate(self, message: Message, header: dict[str, Any]) -> Answer:
        found = self._objects.devices[header["device"]].estimate(encoding.view_of(self._segment(message)))
        return {"estimates": [encoding.estimate_to_json(e) for e in found]}, ()

    def _do_estimate_segment(self, message: Message, header: dict[str, Any]) -> Answer:
        found = self._objects.devices[header["device"]].estimate_segment(self._segment(message))
        return {"estimates": [encoding.estimate_to_json(found)]}, ()

    def _do_compile(self, message: Message, header: dict[str, Any]) -> Answer:
        device, segment = self._objects.devices[header["device"]], self._segment(message)
        with self._packs(header) as packs:
            artifact = device.compile(segment, packs, header["options"], deadline=_deadline(header))
        return {"format": artifact.format, "packs": list(artifact.packs)}, (artifact.payload,)

    def _do_load(self, message: Message, header: dict[str, Any]) -> Answer:
        device, segment = self._objects.devices[header["device"]], self._segment(message)
        artifact = Artifact(header["format"], message.blobs[1], tuple(header["packs"]))
        with self._packs(header) as packs:
            program = device.load(artifact, segment, packs)
        self._objects.programs[header["number"]] = (device, program)
        return {"scratch_bytes": program.scratch_bytes, "alignment": program.alignment}, ()

    @contextlib.contextmanager
    def _packs(self, header: dict[str, Any]) -> Iterator[_RemotePacks]:
        packs = _RemotePacks(self._channel, header["request"])
        try:
            yield packs
        finally:
            packs.take_back()

    def _do_buffer(self, message: Message, header: dict[str, Any]) -> Answer:
        self._objects.buffers[header["number"]] = mapped(message.fds[0], header["size_bytes"])
        return {}, ()

    def _do_context(self, message: Message, header: dict[str, Any]) -> Answer:
        device, program = self._objects.programs[header["program"]]
        # of the device's own: the parent never looks at it
        scratch = device.allocate(program.scratch_bytes, max(64, program.alignment))
        self._objects.contexts[header["number"]] = _Bound(device, program.context(scratch), program.alignment)
        return {}, ()

    def _do_bind(self, message: Message, header: dict[str, Any]) -> Answer:
        inputs, outputs = (
            [self._objects.buffers[n][:size] for n, size in header[name]] for name in ("inputs", "outputs")
        )
        self._objects.contexts[header["context"]].bind(inputs, outputs)
        return {}, ()

    def _do_run(self, message: Message, header: dict[str, Any]) -> Answer:
        self._objects.contexts[header["context"]].run(_deadline(header))
        return {}, ()


def _deadline(header: dict[str, Any]) -> float | None:
    limit_s = header["within_s"]
    return None if limit_s is None else time.monotonic() + float(limit_s)


def _error(code: ErrorCode, message: str) -> dict[str, Any]:
    return {"error": {"code": code.value, "message": message}}
