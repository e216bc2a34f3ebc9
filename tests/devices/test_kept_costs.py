"""What is known of the costs of a device is measured once and kept in the store, whatever comes in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from tests.devices.test_timing import SMALL, UNSEEN, Clock, Modelled, each, linear, node_of
from tests.runtime.test_quarantine import Clock as Seconds
from tests.support_devices import registered

from delegraph import registry, storage
from delegraph.core.abi.protocols import Delegate, Device
from delegraph.core.abi.values import (
    DelegateError,
    DeviceInfo,
    ErrorCode,
    GraphView,
    Options,
)
from delegraph.core.devices import timer, timing_cases
from delegraph.core.devices.calibration import Peaks
from delegraph.core.devices.timing import Timing, TimingBook, predicted
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.health import Health
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.store import Store

LAUNCH_NS = 5_000
FLOAT, INT = DType.FLOAT32, DType.INT8


class ModelledDelegate(Delegate):
    """The delegate of one modelled device. opened: how often."""

    name, version = "modelled", "1"

    def __init__(self, device: Modelled) -> None:
        self.device, self.opened = device, 0

    def devices(self) -> Sequence[DeviceInfo]:
        return (self.device.info,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        self.opened += 1
        return self.device


@pytest.fixture
def delegate(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelledDelegate]:
    """A modelled device that is known, and calibrated with few ops."""
    monkeypatch.setattr(timer, "cases", lambda: islice(timing_cases.cases(), 4))
    monkeypatch.setattr(timer, "calibrated", lambda *_, **__: Peaks({FLOAT: 1e10}, 1e10))
    monkeypatch.setattr(storage, "_books", {})
    monkeypatch.setattr(storage, "_in_process", {})
    packs = PackStore(None)
    monkeypatch.setattr(storage, "shared_packs", lambda: packs)
    made = ModelledDelegate(Modelled(Clock(), each(linear)))
    with registered(made):
        yield made


def test_a_book_is_measured_once_and_kept(delegate: ModelledDelegate) -> None:
    info = delegate.device.info
    assert storage.kept_costs(info) is None and delegate.opened == 0
    book = storage.measured_costs(info)
    assert len(book.timings) == 4 and delegate.opened == 1
    compiled = len(delegate.device.compiled)
    assert storage.measured_costs(info) is book and storage.kept_costs(info) is book
    storage._books.clear()  # as in another process
    assert storage.kept_costs(info) == book and storage.measured_costs(info) == book
    assert len(delegate.device.compiled) == compiled


def test_timings_of_a_model_are_added_to_what_is_kept(delegate: ModelledDelegate) -> None:
    info, segment = delegate.device.info, UNSEEN[4]
    book = storage.time_ops(info, GraphView(segment.graph, segment.nodes))
    assert predicted(book, node_of(segment)).source == "measured"
    other = Timing.of(node_of(UNSEEN[5]), 88)
    assert len(storage.add_timings(info, [other, replace(other, time_ns=99)]).timings) == 6
    storage._books.clear()
    kept = storage.kept_costs(info)
    assert kept is not None and predicted(kept, node_of(segment)).source == "measured"
    assert predicted(kept, node_of(UNSEEN[5])).time_ns == 99


def test_what_another_process_measures_meanwhile_is_waited_for(
    delegate: ModelledDelegate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info, has_locked, is_awaited = delegate.device.info, threading.Event(), threading.Event()
    book = TimingBook(Peaks({FLOAT: 1e10}, 1e10), LAUNCH_NS, 1, timings=(Timing.of(node_of(UNSEEN[4]), 77),))

    class Awaiting(Store):
        def _has_locked(self, *arguments: Any) -> bool:
            is_awaited.set()
            return super()._has_locked(*arguments)

    def measure_elsewhere() -> None:
        with Store(tmp_path).locked("calibration", 10) as is_locked:
            assert is_locked
            has_locked.set()
            assert is_awaited.wait(30)
            timer.keep_book(info, storage._put, book)

    packs = PackStore(Awaiting(tmp_path))
    monkeypatch.setattr(storage, "shared_packs", lambda: packs)
    thread = threading.Thread(target=measure_elsewhere)
    thread.start()
    assert has_locked.wait(10)
    assert storage.measured_costs(info) == book and delegate.opened == 0
    thread.join()
    timer.keep_book(info, storage._put, book.with_timings([Timing.of(node_of(UNSEEN[5]), 88)]))  # elsewhere again
    both = storage.add_timings(info, [Timing.of(node_of(UNSEEN[3]), 99)])
    assert sorted(timing.time_ns for timing in both.timings) == [77, 88, 99]


def _lost(node: Node) -> bool:
    raise DelegateError("modelled", ErrorCode.DEVICE_LOST, "gone")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    """The clock of the quarantines."""
    clock = Seconds()
    monkeypatch.setattr(registry, "health", Health(clock))
    return clock


def test_a_calibration_that_failed_is_not_tried_again_at_once(delegate: ModelledDelegate, seconds: Seconds) -> None:
    device, tries = delegate.device, count()

    def lost(node: Node) -> bool:
        next(tries)
        return _lost(node)

    device.takes = lost
    for message in (
        "device lost: gone",
        "unsupported: in quarantine for another 0.5 s after: modelled: device lost: gone",
    ):
        with pytest.raises(DelegateError, match=message):
            storage.measured_costs(device.info)
    assert next(tries) == 1
    seconds.now += 0.5
    with pytest.raises(DelegateError, match="modelled: device lost: gone"):
        storage.measured_costs(device.info)
    seconds.now += 0.5
    with pytest.raises(DelegateError, match="in quarantine for another 0.5 s"):
        storage.measured_costs(device.info)
    seconds.now += 0.5
    device.takes = lambda node: True
    assert storage.measured_costs(device.info).is_complete
    assert registry.health.failed("modelled", "again", doing="calibrate") == 0.5  # what ended well clears the rest


def test_a_calibration_that_hangs_has_a_limit_of_its_own(
    delegate: ModelledDelegate, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def bounded(self: object, doing: str, task: object, limit_s: float) -> object:
        limits.append((doing, limit_s))
        seconds.now += limit_s
        raise DelegateError("modelled", ErrorCode.TIMEOUT, doing)

    monkeypatch.setattr("delegraph.core.runtime.border.DeviceSlot.bounded", bounded)
    for _ in range(3):
        with pytest.raises(DelegateError):
            storage.measured_costs(delegate.device.info)
        seconds.now += 60.0
    assert limits == [("calibrate", 60.0)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DelegateError("modelled", ErrorCode.DEVICE_LOST, "gone")])
def test_a_calibration_that_was_interrupted_is_ended_by_the_next(
    delegate: ModelledDelegate, seconds: Seconds, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The ops are timed, and what a step takes is not: that is all that is left to do."""
    info, step_ns = delegate.device.info, storage._step_ns

    def interrupted(*_: object) -> int:
        raise error

    monkeypatch.setattr(storage, "_step_ns", interrupted)
    with pytest.raises(type(error)):
        storage.measured_costs(info)
    assert storage.kept_costs(info) is None
    monkeypatch.setattr(storage, "_step_ns", step_ns)
    seconds.now += 1.0
    compiled = len(delegate.device.compiled)
    book = storage.measured_costs(info)
    assert book.step_ns > 0 and book.is_complete and len(delegate.device.compiled) == compiled + 1
    storage._books.clear()
    assert storage.kept_costs(info) == book


