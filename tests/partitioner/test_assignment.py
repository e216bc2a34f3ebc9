"""Who gets what: devices that were named, those under them, machines that can't be compared, energy, and no figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from tests.runtime.test_fallback import X, chain, check, everything, only
from tests.support import require, shared_path
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import storage
from delegraph.core.abi.values import DelegateError, DeviceInfo, ErrorCode, Limits, Link, Support, Verdict
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts
from delegraph.partitioner.solver.problem import NoEnergyModel

ONE, TWO = "echo:one", "echo:two"
NAMES = ("ADD", "RELU", "MUL", "SUB")
REAL = shared_path() / "models" / "real"


@pytest.fixture(autouse=True)
def _devices() -> Iterator[None]:
    with registered(
        EchoDelegate("one", everything),
        EchoDelegate("two", only("ADD", "MUL")),
        EchoDelegate("few", only("ADD", "MUL", "SUB"), limits=Limits(max_segments=1)),
    ):
        yield


def costs(columns: Mapping[str, tuple[int, ...]], fallbacks: tuple[str, ...] = (), **limits: Limits) -> CostTable:
    rows = [OpCosts(0, op, NAMES[op], {}, {d: Cost(ns[op], "file") for d, ns in columns.items()}) for op in range(4)]
    devices = [DeviceCosts(d, limits=limits.get(d.removeprefix("echo:"), Limits())) for d in columns]
    return CostTable("host", tuple(devices), tuple(rows), fallbacks)


def placed(compiled: dg.CompiledModel) -> list[str]:
    check(compiled(X))
    return [row.device for row in compiled.placement.rows]


def test_a_device_that_is_named_alone_gets_all_that_it_takes() -> None:
    """However dear it is: no costs are looked at."""
    assert placed(dg.compile(chain(), devices=[TWO])) == [TWO, "cpu", TWO, "cpu"]
    dear = costs({TWO: (10**9,) * 4, "cpu": (1,) * 4, "reference": (1,) * 4}, ("cpu", "reference"))
    assert placed(dg.compile(chain(), devices=[TWO], costs=dear)) == [TWO, "cpu", TWO, "cpu"]


def test_the_cpu_competes_when_it_is_named() -> None:
    table = costs({TWO: (10, 10, 10, 10), "cpu": (1, 1, 99, 1), "reference": (500,) * 4}, ("reference",))
    assert placed(dg.compile(chain(), devices=[TWO, "cpu"], costs=table)) == ["cpu", "cpu", TWO, "cpu"]


def test_a_device_whose_limits_forbid_part_gets_the_best_part() -> None:
    """At most one segment: {ADD} or {MUL, SUB}, for it has no RELU; the CPU takes the rest."""
    table = costs(
        {"echo:few": (5, 5, 5, 5), "cpu": (50,) * 4, "reference": (60,) * 4},
        ("cpu", "reference"),
        few=Limits(max_segments=1),
    )
    compiled = dg.compile(chain(), devices=["echo:few"], costs=table)
    assert placed(compiled) == ["cpu", "cpu", "echo:few", "echo:few"]
    assert compiled.placement.rows[0].decided_by == "limit"
    assert compiled.placement.predictions[0].bound_ns is None


def test_the_split_is_the_best_of_all() -> None:
    """Against every split of the four ops on three devices, with launches and the order's ties."""
    columns = {ONE: (7, 3, 9, 2), "cpu": (4, 6, 5, 6), "reference": (9, 9, 1, 9)}
    launch = {ONE: 3, "cpu": 1, "reference": 0}
    rows = costs(columns).ops
    table = CostTable("host", tuple(DeviceCosts(d, launch[d]) for d in columns), rows)
    (prediction,) = dg.explain(chain(), devices=list(columns), costs=table).placement.predictions

    def price(split: tuple[str, ...]) -> int:
        starts = [split[0], *(b for a, b in itertools.pairwise(split) if a != b)]
        return sum(columns[d][op] for op, d in enumerate(split)) + sum(launch[d] for d in starts)

    assert prediction.total_ns == prediction.bound_ns == min(map(price, itertools.product(columns, repeat=4)))


def test_devices_of_several_machines_go_by_the_order_with_a_note() -> None:
    require("shared")
    devices = ["nnapi:ethos-u65-256", "nnapi:phone-dsp", "cpu"]
    found = dg.explain(REAL / "mlperf_kws_int8.tflite", devices=devices, numerics="fast").placement
    assert any("several machines (ethos-u65-board, pixel-3)" in note for note in found.notes)
    assert found.predictions == ()
    assert found.machine == "ethos-u65-board and pixel-3"
    assert {row.device for row in found.rows} == {"nnapi:ethos-u65-256"}
    assert {row.decided_by for row in found.rows} == {"order"}


