"""Which devices to leave alone for a while: quarantine with back-off. Imports core.forks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from delegraph.core import forks

FIRST_S = 0.5
LONGEST_S = 60.0


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: float = 0.0
    why: str = ""


class Health:
    """The failures of devices, by id. Thread-safe.

    After its n-th failure in a row a device is left alone for ``FIRST_S · 2^(n-1)`` seconds, at most ``LONGEST_S``;
    what ends well clears that. Building (compiling and loading) and running are told apart: a device that fails to
    build one segment still runs the others. clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, _Record] = {}
        self._builds: dict[str, _Record] = {}
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """In a child process: another thread may have held the lock."""
        self._lock = threading.Lock()

    def failed(self, device: str, why: str, *, building: bool = False) -> float:
        """Notes a failure; returns for how many seconds the device is left alone."""
        with self._lock:
            record = (self._builds if building else self._runs).setdefault(device, _Record())
            record.failures += 1
            pause = min(LONGEST_S, FIRST_S * 2.0 ** (record.failures - 1))
            record.until, record.why = self._clock() + pause, why
            return pause

    def worked(self, device: str, *, building: bool = False) -> None:
        """Notes what ended well."""
        records = self._builds if building else self._runs
        if device in records:  # the usual case takes no lock
            with self._lock:
                records.pop(device, None)

    def forget(self, device: str) -> None:
        """Notes that another device has that id now."""
        self.worked(device)
        self.worked(device, building=True)

    def quarantine(self, device: str) -> str:
        """Why nothing is to be run on the device now, or "" when it may be used."""
        record = self._runs.get(device)  # the usual case takes no lock
        return "" if record is None else self._why(record)

    def resting(self) -> dict[str, str]:
        """Device → why nothing is to be built for it now: it failed to build, or to run."""
        with self._lock:
            found = [*self._runs.items(), *self._builds.items()]
        return {device: why for device, record in found if (why := self._why(record))}

    def _why(self, record: _Record) -> str:
        with self._lock:
            left = record.until - self._clock()
            return f"in quarantine for another {left:.1f} s after: {record.why}" if left > 0 else ""
