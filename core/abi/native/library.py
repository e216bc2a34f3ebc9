"""A plug-in's shared library: opened, its table of functions checked, and its functions called. Imports structs.

Everything that a plug-in returns passes through here: errors become DelegateError, strings and arrays are copied,
and each object is released exactly once.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, byref, c_char_p, c_int64, c_void_p
from pathlib import Path
from typing import Any

from delegraph.core.abi.native import structs
from delegraph.core.abi.native.structs import ABI_MAJOR, ABI_MINOR, BadStruct
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.errors import InvalidArgument
from delegraph.core.forks import RenewedLock

log = logging.getLogger("delegraph")

ENTRY = "delegraph_delegate_entry"

COUNT_LIMIT = 1 << 20
"""No list of a plug-in is longer."""

_CODES = {
    1: ErrorCode.UNSUPPORTED,
    2: ErrorCode.INVALID,
    3: ErrorCode.OUT_OF_MEMORY,
    4: ErrorCode.DEVICE_LOST,
    5: ErrorCode.TIMEOUT,
    6: ErrorCode.ARTIFACT_REFUSED,
    7: ErrorCode.DEPENDENCY_FAILED,
    8: ErrorCode.INTERNAL,
}


def code_number(code: ErrorCode) -> int:
    """The number of a code in C."""
    return next(number for number, value in _CODES.items() if value is code)


def _log(level: int, message: bytes | None) -> None:
    log.log(max(0, min(int(level), 50)), "%s", text(message))


_libraries: dict[Path, Library] = {}
_guard = RenewedLock()

_LOG = structs.Log(_log)
_NOW_NS = structs.NowNs(lambda: time.monotonic_ns())
_HOST = structs.HostApi(abi_major=ABI_MAJOR, abi_minor=ABI_MINOR, log=_LOG, now_ns=_NOW_NS)


def text(value: bytes | None) -> str:
    """A plug-in's string; what is no UTF-8 is replaced."""
    return (value or b"").decode("utf-8", "replace")


def texts(array: Any, count: int) -> tuple[str, ...]:
    """An array of strings, as ``POINTER(c_char_p)``."""
    return tuple(text(array[i]) for i in range(checked_count(count, array)))


def checked_count(count: int, array: Any) -> int:
    """Raises BadStruct for a count that can't be, or items that are not there."""
    if not 0 <= count <= COUNT_LIMIT:
        raise BadStruct(f"expected at most {COUNT_LIMIT} items, found a count of {count}")
    if count and not array:
        raise BadStruct(f"expected an array of {count} items, found NULL")
    return count


class Handle:
    """An object of the plug-in, released once nothing refers to it. parent: what it was made by, which outlives it.

    At the end of the process nothing is released: a run that hangs may still be in there.
    """

    def __init__(self, pointer: int, release: Callable[[int], None], *parents: object) -> None:
        self.pointer = pointer
        weakref.finalize(self, _release, release, pointer, parents, os.getpid()).atexit = False


class _Inside(threading.local):
    """Around each call of a plug-in's function: ``with _inside:``. Objects that are dropped meanwhile on this thread,
    such as by a garbage collection within ``packs->get``, are released at its end: the plug-in may hold a lock that its
    release functions take."""

    depth = 0  # more than 1 when a function of ours, called by the plug-in, leads to another

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *exc: object) -> None:
        self.depth -= 1
        if _unreleased and not self.depth:
            _release_all()


_inside = _Inside()
_unreleased: deque[tuple[Callable[[int], None], int, tuple[object, ...], int]] = deque()


def _release(release: Callable[[int], None], pointer: int, parents: tuple[object, ...], pid: int) -> None:
    _unreleased.append((release, pointer, parents, pid))
    if _inside.depth:
        return
    if isinstance(threading.current_thread(), threading._DummyThread):  # made by a plug-in, and in ``log``, say
        with suppress(RuntimeError):  # the process ends
            threading.Thread(target=_release_all, name="delegraph release", daemon=True).start()
    else:
        _release_all()


def _release_all() -> None:
    while _unreleased:
        try:
            release, pointer, parents, pid = _unreleased.popleft()
        except IndexError:  # another thread took it
            return
        if pid == os.getpid():  # after a fork the object is the parent's
            _inside.depth += 1  # it may log, and what is dropped then has its turn after it
            try:
                release(pointer)
            finally:
                _inside.depth -= 1
        del parents


