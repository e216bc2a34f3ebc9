"""The store of this process, and what is kept in it: artifacts, packs, calibration. Composition only."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from delegraph.core.abi.values import DelegateError, GraphView
from delegraph.core.forks import RenewedLock
from delegraph.core.runtime.packs import PackStore

if TYPE_CHECKING:
    from delegraph.core.abi.values import DeviceInfo
    from delegraph.core.devices.calibration import Peaks
    from delegraph.core.devices.timer import Progress
    from delegraph.core.devices.timing import Timing, TimingBook
    from delegraph.core.runtime.border import DeviceSlot, Opening

_in_process: dict[str, bytes] = {}
"""What is kept of calibrations where the store is switched off, by key."""

_books: dict[str, TimingBook] = {}
"""Cost books by key: read once a process."""

_guard = RenewedLock()
"""Of the two above."""

_measuring = RenewedLock()
"""One calibration at a time in this process."""


@cache
def shared_packs() -> PackStore:
    """Packs in the user's store, one for the whole process; in memory only where the store is switched off."""
    from delegraph.core.runtime.store import Store

    store = Store()
    return PackStore(store if store.enabled else None)


def measured_peaks(info: DeviceInfo) -> Peaks:
    """What a device of this machine can do at most: kept from an earlier measurement, or measured now in seconds.

    Raises:
        DelegateError: the device failed.
    """
    from delegraph import registry
    from delegraph.core.devices.calibration import calibrated, kept_peaks
    from delegraph.core.runtime.border import CALIBRATE_LIMIT_S

    kept = kept_peaks(info, _get)
    if kept is not None:
        return kept
    slot = registry.slot(info)
    with _alone():
        return slot.bounded(
            "calibrate", lambda it: calibrated(it.device, shared_packs(), _get, _put), CALIBRATE_LIMIT_S
        )


def kept_costs(info: DeviceInfo) -> TimingBook | None:
    """What is known of the costs of a device without measuring or opening anything: None where ``measured_costs`` would
    calibrate it, for the first time or on from where an earlier process stopped."""
    from delegraph.core.devices.timer import costs_key, kept_book

    key = _text(costs_key(info))
    with _guard.lock:
        found = _books.get(key)
        if found is None:
            kept = kept_book(info, _get)
            if kept is not None and kept.is_complete:
                found = _books[key] = kept
        return found


def measured_costs(info: DeviceInfo, *, progress: Progress | None = None) -> TimingBook:
    """What ops, launches and transfers of a device cost: kept from an earlier calibration, or measured now in seconds.

    A calibration that took too long or was interrupted goes on in the next process; in this one the book stays as it
    is. A device that failed in it is left alone for a while: until then its failure is raised at once.

    Raises:
        DelegateError: the device failed, or takes none of the ops that it is calibrated with.
    """
    from delegraph import registry
    from delegraph.core.devices.timer import calibrated_book, keep_book, kept_book
    from delegraph.core.runtime.border import CALIBRATE_LIMIT_S

    slot = registry.slot(info)
    found = kept_costs(info)
    if found is not None:
        return found
    with _alone():
        found = kept_costs(info)  # perhaps another one has measured it meanwhile
        if found is not None:
            return found

        def measure(opening: Opening) -> TimingBook:
            return calibrated_book(opening.device, shared_packs(), _get, _put, progress=progress)

        try:
            with registry.health.trying(info.id, "calibrate"):
                book = slot.bounded("calibrate", measure, CALIBRATE_LIMIT_S)
                if not book.step_ns:
                    book = replace(book, step_ns=_step_ns(slot, book))
                    keep_book(info, _put, book)
        except DelegateError:
            part = kept_book(info, _get)
            if part is None or not part.step_ns:
                raise
            book = part
        return _remembered(info, book)


