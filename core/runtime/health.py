"""Which devices to leave alone for a while: quarantine with back-off. Imports core.abi.values and core.forks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from delegraph.core import forks
from delegraph.core.abi.values import DelegateError, ErrorCode

FIRST_S = 0.5
LONGEST_S = 60.0

TIMES_AS_LONG = 10
"""A device is left alone for so many times what its failure took: one that hangs costs a tenth of the time at most."""

Doing = Literal["run", "build", "ask", "calibrate"]
"""What a device failed at; building is compiling and loading, asking is what it supports."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: float = 0.0
    why: str = ""


class Health:
    """The failures of devices, by id. Thread-safe.

    After its n-th failure in a row a device is left alone for ``FIRST_S · 2^(n-1)`` seconds, at most ``LONGEST_S``, but
    for TIMES_AS_LONG what the failure took; what ends well clears that. What it failed at is told apart: a device that
    fails to build one segment still runs the others. clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[Doing, dict[str, _Record]] = {doing: {} for doing in get_args(Doing)}
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """In a child process: another thread may have held the lock."""
        self._lock = threading.Lock()

    def failed(self, device: str, why: str, *, doing: Doing = "run", took_s: float = 0.0) -> float:
        """Notes a failure; returns for how many seconds the device is left alone."""
        with self._lock:
            record = self._records[doing].setdefault(device, _Record())
            record.failures += 1
            doublings = min(record.failures - 1, 64)  # far beyond LONGEST_S, and not yet beyond what a float holds
            pause = max(min(LONGEST_S, FIRST_S * 2.0**doublings), TIMES_AS_LONG * took_s)
            record.until, record.why = self._clock() + pause, why
            return pause

    def worked(self, device: str, *, doing: Doing = "run") -> None:
        """Notes what ended well."""
        records = self._records[doing]
        if device in records:  # the usual case takes no lock
            with self._lock:
                records.pop(device, None)

    def forget(self, device: str) -> None:
        """Notes that another device has that id now."""
        for doing in self._records:
            self.worked(device, doing=doing)

    @contextmanager
    def trying(self, device: str, doing: Doing) -> Iterator[None]:
        """Notes how the block ends, where it is entered at all.

        Raises:
            DelegateError: UNSUPPORTED at once, while the device is left alone; what the block raises.
        """
        why = self.quarantine(device, doing)
        if why:
            raise DelegateError(device, ErrorCode.UNSUPPORTED, why)
        start = self._clock()
        try:
            yield
        except DelegateError as exc:
            self.failed(device, str(exc), doing=doing, took_s=self._clock() - start)
            raise
        self.worked(device, doing=doing)

    def quarantine(self, device: str, doing: Doing = "run") -> str:
        """Why nothing is to be run (or done otherwise) on the device now, or "" when it may be used."""
        record = self._records[doing].get(device)  # the usual case takes no lock
        return "" if record is None else self._why(record)

    def resting(self) -> dict[str, str]:
        """Device → why nothing is to be built for it now: it failed to build, or to run."""
        with self._lock:
            found = [*self._records["run"].items(), *self._records["build"].items()]
        return {device: why for device, record in found if (why := self._why(record))}

    def _why(self, record: _Record) -> str:
        with self._lock:
            left = record.until - self._clock()
            return f"in quarantine for another {left:.1f} s after: {record.why}" if left > 0 else ""