def test_a_device_that_can_not_be_measured_leaves_it_to_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(info: DeviceInfo) -> None:
        raise DelegateError(info.id, ErrorCode.DEVICE_LOST, "it went away")

    monkeypatch.setattr(storage, "measured_costs", broken)
    monkeypatch.setattr(storage, "kept_costs", lambda info: None)
    compiled = dg.compile(chain(), devices=[TWO, ONE])
    assert placed(compiled) == [TWO, ONE, TWO, ONE]
    (note,) = compiled.placement.notes
    assert note.endswith("could not be measured, so that the order of the devices decides: it went away")
    assert {row.decided_by for row in compiled.placement.rows} == {"order", "only"}


# --- energy


def test_energy_on_the_coral_board() -> None:
    """1 pJ a multiply-accumulate: MobileNet's 300 million cost 0.3 mJ. Starting takes 0.5 ms, its input and output 0.42
    ms more, at 2 W; the board's CPU needs as many watts for all of its time."""
    require("shared")
    path = REAL / "mobilenet_v2_1.0_224_quant.tflite"
    found = dg.explain(path, machine="coral-dev-board", numerics="fast", objective="energy").placement
    (prediction,) = found.predictions
    assert found.objective == "energy"
    assert found.segments[0].predicted is not None
    assert 295_000 < found.segments[0].predicted.ops_ns < 310_000  # nanojoules
    assert found.segments[0].predicted.launch_ns == 1_000_000
    assert 830_000 < prediction.total_ns - 1_000_000 - found.segments[0].predicted.ops_ns < 850_000
    assert prediction.cpu_alone_ns is not None and prediction.cpu_alone_ns > 50 * prediction.total_ns
    assert {row.device for row in found.rows} == {"nnapi:coral-dev-board"}
    as_given = dg.explain(path, placement=found, numerics="fast", objective="energy").placement
    assert as_given.predictions[0].total_ns == prediction.total_ns
    assert as_given.predictions[0].cpu_alone_ns == prediction.cpu_alone_ns


def test_energy_without_figures_is_a_typed_error() -> None:
    require("shared")
    for machine in ("pixel-4", "pixel-3"):
        with pytest.raises(NoEnergyModel, match="expected an energy cost for every candidate, found none for"):
            dg.explain(REAL / "mlperf_kws_int8.tflite", numerics="fast", objective="energy", machine=machine)


def test_energy_of_starts_and_copies_has_to_be_known() -> None:
    yes = Support(Verdict.YES)
    rows = [OpCosts(0, op, NAMES[op], {"a": yes, "b": yes}, dict.fromkeys("ab", Cost(1, "file", 1))) for op in range(4)]

    def joules(a: DeviceCosts, objective: str = "energy") -> int:
        table = CostTable("x", (a, DeviceCosts("b")), tuple(rows))
        return (
            dg.explain(chain(), costs=table, objective=objective, pins={"0-3": "a"}).placement.predictions[0].total_ns
        )

    assert joules(DeviceCosts("a")) == 4
    assert joules(DeviceCosts("a", 1_000, power_w=2.0)) == 4 + 2_000
    far = DeviceCosts("a", 1_000, Link(500, 0), Link(250, 0), "far", power_w=2.0)
    assert joules(far) == 4 + 2 * (joules(far, "latency") - 4) > 4 + 2_000
    assert joules(replace(far, launch_ns=0, power_w=None, byte_pj=0.0)) == 4
    for unknown in (DeviceCosts("a", 1_000), replace(far, launch_ns=0, power_w=None)):
        with pytest.raises(NoEnergyModel, match="found none for a"):
            joules(unknown)


def test_energy_decides_otherwise_than_time() -> None:
    def cost(time_ns: int, energy_nj: int) -> Cost:
        return Cost(time_ns, "file", energy_nj)

    yes = Support(Verdict.YES)
    rows = [OpCosts(0, op, NAMES[op], {"a": yes, "b": yes}, {"a": cost(1, 9), "b": cost(9, 1)}) for op in range(4)]
    table = CostTable("x", (DeviceCosts("a", byte_pj=0.0), DeviceCosts("b", byte_pj=0.0)), tuple(rows))
    time = dg.explain(chain(), costs=table).placement
    energy = dg.explain(chain(), costs=table, objective="energy").placement
    assert {row.device for row in time.rows} == {"a"} and time.predictions[0].total_ns == 4
    assert {row.device for row in energy.rows} == {"b"} and energy.predictions[0].total_ns == 4
    assert "1 nJ here, 9 nJ on a" in energy.rows[0].reason
