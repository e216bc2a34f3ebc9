"""The store of this process, and what is kept in it: artifacts, packs, calibration. Composition only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from delegraph.core.runtime.packs import PackStore

if TYPE_CHECKING:
    from delegraph.core.abi.values import DeviceInfo, GraphView
    from delegraph.core.devices.calibration import Peaks
    from delegraph.core.devices.timer import Progress
    from delegraph.core.devices.timing import Timing, TimingBook

_in_process: dict[str, bytes] = {}
"""What is kept of calibrations where the store is switched off, by key."""

_books: dict[str, TimingBook] = {}
"""Cost books by key: read once a process."""

_lock = threading.RLock()
"""Of the two above; and one calibration at a time: two at once would measure each other."""


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
    from delegraph.core.devices.calibration import calibrated
    from delegraph.core.runtime.border import PREPARE_LIMIT_S

    slot = registry.slot(info)
    return slot.bounded("calibrate", lambda: calibrated(slot.device(), shared_packs(), _get, _put), PREPARE_LIMIT_S)


def kept_costs(info: DeviceInfo) -> TimingBook | None:
    """What is known of the costs of a device without measuring or opening anything: None before the first
    calibration."""
    from delegraph.core.devices.timer import costs_key, kept_book

    key = _text(costs_key(info))
    with _lock:
        found = _books.get(key)
        if found is None:
            found = kept_book(info, _get)
            if found is not None:
                _books[key] = found
        return found


def measured_costs(info: DeviceInfo, *, progress: Progress | None = None) -> TimingBook:
    """What ops, launches and transfers of a device cost: kept from an earlier calibration, or measured now in seconds.

    Raises:
        DelegateError: the device failed, or takes none of the ops that it is calibrated with.
    """
    from delegraph import registry
    from delegraph.core.devices.timer import calibrated_book
    from delegraph.core.runtime.border import PREPARE_LIMIT_S

    slot = registry.slot(info)
    with _lock:
        found = kept_costs(info)
        if found is not None:
            return found

        def measure() -> TimingBook:
            return calibrated_book(slot.device(), shared_packs(), _get, _put, progress=progress)

        return _remembered(info, slot.bounded("calibrate", measure, PREPARE_LIMIT_S))


def add_timings(info: DeviceInfo, timings: Iterable[Timing]) -> TimingBook:
    """Adds timings of ops to what is kept of a device; newer ones stand in the place of older ones.

    Raises:
        DelegateError: see ``measured_costs``.
    """
    from delegraph.core.devices.timer import keep_book

    with _lock:
        book = measured_costs(info).with_timings(timings)
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

    def measure() -> tuple[Timing, ...]:
        return timed_ops(slot.device(), shared_packs(), view, book, progress=progress)

    return add_timings(info, slot.bounded("time the ops", measure, PREPARE_LIMIT_S))


def _remembered(info: DeviceInfo, book: TimingBook) -> TimingBook:
    from delegraph.core.devices.timer import costs_key

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
