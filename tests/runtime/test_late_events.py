"""Devices whose steps end later than core waits for them: their memory is kept until they have ended; and what counts
against a run's time."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.runtime.test_fallback import X, chain, check, everything
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.protocols import Buffer, Device, Event
from delegraph.core.abi.values import DelegateError, ErrorCode, Options
from delegraph.testing import faults


class Later:
    """An event that ends when it is told to."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def wait(self, timeout: float | None = None) -> None:
        if not self.end.wait(timeout):
            raise DelegateError("echo:late", ErrorCode.TIMEOUT, "run: not yet")


class Late(EchoDelegate):
    """Runs end when ``event`` does. bound: the memory of the first context's buffers, weakly."""

    def __init__(self) -> None:
        super().__init__("late", everything, may_hang=True)
        self.event = Later()
        self.bound: list[weakref.ref[Any]] = []

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        opened: Any = super().open(device_id, options, host)
        load = opened.load

        def loaded(*args: Any) -> Any:
            program = load(*args)
            context = program.context

            def with_late_end(scratch: Buffer) -> Any:
                made = context(scratch)
                bind = made.bind

                def noting(inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
                    self.bound += [weakref.ref(b.memory) for b in (*inputs, *outputs)]  # type: ignore[attr-defined]
                    bind(inputs, outputs)

                def run(*, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
                    return self.event

                made.bind, made.run = noting, run
                return made

            program.context = with_late_end
            return program

        opened.load = loaded
        device: Device = opened
        return device


def late_steps() -> threading.Thread:
    """The thread that keeps the memory of a late run, as soon as it is there."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for thread in threading.enumerate():
            if thread.name == "delegraph late steps" and thread.is_alive():
                return thread
        time.sleep(0.001)
    pytest.fail("nobody keeps the memory")


def test_memory_of_a_late_run_is_kept_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("delegraph"), "disabled", True)  # pytest keeps errors that are logged
    delegate = Late()
    with registered(delegate):
        compiled = dg.compile(chain(), devices=["echo:late"], timeout_s=0.2)
        check(compiled(X))
        assert [event.code for event in compiled.receipt().events] == ["timeout"]
        del compiled
        gc.collect()
        assert len(delegate.bound) == 3
        assert all(memory() is not None for memory in delegate.bound)
        waiting = late_steps()  # of a thread that gives up a little later than the caller
        delegate.event.end.set()
        waiting.join(30)
        gc.collect()
        assert [memory() for memory in delegate.bound] == [None] * 3


def test_loading_again_is_no_part_of_the_run() -> None:
    """It has a limit of its own: a device that was lost, and takes longer to load than to run, comes back."""
    where: list[str] = []

    class Noting(EchoDelegate):
        def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
            opened = super().open(device_id, options, host)
            load = opened.load

            def noting(*args: Any) -> Any:
                where.append(threading.current_thread().name)
                return load(*args)

            opened.load = noting  # type: ignore[method-assign, assignment]
            return opened

    with registered(Noting("it", everything, may_hang=True)):
        compiled = dg.compile(chain(), devices=["echo:it"], fallback="error")
        check(compiled(X))
        registry.slot(registry.device("echo:it")).lose()
        check(compiled(X))
    assert where == ["delegraph echo:it, preparing"] * 2


@pytest.mark.parametrize("may_hang", [False, True])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_a_device_can_not_end_the_program(may_hang: bool, error: type[BaseException]) -> None:
    with registered(EchoDelegate("it", everything, may_hang=may_hang)):
        with faults.inject("echo:it", faults.FailRun(raises=error)):
            compiled = dg.compile(chain(), devices=["echo:it"])
            check(compiled(X))
            (event,) = compiled.receipt().events
            assert (event.code, event.message) == ("internal", f"run: {error.__name__}: ")


def test_a_key_that_interrupts_is_the_callers() -> None:
    with registered(EchoDelegate("it", everything)):
        with faults.inject("echo:it", faults.FailRun(raises=KeyboardInterrupt)):
            compiled = dg.compile(chain(), devices=["echo:it"])
            with pytest.raises(KeyboardInterrupt):
                compiled(X)
            np.testing.assert_array_equal(compiled(X)[1], np.maximum(X + X, 0))
