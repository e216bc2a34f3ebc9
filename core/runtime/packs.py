"""Packs: constants in devices' own layouts, kept in memory once, and in the store for the next process.

Imports core.abi and core.runtime.store. Implements core.abi.protocols.Packs.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from delegraph.core import forks
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.core.runtime.key import Key

if TYPE_CHECKING:
    from delegraph.core.runtime.store import Store  # only whoever opens a store pays for its import

_HEADER_BYTES = 64
"""In front of a stored pack: ``dtype;shape`` as text, padded with zeros."""


class PackStore:
    """The packs of one process. Thread-safe. store: where they outlive it; None keeps them in memory only.

    A pack lives in memory as long as a program holds it.
    """

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self._alive: weakref.WeakValueDictionary[str, Array] = weakref.WeakValueDictionary()
        self._digests: dict[int, tuple[weakref.ref[Array], str]] = {}
        self.made = 0
        """Packs made in this process, not found; a warm start makes none."""
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """In a child process: another thread may have held the lock."""
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
        """See core.abi.protocols.Packs. Nothing is locked meanwhile: ``make`` may hang. Two callers at once may both
        make a pack; the first one's is kept."""
        with self._lock:
            found = self._alive.get(name)
        if found is None:
            found = self._stored(name)
        if found is None:
            if make is None:
                raise DelegateError("packs", ErrorCode.ARTIFACT_REFUSED, f"there is no pack {name}")
            found = np.array(make(), order="C")
            found.flags.writeable = False
            self.made += 1
            if self.store is not None:
                header = f"{found.dtype.str};{','.join(map(str, found.shape))}".encode()
                header = header.ljust(_HEADER_BYTES, b"\0")
                self.store.put(_key(name), header, found.reshape(-1).view(np.uint8))
        with self._lock:
            return self._alive.setdefault(name, found)

    def digest(self, value: Array) -> str:
        """See core.abi.protocols.Packs. Remembered for as long as the array object lives."""
        known = self._digests.get(id(value))
        if known is not None and known[0]() is value:
            return known[1]
        h = hashlib.sha256(f"{value.dtype.str}|{value.shape}|".encode())
        h.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        if not value.flags.writeable:
            where = id(value)
            self._digests[where] = (weakref.ref(value, lambda _: self._digests.pop(where, None)), h.hexdigest())
        return h.hexdigest()

    def _stored(self, name: str) -> Array | None:
        entry = None if self.store is None else self.store.get(_key(name))
        if entry is None or len(entry.payload) < _HEADER_BYTES:
            return None
        dtype, _, shape = bytes(entry.payload[:_HEADER_BYTES]).rstrip(b"\0").decode(errors="replace").partition(";")
        try:
            return entry.payload[_HEADER_BYTES:].view(dtype).reshape([int(n) for n in shape.split(",") if n])
        except (TypeError, ValueError):  # written by another version: a miss
            return None


def _key(name: str) -> Key:
    return Key("pack", {"name": name, "format": 1})
