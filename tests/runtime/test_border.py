"""A device that fails while it is asked: its error is there for the caller, and it is not asked again at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from tests.runtime.test_quarantine import Clock
from tests.support_devices import EchoDelegate, EchoDevice

from delegraph.core.abi.values import FAILED, DelegateError, DeviceInfo, ErrorCode, GraphView, Support, Verdict
from delegraph.core.devices.timing_segments import chain
from delegraph.core.graph.dtype import DType
from delegraph.core.runtime import border
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.health import FIRST_S, LONGEST_S, TIMES_AS_LONG, Health

SEGMENT = chain(DType.FLOAT32, 3)
VIEW = GraphView(SEGMENT.graph, SEGMENT.nodes)


class Asked(EchoDevice):
    """Counts how often it is asked; ``answer`` is called then."""

    def __init__(self, info: DeviceInfo, answer: Callable[[], object]) -> None:
        super().__init__(info, lambda node: True, False)
        self.answer, self.n = answer, 0

    def supports(self, view: GraphView) -> Sequence[Support]:
        self.n += 1
        found = self.answer()
        return super().supports(view) if found is None else found  # type: ignore[return-value]


def slot_of(answer: Callable[[], object], *, may_hang: bool = False) -> tuple[DeviceSlot, Asked]:
    (found,) = EchoDelegate("asked", lambda node: True, may_hang=may_hang).devices()
    device = Asked(found, answer)
    return DeviceSlot(found, lambda: device), device


def lost() -> None:
    raise DelegateError("echo:asked", ErrorCode.DEVICE_LOST, "gone")


def broken() -> None:
    raise ValueError("oops")


FAULTS = ((lost, ErrorCode.DEVICE_LOST), (broken, ErrorCode.INTERNAL), (lambda: [1, 2, 3], ErrorCode.INTERNAL))


@pytest.mark.parametrize(("answer", "code"), FAULTS, ids=["error", "exception", "nonsense"])
def test_a_failure_to_answer_comes_with_the_answers(answer: Callable[[], object], code: ErrorCode) -> None:
    slot, _ = slot_of(answer)
    answers, error = slot.asked(VIEW)
    assert error is not None and (error.device, error.code) == ("echo:asked", code)
    assert answers == [Support(Verdict.NO, FAILED, str(error))] * 3 == slot.supports(VIEW)


def test_a_device_that_answers_has_no_error() -> None:
    slot, _ = slot_of(lambda: None)
    answers, error = slot.asked(VIEW, Health(Clock()))
    assert error is None and [a.verdict for a in answers] == [Verdict.YES] * 3


def test_a_device_that_fails_is_not_asked_again_for_a_while() -> None:
    clock = Clock()
    health, (slot, device) = Health(clock), slot_of(broken)
    assert "oops" in str(slot.asked(VIEW, health)[1])
    answers, error = slot.asked(VIEW, health)
    assert error is not None and error.code is ErrorCode.UNSUPPORTED and device.n == 1
    assert error.message == "in quarantine for another 0.5 s after: echo:asked: internal: supports: ValueError: oops"
    assert answers == [Support(Verdict.NO, FAILED, str(error))] * 3
    assert not any(health.quarantine(slot.id, doing) for doing in ("run", "build"))  # what it was given before
    assert slot.asked(VIEW)[1] is not None and device.n == 2  # who insists
    clock.now += FIRST_S
    device.answer = lambda: None
    assert slot.asked(VIEW, health)[1] is None and slot.asked(VIEW, health)[1] is None and device.n == 4


def test_a_device_that_hangs_costs_little_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ended, usual_limit_s = Clock(), threading.Event(), border.ASK_LIMIT_S
    monkeypatch.setattr(border, "ASK_LIMIT_S", 1.0)

    def hang() -> None:
        clock.now += 60.0
        ended.wait(30.0)

    health, (slot, device) = Health(clock), slot_of(hang, may_hang=True)
    error = slot.asked(VIEW, health)[1]
    ended.set()
    monkeypatch.setattr(border, "ASK_LIMIT_S", usual_limit_s)
    assert error is not None and error.code is ErrorCode.TIMEOUT
    clock.now += 60.0 * TIMES_AS_LONG - 1.0
    assert "in quarantine for another 1.0 s" in str(slot.asked(VIEW, health)[1]) and device.n == 1
    clock.now += 1.0
    device.answer = lambda: None
    assert slot.asked(VIEW, health)[1] is None and device.n == 2


def test_the_floor_is_always_asked() -> None:
    health, (slot, device) = Health(Clock()), slot_of(lost)
    slot.is_floor = True
    assert [slot.asked(VIEW, health)[1] is None for _ in range(2)] == [False, False] and device.n == 2


def test_what_a_device_failed_at_is_told_apart_and_ends() -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(3000):
        pause = health.failed("it", "no", doing="calibrate")
    assert pause == LONGEST_S and health.failed("it", "no", doing="ask") == FIRST_S
    assert health.quarantine("it") == "" and health.quarantine("it", "build") == ""
    assert "after: no" in health.quarantine("it", "ask")
    with pytest.raises(DelegateError, match="in quarantine for another 60.0 s"), health.trying("it", "calibrate"):
        raise AssertionError("not entered")
    clock.now += LONGEST_S
    with pytest.raises(KeyboardInterrupt), health.trying("it", "calibrate"):
        raise KeyboardInterrupt  # says nothing of the device
    with health.trying("it", "calibrate"):
        pass
    assert health.failed("it", "no", doing="calibrate") == FIRST_S
    health.forget("it")
    assert not health.quarantine("it", "calibrate") and not health.quarantine("it", "ask")