def test_a_device_that_fails_in_a_step_is_no_device_of_free_steps(
    delegate: ModelledDelegate, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("oops")

    monkeypatch.setattr(timer, "calibrated_book", lambda *_, **__: replace(SMALL, step_ns=0))
    monkeypatch.setattr(delegate.device, "supports", broken)
    with pytest.raises(DelegateError, match="oops"):
        storage.measured_costs(delegate.device.info)
    assert storage.kept_costs(delegate.device.info) is None


def test_a_book_stays_as_it_is_for_a_process_and_the_next_goes_on(
    delegate: ModelledDelegate, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, budget, original = delegate.device.info, 1.15, timer.calibrated_book

    def hasty(*args: Any, **named: Any) -> TimingBook:
        return original(*args, **named, budget_s=budget, clock=delegate.device.clock)

    monkeypatch.setattr(timer, "calibrated_book", hasty)
    monkeypatch.setattr(timer, "AT_ONCE", 1)
    delegate.device.costs = each(lambda node: 1e7)
    first = storage.measured_costs(info)
    assert 0 < len(first.timings) < 4 and not first.is_complete and first.step_ns > 0
    budget = 1e9
    assert storage.measured_costs(info) is first and storage.kept_costs(info) is first
    storage._books.clear()  # as in another process
    assert storage.kept_costs(info) is None  # so that whoever wants to tell of a calibration does
    delegate.device.takes = _lost
    assert storage.measured_costs(info) == first  # it can't go on now: what is known serves
    storage._books.clear()
    seconds.now += 1.0
    delegate.device.takes = lambda node: True
    whole = storage.measured_costs(info)
    assert whole.is_complete and len(whole.timings) == 4
    assert first.measured.items() <= whole.measured.items() and whole.step_ns == first.step_ns
