"""What a delegate says of itself and of its devices before one is opened."""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.abi.values import DeviceInfo, Limits, Link
from delegraph.core.graph.dtype import DType
from delegraph.testing.contract.check import check
from delegraph.testing.contract.finding import expect, fail, skip
from delegraph.testing.contract.subject import Subject

KINDS = ("cpu", "gpu", "accelerator")


def _listed(subject: Subject) -> Sequence[DeviceInfo]:
    try:
        return list(subject.delegate.devices())
    except Exception as exc:
        skip(f"devices() raises (see devices.never_raises): {exc}")


@check(
    "delegate.named",
    "Name and version are strings that are not empty: they are part of every cache key.",
    needs_device=False,
)
def named(subject: Subject) -> None:
    for what in ("name", "version"):
        value = getattr(subject.delegate, what, None)
        expect(isinstance(value, str) and bool(value), f"{what} is {value!r}")
    name = subject.delegate.name
    expect(not set(name) & set("/\\ \t\n"), f"the name {name!r} has a space or a slash in it")


@check("devices.never_raises", "devices() gives a sequence of DeviceInfo and never raises.", needs_device=False)
def never_raises(subject: Subject) -> None:
    try:
        found = list(subject.delegate.devices())
    except Exception as exc:
        fail(f"it raised {type(exc).__name__}: {exc}")
    for info in found:
        expect(isinstance(info, DeviceInfo), f"{type(info).__name__} is among them")
    expect(bool(found), "it lists nothing; list the device that is missing, with reason and remedy")


@check("devices.stable", "devices() lists the same devices each time.", needs_device=False)
def stable(subject: Subject) -> None:
    first = [info.id for info in _listed(subject)]
    second = [info.id for info in _listed(subject)]
    expect(first == second, f"first {', '.join(first)}, then {', '.join(second)}")


@check("devices.unique", "No two devices have the same id.", needs_device=False)
def unique(subject: Subject) -> None:
    ids = [info.id for info in _listed(subject)]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    expect(not twice, f"{', '.join(twice)} is there more than once")


@check(
    "devices.prefixed", "A device's id is the delegate's name, or the name with a colon and more.", needs_device=False
)
def prefixed(subject: Subject) -> None:
    name = subject.delegate.name
    for info in _listed(subject):
        good = info.id == name or (info.id.startswith(f"{name}:") and len(info.id) > len(name) + 1)
        expect(good, f"{info.id!r} of the delegate {name!r}")


@check(
    "devices.explained",
    "A device that can't be used says why (reason) and what to do about it (remedy).",
    needs_device=False,
)
def explained(subject: Subject) -> None:
    for info in _listed(subject):
        if not info.available:
            expect(bool(info.reason), f"{info.id} is not available, and gives no reason")
            expect(bool(info.remedy), f"{info.id} is not available, and gives no remedy")


@check(
    "devices.described",
    "What a device says of itself is well formed: kind, element types, fingerprint, links, limits.",
    needs_device=False,
)
def described(subject: Subject) -> None:
    for info in _listed(subject):
        for problem in _malformed(info):
            fail(f"{info.id}: {problem}")


def _malformed(info: DeviceInfo) -> list[str]:
    found = []
    if info.kind not in KINDS:
        found.append(f"kind is {info.kind!r}, not one of {', '.join(KINDS)}")
    unknown = [name for name in info.dtypes if name.upper() not in DType.__members__]
    if unknown:
        found.append(f"dtypes has {unknown[0]!r}, which is no element type")
    if any(not isinstance(text, str) for pair in info.fingerprint.items() for text in pair):
        found.append("the fingerprint has other names or values than strings")
    if info.available and not info.memory_domain:
        found.append("memory_domain is empty")
    for name, link in (("to_device", info.to_device), ("from_device", info.from_device)):
        if not isinstance(link, Link) or link.latency_ns < 0 or link.bytes_per_s < 0:
            found.append(f"{name} is {link!r}")
    if not isinstance(info.launch_ns, int) or info.launch_ns < 0:
        found.append(f"launch_ns is {info.launch_ns!r}")
    limits = info.limits
    if not isinstance(limits, Limits) or limits.min_ops < 1 or (limits.max_segments or 1) < 1:
        found.append(f"limits is {limits!r}")
    return found
