"""Events: what a run waits for, how it is waited for, deadlines."""

from __future__ import annotations

import threading
import time

from delegraph.core.abi.protocols import Event
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import WAIT_S, Lane, wait
from delegraph.testing.contract.finding import expect, fail
from delegraph.testing.contract.subject import Subject

LEAD_S = 0.05
"""How long a run gets to end too early."""


class Gate(Event):
    """An event of the host's own that ends when ``end`` is called. awaited: set when somebody waits for it."""

    def __init__(self, error: DelegateError | None = None, awaited: threading.Event | None = None) -> None:
        self._ended = threading.Event()
        self._error = error
        self._awaited = awaited or threading.Event()

    def end(self) -> None:
        self._ended.set()

    def wait(self, timeout: float | None = None) -> None:
        self._awaited.set()
        if not self._ended.wait(WAIT_S if timeout is None else timeout):
            raise DelegateError("host", ErrorCode.TIMEOUT, "the gate is still closed")
        if self._error is not None:
            raise self._error


@check("event.complete", "When wait() has returned, the outputs are complete.")
def complete(subject: Subject) -> None:
    lane = subject.bench().lane()
    for i in range(10):
        lane.give(i % 3, canary=i)
        wait(lane.start())
        lane.judge(lane.results(), i % 3, "read as soon as wait() had returned")


@check("event.wait_again", "wait() may be called any number of times, by any thread, and says the same each time.")
def wait_again(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.give(0)
    event = lane.start()
    problems: list[str] = []

    def waiter() -> None:
        try:
            wait(event)
            wait(event)
        except Exception as exc:
            problems.append(f"{type(exc).__name__}: {exc}")

    threads = [threading.Thread(target=waiter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    wait(event)
    expect(not problems, f"of three threads that waited twice, one got {(problems or [''])[0]}")
    lane.judge(lane.results(), 0, "after several threads had waited")


@check(
    "event.timeout",
    "wait(timeout) returns when the run has ended, or fails with TIMEOUT; a later wait() still succeeds.",
)
def timeout(subject: Subject) -> None:
    lane = subject.bench().lane()
    for i in range(3):
        lane.give(i)
        event = lane.start()
        try:
            event.wait(0.0)
        except DelegateError as exc:
            expect(exc.code is ErrorCode.TIMEOUT, f"wait(0) failed with {exc.code.name}: {exc}")
            wait(event)
        lane.judge(lane.results(), i, "after wait(0)")


@check("run.after", "A run starts once all of ``after`` have ended, and not before.")
def after(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.check(0)
    is_under_way, is_over = threading.Event(), threading.Event()
    gates = (Gate(), Gate(awaited=is_under_way))
    lane.give(0)
    problems: list[Exception] = []

    def run() -> None:
        try:
            event = lane.start(after=gates)
            is_under_way.set()
            wait(event)
        except Exception as exc:
            problems.append(exc)
        finally:
            is_over.set()
            is_under_way.set()

    thread = threading.Thread(target=run)
    thread.start()
    gates[0].end()
    is_under_way.wait(WAIT_S)  # it waits for the second, or was started without
    early = is_over.wait(LEAD_S)
    if problems:
        raise problems[0]
    expect(not early, "it ran before the second of two events had ended")
    lane.give(1)
    gates[1].end()
    thread.join(WAIT_S)
    expect(not thread.is_alive(), "the run did not end after the last of them had ended")
    if problems:
        raise problems[0]
    found = lane.results()
    if lane.bench.complaint(found, 1):
        early = not lane.bench.complaint(found, 0) or _is_pattern(lane)
        expect(not early, "it ran before the second of two events had ended")
        lane.judge(found, 1, "run after two events of the host")


def _is_pattern(lane: Lane) -> bool:
    """Whether the outputs are as ``give`` left them: the run was over when they were filled."""
    before = [cell.get() for cell in lane.outputs]
    for cell in lane.outputs:
        cell.fill(0x11)
    return all((a == cell.get()).all() for a, cell in zip(before, lane.outputs, strict=True))


@check(
    "run.dependency_failed", "When one of ``after`` failed, the run does not happen and fails with DEPENDENCY_FAILED."
)
def dependency_failed(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.check(0)
    failed = Gate(DelegateError("elsewhere", ErrorCode.DEVICE_LOST, "a failure that the check made up"))
    failed.end()
    lane.give(1)
    try:
        wait(lane.start(after=[failed]))
    except DelegateError as exc:
        right = exc.code is ErrorCode.DEPENDENCY_FAILED
        expect(right, f"the run failed with {exc.code.name}, not with DEPENDENCY_FAILED: {exc}")
    else:
        fail("the run ended well")
    expect(_is_pattern(lane), "the run wrote to its outputs all the same")
    lane.check(2, "after a run whose dependency had failed")


@check("run.deadline", "A run whose deadline has passed fails with TIMEOUT, or ends well with the right answers.")
def deadline(subject: Subject) -> None:
    bench = subject.bench()
    lane = bench.lane()
    lane.give(0)
    try:
        wait(lane.start(deadline=time.monotonic() - 1.0))
    except DelegateError as exc:
        expect(exc.code is ErrorCode.TIMEOUT, f"it failed with {exc.code.name}: {exc}")
    else:
        lane.judge(lane.results(), 0, "run with a deadline in the past")
    bench.check_once(1, "in a new context, after one was late")


@check("run.far_deadline", "A deadline far ahead changes nothing.")
def far_deadline(subject: Subject) -> None:
    lane = subject.bench().lane()
    lane.give(0)
    wait(lane.start(deadline=time.monotonic() + 10 * WAIT_S))
    lane.judge(lane.results(), 0, "run with a deadline far ahead")
