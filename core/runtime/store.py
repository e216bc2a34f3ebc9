"""The store: content-addressed files behind the cache. An entry is a payload under a key.

The store never hurts: what can't be read is a miss, what can't be written is not kept, what is damaged is
removed; each has a counter (`Count`) and none is an error. Entries live at DIRECTORY/v1/KIND/DIGEST, where 1 is
the format version and DIGEST the key's; they are written to a temporary file beside it that is then renamed, so
that many processes can share a store. What only one process is to do at a time is done under a lock, a file at
DIRECTORY/locks. A bound on its size, pruning and the HMAC of code are to come.

An entry, little-endian, with payload_offset a multiple of 64:

    0   magic            8 bytes, b"dgstore\\n"
    8   format_version   u32
    12  payload_offset   u32
    16  payload_size     u64, the file ends where the payload does
    24  key_size         u64
    32  payload_digest   16 bytes, XXH3-128 of the payload
    48  header_digest    16 bytes, XXH3-128 of bytes [0, 48) and [64, payload_offset)
    64  key              key_size bytes, as encoded by delegraph.core.runtime.key
        padding          zeros up to payload_offset
        payload
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from delegraph.core.errors import InvalidArgument
from delegraph.core.forks import RenewedLock
from delegraph.core.runtime.key import MAX_KEY_BYTES, Component, Key
from delegraph.core.runtime.privacy import is_private, why_not_private

FORMAT_VERSION = 1
PAYLOAD_ALIGNMENT = 64

_MAGIC = b"dgstore\n"
_HEADER = struct.Struct("<8sIIQQ16s16s")
_HEADER_DIGEST_OFFSET = 48
_MAX_SHOWN = 48
_RACY_NS = 2_000_000_000  # the coarsest file time in use is FAT's

Piece: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[Any]
Payload: TypeAlias = npt.NDArray[np.uint8]


class Count(StrEnum):
    """What a store counts. A name that is no longer used is kept, so that old figures stay readable."""

    HIT = "hit"
    MISS_ABSENT = "miss: no entry"
    MISS_OFF = "miss: the store is off"
    MISS_UNREADABLE = "miss: the entry could not be read"
    MISS_NOT_PRIVATE = "miss: not a private file of this user"
    MISS_FOREIGN = "miss: not an entry"
    MISS_VERSION = "miss: an entry of another format version"
    MISS_TRUNCATED = "miss: the entry has another length than it says"
    MISS_DAMAGED_HEADER = "miss: the entry's header is damaged"
    MISS_DAMAGED_PAYLOAD = "miss: the entry's payload is damaged"
    MISS_WRONG_KEY = "miss: the entry belongs to another key"
    REMOVED_DAMAGED = "a damaged entry was removed"
    NOT_REMOVED = "an entry could not be removed"
    PUT = "put"
    PUT_OFF = "not put: the store is off"
    PUT_NO_SPACE = "not put: no space"
    PUT_READ_ONLY = "not put: no permission to write"
    PUT_FAILED = "not put: the write failed"
    DIGEST_COMPUTED = "file digest: computed"
    DIGEST_REMEMBERED = "file digest: remembered"


@dataclass(frozen=True)
class EntryInfo:
    """A stored entry by its header. size_bytes is the payload's; stored_ns the time of writing since 1970."""

    key: Key
    path: Path
    size_bytes: int
    stored_ns: int


@dataclass(frozen=True, eq=False)
class Entry(EntryInfo):
    """A stored entry, checked, with its payload: [size_bytes] uint8, read-only, aligned to 64 bytes.

    The payload is a view on the mapped file, which stays mapped for as long as a view on it lives, whatever
    becomes of the entry.
    """

    payload: Payload = field(repr=False)


@dataclass(frozen=True)
class Change:
    """A component in the entry that is stored and in the key that missed; None where it is missing."""

    name: str
    stored: Component | None
    wanted: Component | None

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.stored)} -> {_shown(self.wanted)}"


@dataclass(frozen=True)
class Explanation:
    """Why a key misses: what changed since the nearest stored entry of its kind, if there is one.

    Prints as ``plan: driver: '24.1' -> '24.2'``
    """

    key: Key
    nearest: EntryInfo | None
    changes: tuple[Change, ...]
    reason: str = ""

    def __str__(self) -> str:
        what = self.reason or ", ".join(map(str, self.changes))
        return f"{self.key.kind}: {what}"


