"""A child process that serves a plug-in: its start, calls with time limits, its death. Imports wire, encoding.

Rules that hold: one call at a time on a lane, and lanes don't wait for one another; every call ends, with a reply, an
error or the child's death; what breaks a call off ends the child, so that no reply is taken for another's;
a child that died or was killed is waited for, so none stays behind; a child whose parent died ends by itself (its
socket reports it); what was forked off this process never uses its parent's child.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from delegraph.core.abi.native.isolation.encoding import error_of_json
from delegraph.core.abi.native.isolation.wire import BadMessage, Blob, Channel, ClosedError, Message
from delegraph.core.abi.values import DelegateError, ErrorCode

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from delegraph.core.abi.native.isolation.child import main
main(int(sys.argv[1]))
"""
_LOG_TAIL_BYTES = 4096
_LOG_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. start: until the plug-in is loaded; call: for each question and run without a deadline; compile: for
    compile and load; grace: beyond a deadline until the child is killed; exit: for a child that was told to end."""

    start: float = 30.0
    call: float = 60.0
    compile: float = 600.0
    grace: float = 0.5
    exit: float = 2.0


Ask = Callable[[Message], tuple[dict[str, Any], Sequence[Blob]]]
"""Answers what the child asks during a call: a message in, header and blobs out."""


class GoneError(DelegateError):
    """DEVICE_LOST, but not for this call's sake: the child was gone before, or was ended for another call. A fresh one
    may well answer."""

    def __init__(self, device: str, message: str) -> None:
        super().__init__(device, ErrorCode.DEVICE_LOST, message)


class Child:
    """One child process. Thread-safe. name: of the plug-in, for messages before its devices are known.

    control: the first lane, for what is quick, and for the start. Calls into the plug-in have lanes of their own.
    """

    def __init__(self, name: str, patience: Patience) -> None:
        if sys.platform == "win32":
            advice = "use a POSIX system, or leave isolate=True out"
            raise DelegateError(name, ErrorCode.UNSUPPORTED, f"a process of its own needs POSIX; {advice}")
        self.pid = os.getpid()
        self.patience = patience
        self._name = name
        self._burying, self._listing = threading.Lock(), threading.Lock()
        self._death = ""
        self._released: deque[list[Any]] = deque()
        self._lanes: weakref.WeakSet[Lane] = weakref.WeakSet()
        self._log = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps([str(p) for p in sys.path])],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(theirs.fileno(),),
                )
        except OSError as exc:
            ours.close()
            self._log.close()
            raise DelegateError(name, ErrorCode.DEVICE_LOST, f"its process can't be started: {exc}") from exc
        _children.add(self)
        self._finalizer = weakref.finalize(self, _end, self._process, ours, self._log, self.pid)
        self.control = self._new_lane(ours)

    @property
    def is_usable(self) -> bool:
        """Whether calls can work: it lives, and is a child of this very process."""
        return not self._death and self.pid == os.getpid()

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def death(self) -> str:
        """Why it is not usable."""
        return self._death or "the process forked"

    def lane(self, device: str) -> Lane:
        """A new lane, served by a thread of its own in the child. Raises as ``Lane.call``."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.control.call(device, {"do": "lane"}, (), (theirs.fileno(),), limit_s=self.patience.call)
        except BaseException:
            ours.close()
            raise
        return self._new_lane(ours)

    def _new_lane(self, sock: socket.socket) -> Lane:
        lane = Lane(self, Channel(sock))
        with self._listing:
            self._lanes.add(lane)
        return lane

    def _under_way(self) -> set[str]:
        """The calls on all lanes."""
        with self._listing:
            return {lane.doing for lane in self._lanes} - {""}

    def release(self, kind: str, number: int) -> None:
        """Has an object of the child dropped, with the next call. Never blocks: finalizers call it."""
        self._released.append([kind, number])

    def take_released(self) -> list[list[Any]]:
        """What is to be dropped, for the call that goes next."""
        found: list[list[Any]] = []
        with contextlib.suppress(IndexError):  # the queue's end; finalizers may add to it meanwhile
            while True:
                found.append(self._released.popleft())
        return found

    def kill(self, why: str = "it was closed") -> None:
        """Ends the child now; calls under way fail with DEVICE_LOST. The first reason is kept."""
        self._death = self._death or f"its process is gone: {why}"
        if self.pid == os.getpid():
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Ends the child: by itself when it is idle, else now."""
        if self.pid != os.getpid() or self._under_way():
            self.kill()
            return
        self._death = self._death or "its process is gone: it was closed"
        self.control.hang_up()  # the child sees the end of its input
        try:
            self._process.wait(self.patience.exit)
        except subprocess.TimeoutExpired:
            self.kill()
        self._finalizer()

    def lost(self, device: str, doing: str) -> DelegateError:
        """The error of a call whose lane was closed by the child's end."""
        with self._burying:
            if self._death:
                return GoneError(device, self._death)
            try:
                status = self._process.wait(self.patience.exit)
            except subprocess.TimeoutExpired:
                self._process.kill()
                status = self._process.wait()
            if self._death:  # killed meanwhile
                return GoneError(device, self._death)
            how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
            during = " or ".join((doing, *sorted(self._under_way() - {doing})))  # nobody knows which one it was
            self._death = f"its process is gone: it ended with {how} in {during}"
            return DelegateError(device, ErrorCode.DEVICE_LOST, self.said(f"{during}: its process ended with {how}"))

    def said(self, message: str) -> str:
        """The message, with the child's last words."""
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
        lines = _last_words(tail.decode("utf-8", "replace"))
        return f"{message}; it said last: {' | '.join(lines)}" if lines else message

    def trim_log(self) -> None:
        if os.fstat(self._log.fileno()).st_size > _LOG_LIMIT_BYTES:
            os.ftruncate(self._log.fileno(), 0)
            os.lseek(self._log.fileno(), 0, os.SEEK_SET)

    def forked(self) -> None:
        """In a process that was forked off: lets go of the sockets, so that the child sees the end of its parent."""
        for lane in list(self._lanes):
            lane.forked()