def _step_ns(slot: DeviceSlot, book: TimingBook) -> int:
    """What a step of a plan takes beyond the run on the device: binding, staging, and a thread of its own for a device
    that may hang. At least 1; of a segment so small that nothing else counts."""
    from delegraph.core.devices.timing import predicted_segment
    from delegraph.core.devices.timing_segments import chain
    from delegraph.core.graph.dtype import DType
    from delegraph.core.runtime.loaded import LoadedSegment

    for dtype in (DType.INT8, DType.FLOAT32):
        segment = chain(dtype, 1)
        (answer,), error = slot.asked(GraphView(segment.graph, segment.nodes))
        if error is not None:
            raise error
        if not answer.runs:
            continue
        artifact = slot.compile(segment, shared_packs(), {})
        loaded = LoadedSegment(segment, slot, artifact, shared_packs())
        spec = segment.specs[segment.inputs[0]]
        source, target = (np.ones(spec.shape, spec.dtype.numpy) for _ in range(2))
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            if loaded.is_watched:
                loaded.start([source], STEP_LIMIT_S).finish()
            else:
                loaded.run([source], [target])
            times.append(time.perf_counter() - start)
        return max(1, round(statistics.median(times) * 1e9) - predicted_segment(book, segment))
    return 1


STEPS, STEP_LIMIT_S = 200, 60.0
"""Runs that tell what a step takes, and how long one of them may."""


def add_timings(info: DeviceInfo, timings: Iterable[Timing]) -> TimingBook:
    """Adds timings of ops to what is kept of a device; newer ones stand in the place of older ones.

    Raises:
        DelegateError: see ``measured_costs``.
    """
    from delegraph.core.devices.timer import keep_book, kept_book

    book = measured_costs(info)
    with _alone():
        book = kept_costs(info) or book
        kept = kept_book(info, _get)  # another process may have added timings of its own
        book = book.with_timings((*(kept.timings if kept is not None else ()), *timings))
        keep_book(info, _put, book)
        return _remembered(info, book)


def time_ops(info: DeviceInfo, view: GraphView, *, progress: Progress | None = None) -> TimingBook:
    """Times the ops of ``view`` that are not yet known on the device, and keeps what was found.

    Raises:
        DelegateError: see ``measured_costs``.
    """
    from delegraph import registry
    from delegraph.core.devices.timer import timed_ops
    from delegraph.core.runtime.border import PREPARE_LIMIT_S

    book = measured_costs(info, progress=progress)
    slot = registry.slot(info)

    def measure(opening: Opening) -> tuple[Timing, ...]:
        return timed_ops(opening.device, shared_packs(), view, book, progress=progress)

    return add_timings(info, slot.bounded("time the ops", measure, PREPARE_LIMIT_S))


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time, over all threads and processes: two calibrations at once would measure each other, and two that
    keep what they found lose one of it. Whoever takes too long is not waited for."""
    from delegraph.core.runtime.border import CALIBRATE_LIMIT_S

    store = shared_packs().store
    with _measuring.lock:
        if store is None:
            yield
        else:
            with store.locked("calibration", 2 * CALIBRATE_LIMIT_S):
                yield


def _remembered(info: DeviceInfo, book: TimingBook) -> TimingBook:
    from delegraph.core.devices.timer import costs_key

    with _guard.lock:
        _books[_text(costs_key(info))] = book
    return book


def _text(components: Mapping[str, str]) -> str:
    return json.dumps(components, sort_keys=True)


def _get(components: Mapping[str, str]) -> bytes | None:
    from delegraph.core.runtime.key import Key

    store = shared_packs().store
    if store is None:
        return _in_process.get(_text(components))
    entry = store.get(Key("calibration", components))
    return None if entry is None else entry.payload.tobytes()


def _put(components: Mapping[str, str], data: bytes) -> None:
    from delegraph.core.runtime.key import Key

    store = shared_packs().store
    if store is None:
        _in_process[_text(components)] = data
    else:
        store.put(Key("calibration", components), data)