def file_stamp(path: str | os.PathLike[str]) -> str:
    """Tells a file from a later one of that name; "" when there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size} bytes of {stat.st_mtime_ns}"


def open_library(path: Path) -> Library:
    """The library of that file, opened once for the life of the process.

    Raises:
        InvalidArgument: as ``Library`` does; or the file is no longer the one that was opened, whose code stays.
    """
    with _guard.lock:
        if path not in _libraries:
            _libraries[path] = Library(path)
        library = _libraries[path]
        if file_stamp(path) != library.stamp:
            raise InvalidArgument(
                str(path),
                "the file that was loaded",
                "one that changed on disk since it was loaded",
                "restart, or isolate=True",
            )
        return library


class Library:
    """A plug-in's functions. Never unloaded. stamp: of the file when it was opened.

    Raises:
        InvalidArgument: the file is no plug-in that this version can use, saying what was expected and found.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp = file_stamp(path)  # before it is opened: a file that is replaced meanwhile is refused, not believed
        try:
            self._library = ctypes.CDLL(str(path))  # kept for the life of the process
        except OSError as exc:
            raise self._refused(
                "a shared library", str(exc), "build it for this machine, with what it links to"
            ) from exc
        try:
            entry = structs.Entry((ENTRY, self._library))
        except AttributeError:
            raise self._refused(
                f"the symbol {ENTRY}", "none", "export it as core/abi/native/delegraph_delegate.h says"
            ) from None
        out = c_void_p()
        with _inside:
            code = entry(ABI_MAJOR, ABI_MINOR, byref(_HOST), byref(out))
        if code != 0:
            found = f"code {code} ({_CODES.get(code, ErrorCode.INTERNAL).value})"
            raise self._refused(
                f"a plug-in for ABI {ABI_MAJOR}.{ABI_MINOR}", found, "rebuild it with this version's header"
            )
        self.api = self._table(out.value)
        self.name, self.version = text(self.api.name), text(self.api.version)
        if not self.name.replace("-", "").replace("_", "").isalnum() or self.name != self.name.lower():
            raise self._refused("a name of lower-case letters, digits, - and _", repr(self.name))

    def _table(self, address: int | None) -> structs.DelegateApi:
        if not address:
            raise self._refused("a table of functions", "NULL")
        head = (ctypes.c_uint32 * 3).from_address(address)
        size, major, minor = head
        if major != ABI_MAJOR:
            raise self._refused(
                f"delegate ABI {ABI_MAJOR}.x", f"{major}.{minor}", "rebuild it with this version's delegraph_delegate.h"
            )
        if minor < 2:
            raise self._refused("delegate ABI 0.2 or newer", f"{major}.{minor}", "the C ABI began with 0.2")
        try:
            api = structs.read(address, structs.DelegateApi)
        except BadStruct as exc:
            raise self._refused("a complete dg_delegate_api", f"struct_size {size}", str(exc)) from None
        missing = [
            name
            for name, kind in structs.fields(structs.DelegateApi)
            if issubclass(kind, ctypes._CFuncPtr)  # type: ignore[attr-defined]  # typeshed leaves out this base
            and not getattr(api, name)
            and name not in structs.OPTIONAL
        ]
        if missing:
            raise self._refused(
                "a function for each required entry of dg_delegate_api", f"NULL for {', '.join(missing)}"
            )
        return api

    def _refused(self, expected: str, found: str, advice: str = "") -> InvalidArgument:
        return InvalidArgument(str(self.path), expected, found, advice)

    # ---- calls ----

    def call(self, device: str, function: str, *arguments: Any) -> None:
        """Calls a function that returns an error or NULL. Raises DelegateError."""
        with _inside:
            failure = getattr(self.api, function)(*arguments)
            if not failure:
                return
            code, message = self._read_error(failure)
        if code not in _CODES:
            message = f"{message} (unknown code {code})"
        raise DelegateError(device, _CODES.get(code, ErrorCode.INTERNAL), f"{function}: {message}")

    def plain(self, function: str, *arguments: Any) -> Any:
        """Calls a function that can't fail; what it returns."""
        with _inside:
            return getattr(self.api, function)(*arguments)

    def _read_error(self, failure: Any) -> tuple[int, str]:
        address = ctypes.cast(failure, c_void_p).value
        try:
            error = structs.read(address, structs.Error)
            return error.code, text(error.message)
        except BadStruct as exc:
            return 0, f"an error that can't be read: {exc}"
        finally:
            self.api.release_error(address)

    @contextmanager
    def returned(self, device: str, function: str, release: str, *arguments: Any) -> Iterator[int]:
        """Calls a function whose last argument takes what it returns: the address, released at the end."""
        address = self._out(device, function, *arguments)
        try:
            with self.reading(device, function):
                yield address
        finally:
            self.plain(release, address)

    def made(
        self, device: str, function: str, release: str, *arguments: Any, parents: tuple[object, ...] = ()
    ) -> Handle:
        """The same for an object that lives on."""
        return Handle(self._out(device, function, *arguments), getattr(self.api, release), *parents)

    def _out(self, device: str, function: str, *arguments: Any) -> int:
        out = c_void_p()
        self.call(device, function, *arguments, byref(out))
        if not out.value:
            raise DelegateError(device, ErrorCode.INTERNAL, f"{function}: expected an object or an error, found NULL")
        return out.value

    @contextmanager
    def reading(self, device: str, function: str) -> Iterator[None]:
        """Turns what is wrong with a plug-in's structs into a DelegateError."""
        try:
            yield
        except BadStruct as exc:
            raise DelegateError(device, ErrorCode.INTERNAL, f"{function}: {exc}") from None


def items(array: Any, count: int, kind: type[structs.S]) -> list[structs.S]:
    """Copies of the structs that an array of pointers leads to."""
    pointers = ctypes.cast(array, POINTER(c_void_p))
    return [structs.read(pointers[i], kind) for i in range(checked_count(count, array))]


def deadline_ns(deadline: float | None) -> int:
    """A ``time.monotonic`` value as C has it."""
    return structs.NO_DEADLINE if deadline is None else int(deadline * 1e9)


def bytes_at(address: int | None, size: int) -> bytes:
    """A copy of that memory. Raises BadStruct when there is none."""
    if size and not address:
        raise BadStruct(f"expected {size} bytes, found NULL")
    if size > 1 << 40:
        raise BadStruct(f"expected a size of at most 1 TiB, found {size}")
    return ctypes.string_at(address, size) if address else b""


def string_array(names: Any) -> Any:
    return ctypes.cast(names, POINTER(c_char_p))


def int64_array(count: int) -> Any:
    return (c_int64 * max(1, count))()
