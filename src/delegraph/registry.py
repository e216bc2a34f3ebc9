"""The delegates that are known here, their devices, and one slot for each. Opens nothing until asked.

A name such as "opencl:0" is looked up in the delegate "opencl" alone, so that naming one device imports no other
delegate. The family's name ("opencl") stands for all of its available devices.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import DeviceInfo
from delegraph.core.errors import InvalidArgument
from delegraph.core.forks import RenewedLock
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.health import Health

REFERENCE = "reference"
"""The device under every other: it takes whatever has an OpDef."""

BUILT_IN = {
    "cpu": "delegraph.delegates.cpu:CpuDelegate",
    "opencl": "delegraph.delegates.opencl:OpenClDelegate",
    "nnapi": "delegraph.delegates.nnapi:NnapiDelegate",
    REFERENCE: "delegraph.delegates.reference:ReferenceDelegate",
}
"""Delegates that come with delegraph, in the order in which devices are listed: name → where the class is."""

health = Health()
"""The failures of this process's devices: a device that failed under one model is left alone under all."""

_built: dict[str, Delegate] = {}
_loaded: dict[str, Delegate] = {}
_slots: dict[str, DeviceSlot] = {}
_guard = RenewedLock()


def delegates() -> Sequence[Delegate]:
    """Every delegate, in the order in which devices are listed."""
    return (*built_in(), *loaded())


def built_in() -> Sequence[Delegate]:
    """The delegates that come with delegraph."""
    return tuple(_built_in(name) for name in BUILT_IN)


def _built_in(name: str) -> Delegate:
    with _guard.lock:
        if name not in _built:
            module, _, kind = BUILT_IN[name].partition(":")
            _built[name] = getattr(importlib.import_module(module), kind)()
        return _built[name]


def loaded() -> Sequence[Delegate]:
    """The delegates that others wrote, loaded so far or allowed by ``DELEGRAPH_DELEGATES``."""
    from delegraph.plugins import load_allowed

    load_allowed()
    return tuple(_loaded.values())


def add(delegate: Delegate) -> None:
    """Makes a delegate known, in the place of one of that name; models compiled before keep the devices they have."""
    with _guard.lock:
        stale = [_loaded[delegate.name]] if delegate.name in _loaded else []
        _loaded[delegate.name] = delegate
        for info in (info for each in (*stale, delegate) for info in each.devices()):
            _slots.pop(info.id, None)
            health.forget(info.id)


def devices() -> list[DeviceInfo]:
    """Every device of this machine, also those that can't be used, with reason and remedy."""
    return [info for delegate in delegates() for info in delegate.devices()]


def device(device_id: str) -> DeviceInfo:
    """One device of this machine.

    Raises:
        InvalidArgument: there is none of that id.
    """
    for info in _named(device_id):
        if info.id == device_id:
            return info
    known = ", ".join(sorted(info.id for info in devices()))
    raise InvalidArgument("device", f"one of {known}", repr(device_id), "see: delegraph devices")


def resolve(names: str | Sequence[str], *, floor: bool = True) -> list[DeviceInfo]:
    """The devices of these names in order; with ``floor`` the CPU behind them and the reference device under them all.

    ``devices="reference"`` means that device alone.

    Raises:
        InvalidArgument: a name that no device and no family has.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise InvalidArgument("devices", "at least one device", "none", "pass for example devices='cpu'")
    found: dict[str, DeviceInfo] = {}
    under = ["cpu", REFERENCE] if floor and wanted != [REFERENCE] else []
    for name in [*wanted, *under]:
        matches = list(_named(name)) if isinstance(name, str) else []
        if not matches:
            known = ", ".join(sorted(info.id for info in devices()))
            raise InvalidArgument("devices", f"one of {known}", repr(name), "see: delegraph devices")
        found.update((info.id, info) for info in matches if info.id not in found)
    return list(found.values())


def _named(name: str) -> Iterator[DeviceInfo]:
    """The device of that name, or every available one of a family (all of it, when none is available)."""
    family = name.partition(":")[0]
    candidates = (_built_in(family),) if family in BUILT_IN else loaded()
    infos = [info for delegate in candidates for info in delegate.devices()]
    exact = [info for info in infos if info.id == name]
    of_family = [info for info in infos if info.id.startswith(f"{name}:")]
    yield from exact or [info for info in of_family if info.available] or of_family


def delegate_of(device_id: str) -> Delegate:
    """The delegate whose device that is.

    Raises:
        InvalidArgument: none has it.
    """
    family = device_id.partition(":")[0]
    for delegate in (_built_in(family),) if family in BUILT_IN else loaded():
        if device_id in {info.id for info in delegate.devices()}:
            return delegate
    raise InvalidArgument("device", "a device of a known delegate", repr(device_id))


def slot(info: DeviceInfo) -> DeviceSlot:
    """The device behind the border, one slot per process; it is opened when first used."""
    with _guard.lock:
        if info.id not in _slots:
            delegate = delegate_of(info.id)  # this one for as long as the slot lives, whatever is registered later
            _slots[info.id] = DeviceSlot(
                info,
                lambda: _open(delegate, info),
                delegate=(delegate.name, delegate.version),
                is_floor=info.id == REFERENCE,
            )
        return _slots[info.id]


def _open(delegate: Delegate, info: DeviceInfo) -> Device:
    """Opens a device; one that is only imagined is handed the reference device to compute with."""
    host = _built_in(REFERENCE).open(REFERENCE, {}) if info.is_virtual else None
    return delegate.open(info.id, {}, host)
