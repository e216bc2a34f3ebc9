"""A failing device costs time, not answers: fallback when compiling and running, quarantine, late writers, receipts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.core.model.model import Model
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime import border, loaded
from delegraph.core.runtime.health import Health
from delegraph.core.runtime.worker import worker_for
from delegraph.testing import faults

X = np.linspace(-3, 3, 64, dtype=np.float32).reshape(8, 8)


def chain() -> Model:
    """y = relu(x + x) * x - x, z = relu(x + x): two outputs, one of them read inside."""
    g = GraphBuilder()
    x = g.input([8, 8])
    a = g.op("ADD", [x, x], [8, 8])
    b = g.op("RELU", [a], [8, 8])
    c = g.op("MUL", [b, x], [8, 8])
    g.outputs = [g.op("SUB", [c, x], [8, 8]), b]
    return model(g)


def expected() -> list[Array]:
    b = np.maximum(X + X, 0)
    return [b * X - X, b]


def everything(node: Node) -> bool:
    return True


def only(*names: str):  # type: ignore[no-untyped-def]
    return lambda node: node.op.name in names


def check(found: list[Array]) -> None:
    for ours, wanted in zip(found, expected(), strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.fixture(params=["inline", "watched", "apart"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """A device that takes everything: on the caller's thread, watched, and watched with memory of its own."""
    manners: dict[str, dict[str, Any]] = {
        "inline": {},
        "watched": {"may_hang": True},
        "apart": {"may_hang": True, "memory_domain": "echo:it"},
    }
    with registered(EchoDelegate("it", everything, apart=request.param == "apart", **manners[request.param])):
        yield "echo:it"


def devices_of(compiled: dg.CompiledModel) -> set[str]:
    return {row.device for row in compiled.placement.rows}


def test_no_fault_no_event(device: str) -> None:
    compiled = dg.compile(chain(), devices=[device])
    check(compiled(X))
    assert devices_of(compiled) == {device}
    assert compiled.receipt().events == ()


@pytest.mark.parametrize(
    "fault",
    [
        faults.FailCompile(),
        faults.CorruptArtifact(),
        faults.FailRun(),
        faults.FailRun(code=ErrorCode.OUT_OF_MEMORY),
        faults.FailRun(code=ErrorCode.TIMEOUT),
        faults.FailRun(raises=lambda: RuntimeError("segment 3 is on fire")),
        faults.FailRun(raises=MemoryError),
        faults.OutOfMemory(),
        faults.LoseDevice(),
    ],
    ids=lambda f: f"{type(f).__name__} {getattr(f, 'code', '')} {getattr(f, 'raises', None) is not None}",
)
def test_every_fault_is_a_fallback(device: str, fault: faults.Fault) -> None:
    with faults.inject(device, fault) as state:
        compiled = dg.compile(chain(), devices=[device])
        check(compiled(X))
        (event,) = compiled.receipt().events
        assert event.device == device
        assert event.moment == ("compile" if isinstance(fault, faults.FailCompile | faults.CorruptArtifact) else "run")
        assert event.ops == (0, 1, 2, 3)
        assert state.struck == [fault]
        check(compiled(X))  # in quarantine, or without the device: no second event
        assert len(compiled.receipt().events) == 1


@pytest.mark.parametrize("fault", [faults.FailCompile(), faults.FailRun(), faults.LoseDevice(), faults.OutOfMemory()])
def test_fallback_error_raises_instead(device: str, fault: faults.Fault) -> None:
    with faults.inject(device, fault):
        with pytest.raises(DelegateError) as caught:
            dg.compile(chain(), devices=[device], fallback="error")(X)
        assert caught.value.device == device


def test_fallback_error_names_an_op_that_no_named_device_takes() -> None:
    with registered(EchoDelegate("it", only("ADD"))):
        with pytest.raises(DelegateError, match=r"echo:it: unsupported: subgraphs\[0\].operators\[1\] RELU: the test"):
            dg.compile(chain(), devices=["echo:it"], fallback="error")


