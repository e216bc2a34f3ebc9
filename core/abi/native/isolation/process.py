"""A child process that serves a plug-in: its start, calls with time limits, its death. Imports wire, encoding.

Rules that hold: one call at a time; every call ends, with a reply, an error or the child's death; a child that died or
was killed is waited for, so none stays behind; a child whose parent died ends by itself (its socket reports it); what
was forked off this process never uses its parent's child.
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


class Child:
    """One child process. Thread-safe. name: of the plug-in, for messages before its devices are known."""

    def __init__(self, name: str, patience: Patience) -> None:
        if sys.platform == "win32":
            advice = "use a POSIX system, or leave isolate=True out"
            raise DelegateError(name, ErrorCode.UNSUPPORTED, f"a process of its own needs POSIX; {advice}")
        self.pid = os.getpid()
        self._name, self._patience = name, patience
        self._lock = threading.Lock()
        self._caller = threading.Lock()
        self._serving: object | None = None
        self._death = ""
        self._released: deque[list[Any]] = deque()
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
        self._channel = Channel(ours)
        _children.add(self)
        self._finalizer = weakref.finalize(self, _end, self._process, ours, self._log, self.pid)

    @property
    def is_usable(self) -> bool:
        """Whether calls can work: it lives, and is a child of this very process."""
        return not self._death and self.pid == os.getpid()

    def is_serving(self, owner: object) -> bool:
        """Whether a call of that owner is under way."""
        return self._serving is owner

    @property
    def process_id(self) -> int:
        return self._process.pid

    def call(
        self,
        device: str,
        header: dict[str, Any],
        blobs: Sequence[Blob] = (),
        fds: Sequence[int] = (),
        *,
        limit_s: float,
        ask: Ask | None = None,
        owner: object | None = None,
    ) -> Message:
        """Sends a request and returns the reply. owner: whose call it is, for ``is_serving``.

        Raises:
            DelegateError: the child's own; TIMEOUT (the child is killed); DEVICE_LOST when it is or was dead.
        """
        deadline = time.monotonic() + limit_s + self._patience.grace
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DelegateError(device, ErrorCode.TIMEOUT, "its process is busy with another call")
        try:
            if not self.is_usable:
                raise DelegateError(device, ErrorCode.DEVICE_LOST, self._death or "the process forked")
            self._serving = owner
            try:
                return self._exchange(device, header, blobs, fds, deadline, ask)
            finally:
                with self._caller:  # from here on, nobody kills the child for this call's sake
                    self._serving = None
        finally:
            self._lock.release()

    def _exchange(
        self,
        device: str,
        header: dict[str, Any],
        blobs: Sequence[Blob],
        fds: Sequence[int],
        deadline: float,
        ask: Ask | None,
    ) -> Message:
        self._trim_log()
        released = [self._released.popleft() for _ in range(len(self._released))]
        try:
            self._channel.send({**header, "release": released}, blobs, fds, deadline)
            while True:
                message = self._channel.receive(deadline)
                if "ask" not in message.header:
                    break
                if ask is None:
                    raise BadMessage("it asks for something during a call that has nothing to ask for")
                answer, parts = ask(message)
                self._channel.send(answer, parts, (), deadline)
            if "error" in message.header:
                raise error_of_json(message.header["error"], device)
            return message
        except TimeoutError:
            self.kill(f"it was killed: {header['do']} had not ended in time")
            raise DelegateError(device, ErrorCode.TIMEOUT, self._said(f"{header['do']}: not ended in time")) from None
        except ClosedError:
            raise DelegateError(device, ErrorCode.DEVICE_LOST, self._bury(header["do"])) from None
        except BadMessage as exc:
            self.kill(f"it was killed: its reply to {header['do']} was none: {exc}")
            raise DelegateError(device, ErrorCode.INTERNAL, f"{header['do']}: {exc}") from None

    def release(self, kind: str, number: int) -> None:
        """Has an object of the child dropped, with the next call. Never blocks: finalizers call it."""
        self._released.append([kind, number])

    def kill(self, why: str = "it was closed") -> None:
        """Ends the child now; a call under way fails with DEVICE_LOST. The first reason is kept."""
        self._death = self._death or f"its process is gone: {why}"
        if self.pid == os.getpid():
            self._process.kill()
            self._process.wait()

    def kill_serving(self, owner: object, why: str) -> None:
        """Ends the child if a call of that owner is under way; those of others go on."""
        with self._caller:
            if self._serving is owner:
                self.kill(why)

    def close(self) -> None:
        """Ends the child: by itself when it is idle, else now."""
        if self.pid != os.getpid() or not self._lock.acquire(blocking=False):
            self.kill()
            return
        try:
            self._death = self._death or "its process is gone: it was closed"
            self._channel.socket.close()  # the child sees the end of its input
            try:
                self._process.wait(self._patience.exit)
            except subprocess.TimeoutExpired:
                self.kill()
            self._finalizer()
        finally:
            self._lock.release()

    def _bury(self, doing: str) -> str:
        """The message about a child that closed its socket."""
        try:
            status = self._process.wait(self._patience.exit)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        if not self._death:
            self._death = f"its process is gone: it ended with {how} in {doing}"
            return self._said(f"{doing}: its process ended with {how}")
        return self._death

    def _said(self, message: str) -> str:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
        lines = _last_words(tail.decode("utf-8", "replace"))
        return f"{message}; it said last: {' | '.join(lines)}" if lines else message

    def _trim_log(self) -> None:
        if os.fstat(self._log.fileno()).st_size > _LOG_LIMIT_BYTES:
            os.ftruncate(self._log.fileno(), 0)
            os.lseek(self._log.fileno(), 0, os.SEEK_SET)

    def _forked(self) -> None:
        """In a process that was forked off: lets go of the socket, so that the parent's child sees the parent's end."""
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
        child._forked()


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