def _shown(value: Component | None) -> str:
    if value is None:
        return "none"
    text = value.hex() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


class _Unusable(Exception):
    """An entry that does not serve, with its counter."""

    def __init__(self, count: Count) -> None:
        self.count = count


class Store:
    """Files under keys. Safe for many threads and processes; see the module's text for what it promises.

    directory: by default DELEGRAPH_CACHE_DIR, else the user's cache directory; created private to the user.
        "off", and a directory that others could tamper with, switch the store off: it then misses always
        and keeps nothing, and `reason` says why.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._guard = RenewedLock()
        self._counts: Counter[Count] = Counter()
        self._file_digests: dict[tuple[int, ...], bytes] = {}
        self.directory: Path | None = None
        self.reason = ""
        chosen = directory if directory is not None else _default_directory()
        if os.fspath(chosen) == "off":
            self.reason = "the cache is off, as DELEGRAPH_CACHE_DIR or the caller asked"
            return
        self.directory = Path(os.path.abspath(os.path.expanduser(chosen)))
        self.reason = _why_unusable(self.directory)

    @property
    def enabled(self) -> bool:
        return not self.reason

    @property
    def counters(self) -> dict[Count, int]:
        """How often each thing happened in this store since it was made."""
        with self._guard.lock:
            return dict(self._counts)

    def get(self, key: Key) -> Entry | None:
        """The entry of the key, every byte of it checked; None if there is none that is whole."""
        if not self.enabled:
            self._count(Count.MISS_OFF)
            return None
        entry = self._load(key)
        if entry is not None:
            self._count(Count.HIT)
        return entry

    def put(self, key: Key, *pieces: Piece) -> Entry | None:
        """Stores the pieces, one after the other, as the payload of the key, and gives the entry.

        Replaces the entry that was there; views on its payload stay valid. None if it could not be stored.

        Raises: InvalidArgument for a piece that is not a contiguous buffer.
        """
        if not self.enabled:
            self._count(Count.PUT_OFF)
            return None
        parts = [_bytes_of(piece) for piece in pieces]
        try:
            self._write(self._path(key), _header(key, parts), parts)
        except OSError as error:
            self._count(_PUT_FAILURES.get(error.errno or 0, Count.PUT_FAILED))
            return None
        self._count(Count.PUT)
        return self._load(key)

    def remove(self, key: Key) -> bool:
        """Removes the entry of the key; says whether there was one. Views on its payload stay valid."""
        return self.enabled and self._unlink(self._path(key))

    @contextlib.contextmanager
    def locked(self, name: str, limit_s: float) -> Iterator[bool]:
        """Keeps other processes, and other threads, out of the blocks that are locked under that name.

        Yields whether it does: not when the store is off or can't be written to, nor when somebody else has not let
        go after ``limit_s`` seconds. A process that dies lets go.
        """
        with contextlib.ExitStack() as held:
            yield self.enabled and self._has_locked(name, limit_s, held)

    def _has_locked(self, name: str, limit_s: float, held: contextlib.ExitStack) -> bool:
        import filelock

        assert self.directory is not None
        folder = self.directory / "locks"
        try:
            with contextlib.suppress(FileExistsError):  # made before, perhaps by another process just now
                os.mkdir(folder, 0o700)
            held.enter_context(filelock.FileLock(folder / name, limit_s, mode=0o600))
        except (OSError, NotImplementedError):  # a timeout is an OSError; the other: no locks on this file system
            return False
        return True

    def entries(self, kind: str | None = None) -> Iterator[EntryInfo]:
        """The stored entries, of one kind or of all, in no particular order; payloads are not checked."""
        if not self.enabled:
            return
        for folder in [self._folder(kind)] if kind else _listed(self._root):
            for path in _listed(folder):
                if not path.name.startswith("."):
                    with contextlib.suppress(OSError, _Unusable):  # removed meanwhile, or damaged: a miss
                        yield _read_info(path)

    def explain_miss(self, key: Key) -> Explanation:
        """Which components differ from those of the nearest entry of the key's kind."""
        if not self.enabled:
            return Explanation(key, None, (), self.reason)
        nearest: EntryInfo | None = None
        fewest: tuple[Change, ...] = ()
        for info in sorted(self.entries(key.kind), key=lambda info: -info.stored_ns):
            changes = _changes(info.key, key)
            if nearest is None or len(changes) < len(fewest):
                nearest, fewest = info, changes
        if nearest is None:
            return Explanation(key, None, (), "no entry of this kind is stored")
        return Explanation(key, nearest, fewest, "" if fewest else "the entry is stored")

    def file_digest(self, path: str | os.PathLike[str]) -> bytes:
        """SHA-256 of a file, remembered by its device, inode, size, mtime and ctime, also between processes.

        The digest of a file that changed less than two seconds ago is not remembered: the file may change
        again within the same tick of the clock.

        Raises: OSError if the file can't be read.
        """
        with open(path, "rb", buffering=0) as file:
            identity = _identity(os.fstat(file.fileno()))
            digest = self._remembered_digest(identity)
            if digest is not None:
                self._count(Count.DIGEST_REMEMBERED)
                return digest
            digest = hashlib.file_digest(file, "sha256").digest()
            self._count(Count.DIGEST_COMPUTED)
            is_settled = max(identity[-2:]) + _RACY_NS < time.time_ns()
            if is_settled and _identity(os.fstat(file.fileno())) == identity:
                self._file_digests[identity] = digest
                self.put(_identity_key(identity), digest)
        return digest

    def _remembered_digest(self, identity: tuple[int, ...]) -> bytes | None:
        digest = self._file_digests.get(identity)
        if digest is None and (entry := self.get(_identity_key(identity))) is not None:
            digest = self._file_digests[identity] = entry.payload.tobytes()
        return digest

    @property
    def _root(self) -> Path:
        assert self.directory is not None
        return self.directory / f"v{FORMAT_VERSION}"

    def _folder(self, kind: str) -> Path:
        return self._root / kind

    def _path(self, key: Key) -> Path:
        return self._folder(key.kind) / key.digest

    def _count(self, what: Count) -> None:
        with self._guard.lock:
            self._counts[what] += 1

    def _load(self, key: Key) -> Entry | None:
        path = self._path(key)
        try:
            return _read_entry(path, key)
        except FileNotFoundError:
            self._count(Count.MISS_ABSENT)
        except OSError:
            self._count(Count.MISS_UNREADABLE)
        except _Unusable as unusable:
            self._count(unusable.count)
            # Another process may have put a good entry there by now; to remove that costs one more miss.
            if self._unlink(path):
                self._count(Count.REMOVED_DAMAGED)
        return None

    def _unlink(self, path: Path) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError:
            self._count(Count.NOT_REMOVED)
            return False
        return True

    def _write(self, path: Path, header: bytes, parts: list[memoryview]) -> None:
        for folder in (path.parent.parent, path.parent):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(8).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o600)
        try:
            try:
                _write_all(descriptor, memoryview(header))
                for part in parts:
                    _write_all(descriptor, part)
                # The folder is not synchronised: after a power cut the entry may be missing, which is a miss.
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # what matters is raised below
                os.unlink(temporary)
            raise


