"""The delegates that are known here, their devices, and one slot for each. Opens nothing until asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import DeviceInfo
from delegraph.core.errors import InvalidArgument
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.health import Health

REFERENCE = "reference"
"""The device under every other: it takes whatever has an OpDef."""

CPU_MISSING = DeviceInfo(
    id="cpu",
    kind="cpu",
    vendor="delegraph",
    driver="",
    available=False,
    reason="this version has no native CPU delegate yet",
    remedy="nothing to do: the reference device runs the model instead",
)

health = Health()
"""The failures of this process's devices: a device that failed under one model is left alone under all."""

_slots: dict[str, DeviceSlot] = {}
_lock = threading.Lock()


def delegates() -> Sequence[Delegate]:
    """Every delegate, in the order in which devices are listed."""
    from delegraph.delegates.reference import ReferenceDelegate

    return (ReferenceDelegate(),)


def devices() -> list[DeviceInfo]:
    """Every device of this machine, also those that can't be used, with reason and remedy."""
    found = [info for delegate in delegates() for info in delegate.devices()]
    return [CPU_MISSING, *found]


def resolve(names: str | Sequence[str]) -> list[DeviceInfo]:
    """The devices of these names in order, with the reference device under them.

    Raises:
        InvalidArgument: a name that no device has.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise InvalidArgument("devices", "at least one device", "none", "pass for example devices='cpu'")
    known = {info.id: info for info in devices()}
    found: list[DeviceInfo] = []
    for name in [*wanted, REFERENCE]:
        if not isinstance(name, str) or name not in known:
            raise InvalidArgument("devices", f"one of {', '.join(sorted(known))}", repr(name), "see: delegraph devices")
        if known[name] not in found:
            found.append(known[name])
    return found


def slot(info: DeviceInfo) -> DeviceSlot:
    """The device behind the border, one slot per process; it is opened when first used."""
    with _lock:
        if info.id not in _slots:
            _slots[info.id] = DeviceSlot(info, lambda: _open(info), is_floor=info.id == REFERENCE)
        return _slots[info.id]


def _open(info: DeviceInfo) -> Device:
    for delegate in delegates():
        if info.id in {d.id for d in delegate.devices()}:
            return delegate.open(info.id, {})
    raise InvalidArgument("device", "a device of a known delegate", repr(info.id))