class Lane:
    """A way to the child, with a thread of its own there: one call at a time. Thread-safe; made by ``Child``.

    doing: the call under way, or "".
    """

    def __init__(self, child: Child, channel: Channel) -> None:
        self.child = child
        self.doing = ""
        self._channel = channel
        self._turn = threading.Lock()
        self._kill = threading.Lock()
        self._request = 0
        weakref.finalize(self, channel.socket.close)

    def call(
        self,
        device: str,
        header: dict[str, Any],
        blobs: Sequence[Blob] = (),
        fds: Sequence[int] = (),
        *,
        limit_s: float,
        deadline: float | None = None,
        ask: Ask | None = None,
    ) -> Message:
        """Sends a request and returns the reply. Waiting for calls of other threads is not counted.

        limit_s: for the call, unless there is a deadline, a ``time.monotonic`` value that the child is told as well.

        Raises:
            DelegateError: the child's own; TIMEOUT (the child is killed, if the call had begun); DEVICE_LOST when it
                died; GoneError when it was gone, or was ended for another call.
        """
        if not self.child.is_usable:  # asked before the lock, too: in a forked process nobody would ever give that back
            raise GoneError(device, self.child.death)
        with self._turn:
            if deadline is not None:
                limit_s = deadline - time.monotonic()
                if limit_s <= 0:
                    raise DelegateError(device, ErrorCode.TIMEOUT, f"{header['do']}: no time was left to begin")
            if not self.child.is_usable:
                raise GoneError(device, self.child.death)
            self.doing = header["do"]
            try:
                request = {**header, "within_s": None if deadline is None else limit_s}
                return self._exchange(device, request, blobs, fds, limit_s, ask)
            finally:
                with self._kill:  # from here on, nobody kills the child for this call's sake
                    self.doing = ""

    def _exchange(
        self,
        device: str,
        header: dict[str, Any],
        blobs: Sequence[Blob],
        fds: Sequence[int],
        limit_s: float,
        ask: Ask | None,
    ) -> Message:
        doing, child = header["do"], self.child
        child.trim_log()
        try:
            reply = self._talk(header, blobs, fds, time.monotonic() + limit_s + child.patience.grace, ask)
            error = error_of_json(reply.header["error"], device) if "error" in reply.header else None
        except TimeoutError:
            child.kill(f"it was killed: {doing} had not ended in time")
            raise DelegateError(device, ErrorCode.TIMEOUT, child.said(f"{doing}: not ended in time")) from None
        except ClosedError:
            raise child.lost(device, doing) from None
        except BadMessage as exc:
            child.kill(f"it was killed: its reply to {doing} was none: {exc}")
            raise DelegateError(device, ErrorCode.INTERNAL, f"{doing}: {exc}") from None
        except BaseException as exc:  # the two ends are out of step: the next reply would be that to this request
            child.kill(f"it was killed: {doing} was broken off by {type(exc).__name__}")
            if not isinstance(exc, Exception):
                raise
            code = ErrorCode.OUT_OF_MEMORY if isinstance(exc, MemoryError) else ErrorCode.INTERNAL
            raise DelegateError(device, code, f"{doing}: {type(exc).__name__}: {exc}") from exc
        if error is not None:
            raise error
        return reply

    def _talk(
        self, header: dict[str, Any], blobs: Sequence[Blob], fds: Sequence[int], deadline: float, ask: Ask | None
    ) -> Message:
        """The reply to a request, with what the child asks in between."""
        self._request += 1
        numbered = {**header, "request": self._request, "release": self.child.take_released()}
        self._channel.send(numbered, blobs, fds, deadline)
        while True:
            message = self._channel.receive(deadline)
            if message.header.get("request") != self._request:
                found = f"{message.header.get('request')!r:.100}"
                raise BadMessage(f"expected what belongs to request {self._request}, found request {found}")
            if "ask" not in message.header:
                return message
            if ask is None:
                raise BadMessage("it asks for something during a call that has nothing to ask for")
            answer, parts = ask(message)
            self._channel.send(answer, parts, (), deadline)

    def kill_if_busy(self, why: str) -> None:
        """Ends the child if a call is under way here."""
        with self._kill:
            if self.doing:
                self.child.kill(why)

    def hang_up(self) -> None:
        """Ends the child's thread for this lane; the first lane's end is the end of the child."""
        with contextlib.suppress(OSError):  # its other end is closed already
            self._channel.socket.shutdown(socket.SHUT_RDWR)  # not closed: another thread may be about to use it

    def forked(self) -> None:
        with contextlib.suppress(OSError):  # closed already
            self._channel.socket.close()


def _last_words(text: str) -> list[str]:
    """The last lines that a child wrote; of the interpreter's report of a crash, its first line and frame."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    crash = next((i for i, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
    if crash is None:
        return lines[-6:]
    frame = next((line for line in lines[crash:] if line.startswith("File ")), None)
    return [*lines[max(0, crash - 4) : crash + 1], *([frame] if frame else [])]


_children: weakref.WeakSet[Child] = weakref.WeakSet()


def _after_fork() -> None:
    for child in list(_children):
        child.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _end(process: subprocess.Popen[bytes], sock: socket.socket, log: Any, pid: int) -> None:
    """When a Child is dropped, and at the end of this process."""
    sock.close()
    log.close()
    if pid != os.getpid():
        process.returncode = 0  # not ours to wait for
        return
    if process.poll() is None:
        process.kill()
        process.wait()
