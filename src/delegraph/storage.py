"""The store of this process, and what is kept in it: artifacts, packs, calibration. Composition only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from delegraph.core.runtime.packs import PackStore

if TYPE_CHECKING:
    from delegraph.core.abi.values import DeviceInfo
    from delegraph.core.devices.calibration import Peaks


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
    from delegraph.core.runtime.key import Key

    packs = shared_packs()
    store = packs.store

    def get(components: Mapping[str, str]) -> bytes | None:
        entry = None if store is None else store.get(Key("calibration", components))
        return None if entry is None else entry.payload.tobytes()

    def put(components: Mapping[str, str], data: bytes) -> None:
        if store is not None:
            store.put(Key("calibration", components), data)

    slot = registry.slot(info)
    return slot.bounded("calibrate", lambda: calibrated(slot.device(), packs, get, put), PREPARE_LIMIT_S)
