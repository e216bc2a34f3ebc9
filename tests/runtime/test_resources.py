"""Devices of one resource never run at the same time, whether they are watched or not; nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.runtime.test_fallback import X, chain, check, everything, only
from tests.support_devices import EchoDelegate, Takes, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.protocols import Device
from delegraph.core.abi.values import Options
from delegraph.core.runtime.worker import Worker
from delegraph.testing import faults


class Crossing:
    """Where runs linger, so that two that may be here together are seen together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = self.passed = 0

    def pass_through(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        for _ in range(2000):
            if self._inside > 1:
                break
            time.sleep(0)  # lets another thread go on
        with self._lock:
            self._inside -= 1
            self.passed += 1


class _Calls(faults.Faults):
    def __init__(self, at_run: Callable[[], object]) -> None:
        super().__init__(())
        self._at_run = at_run

    def next(self, call: str, *kinds: type[faults.Fault]) -> faults.Fault | None:
        if call == "run":
            self._at_run()
        return None


class Calling(EchoDelegate):
    """Calls ``at_run`` in each run."""

    def __init__(self, name: str, at_run: Callable[[], object], takes: Takes = everything, **info: Any) -> None:
        super().__init__(name, takes, **info)
        self._at_run = at_run

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        return faults._Device(super().open(device_id, options, host), _Calls(self._at_run))


def most_at_once(watched: Sequence[bool], resource: str) -> int:
    """How many runs of two devices, each called by two threads, are under way at once."""
    crossing = Crossing()
    both = [
        Calling(str(k), crossing.pass_through, may_hang=hangs, resource=resource) for k, hangs in enumerate(watched)
    ]
    with registered(*both):
        models = [dg.compile(chain(), devices=[f"echo:{k}"], fallback="error") for k in range(2)]
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda k: models[k % 2](X), range(40)):
                check(found)
    assert crossing.passed == 40
    return crossing.most


@pytest.mark.parametrize("watched", [(False, False), (False, True), (True, True)])
def test_devices_of_one_resource_take_turns(watched: tuple[bool, bool]) -> None:
    assert most_at_once(watched, f"bus {watched}") == 1


def test_devices_without_a_resource_need_not() -> None:
    """The counterpart, without which the test above would show nothing: each run waits for the other."""
    meeting = threading.Barrier(2)
    with registered(*(Calling(str(k), lambda: meeting.wait(30)) for k in range(2))):
        models = [dg.compile(chain(), devices=[f"echo:{k}"], fallback="error") for k in range(2)]
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda compiled: compiled(X), models):
                check(found)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """What stuck runs wait for; set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_run_that_hangs_does_not_keep_its_resource(let_go: threading.Event) -> None:
    """The caller itself started the run that hangs, and would be the one to give it up."""
    g = GraphBuilder()
    x = g.input([8, 8])
    a, b = g.op("ADD", [x, x], [8, 8]), g.op("MUL", [x, x], [8, 8])
    g.outputs = [g.op("SUB", [a, b], [8, 8])]
    stuck = Calling("stuck", lambda: let_go.wait(30), only("ADD"), may_hang=True, resource="bus")
    with registered(stuck, EchoDelegate("good", only("MUL"), resource="bus")):
        pins = {"ADD": "echo:stuck", "MUL": "echo:good"}
        compiled = dg.compile(model(g), devices=["echo:stuck", "echo:good"], timeout_s=1.0, pins=pins)
        np.testing.assert_array_equal(compiled(X), X + X - X * X)
        assert [(e.device, e.code) for e in compiled.receipt().events] == [("echo:stuck", "timeout")]
        assert compiled.receipt().devices["echo:good"] == 1


def test_two_callers_that_wait_for_each_others_resource_go_on(let_go: threading.Event) -> None:
    """Each has a task that hangs in front of the one that the other waits for, and looks after its own only later."""
    one, two = Worker("one"), Worker("two")
    stuck = [each.submit(lambda: let_go.wait(30), 0.1) for each in (one, two)]
    behind = [each.submit(lambda: "went on", 30.0) for each in (two, one)]

    def caller(k: int) -> str:
        found: str = behind[k].result(30.0)
        with pytest.raises(TimeoutError):
            stuck[k].result(0.1)
        return found

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(caller, range(2))) == ["went on"] * 2


def test_a_system_without_threads_is_an_error_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes later is not queued for a thread that never came."""
    with registered(EchoDelegate("it", everything, may_hang=True, resource="no threads")):
        compiled = dg.compile(chain(), devices=["echo:it"])
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Thread", _NoThread)
            check(compiled(X))
        (event,) = compiled.receipt().events
        assert (event.device, event.code) == ("echo:it", "internal") and "can't start new thread" in event.message
        registry.health.forget("echo:it")
        with faults.inject("echo:it") as state:
            check(compiled(X))
            assert state.calls["run"] == 1


class _NoThread(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")
