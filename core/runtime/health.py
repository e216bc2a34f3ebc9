"""Which devices to leave alone for a while: quarantine with back-off. Imports nothing of delegraph."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_S = 0.5
LONGEST_S = 60.0


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: float = 0.0
    why: str = ""


class Health:
    """The failures of devices, by id. Thread-safe.

    After its n-th failure in a row a device is left alone for ``FIRST_S · 2^(n-1)`` seconds, at most ``LONGEST_S``; a
    run that ends well clears it. clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}

    def failed(self, device: str, why: str) -> float:
        """Notes a failure; returns for how many seconds the device is left alone."""
        with self._lock:
            record = self._records.setdefault(device, _Record())
            record.failures += 1
            pause = min(LONGEST_S, FIRST_S * 2.0 ** (record.failures - 1))
            record.until, record.why = self._clock() + pause, why
            return pause

    def worked(self, device: str) -> None:
        """Notes a run that ended well."""
        if device in self._records:  # the usual case takes no lock
            with self._lock:
                self._records.pop(device, None)

    def quarantine(self, device: str) -> str:
        """Why the device is to be left alone now, or "" when it may be used."""
        record = self._records.get(device)
        if record is None:
            return ""
        with self._lock:
            left = record.until - self._clock()
            return f"in quarantine for another {left:.1f} s after: {record.why}" if left > 0 else ""
