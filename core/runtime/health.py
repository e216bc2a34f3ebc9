"""Which devices to leave alone for a while: quarantine with back-off. Imports core.abi.values and core.forks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from delegraph.core import forks
from delegraph.core.abi.values import DelegateError, ErrorCode

FIRST_S = 0.5
LONGEST_S = 60.0

TIMES_AS_LONG = 10
"""A device is left alone for so many times what its failure took: one that hangs costs a tenth of the time at most."""

Doing = Literal["run", "build", "ask", "calibrate"]
"""What a device failed at; building is compiling and loading, asking is what it supports."""


Part = Hashable
"""What tells a part of a device's work from the others, such as a segment."""

FORGET_S = 600.0
"""What failed and was not tried again for so long is forgotten."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Something that a device is left alone with for a while; part: with that alone."""

    device: str
    doing: Doing
    part: Part = None


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: float = 0.0
    why: str = ""


class Health:
    """The failures of devices, by id. Thread-safe.

    After its n-th failure in a row a device is left alone for ``FIRST_S · 2^(n-1)`` seconds, at most ``LONGEST_S``, but
    for TIMES_AS_LONG what the failure took; what ends well clears that. What it failed at is told apart: a device that
    fails to build one segment still runs the others. And so is the part of its work: what always fails is tried ever
    more rarely while the rest of it goes well, which clears the device, not the part. clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[Rest, _Record] = {}
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """In a child process: another thread may have held the lock."""
        self._lock = threading.Lock()

    def failed(self, device: str, why: str, *, doing: Doing = "run", took_s: float = 0.0, part: Part = None) -> float:
        """Notes a failure; returns for how many seconds the device, or that part of its work, is left alone."""
        with self._lock:
            self._forget_old()
            return max(self._failed(rest, why, took_s) for rest in {Rest(device, doing), Rest(device, doing, part)})

    def _failed(self, rest: Rest, why: str, took_s: float) -> float:
        record = self._records.setdefault(rest, _Record())
        record.failures += 1
        doublings = min(record.failures - 1, 64)  # far beyond LONGEST_S, and not yet beyond what a float holds
        pause = max(min(LONGEST_S, FIRST_S * 2.0**doublings), TIMES_AS_LONG * took_s)
        record.until, record.why = self._clock() + pause, why
        return pause

    def _forget_old(self) -> None:
        now = self._clock()
        for rest in [rest for rest, record in self._records.items() if record.until + FORGET_S < now]:
            del self._records[rest]

    @property
    def is_calm(self) -> bool:
        """Whether no device has failed since it last worked."""
        return not self._records

    def worked(self, device: str, *, doing: Doing = "run", part: Part = None) -> None:
        """Notes what ended well."""
        if self._records:  # the usual case takes no lock
            with self._lock:
                self._records.pop(Rest(device, doing), None)
                self._records.pop(Rest(device, doing, part), None)

    def forget(self, device: str) -> None:
        """Notes that another device has that id now."""
        with self._lock:
            for rest in [rest for rest in self._records if rest.device == device]:
                del self._records[rest]

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

    def quarantine(self, device: str, doing: Doing = "run", part: Part = None) -> str:
        """Why nothing is to be run (or done otherwise) on the device now, or not that part of it; "" when it may be."""
        rest = resting(self.active(), device, (doing,), part)
        return "" if rest is None else self.why(rest)

    def active(self) -> frozenset[Rest]:
        """What devices are left alone with now."""
        if not self._records:  # the usual case takes no lock
            return frozenset()
        with self._lock:
            now = self._clock()
            return frozenset(rest for rest, record in self._records.items() if record.until > now)

    def why(self, rest: Rest) -> str:
        """Why that is left alone now, or "" when it may be tried."""
        with self._lock:
            record = self._records.get(rest)
            left = 0.0 if record is None else record.until - self._clock()
            return f"in quarantine for another {left:.1f} s after: {record.why}" if record and left > 0 else ""


def resting(active: Collection[Rest], device: str, doings: Sequence[Doing], part: Part = None) -> Rest | None:
    """What the device is left alone with of these doings: all of it, or that part; None where it may be used."""
    if active:
        for doing in doings:
            for rest in (Rest(device, doing), Rest(device, doing, part)):
                if rest in active:
                    return rest
    return None
