"""Why an op is where it is and what would change that: every kind of decision, in words that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from tests.graphs import GraphBuilder, model
from tests.runtime.test_fallback import X, chain, check, everything, only
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import record
from delegraph.core.abi.values import Limits, Link, Support, Verdict
from delegraph.partitioner import reasons
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts, SegmentEstimate
from delegraph.partitioner.placement import Candidate, OpPlacement, Placement
from delegraph.partitioner.placement_text import groups
from delegraph.partitioner.reasons import Tried, change_of
from delegraph.partitioner.schedule import Schedule
from delegraph.partitioner.work import Decision
from delegraph.testing import faults

ONE, TWO = "echo:one", "echo:two"
NAMES = ("ADD", "RELU", "MUL", "SUB")
YES = Support(Verdict.YES)


@pytest.fixture(autouse=True)
def _devices() -> Iterator[None]:
    with registered(
        EchoDelegate("one", everything),
        EchoDelegate("two", only("ADD", "MUL")),
        EchoDelegate("few", everything, limits=Limits(max_segments=1)),
        EchoDelegate("prefix", everything, limits=Limits(prefix_only=True)),
        EchoDelegate("large", everything, limits=Limits(min_ops=2)),
    ):
        yield


def table(devices: dict[str, tuple[int, int, int, int]], **about: DeviceCosts) -> CostTable:
    """Nanoseconds of each op of ``chain()`` per device; on the cpu and the reference device 50."""
    columns = devices | {"cpu": (50,) * 4, "reference": (60,) * 4}
    rows = [OpCosts(0, op, NAMES[op], {}, {d: Cost(ns[op], "file") for d, ns in columns.items()}) for op in range(4)]
    found = [about.get(d.removeprefix("echo:"), DeviceCosts(d)) for d in columns]
    return CostTable("host", tuple(found), tuple(rows), ("cpu", "reference"))


def explained(devices: list[str], costs: CostTable, **wishes: object) -> Placement:
    return dg.explain(chain(), devices=devices, costs=costs, **wishes).placement  # type: ignore[arg-type]


def candidate(row: OpPlacement, device: str) -> Candidate:
    return next(c for c in row.candidates if c.device == device)


def change(row: OpPlacement, device: str) -> str:
    return candidate(row, device).change


def obstacle(row: OpPlacement, device: str) -> str:
    return candidate(row, device).obstacle


def test_by_cost_with_the_figures_and_what_would_move_it() -> None:
    rows = explained([ONE, TWO], table({ONE: (9, 1, 5, 1), TWO: (4, 1, 8, 1)})).rows
    assert [row.device for row in rows] == [TWO, ONE, ONE, ONE]
    assert (rows[0].decided_by, rows[0].reason) == ("cost", "4 ns here, 9 ns on echo:one")
    assert (rows[2].decided_by, rows[2].reason) == ("cost", "5 ns here, 8 ns on echo:two")
    assert change(rows[0], ONE) == "6 ns less there"  # 9 against 4, nothing else changes; a tie would not move it
    assert change(rows[2], TWO) == "4 ns less there"
    assert (rows[1].decided_by, rows[1].reason) == ("only", "no other device that competes runs it")
    assert obstacle(rows[1], "cpu") == "name cpu among the devices; even then it stays on echo:one"
    assert change(rows[1], "cpu") == ""


def test_a_change_that_is_announced_comes_true() -> None:
    costs = table({ONE: (9, 1, 5, 1), TWO: (4, 1, 8, 1)}, two=DeviceCosts(TWO, 2))
    other = candidate(explained([ONE, TWO], costs).rows[2], TWO)
    assert other.cost is not None and other.change_ns == 6  # more than 3 for the op, 2 for a launch
    for less, expected in ((other.change_ns - 1, ONE), (other.change_ns, TWO)):
        row = costs.ops[2]
        cheaper = replace(row, costs={**row.costs, TWO: Cost(8 - less, "file")})
        found = explained([ONE, TWO], replace(costs, ops=(*costs.ops[:2], cheaper, costs.ops[3])))
        assert found.rows[2].device == expected


def test_launch_and_copies_can_cost_more_than_an_op_saves() -> None:
    far = DeviceCosts(TWO, 100, Link(10, 10**9), Link(10, 10**9), "echo:two")
    row = explained([ONE, TWO], table({ONE: (9, 1, 5, 1), TWO: (4, 1, 8, 1)}, two=far)).rows[0]
    assert row.device == ONE and row.decided_by == "cost"
    assert row.reason == "9 ns here, 4 ns on echo:two, where launch and copies would cost more than that saves"
    assert re.fullmatch("cost nothing there, and .* ns less for launch and copies", change(row, TWO))


def test_the_only_one_and_who_stands_under_them() -> None:
    rows = explained([TWO], table({TWO: (1, 1, 1, 1)})).rows
    assert [(row.device, row.decided_by) for row in rows] == [(TWO, "only"), ("cpu", "only")] * 2
    assert rows[1].reason == "echo:two does not run it, cpu does"
    assert rows[1].refusals == {TWO: "the test keeps this op from the device"}


def test_pins_and_exclusions() -> None:
    costs = table({ONE: (1, 1, 1, 1), TWO: (9, 9, 9, 9)})
    rows = explained([ONE, TWO], costs, pins={0: TWO}, exclude={"SUB": ONE, 2: ONE}).rows
    assert (rows[0].device, rows[0].decided_by, change(rows[0], ONE)) == (TWO, "pin", "remove the pin")
    assert (rows[2].device, rows[2].refusals[ONE], change(rows[2], ONE)) == (
        TWO, "it was excluded", "remove the exclusion",
    )  # fmt: skip
    assert rows[3].device == "cpu" and rows[3].refusals[ONE] == "it was excluded"


def test_what_taking_back_a_pin_or_an_exclusion_does_is_tried() -> None:
    """Said of a change is only what comes true; where the op stays, or goes elsewhere, that is said."""
    costs = table({ONE: (1, 9, 1, 1), TWO: (9, 1, 9, 9)})
    pins, exclude = {0: TWO, 2: ONE}, {3: ONE, 1: ONE}
    rows = explained([ONE, TWO], costs, pins=pins, exclude=exclude).rows
    for op, device in ((0, ONE), (2, TWO), (3, ONE), (1, ONE)):
        left = {
            "pins": {p: d for p, d in pins.items() if p != op},
            "exclude": {p: d for p, d in exclude.items() if p != op},
        }
        then = explained([ONE, TWO], costs, **left).rows[op].device
        assert bool(change(rows[op], device)) == (then == device)
        if then != device:
            how = "stays on" if then == rows[op].device else "goes to"
            assert obstacle(rows[op], device).endswith(f"; even then it {how} {then}")
    assert [bool(change(rows[op], d)) for op, d in ((0, ONE), (2, TWO), (3, ONE))] == [True, False, True]


@pytest.mark.parametrize("dearer", [10, 60])
def test_naming_a_device_is_a_change_where_it_brings_the_op_there(dearer: int) -> None:
    """The cpu takes 50, the device less or more than that."""
    costs = table({ONE: (dearer,) * 4})
    rows, named = explained([ONE], costs).rows, explained([ONE, "cpu"], costs).rows
    for row, then in zip(rows, named, strict=True):
        assert bool(change(row, "cpu")) == (then.device == "cpu")
        assert obstacle(row, "cpu").startswith("name cpu among the devices")
        assert "reference" not in {c.device for c in row.candidates}  # nobody named it, and nothing goes there


def test_what_a_device_says_of_segments_counts_for_what_would_move_an_op() -> None:
    """Found again by making the op cheaper, nanosecond by nanosecond."""
    costs = table({ONE: (100,) * 4}, one=DeviceCosts(ONE, source="measured", estimates_segments=True))
    estimates = [SegmentEstimate(0, ONE, tuple(range(a, b)), 40 * (b - a)) for a in range(5) for b in range(a + 1, 5)]
    costs = replace(costs, segments=tuple(estimates))
    rows = explained([ONE, "cpu"], costs).rows
    assert {row.device for row in rows} == {ONE}
    less = candidate(rows[0], "cpu").change_ns
    assert less is not None
    for given, expected in ((less - 1, ONE), (less, "cpu")):
        cheaper = replace(costs.ops[0], costs={**costs.ops[0].costs, "cpu": Cost(50 - given, "file")})
        assert explained([ONE, "cpu"], replace(costs, ops=(cheaper, *costs.ops[1:]))).rows[0].device == expected


def test_a_tie_is_said_to_be_one_even_for_nothing() -> None:
    rows = explained([ONE, TWO], table({ONE: (0,) * 4, TWO: (0,) * 4})).rows
    assert change(rows[0], TWO) == "as good there: pin it"
    assert explained([ONE, TWO], table({ONE: (0,) * 4, TWO: (0,) * 4}), pins={0: TWO}).rows[0].device == TWO


def test_what_does_not_compete_is_no_reason() -> None:
    """A device with limits, and a cpu that would be quicker but stands under it."""
    costs = table({"echo:few": (90,) * 4})
    costs = replace(costs, devices=(DeviceCosts("echo:few", limits=Limits(max_segments=1)), *costs.devices[1:]))
    placement = explained(["echo:few"], costs)
    assert {(row.device, row.decided_by, row.reason) for row in placement.rows} == {
        ("echo:few", "only", "no other device competes")
    }
    assert [group.why for group in groups(placement)] == ["no other device competes"]


def test_limits_are_asked_about_without_cutting_all_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each op on each device is a move from where they are, not another schedule of them all."""
    n = 80
    g = GraphBuilder()
    tensor = g.input([8, 8])
    for _ in range(n):
        tensor = g.op("RELU", [tensor], [8, 8])
    g.outputs = [tensor]
    nanoseconds = {"echo:few": 1, ONE: 9, "cpu": 50, "reference": 60}
    row = {device: Cost(ns, "file") for device, ns in nanoseconds.items()}
    rows = [OpCosts(0, op, "RELU", {}, row | {"echo:few": Cost(1 + 50 * (op % 3 == 0), "file")}) for op in range(n)]
    limited = DeviceCosts("echo:few", limits=Limits(max_segments=1))
    devices = (limited, *(DeviceCosts(device) for device in (ONE, "cpu", "reference")))
    costs = CostTable("host", devices, tuple(rows), ("cpu", "reference"))
    made: list[int] = []
    own_runs, own_rows = Schedule.runs, reasons.rows_of

    def runs(self: Schedule[int], devices: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        made.append(len(devices))
        return own_runs(self, devices)

    def rows_of(decision: Decision, tried: Tried) -> list[OpPlacement]:
        with monkeypatch.context() as patched:
            patched.setattr(Schedule, "runs", runs)
            return own_rows(decision, tried)

    monkeypatch.setattr(record, "rows_of", rows_of)
    found = dg.explain(model(g), devices=["echo:few", ONE], costs=costs).placement.rows
    assert sum("takes at most 1 segment" in obstacle(row, "echo:few") for row in found if row.device == ONE) > n // 3
    assert 0 < len(made) < n // 2


def test_given() -> None:
    ops = [{"op": op, "device": ONE} for op in range(4)]
    document = {"format": "delegraph-placement", "version": 1, "ops": ops}
    rows = explained([ONE, TWO], table({ONE: (9,) * 4, TWO: (1,) * 4}), placement=document).rows
    assert {(row.device, row.decided_by, row.reason) for row in rows} == {
        (ONE, "given", "the placement that was handed in")
    }
    assert change(rows[0], TWO) == "put it on echo:two in the placement"


def test_a_failure() -> None:
    with faults.inject(ONE, faults.FailRun(times=None)):
        compiled = dg.compile(chain(), devices=[ONE])
        check(compiled(X))
        row = compiled.placement.rows[0]
    assert (row.device, row.decided_by, row.reason) == ("cpu", "failure", "echo:one failed")
    assert obstacle(row, ONE) == "the device is tried again after a while; see its reason"


@pytest.mark.parametrize(
    ("device", "other", "sentence"),
    [
        ("echo:few", (9, 1, 9, 9), "takes at most 1 segment, and there would be another"),
        ("echo:large", (9, 1, 9, 9), "takes segments of at least 2 ops, and there would be one of 1"),
    ],
)
def test_a_limit_says_what_it_forbids(device: str, other: tuple[int, int, int, int], sentence: str) -> None:
    """Alone, ADD would be cheaper on the limited device; what is on the other one in between forbids it."""
    costs = table({device: (1, 50, 1, 1), ONE: other})
    short = device.removeprefix("echo:")
    limits = {"few": Limits(max_segments=1), "large": Limits(min_ops=2)}[short]
    costs = replace(costs, devices=(DeviceCosts(device, limits=limits), *costs.devices[1:]))
    placement = explained([device, ONE], costs)
    barred = [row for row in placement.rows if row.device == ONE and row.decided_by == "limit"]
    assert barred and all(sentence in row.reason for row in barred)
    assert all(obstacle(row, device) == f"not alone: it {sentence}" for row in barred)


@pytest.mark.parametrize("pins", [{}, {0: ONE}])
def test_what_is_behind_an_op_that_a_prefix_device_refuses_says_which(pins: dict[int, str]) -> None:
    """The op that is refused, rather than one that is elsewhere for another reason."""
    devices = (DeviceCosts("echo:prefix", limits=Limits(prefix_only=True)), DeviceCosts(ONE))
    costs = replace(table({"echo:prefix": (1,) * 4, ONE: (9,) * 4}))
    costs = replace(costs, devices=(*devices, *costs.devices[2:]))
    rows = explained(["echo:prefix", ONE], costs, exclude={1: "echo:prefix"}, pins=pins).rows
    assert [row.device for row in rows] == [ONE if pins else "echo:prefix", ONE, ONE, ONE]
    says = "it takes only what starts at the graph's inputs, and op 1 RELU before this one is not one that it takes"
    assert rows[2].decided_by == rows[3].decided_by == "limit"
    assert rows[2].reason == f"echo:prefix: {says}" and obstacle(rows[2], "echo:prefix") == f"not alone: {says}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Support(Verdict.NO, "a.b", "it is so, found 4", "do this", "4", "3"), "do this"),
        (
            Support(Verdict.NO, "C.stride", "strides are at most 3, found 4", "", "4", "3"),
            "change the op so that strides are at most 3",
        ),
        (
            Support(Verdict.NO, "C.x", "there is a bias, found none; rank is 4, found 3"),
            "change the op so that there is a bias and rank is 4",
        ),
        (
            Support(Verdict.NO, "op_set", "x has no ELU", "", "ELU", "the 39 ops of its profile"),
            "replace ELU by one of the 39 ops of its profile",
        ),
        (Support(Verdict.NO, "cpu.op", "there is no native code for ELU yet"), ""),
    ],
)
def test_the_smallest_change(answer: Support, expected: str) -> None:
    assert change_of(answer) == expected