_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_IDENTITY = ("device", "inode", "size", "mtime_ns", "ctime_ns")
_PUT_FAILURES = {
    errno.ENOSPC: Count.PUT_NO_SPACE,
    errno.EDQUOT: Count.PUT_NO_SPACE,
    errno.EROFS: Count.PUT_READ_ONLY,
    errno.EACCES: Count.PUT_READ_ONLY,
    errno.EPERM: Count.PUT_READ_ONLY,
}


def _identity_key(identity: tuple[int, ...]) -> Key:
    return Key("file-digest", dict(zip(_IDENTITY, identity, strict=True)))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _changes(stored: Key, wanted: Key) -> tuple[Change, ...]:
    old, new = stored.components, wanted.components
    return tuple(
        Change(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _bytes_of(piece: Piece) -> memoryview:
    try:
        return np.frombuffer(piece, np.uint8).data
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgument("payload", "contiguous bytes", f"{type(piece).__name__}: {error}") from error


def _header(key: Key, parts: list[memoryview]) -> bytes:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    unpadded = _HEADER.size + len(key.encoded)
    payload_offset = -(-unpadded // PAYLOAD_ALIGNMENT) * PAYLOAD_ALIGNMENT
    size = sum(part.nbytes for part in parts)
    fields = (_MAGIC, FORMAT_VERSION, payload_offset, size, len(key.encoded), digest.digest())
    rest = key.encoded + bytes(payload_offset - unpadded)
    return _HEADER.pack(*fields, _header_digest(_HEADER.pack(*fields, b""), rest)) + rest


def _header_digest(start: bytes, rest: bytes) -> bytes:
    return xxhash.xxh3_128(start[:_HEADER_DIGEST_OFFSET] + rest).digest()


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@dataclass(frozen=True)
class _Header:
    encoded_key: bytes
    payload_offset: int
    payload_size: int
    payload_digest: bytes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of a private, regular file. Raises: OSError, _Unusable."""
    try:
        # O_NONBLOCK, so that a FIFO is refused and not waited for.
        descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _Unusable(Count.MISS_NOT_PRIVATE) from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not is_private(status):
            raise _Unusable(Count.MISS_NOT_PRIVATE)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_header(descriptor: int, file_size: int) -> _Header:
    start = os.read(descriptor, _HEADER.size)
    if start[: len(_MAGIC)] != _MAGIC[: len(start)]:
        raise _Unusable(Count.MISS_FOREIGN)
    if len(start) < _HEADER.size:
        raise _Unusable(Count.MISS_TRUNCATED)
    _, version, payload_offset, payload_size, key_size, payload_digest, header_digest = _HEADER.unpack(start)
    if version != FORMAT_VERSION:
        raise _Unusable(Count.MISS_VERSION)
    if not _HEADER.size + key_size <= payload_offset <= 2 * MAX_KEY_BYTES:
        raise _Unusable(Count.MISS_DAMAGED_HEADER)
    rest = os.read(descriptor, payload_offset - _HEADER.size)
    if len(rest) < payload_offset - _HEADER.size:
        raise _Unusable(Count.MISS_TRUNCATED)
    if _header_digest(start, rest) != header_digest or payload_offset % PAYLOAD_ALIGNMENT:
        raise _Unusable(Count.MISS_DAMAGED_HEADER)
    if payload_offset + payload_size != file_size:
        raise _Unusable(Count.MISS_TRUNCATED)
    return _Header(rest[:key_size], payload_offset, payload_size, payload_digest)


def _read_info(path: Path) -> EntryInfo:
    with _opened(path) as descriptor:
        status = os.fstat(descriptor)
        header = _read_header(descriptor, status.st_size)
    try:
        key = Key.decode(header.encoded_key)
    except ValueError as error:
        raise _Unusable(Count.MISS_DAMAGED_HEADER) from error
    if (path.parent.name, path.name) != (key.kind, key.digest):
        raise _Unusable(Count.MISS_WRONG_KEY)
    return EntryInfo(key, path, header.payload_size, status.st_mtime_ns)


def _read_entry(path: Path, key: Key) -> Entry:
    with _opened(path) as descriptor:
        status = os.fstat(descriptor)
        header = _read_header(descriptor, status.st_size)
        if header.encoded_key != key.encoded:
            raise _Unusable(Count.MISS_WRONG_KEY)
        if sys.version_info >= (3, 13):
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)
        else:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    payload = np.frombuffer(mapped, np.uint8, header.payload_size, header.payload_offset)
    if xxhash.xxh3_128_digest(payload.data) != header.payload_digest:
        raise _Unusable(Count.MISS_DAMAGED_PAYLOAD)
    return Entry(key, path, header.payload_size, status.st_mtime_ns, payload)


def _default_directory() -> str:
    if chosen := os.environ.get("DELEGRAPH_CACHE_DIR"):
        return chosen
    import platformdirs

    return platformdirs.user_cache_dir("delegraph")


def _why_unusable(directory: Path) -> str:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        reason = why_not_private(directory)
    except OSError as error:
        reason = f"{directory} can't be used: {error.strerror or error}"
    return f"the cache is off: {reason}" if reason else ""
