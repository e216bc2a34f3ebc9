"""How long programs live, and which artifacts belong to a delegate."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from tests.runtime.test_fallback import X, chain, check, devices_of, everything
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.protocols import Device, Packs, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Options, Segment
from delegraph.core.runtime.border import Opening
from delegraph.core.runtime.health import Doing
from delegraph.core.runtime.worker import worker_for

Hook = Callable[[], None]


class Watching(EchoDelegate):
    """Notes which programs are loaded and closed, by number; ``at_run`` is called in each run."""

    def __init__(self, name: str, at_run: Hook | None = None, **info: Any) -> None:
        super().__init__(name, everything, **info)
        self.loaded = 0
        self.closed: list[int] = []
        self._at_run = at_run

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        opened = super().open(device_id, options, host)
        original = opened.load

        def load(artifact: Artifact, segment: Segment, packs: Packs) -> Program:
            program = original(artifact, segment, packs)
            number, self.loaded = self.loaded, self.loaded + 1
            program.close = lambda: self.closed.append(number)  # type: ignore[method-assign]
            if self._at_run is not None:
                _before_runs(program, self._at_run)
            return program

        opened.load = load  # type: ignore[method-assign]
        return opened

    def settle(self) -> list[int]:
        """What was closed, when everything that is to be closed has been."""
        gc.collect()
        if self._info.may_hang:
            worker_for(f"{self.name}, closing").submit(lambda: None).result(30)
        return self.closed


def _before_runs(program: Any, hook: Hook) -> None:
    context = program.context

    def with_hook(scratch: Any) -> Any:
        made = context(scratch)
        run = made.run

        def run_with_hook(**kwargs: Any) -> Any:
            hook()
            return run(**kwargs)

        made.run = run_with_hook
        return made

    program.context = with_hook


@pytest.mark.parametrize("may_hang", [False, True])
def test_a_program_is_closed_once_when_its_model_is_gone(may_hang: bool) -> None:
    delegate = Watching("it", may_hang=may_hang)
    with registered(delegate):
        compiled = dg.compile(chain(), devices=["echo:it"], fallback="error")
        for _ in range(3):
            check(compiled(X))
        assert (delegate.loaded, delegate.settle()) == (1, [])
        del compiled
        assert delegate.settle() == [0]


def test_a_program_that_is_running_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model is gone, and a run that nobody waits for any more still uses it."""
    monkeypatch.setattr(logging.getLogger("delegraph"), "disabled", True)  # pytest keeps errors that are logged
    entered, let_go, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        let_go.wait(30)
        ended.set()

    delegate = Watching("it", hang, may_hang=True)
    with registered(delegate):
        compiled = dg.compile(chain(), devices=["echo:it"], timeout_s=0.5)
        check(compiled(X))
        assert [event.code for event in compiled.receipt().events] == ["timeout"]
        assert entered.wait(30)
        del compiled
        assert delegate.settle() == []
        late = [thread for thread in threading.enumerate() if thread.name == "delegraph echo:it"]
        let_go.set()
        for thread in late:
            thread.join(30)
        assert ended.is_set() and delegate.settle() == [0]


@pytest.mark.parametrize("may_hang", [False, True])
def test_the_program_of_a_device_that_was_opened_again_is_closed_then(may_hang: bool) -> None:
    delegate = Watching("it", may_hang=may_hang)
    with registered(delegate):
        compiled = dg.compile(chain(), devices=["echo:it"], fallback="error")
        check(compiled(X))
        registry.slot(registry.device("echo:it")).lose()
        check(compiled(X))
        assert (delegate.loaded, delegate.settle()) == (2, [0])
        del compiled
        assert delegate.settle() == [0, 1]


def test_a_program_that_failed_to_load_after_all_is_closed() -> None:
    """What a device loads, and core refuses, is not left open."""

    class Odd(Watching):
        def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
            opened = super().open(device_id, options, host)
            original = opened.load

            def load(artifact: Artifact, segment: Segment, packs: Packs) -> Program:
                program = original(artifact, segment, packs)
                program.alignment = 3
                return program

            opened.load = load  # type: ignore[method-assign]
            return opened

    delegate = Odd("it")
    with registered(delegate):
        compiled = dg.compile(chain(), devices=["echo:it"])
        check(compiled(X))
        assert "expected an alignment that is a power of two" in compiled.receipt().events[0].message
        assert delegate.settle() == [0]


class Versioned(EchoDelegate):
    """Its artifacts say which version made them. All versions have one device of one fingerprint."""

    def __init__(self, version: str) -> None:
        super().__init__("it", everything, fingerprint={"firmware": "7"}, driver=f"drawn {id(self.__class__)}")
        self.version = version
        self.loaded: list[str] = []

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        opened = super().open(device_id, options, host)
        compile_, load = opened.compile, opened.load

        def compile_versioned(*args: Any, **kwargs: Any) -> Artifact:
            return replace(compile_(*args, **kwargs), payload=self.version.encode())

        def load_noted(artifact: Artifact, segment: Segment, packs: Packs) -> Program:
            self.loaded.append(bytes(artifact.payload).decode())
            return load(artifact, segment, packs)

        opened.compile, opened.load = compile_versioned, load_noted  # type: ignore[method-assign]
        return opened


def test_another_version_of_a_delegate_loads_nothing_of_the_one_before() -> None:
    first, same, other = Versioned("1"), Versioned("1"), Versioned("2")
    with registered(first):
        before = dg.compile(chain(), devices=["echo:it"], fallback="error")
        assert (before.receipt().compilations, first.loaded) == (1, ["1"])
        registry.add(same)
        assert dg.compile(chain(), devices=["echo:it"], fallback="error").receipt().compilations == 0
        assert same.loaded == ["1"]
        registry.add(other)
        after = dg.compile(chain(), devices=["echo:it"], fallback="error")
        assert (after.receipt().compilations, other.loaded) == (1, ["2"])
        for compiled in (before, after):
            check(compiled(X))
            assert devices_of(compiled) == {"echo:it"}
        assert first.loaded == ["1"]  # a model keeps the device that it was compiled for


def test_a_replaced_delegate_starts_with_a_clean_slate() -> None:
    with registered(EchoDelegate("it", everything)):
        for doing in get_args(Doing):
            registry.health.failed("echo:it", "the old one was ill", doing=doing)
        registry.add(EchoDelegate("it", everything))
        assert not any(registry.health.quarantine("echo:it", doing) for doing in get_args(Doing))
        np.testing.assert_array_equal(dg.compile(chain(), devices=["echo:it"])(X)[1], np.maximum(X + X, 0))


def test_a_failure_of_the_device_before_does_not_count_against_the_one_now() -> None:
    """A run that began before the device was opened again, and failed after: the new opening is left alone."""
    with registered(EchoDelegate("it", everything)):
        slot = registry.slot(registry.device("echo:it"))
        first = slot.opening()
        slot.lose(first)
        second = slot.opening()
        slot.lose(first)
        assert slot.opening() is second and second is not first


def test_losing_a_device_while_it_prepares_opens_it_again() -> None:
    def lost(opening: Opening) -> None:
        raise DelegateError("echo:it", ErrorCode.DEVICE_LOST, "the cable is out")

    with registered(EchoDelegate("it", everything)):
        slot = registry.slot(registry.device("echo:it"))
        first = slot.opening()
        with pytest.raises(DelegateError, match="the cable is out"):
            slot.bounded("compile", lost, 30.0)
        assert slot.opening() is not first
