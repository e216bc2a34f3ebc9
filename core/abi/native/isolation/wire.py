"""Messages over a stream socket: a JSON header and blobs of bytes. Imports nothing of delegraph.

    frame = b"dgp1" u32(length of header) u64(length of all blobs) header blob*      little-endian

The header is an object; its "blobs" lists the blobs' lengths. File descriptors travel with the first bytes of a frame,
from parent to child only.
"""

from __future__ import annotations

import array
import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HEADER_LIMIT_BYTES = 1 << 26
BLOBS_LIMIT_BYTES = 1 << 34
_FDS_LIMIT = 4
_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"dgp1"

Blob = bytes | bytearray | memoryview


class BadMessage(Exception):
    """What arrived is no proper message, or lacks what it should have."""


class ClosedError(Exception):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """header: the JSON object, unchecked."""

    header: dict[str, Any]
    blobs: tuple[bytes, ...] = ()
    fds: tuple[int, ...] = ()


class Channel:
    """One end of the socket; for one thread at a time. takes_fds: whether descriptors are accepted (else dropped)."""

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False) -> None:
        self.socket = sock
        self._takes_fds = takes_fds

    def send(
        self,
        header: dict[str, Any],
        blobs: Sequence[Blob] = (),
        fds: Sequence[int] = (),
        deadline: float | None = None,
    ) -> None:
        """Raises TimeoutError, or ClosedError when the other end is gone."""
        sizes = [memoryview(blob).nbytes for blob in blobs]
        text = json.dumps({**header, "blobs": sizes}, separators=(",", ":")).encode()
        try:
            self._wait(deadline)
            head = _HEAD.pack(_MAGIC, len(text), sum(sizes))
            if socket.send_fds(self.socket, [head], fds) != len(head):
                raise ClosedError
            for part in (text, *blobs):
                self._wait(deadline)
                self.socket.sendall(part)
        except TimeoutError:
            raise
        except OSError as exc:
            raise ClosedError from exc

    def receive(self, deadline: float | None = None) -> Message:
        """The next message. Raises TimeoutError, ClosedError, or BadMessage."""
        head, fds = self._head(deadline)
        magic, n_header, n_blobs = _HEAD.unpack(head)
        if magic != _MAGIC or n_header > HEADER_LIMIT_BYTES or n_blobs > BLOBS_LIMIT_BYTES:
            raise BadMessage(f"expected a frame, found {head!r}")
        try:
            header = json.loads(self._exactly(n_header, deadline))
        except (ValueError, RecursionError) as exc:
            raise BadMessage(f"expected JSON, found {exc}") from None
        if not isinstance(header, dict):
            raise BadMessage(f"expected an object, found {type(header).__name__}")
        sizes = header.pop("blobs", None)
        if not isinstance(sizes, list) or not all(type(n) is int and n >= 0 for n in sizes) or sum(sizes) != n_blobs:
            raise BadMessage(f"expected blobs of {n_blobs} bytes, found {sizes!r:.100}")
        return Message(header, tuple(bytes(self._exactly(n, deadline)) for n in sizes), fds)

    def _head(self, deadline: float | None) -> tuple[bytes, tuple[int, ...]]:
        if not self._takes_fds:
            return bytes(self._exactly(_HEAD.size, deadline)), ()
        self._wait(deadline)
        data, ancillary, _, _ = self.socket.recvmsg(_HEAD.size, socket.CMSG_LEN(_FDS_LIMIT * 4))
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if not data:
            raise ClosedError
        return data + bytes(self._exactly(_HEAD.size - len(data), deadline)), tuple(fds)

    def _exactly(self, size: int, deadline: float | None) -> bytearray:
        """Grows as bytes arrive: a length that is a lie costs no memory."""
        found = bytearray()
        while len(found) < size:
            try:
                self._wait(deadline)
                part = self.socket.recv(min(size - len(found), 1 << 20))
            except TimeoutError:
                raise
            except OSError as exc:
                raise ClosedError from exc
            if not part:
                raise ClosedError
            found += part
        return found

    def _wait(self, deadline: float | None) -> None:
        """Sets the time that the next operation may take."""
        if deadline is None:
            self.socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)