def test_a_second_model_compiles_nothing(device: str) -> None:
    assert dg.compile(chain(), devices=[device]).receipt().compilations == 1
    again = dg.compile(chain(), devices=[device], fallback="error")
    assert again.receipt().compilations == 0
    check(again(X))


def test_a_refused_artifact_is_a_miss(device: str) -> None:
    dg.compile(chain(), devices=[device])
    with faults.inject(device, faults.CorruptArtifact()) as state:
        compiled = dg.compile(chain(), devices=[device], fallback="error")
        check(compiled(X))
        assert compiled.receipt().compilations == 1
        assert state.calls == {"compile": 1, "load": 2, "run": 1, "memory": state.calls["memory"]}


def test_a_lost_device_is_opened_again(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    now = [0.0]
    health = Health(lambda: now[0])
    monkeypatch.setattr(registry, "health", health)
    with faults.inject(device, faults.LoseDevice(at=1)) as state:
        compiled = dg.compile(chain(), devices=[device])
        for _ in range(3):  # the second run loses the device, the third finds it in quarantine
            check(compiled(X))
        assert state.calls["run"] == 2
        now[0] += 10
        check(compiled(X))
        assert state.calls["run"] == 3
        assert health.quarantine(device) == ""


def test_quarantine_backs_off() -> None:
    now = [0.0]
    health = Health(lambda: now[0])
    pauses = [health.failed("a", "why") for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert "why" in health.quarantine("a")
    assert health.quarantine("b") == ""
    now[0] += 61
    assert health.quarantine("a") == ""
    health.worked("a")
    assert health.failed("a", "why") == 0.5


def test_a_late_run_is_abandoned_and_writes_nothing_that_is_read() -> None:
    with registered(EchoDelegate("slow", everything, may_hang=True)):
        with faults.inject("echo:slow", faults.Hang(seconds=2.0)):
            compiled = dg.compile(chain(), devices=["echo:slow"], timeout_s=0.3)
            first = compiled(X)
            check(first)
            (event,) = compiled.receipt().events
            assert event.code == "timeout"
            for thread in threading.enumerate():  # let the late writer finish, then look again
                if thread.name == "delegraph echo:slow":
                    thread.join(5)
            check(first)
            check(compiled(X))


def test_a_fallback_goes_to_the_next_device_in_order() -> None:
    with registered(EchoDelegate("one", everything), EchoDelegate("two", only("ADD", "MUL"))):
        with faults.inject("echo:one", faults.FailRun(times=None)), faults.inject("echo:two") as two:
            compiled = dg.compile(chain(), devices=["echo:one", "echo:two"])
            check(compiled(X))
            assert two.calls["run"] == 2  # ADD and MUL; RELU and SUB went to the floor


def test_a_model_across_three_devices() -> None:
    with registered(
        EchoDelegate("one", only("ADD")),
        EchoDelegate("two", only("MUL"), may_hang=True, apart=True, memory_domain="echo:two"),
    ):
        compiled = dg.compile(chain(), devices=["echo:one", "echo:two"])
        check(compiled(X))
        devices = [row.device for row in compiled.placement.rows]
        assert devices[0] == "echo:one" and devices[2] == "echo:two"
        assert not {devices[1], devices[3]} & {"echo:one", "echo:two"}


def test_independent_segments_run_at_the_same_time() -> None:
    """Two branches on two resources: each waits for the other to have started."""
    meeting = threading.Barrier(2, timeout=10)

    class Meeting(EchoDelegate):
        def open(self, device_id, options, host=None):  # type: ignore[no-untyped-def]
            opened = super().open(device_id, options, host)
            return faults._Device(opened, _Meet())

    class _Meet(faults.Faults):
        def __init__(self) -> None:
            super().__init__(())

        def next(self, call: str, *kinds: type[faults.Fault]) -> faults.Fault | None:
            if call == "run":
                meeting.wait()
            return None

    g = GraphBuilder()
    x = g.input([8, 8])
    a, b = g.op("ADD", [x, x], [8, 8]), g.op("MUL", [x, x], [8, 8])
    g.outputs = [g.op("SUB", [a, b], [8, 8])]
    pins = {"ADD": "echo:one", "MUL": "echo:two"}
    with registered(Meeting("one", only("ADD"), may_hang=True), Meeting("two", only("MUL"), may_hang=True)):
        found = dg.compile(model(g), devices=["echo:one", "echo:two", "reference"], fallback="error", pins=pins)(X)
    np.testing.assert_array_equal(found, X + X - X * X)


def test_state_is_committed_once_when_a_device_fails() -> None:
    from tests.runtime.test_runner import counter

    with registered(EchoDelegate("it", everything)):
        with faults.inject("echo:it", faults.FailRun(at=1)):
            compiled = dg.compile(counter(), devices=["echo:it"])
            one = np.ones(2, np.float32)
            assert [compiled(one)[0] for _ in range(4)] == [11, 12, 13, 14]


def test_segments_inside_loops_and_branches_fall_back_too() -> None:
    from tests.runtime.test_runner import loop

    with registered(EchoDelegate("it", only("ADD"))):
        with faults.inject("echo:it", faults.FailRun(at=3)):
            compiled = dg.compile(loop(), devices=["echo:it"])
            i, y = compiled(np.array([5], np.int32), np.array([0], np.int32), np.array([1, 2, 3], np.float32))
            assert i.tolist() == [5] and y.tolist() == [32, 64, 96]
            assert {e.graph for e in compiled.receipt().events} == {2}


def test_faults_at_random_calls_on_four_threads() -> None:
    rng = np.random.default_rng(7)
    some = [faults.FailRun(at=int(n), code=ErrorCode.INTERNAL) for n in rng.integers(0, 100, 12)]
    with registered(EchoDelegate("it", everything, may_hang=True)):
        with faults.inject("echo:it", *some, faults.LoseDevice(at=20)):
            compiled = dg.compile(chain(), devices=["echo:it"])
            registry.health.worked("echo:it")
            with ThreadPoolExecutor(4) as pool:
                for found in pool.map(lambda _: compiled(X), range(200)):
                    check(found)
    assert compiled.receipt().runs == 200


def test_a_broken_capability_answer_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(EchoDelegate):
        def open(self, device_id, options, host=None):  # type: ignore[no-untyped-def]
            opened = super().open(device_id, options, host)
            monkeypatch.setattr(opened, "supports", lambda view: [])
            return opened

    with registered(Silent("quiet", everything)):
        compiled = dg.compile(chain(), devices=["echo:quiet"])
        check(compiled(X))
        assert "expected 4, found 0 answers" in compiled.placement.rows[0].refusals["echo:quiet"]
        (event,) = compiled.receipt().events
        assert (event.moment, event.device, event.ops) == ("plan", "echo:quiet", (0, 1, 2, 3))
        registry.health.forget("echo:quiet")
        with pytest.raises(DelegateError, match="expected 4, found 0 answers"):
            dg.compile(chain(), devices=["echo:quiet", "cpu"], fallback="error")


def test_the_receipt_says_what_ran_where_how_often_and_what_was_copied() -> None:
    with registered(
        EchoDelegate("one", only("ADD")),
        EchoDelegate("two", only("MUL"), may_hang=True, apart=True, memory_domain="echo:two"),
    ):
        pins = {"ADD": "echo:one", "MUL": "echo:two"}
        compiled = dg.compile(chain(), devices=["echo:one", "echo:two", "reference"], fallback="error", pins=pins)
        for _ in range(3):
            check(compiled(X))
        receipt = compiled.receipt()
    found = {segment.device: segment for segment in receipt.segments}
    assert receipt.devices == {"echo:one": 1, "echo:two": 1, "reference": 2}
    assert (found["echo:one"].ops, found["echo:one"].runs, found["echo:one"].copied_bytes) == ((0,), 3, 0)
    assert (found["echo:two"].ops, found["echo:two"].runs) == ((2,), 3)
    assert found["echo:two"].copied_bytes == 3 * X.nbytes  # two operands there, one result back
    assert all(segment.seconds > 0 and segment.plan == receipt.segments[0].plan for segment in receipt.segments)


@pytest.mark.parametrize("method", ["open", "supports", "compile", "load"])
def test_a_device_that_hangs_before_it_runs_costs_its_limit(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening, asking, compiling and loading are watched as well."""
    for limit in ("ASK_LIMIT_S", "PREPARE_LIMIT_S"):
        monkeypatch.setattr(border, limit, 0.2)
    monkeypatch.setattr(loaded, "PREPARE_LIMIT_S", 0.2)
    let_go = threading.Event()

    class Stuck(EchoDelegate):
        def open(self, device_id, options, host=None):  # type: ignore[no-untyped-def]
            if method == "open":
                let_go.wait(30)
            opened = super().open(device_id, options, host)
            if method != "open":
                original = getattr(opened, method)

                def stuck(*args: Any, **kwargs: Any) -> Any:
                    let_go.wait(30)
                    return original(*args, **kwargs)

                monkeypatch.setattr(opened, method, stuck)
            return opened

    try:
        with registered(Stuck("stuck", everything, may_hang=True)):
            compiled = dg.compile(chain(), devices=["echo:stuck"])
            check(compiled(X))
            assert devices_of(compiled) & {"cpu", "reference"}
    finally:
        let_go.set()


def test_what_a_failed_watched_run_read_is_still_there_for_the_fallback() -> None:
    """The arena goes on being used while a watched segment runs; its inputs must not be looked up there afterwards."""
    g = GraphBuilder()
    x = g.input([8, 8])
    a = g.op("ADD", [x, x], [8, 8])  # in the arena, read by the watched segment alone
    b = g.op("NEG", [a], [8, 8])
    c = g.op("MUL", [x, x], [8, 8])  # may take the place of a
    d = g.op("SUB", [c, x], [8, 8])
    g.outputs = [g.op("ADD", [b, d], [8, 8])]
    with registered(EchoDelegate("w", only("NEG"), may_hang=True), EchoDelegate("b", only("MUL"))):
        with faults.inject("echo:w", faults.FailRun()):
            compiled = dg.compile(model(g), devices=["echo:w", "echo:b"])
            np.testing.assert_array_equal(compiled(X), -(X + X) + (X * X - X))
            assert len(compiled.receipt().events) == 1


def test_the_floor_is_never_in_quarantine() -> None:
    with faults.inject("reference", faults.FailRun()):
        compiled = dg.compile(chain(), devices="reference")
        with pytest.raises(DelegateError):
            compiled(X)
        check(compiled(X))


def test_a_device_that_can_not_import_host_memory_runs_inline_too() -> None:
    with registered(EchoDelegate("it", everything, apart=True)):
        compiled = dg.compile(chain(), devices=["echo:it"], fallback="error")
        check(compiled(X))


def test_waiting_in_the_queue_is_not_running() -> None:
    """Runs stand behind something that takes longer than one of them may."""
    timeout_s, gate = 2.0, threading.Event()
    with registered(EchoDelegate("it", everything, may_hang=True)):
        compiled = dg.compile(chain(), devices=["echo:it"], timeout_s=timeout_s)
        check(compiled(X))
        blocked = worker_for("echo:it").submit(lambda: gate.wait(30))
        with ThreadPoolExecutor(6) as pool:
            waiting = [pool.submit(compiled, X) for _ in range(6)]
            with pytest.raises(TimeoutError):
                blocked.result(1.25 * timeout_s)
            gate.set()
            for run in waiting:
                check(run.result(30))
        assert compiled.receipt().events == ()


def test_what_waits_behind_a_run_that_hangs_goes_on() -> None:
    from delegraph.core.runtime.worker import Worker

    worker, let_go = Worker("test"), threading.Event()
    stuck = worker.submit(lambda: let_go.wait(30))
    behind = [worker.submit(partial(int, n)) for n in range(3)]
    with pytest.raises(TimeoutError):
        stuck.result(0.05)
    worker.abandon(stuck)
    assert [ticket.result(5) for ticket in behind] == [0, 1, 2]
    worker.abandon(stuck)  # no longer current: nothing happens
    let_go.set()
    assert stuck.result(5)
    assert worker.submit(lambda: "still there").result(5) == "still there"
