"""Packs as the checks hand them out: they note what is asked for, and can be made to have lost everything.

Imports core.abi.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping

import numpy as np

from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array


class KeptPacks:
    """Implements core.abi.protocols.Packs. Thread-safe.

    kept: name → pack. asked: the names that were asked for, in order. is_lost: every pack is missing and none can be
    made: ``get`` raises ARTIFACT_REFUSED.
    """

    def __init__(self, kept: Mapping[str, Array] | None = None, *, is_lost: bool = False) -> None:
        self.kept: dict[str, Array] = dict(kept or {})
        self.asked: list[str] = []
        self.is_lost = is_lost
        self._lock = threading.RLock()

    def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
        """See core.abi.protocols.Packs."""
        with self._lock:
            self.asked.append(name)
            if self.is_lost:
                raise DelegateError("packs", ErrorCode.ARTIFACT_REFUSED, f"there is no pack {name}")
            if name not in self.kept:
                if make is None:
                    raise DelegateError("packs", ErrorCode.ARTIFACT_REFUSED, f"there is no pack {name}")
                made = np.array(make(), order="C")
                made.flags.writeable = False
                self.kept[name] = made
            return self.kept[name]

    def digest(self, value: Array) -> str:
        """See core.abi.protocols.Packs."""
        h = hashlib.sha256(f"{value.dtype.str}|{value.shape}|".encode())
        h.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return h.hexdigest()

    def bytes_of_all(self) -> dict[str, bytes]:
        """Name → contents, to see whether one was written to."""
        with self._lock:
            return {name: pack.tobytes() for name, pack in self.kept.items()}
