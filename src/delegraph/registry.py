"""The delegates that are known here, their devices, and one slot for each. Opens nothing until asked.

A name such as "opencl:0" is looked up in the delegate "opencl" alone, so that naming one device imports no other
delegate. The family's name ("opencl") stands for all of its available devices.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Sequence

from delegraph.core.abi.native.plugin import BrokenDelegate
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

_MEANT = {"gpu": "opencl", "cuda": "opencl", "npu": "nnapi", "tpu": "nnapi", "accelerator": "nnapi"}
"""What kinds of devices are called elsewhere → the family to name for them."""

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
    ids = {info.id for info in _infos(delegate)}
    with _guard.lock:
        _loaded[delegate.name] = delegate
        ids |= {name for name, slot in _slots.items() if slot.delegate[0] == delegate.name}
        for name in ids:
            _slots.pop(name, None)
            health.forget(name)


def _infos(delegate: Delegate) -> Sequence[DeviceInfo]:
    """The delegate's devices; of one that fails to list them, a device that can't be used and says why."""
    try:
        return tuple(delegate.devices())
    except Exception as exc:  # a stranger's code: the devices of the others are there all the same
        reason = f"it failed to list its devices: {type(exc).__name__}: {exc}"
        return BrokenDelegate(delegate.name, reason, "mend it, and load it again").devices()


def devices() -> list[DeviceInfo]:
    """Every device of this machine, also those that can't be used, with reason and remedy."""
    return [info for delegate in delegates() for info in _infos(delegate)]


def device(device_id: str) -> DeviceInfo:
    """One device of this machine.

    Raises:
        InvalidArgument: there is none of that id.
    """
    for info in _named(device_id):
        if info.id == device_id:
            return info
        if info.id == device_id.partition(":")[0] and not info.available:
            raise InvalidArgument(
                f"device {device_id!r}", "a device that can be used", f"none: {info.reason}", info.remedy
            )
    raise unknown("device", device_id)


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
            raise unknown("devices", name)
        found.update((info.id, info) for info in matches if info.id not in found)
    return list(found.values())


def _named(name: str) -> Iterator[DeviceInfo]:
    """The device of that name, or every available one of a family (all of it, when none is available).

    Where a family as a whole can't be used, the entry that says so stands for each device of it.
    """
    family = name.partition(":")[0]
    candidates = (_built_in(family),) if family in BUILT_IN else loaded()
    infos = [info for delegate in candidates for info in _infos(delegate)]
    exact = [info for info in infos if info.id == name]
    of_family = [info for info in infos if info.id.startswith(f"{name}:")]
    whole = [info for info in infos if info.id == family and not info.available]
    yield from exact or [info for info in of_family if info.available] or of_family or whole


def unknown(where: str, name: object) -> InvalidArgument:
    """The error about a name that no device and no family has: what there is, and what may have been meant."""
    if name == "auto":
        advice = "choosing devices by themselves is to come: name those that may compete, as devices=['opencl', 'cpu']"
        return InvalidArgument(where, "names of devices", repr(name), advice)
    ids = [info.id for info in devices()]
    families = list(dict.fromkeys(each.partition(":")[0] for each in ids))
    text = name.lower() if isinstance(name, str) else ""
    family = text.partition(":")[0]
    known = [each for each in ids if each.startswith(f"{family}:")]
    expected = f"one of {', '.join(known or families)}" + ("" if known else ", or a device of one of them")
    near = [_MEANT[text]] if text in _MEANT else difflib.get_close_matches(text, [*families, *ids], 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return InvalidArgument(where, expected, repr(name), f"{meant}see: delegraph devices")


def delegate_of(device_id: str) -> Delegate:
    """The delegate whose device that is.

    Raises:
        InvalidArgument: none has it.
    """
    return _found(device_id)[0]


def _found(device_id: str) -> tuple[Delegate, DeviceInfo]:
    """The delegate whose device that is, and what it says of it now."""
    family = device_id.partition(":")[0]
    for delegate in (_built_in(family),) if family in BUILT_IN else loaded():
        for info in _infos(delegate):
            if info.id == device_id:
                return delegate, info
    raise InvalidArgument("device", "a device of a known delegate", repr(device_id))


def slot(info: DeviceInfo) -> DeviceSlot:
    """The device behind the border, one slot per process; it is opened when first used.

    What its delegate says of it counts: where that is no longer ``info``, the slot is that of the device as it is now.
    """
    with _guard.lock:
        kept = _slots.get(info.id)
    if kept is not None and kept.info == info:
        return kept
    delegate, now = _found(info.id)  # without the lock: that may load plug-ins, which take it
    with _guard.lock:
        kept = _slots.get(now.id)
        if kept is None or kept.info != now:
            kept = _slots[now.id] = DeviceSlot(
                now,
                lambda: _open(delegate, now),  # this one for as long as the slot lives, whatever is registered later
                delegate=(delegate.name, delegate.version),
                is_floor=now.id == REFERENCE,
            )
        return kept


def _open(delegate: Delegate, info: DeviceInfo) -> Device:
    """Opens a device; one that is only imagined is handed the reference device to compute with."""
    host = _built_in(REFERENCE).open(REFERENCE, {}) if info.is_virtual else None
    return delegate.open(info.id, {}, host)
