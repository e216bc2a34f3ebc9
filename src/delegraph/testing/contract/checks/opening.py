"""Opening and closing devices."""

from __future__ import annotations

from delegraph.core.abi.values import DelegateError
from delegraph.core.errors import InvalidArgument
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import Bench
from delegraph.testing.contract.finding import expect, fail, skip
from delegraph.testing.contract.packs import KeptPacks
from delegraph.testing.contract.subject import Subject


@check("open.works", "A device that is listed as available can be opened, and close() ends without an error.")
def works(subject: Subject) -> None:
    try:
        device = subject.open()
    except Exception as exc:
        fail(f"open({subject.id!r}) raised {type(exc).__name__}: {exc}")
    subject.close(device)


@check("open.same_info", "An open device is the one that was asked for: its id and kind are the listed ones.")
def same_info(subject: Subject) -> None:
    listed, found = subject.info, subject.device.info
    assert listed is not None
    expect(found.id == listed.id, f"{listed.id!r} was opened, it says that it is {found.id!r}")
    expect(found.kind == listed.kind, f"it was listed as {listed.kind!r}, open it is {found.kind!r}")


@check(
    "open.unknown",
    "open() of an id that is not listed raises DelegateError or InvalidArgument; one device's delegate may ignore it.",
)
def unknown(subject: Subject) -> None:
    wrong = f"{subject.delegate.name}:no-such-device"
    try:
        device = subject.delegate.open(wrong, {}, subject.host)
    except (DelegateError, InvalidArgument):
        return
    except Exception as exc:
        fail(f"open({wrong!r}) raised {type(exc).__name__}: {exc}")
    device.close()
    expect(len(subject.delegate.devices()) == 1, f"open({wrong!r}) gave a device")


@check("open.again", "After close() the device can be opened again, and computes.")
def again(subject: Subject) -> None:
    first = subject.bench()
    first.check_once(when="opened first")
    first.close()
    subject.close(subject.device)
    device = subject.open()
    again = Bench.make(device, first.specimen, KeptPacks(), is_loose=first.is_loose)
    again.check_once(1, "opened again")


@check(
    "open.twice",
    "A second opening is refused with DelegateError, or the two don't disturb each other; nor does closing one.",
)
def twice(subject: Subject) -> None:
    first = subject.device
    try:
        second = subject.open()
    except DelegateError as exc:
        skip(f"the device can be open only once: {exc}")
    one, two = subject.bench(device=first), subject.bench(device=second)
    lane = two.lane()
    one.check_once(0, "on the first of two openings")
    lane.check(1, "on the second of two openings")
    one.close()
    subject.close(first)
    lane.check(2, "after another opening was closed")
