"""A device that fails to build is left alone by every model for a while, and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.runtime.test_fallback import X, chain, check, devices_of, everything, only
from tests.support_devices import EchoDelegate, Takes, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.values import DelegateError, ErrorCode, Segment
from delegraph.core.runtime.health import Health
from delegraph.testing import faults


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(registry, "health", Health(clock))
    return clock


@pytest.fixture(params=["inline", "watched"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    with registered(EchoDelegate("it", everything, may_hang=request.param == "watched")):
        yield "echo:it"


def test_a_device_that_fails_to_compile_is_not_asked_again_by_the_next_model(clock: Clock, device: str) -> None:
    with faults.inject(device, faults.FailCompile(times=None)) as state:
        for _ in range(3):
            compiled = dg.compile(chain(), devices=[device])
            check(compiled(X))
            assert state.calls["compile"] == 1
        (event,) = compiled.receipt().events
        assert (event.moment, event.device, event.ops) == ("plan", device, (0, 1, 2, 3))
        assert "in quarantine for another 0.5 s after: echo:it: internal: an injected failure" in event.message
        clock.now += 1.0
        dg.compile(chain(), devices=[device])
        assert state.calls["compile"] == 2


def test_a_model_that_was_compiled_in_the_quarantine_uses_the_device_after_it(clock: Clock, device: str) -> None:
    with faults.inject(device, faults.FailCompile()) as state:
        dg.compile(chain(), devices=[device])
        compiled = dg.compile(chain(), devices=[device])
        check(compiled(X))
        assert state.calls["run"] == 0 and device not in devices_of(compiled)
        clock.now += 1.0
        check(compiled(X))
        check(compiled(X))
        assert state.calls["run"] == 2 and devices_of(compiled) == {device}
        assert registry.health.is_calm


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL, ErrorCode.OUT_OF_MEMORY, ErrorCode.DEVICE_LOST])
def test_a_device_that_fails_to_load_is_noted(clock: Clock, code: ErrorCode) -> None:
    with registered(_Unloadable(code)):
        check(dg.compile(chain(), devices=["echo:bad"])(X))
        assert "no loading today" in registry.health.quarantine("echo:bad", "build")


@pytest.mark.parametrize("code", [ErrorCode.UNSUPPORTED, ErrorCode.ARTIFACT_REFUSED])
def test_a_refusal_is_no_failure(clock: Clock, code: ErrorCode) -> None:
    with registered(_Unloadable(code)):
        check(dg.compile(chain(), devices=["echo:bad"])(X))
        assert registry.health.is_calm


def test_what_was_built_goes_on_running(clock: Clock) -> None:
    """A device that fails to build one segment runs the others. RELU is not its own, so ADD and MUL are apart."""
    with (
        registered(_Unloadable(ErrorCode.INTERNAL, fails_on="MUL", takes=only("ADD", "MUL"))),
        faults.inject("echo:bad") as state,
    ):
        compiled = dg.compile(chain(), devices=["echo:bad"])
        runs = 0
        for _ in range(3):
            check(compiled(X))
            assert state.calls["run"] > runs
            runs = state.calls["run"]


def test_a_device_that_was_lost_while_compiling_is_opened_again(clock: Clock, device: str) -> None:
    opened = []

    class Lost(EchoDelegate):
        def open(self, device_id, options, host=None):  # type: ignore[no-untyped-def]
            found = super().open(device_id, options, host)
            opened.append(found)
            if len(opened) == 1:

                def compile_lost(*args, **kwargs):  # type: ignore[no-untyped-def]
                    raise DelegateError("echo:lost", ErrorCode.DEVICE_LOST, "the cable is out")

                found.compile = compile_lost  # type: ignore[method-assign]
            return found

    with registered(Lost("lost", everything)):
        check(dg.compile(chain(), devices=["echo:lost"])(X))
        clock.now += 1.0
        compiled = dg.compile(chain(), devices=["echo:lost"])
        check(compiled(X))
        assert devices_of(compiled) == {"echo:lost"} and len(opened) == 2


def test_without_fallback_the_quarantine_does_not_count(clock: Clock, device: str) -> None:
    """Who wants this device or an error gets one or the other."""
    registry.health.failed(device, "something else", doing="build")
    check(dg.compile(chain(), devices=[device], fallback="error")(X))


def test_the_floor_is_never_left_alone(clock: Clock) -> None:
    with faults.inject("reference", faults.FailCompile()):
        with pytest.raises(DelegateError, match="reference: internal"):
            dg.compile(chain(), devices="reference")
        check(dg.compile(chain(), devices="reference")(X))


def test_a_late_part_comes_back_too(clock: Clock) -> None:
    """What is planned when its shapes have arrived was planned without the device, too."""
    from tests.runtime.test_runner import reshape_by_data

    with registered(EchoDelegate("it", only("ADD", "MUL"))), faults.inject("echo:it") as state:
        compiled = dg.compile(reshape_by_data(), devices=["echo:it"])
        registry.health.failed("echo:it", "something else", doing="build")
        x, shape = np.arange(6, dtype=np.float32), np.array([2, 3], np.int32)
        for runs in (0, 0, 1, 2):
            np.testing.assert_array_equal(compiled(x, shape), (2 * x * x).reshape(2, 3))
            assert state.calls["run"] == runs
            clock.now += 0.3


class _Unloadable(EchoDelegate):
    """A device that loads nothing, or no segment with the op that it is named."""

    def __init__(self, code: ErrorCode, *, fails_on: str = "", takes: Takes = everything) -> None:
        super().__init__("bad", takes)
        self._code, self._fails_on = code, fails_on

    def open(self, device_id, options, host=None):  # type: ignore[no-untyped-def]
        opened = super().open(device_id, options, host)
        original = opened.load

        def load(artifact, segment: Segment, packs):  # type: ignore[no-untyped-def]
            if not self._fails_on or self._fails_on in {node.op.name for node in segment.nodes}:
                raise DelegateError("echo:bad", self._code, "no loading today")
            return original(artifact, segment, packs)

        opened.load = load  # type: ignore[method-assign]
        return opened
