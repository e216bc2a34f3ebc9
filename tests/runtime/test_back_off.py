"""What keeps failing is tried ever more rarely, and takes nothing with it: pauses, plans without the device, its way
back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.runtime.test_fallback import X, chain, check, devices_of, everything, only
from tests.runtime.test_quarantine import Clock
from tests.runtime.test_variables import ACCUMULATE
from tests.support_devices import EchoDelegate, EchoDevice, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.protocols import Device, Packs, Program
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, GraphView, Options, Segment, Support
from delegraph.core.model.model import Model
from delegraph.core.ops import registry as ops
from delegraph.core.runtime import border, loaded, runner
from delegraph.core.runtime.health import FIRST_S, TIMES_AS_LONG, Health
from delegraph.core.runtime.plan import Plan, SegmentStep, make_plan
from delegraph.testing import faults

Loads = Callable[[EchoDevice, Artifact, Segment, Packs], Program]


class Special(EchoDelegate):
    """An echo device some of whose methods are replaced: ``load=lambda device, ...: ...``. opened: its devices."""

    def __init__(self, name: str, takes: Any = everything, methods: dict[str, Any] | None = None, **info: Any) -> None:
        super().__init__(name, takes, **info)
        self._methods = methods or {}
        self.opened: list[EchoDevice] = []

    def open(self, device_id: str, options: Options, host: Device | None = None) -> EchoDevice:
        device = super().open(device_id, options, host)
        assert isinstance(device, EchoDevice)
        for name, method in self._methods.items():
            setattr(device, name, method.__get__(device))
        self.opened.append(device)
        return device


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(registry, "health", Health(found))
    return found


def names_of(segment: Segment) -> set[str]:
    return {node.op.name for node in segment.nodes}


def failing(program: Program, what: Callable[[], object]) -> Program:
    """The program, whose runs end with what ``what`` raises."""
    make = program.context

    def context(scratch: Any) -> Any:
        found: Any = make(scratch)
        found.run = lambda **_: what()
        return found

    program.context = context  # type: ignore[method-assign]
    return program


def waiting(program: Program, first: Callable[[], object]) -> Program:
    """The program, whose runs begin with what ``first`` does."""
    make = program.context

    def context(scratch: Any) -> Any:
        found: Any = make(scratch)
        go_on = found.run

        def run(**kwargs: Any) -> Any:
            first()
            return go_on(**kwargs)

        found.run = run
        return found

    program.context = context  # type: ignore[method-assign]
    return program


def raises() -> None:
    raise DelegateError("echo:it", ErrorCode.INTERNAL, "always")


def test_what_always_fails_is_tried_ever_more_rarely(clock: Clock) -> None:
    """MUL fails whenever it runs, ADD never: MUL's tries thin out although the device works in between."""
    tries: list[float] = []

    def load(device: EchoDevice, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        program = EchoDevice.load(device, artifact, segment, packs)

        def fail() -> None:
            tries.append(clock.now)
            raises()

        return failing(program, fail) if "MUL" in names_of(segment) else program

    with registered(Special("it", only("ADD", "MUL"), {"load": load})), faults.inject("echo:it") as state:
        compiled = dg.compile(chain(), devices=["echo:it"])
        for _ in range(200):
            check(compiled(X))
            clock.now += 0.25
    pauses = np.diff(tries)
    assert pauses[0] < 1 and all(pauses[1:] > 1.5 * pauses[:-1]) and len(tries) < 9
    assert state.calls["run"] > 100  # ADD goes on there


def test_a_build_that_always_fails_is_tried_ever_more_rarely(clock: Clock) -> None:
    tries: list[float] = []

    def compile(
        device: EchoDevice, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None
    ) -> Artifact:
        if "MUL" in names_of(segment):
            tries.append(clock.now)
            raises()
        return EchoDevice.compile(device, segment, packs, options)

    with registered(Special("it", only("ADD", "MUL"), {"compile": compile})):
        for _ in range(100):
            check(dg.compile(chain(), devices=["echo:it"])(X))
            clock.now += 0.5
    assert all(np.diff(tries)[1:] > 1.5 * np.diff(tries)[:-1]) and 3 < len(tries) < 9


def test_a_device_is_left_alone_for_ten_times_what_its_failure_took(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    let = threading.Event()

    def compile(device: EchoDevice, *args: Any, **kwargs: Any) -> Artifact:
        let.wait(30)
        raise DelegateError("echo:slow", ErrorCode.INTERNAL, "too late")

    with registered(Special("slow", methods={"compile": compile}, may_hang=True)), monkeypatch.context() as patch:
        patch.setattr(border, "PREPARE_LIMIT_S", 0.3)
        check(dg.compile(chain(), devices=["echo:slow"])(X))
        clock.now += TIMES_AS_LONG * 0.3 - 0.1
        assert registry.health.quarantine("echo:slow", "build")
    with registered(EchoDelegate("it", everything, may_hang=True)):
        with faults.inject("echo:it", faults.Hang(seconds=30)):
            check(dg.compile(chain(), devices=["echo:it"], timeout_s=0.3)(X))
            clock.now += TIMES_AS_LONG * 0.3 - 0.1
            assert registry.health.quarantine("echo:it", "run")
    let.set()


def test_whoever_waits_behind_a_run_that_hangs_does_not_hang_too() -> None:
    with registered(EchoDelegate("it", everything, may_hang=True)):
        with faults.inject("echo:it", faults.Hang(at=1, times=None, seconds=60)) as state:
            compiled = dg.compile(chain(), devices=["echo:it"], timeout_s=1.0)
            check(compiled(X))
            with ThreadPoolExecutor(8) as pool:
                for found in pool.map(lambda _: compiled(X), range(8)):
                    check(found)
        assert state.calls["run"] < 5  # the first, and one that hung; a late caller may come before that is noted


def many_segments() -> Model:
    """Twelve ADDs, each with a RELU behind it."""
    g = GraphBuilder()
    x = y = g.input([8, 8])
    for _ in range(12):
        y = g.op("RELU", [g.op("ADD", [y, x], [8, 8])], [8, 8])
    g.outputs = [y]
    return model(g)


def test_while_a_device_rests_nothing_is_planned_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[object] = []

    def made_plan(*args: Any) -> Plan:
        plans.append(args)
        return make_plan(*args)

    monkeypatch.setattr(runner, "make_plan", made_plan)
    with registered(EchoDelegate("it", only("ADD"))), faults.inject("echo:it", faults.FailRun(at=30)) as state:
        compiled = dg.compile(many_segments(), devices=["echo:it"])
        wanted = [compiled(X) for _ in range(3)][0]  # the third run fails
        np.testing.assert_array_equal(compiled(X), wanted)
        made = len(plans)
        for _ in range(5):
            np.testing.assert_array_equal(compiled(X), wanted)
        assert len(plans) == made and state.calls["run"] == 31 and devices_of(compiled) & {"echo:it"} == set()
        clock.now += FIRST_S
        np.testing.assert_array_equal(compiled(X), wanted)
        assert len(plans) == made and devices_of(compiled) & {"echo:it"}


def test_a_model_that_saw_a_build_fail_gets_the_device_back(clock: Clock) -> None:
    with registered(EchoDelegate("it", everything)), faults.inject("echo:it", faults.FailCompile()):
        compiled = dg.compile(chain(), devices=["echo:it"])
        check(compiled(X))
        assert "echo:it" not in devices_of(compiled)
        clock.now += FIRST_S
        check(compiled(X))
        assert devices_of(compiled) == {"echo:it"}


def test_a_model_that_saw_a_device_fail_to_answer_gets_it_back(clock: Clock) -> None:
    asked: list[float] = []

    def supports(device: EchoDevice, view: GraphView) -> Sequence[Support]:
        asked.append(clock.now)
        if len(asked) == 1:
            raise OSError("not now")
        return EchoDevice.supports(device, view)

    with registered(Special("it", methods={"supports": supports})):
        compiled = dg.compile(chain(), devices=["echo:it"])
        check(compiled(X))
        assert "echo:it" not in devices_of(compiled) and len(asked) == 1
        clock.now += FIRST_S
        check(compiled(X))
        assert devices_of(compiled) == {"echo:it"}


def test_an_artifact_that_is_refused_after_a_loss_is_compiled_again(clock: Clock) -> None:
    """A device that takes what was compiled in the same opening only, as after an update of its firmware."""
    delegate: Special

    def compile(device: EchoDevice, *args: Any, **kwargs: Any) -> Artifact:
        return Artifact(str(delegate.opened.index(device)), EchoDevice.compile(device, *args, **kwargs).payload)

    def load(device: EchoDevice, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        if artifact.format != str(delegate.opened.index(device)):
            raise DelegateError("echo:it", ErrorCode.ARTIFACT_REFUSED, "of another firmware")
        found = EchoDevice.compile(device, segment, packs, {})
        return EchoDevice.load(device, found, segment, packs)

    delegate = Special("it", methods={"compile": compile, "load": load})
    with registered(delegate), faults.inject("echo:it", faults.LoseDevice(at=1)) as state:
        compiled = dg.compile(chain(), devices=["echo:it"])
        for _ in range(4):
            check(compiled(X))
            clock.now += 100
    assert state.calls["run"] == 4 and [event.code for event in compiled.receipt().events] == ["device lost"]


def test_memory_that_a_failed_run_may_still_write_to_is_not_used_again() -> None:
    """A device fails while a transfer of its own goes on, which strikes when others work where it had its place."""
    strike, struck = threading.Event(), threading.Event()

    def load(device: EchoDevice, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        program = EchoDevice.load(device, artifact, segment, packs)
        make = program.context

        def context(scratch: Any) -> Any:
            found: Any = make(scratch)
            bind = found.bind
            bound: list[Any] = []

            def run(**_: object) -> None:
                views = [buffer.host_view() for buffer in bound]

                def late() -> None:
                    strike.wait(30)
                    for view in views:
                        view[:] = 0xA5
                    struck.set()

                threading.Thread(target=late, daemon=True).start()
                raises()

            def remembering(inputs: Any, outputs: Any) -> None:
                bound.extend(outputs)
                bind(inputs, outputs)

            found.bind = remembering
            found.run = run
            return found

        program.context = context  # type: ignore[method-assign]
        return program

    def pausing(device: EchoDevice, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        def wait() -> None:
            strike.set()
            assert struck.wait(30)

        return waiting(EchoDevice.load(device, artifact, segment, packs), wait)

    g = GraphBuilder()
    x = g.input([8, 8])
    b = g.op("RELU", [g.op("ADD", [x, x], [8, 8])], [8, 8])
    g.outputs = [g.op("NEG", [g.op("MUL", [b, x], [8, 8])], [8, 8])]
    with registered(
        Special("it", only("ADD"), {"load": load}),
        Special("last", only("NEG"), {"load": pausing}),
        EchoDelegate("one", only("RELU")),
        EchoDelegate("two", only("MUL")),
    ):
        compiled = dg.compile(model(g), devices=["echo:it", "echo:one", "echo:two", "echo:last"])
        np.testing.assert_array_equal(compiled(X), -(np.maximum(2 * X, 0) * X))


def test_what_is_behind_a_close_that_hangs_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(border, "CLOSE_LIMIT_S", 0.05)
    let, closed = threading.Event(), threading.Event()
    delegate: Special

    def close(device: EchoDevice) -> None:
        if device is delegate.opened[0]:
            let.wait(60)
        elif device is delegate.opened[-2]:
            closed.set()

    delegate = Special("it", methods={"close": close}, may_hang=True)
    with registered(delegate):
        compiled = dg.compile(chain(), devices=["echo:it"])
        slot = registry.slot(registry.device("echo:it"))
        for _ in range(100):
            slot.lose()
            check(compiled(X))
            if closed.wait(0.05):
                break
        assert closed.is_set()
    let.set()


def test_a_device_is_closed_behind_its_last_program() -> None:
    """A run that was begun before the device was lost goes on with all that it needs."""
    order: list[str] = []
    began, let = threading.Event(), threading.Event()

    def close(device: EchoDevice) -> None:
        order.append("device")

    def load(device: EchoDevice, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        def wait() -> None:
            began.set()
            assert let.wait(30) and not order

        program = waiting(EchoDevice.load(device, artifact, segment, packs), wait)
        program.close = lambda: order.append("program")  # type: ignore[method-assign]
        return program

    with registered(Special("it", methods={"close": close, "load": load})):
        compiled = dg.compile(chain(), devices=["echo:it"])
        slot = registry.slot(registry.device("echo:it"))
        thread = threading.Thread(target=lambda: check(compiled(X)))
        thread.start()
        assert began.wait(30)
        slot.lose()
        assert order == []
        let.set()
        thread.join(30)
        end = time.monotonic() + 30
        while order != ["program", "device"] and time.monotonic() < end:
            time.sleep(0.01)
        assert order == ["program", "device"]


def test_what_is_kept_between_runs_has_a_bound() -> None:
    with registered(EchoDelegate("it", everything)):
        compiled = dg.compile(chain(), devices=["echo:it"])
        gate = threading.Barrier(3 * loaded.IDLE_KEPT)

        def run(_: int) -> None:
            gate.wait(30)
            check(compiled(X))

        with ThreadPoolExecutor(3 * loaded.IDLE_KEPT) as pool:
            list(pool.map(run, range(3 * loaded.IDLE_KEPT)))
        (planned,) = compiled._runners[0]._plans._plans.values()
        (step,) = planned.plan.steps
        assert isinstance(step, SegmentStep)
        assert 0 < len(step.loaded._idle) <= loaded.IDLE_KEPT and len(planned.idle) <= loaded.IDLE_KEPT


def test_a_plan_that_can_not_be_made_leaves_nothing() -> None:
    plans = runner._PlanCache()

    def make() -> Plan:
        raise dg.InvalidArgument("shapes", "others", "these")

    for key in range(5):
        with pytest.raises(dg.InvalidArgument):
            plans.get(key, make)
    assert not plans._makers and not plans.plans()


def test_a_variable_that_two_devices_update_in_the_place_of_one_is_updated_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second one reads what the first one made of it, not what it was when the segment began."""
    ops.find("ADD")
    monkeypatch.setitem(ops._ops, ACCUMULATE.name, ACCUMULATE)
    g = GraphBuilder()
    x, v = g.input([8, 8]), g.tensor([8, 8], is_variable=True)
    first = g.op("TestAccumulate", [x, v], [8, 8])
    g.outputs = [g.op("TestAccumulate", [first, v], [8, 8])]
    with (
        registered(EchoDelegate("it", everything), EchoDelegate("one", lambda node: node.op.index == 0)),
        faults.inject("echo:it", faults.FailRun(at=1)) as state,
    ):
        pins = {"TestAccumulate": "echo:it"}
        compiled = dg.compile(model(g), devices=["echo:it", "echo:one"], pins=pins)
        v_now = 0 * X
        for _ in range(3):
            v_now = v_now + X  # what the first one makes
            v_now = v_now + v_now
            np.testing.assert_array_equal(compiled(X), v_now)
    assert state.struck
