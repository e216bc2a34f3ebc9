"""Costs as JSON: they read back, decide a placement as they are written, and what is wrong is named."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from tests.graphs import GraphBuilder, model
from tests.partitioner.documents import TABLE, changed, removed, spoilt
from tests.runtime.test_fallback import chain
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.abi.values import GraphView, Limits, Segment, Support, Verdict
from delegraph.core.runtime.border import DeviceSlot
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts, SegmentEstimate
from delegraph.partitioner.solver.problem import NoEnergyModel

DOCUMENT = json.loads(json.dumps(TABLE.to_json()))
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "costs.schema.json").read_text())
NAMES = ("ADD", "RELU", "MUL", "SUB")
YES = Support(Verdict.YES)


def table(*costs: dict[str, int], launch_ns: int = 0) -> CostTable:
    """Of ``chain()``: nanoseconds of each op per device."""
    devices = list(dict.fromkeys(name for row in costs for name in row))
    rows = [
        OpCosts(0, op, NAMES[op], {d: YES for d in row}, {d: Cost(ns, "file") for d, ns in row.items()})
        for op, row in enumerate(costs)
    ]
    return CostTable("imagined", tuple(DeviceCosts(name, launch_ns) for name in devices), tuple(rows))


def test_every_field_reads_back() -> None:
    assert CostTable.from_json(DOCUMENT) == TABLE
    jsonschema.validate(DOCUMENT, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("launch_ns", "expected"),
    [
        (0, ["a", "b", "b", "a"]),  # each where it costs least
        (2, ["b", "b", "b", "a"]),
        (100, ["b", "b", "b", "b"]),  # one launch
    ],
)
def test_costs_decide_whatever_is_here(launch_ns: int, expected: list[str]) -> None:
    """Devices that don't exist, worked out by hand: what a launch costs decides how often the device changes."""
    costs = table({"a": 1, "b": 2}, {"a": 9, "b": 2}, {"a": 9, "b": 2}, {"a": 1, "b": 4}, launch_ns=launch_ns)
    found = dg.explain(chain(), costs=costs)
    prices = [row.costs for row in costs.ops]
    best = min(
        sum(price[device].time_ns for price, device in zip(prices, split, strict=True))
        + launch_ns * (1 + sum(one != other for one, other in pairwise(split)))
        for split in product("ab", repeat=4)
    )
    (prediction,) = found.placement.predictions
    assert prediction.total_ns == best == prediction.bound_ns
    assert [row.device for row in found.placement.rows] == expected
    assert found.placement.machine == "imagined"


def test_an_op_without_a_cost_is_named() -> None:
    costs = table({"a": 1}, {"a": 1}, {"a": 1})
    with pytest.raises(
        dg.InvalidArgument, match=r"costs: subgraphs\[0\].operators\[3\] SUB: expected a device .* found none"
    ):
        dg.explain(chain(), costs=costs)


def test_costs_of_another_model_are_refused() -> None:
    costs = table({"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}).to_json()
    costs["ops"][2]["name"] = "CONV_2D"
    with pytest.raises(dg.InvalidArgument, match="expected MUL, found CONV_2D; the costs are of another model"):
        dg.explain(chain(), costs=costs)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("devices", 1, "limits", "max_segments"), 1, "found the host has limits"),
        (("devices", 0, "launch_ns"), 1 << 50, "found the costs are too large"),
    ],
)
def test_costs_that_nothing_can_be_weighed_by(path: tuple[Any, ...], value: Any, message: str) -> None:
    document = table(*[{"a": 1, "cpu": 2}] * 4, launch_ns=value).to_json()
    with pytest.raises(dg.InvalidArgument, match=f"costs: expected figures that can be weighed, {message}; correct"):
        dg.explain(chain(), costs=changed(document, path, value))


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_shared_constant_counts_once_against_the_budget(is_shared: bool) -> None:
    """It lies on the device once, however many ops read it."""
    g = GraphBuilder()
    last = g.input([250])
    weights = [g.constant(np.full(250, 1 if is_shared else i, np.float32)) for i in range(4)]
    for i in range(4):
        last = g.op("MUL", [last, weights[0 if is_shared else i]], [250])
    g.outputs = [last]
    rows = [
        OpCosts(0, op, "MUL", {"a": YES, "cpu": YES}, {"a": Cost(10, "file"), "cpu": Cost(10**6, "file")})
        for op in range(4)
    ]
    limits = Limits(weight_budget_bytes=1_000)
    costs = CostTable("x", (DeviceCosts("a", limits=limits, stream_bytes_per_s=10**9), DeviceCosts("cpu")), tuple(rows))
    placement = dg.explain(model(g), costs=costs).placement
    assert [row.device for row in placement.rows] == ["a"] * 4
    assert placement.predictions[0].total_ns == 40 + (0 if is_shared else 3_000)


@pytest.mark.parametrize("source", ["device", "measured"])
def test_a_stranger_may_estimate_segments_below_their_ops(source: str) -> None:
    found = table(*[{"a": 1_000, "cpu": 400}] * 4)
    devices = (replace(found.devices[0], estimates_segments=True, source=source), found.devices[1])
    costs = replace(found, devices=devices, segments=(SegmentEstimate(0, "a", (0, 1, 2, 3), 500),))
    (prediction,) = dg.explain(chain(), costs=costs).placement.predictions
    assert (prediction.total_ns, prediction.bound_ns) == (500, None)
    known = replace(costs, devices=(replace(devices[0], weight_cache_bytes=0), devices[1]), segments=())
    assert dg.explain(chain(), costs=known).placement.predictions[0].bound_ns == 1_600


def test_devices_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many what-ifs there are; and an emulated one that says no more than the sum is not asked of segments."""
    require("shared")
    asked: Counter[tuple[object, ...]] = Counter()
    estimate, of_segment = DeviceSlot.estimate, DeviceSlot.estimate_segment

    def counted(slot: DeviceSlot, view: GraphView) -> Any:
        asked[slot.id, view.graph.index, len(view.nodes)] += 1
        return estimate(slot, view)

    def counted_segment(slot: DeviceSlot, segment: Segment) -> Any:
        asked[slot.id, segment.graph.index, "segment", *(node.op.index for node in segment.nodes)] += 1
        return of_segment(slot, segment)

    monkeypatch.setattr(DeviceSlot, "estimate", counted)
    monkeypatch.setattr(DeviceSlot, "estimate_segment", counted_segment)
    path = shared_path() / "models" / "real" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    found = dg.explain(path, machine="coral-dev-board", numerics="fast")
    assert found.levers
    assert asked.most_common(1)[0][1] == 1 and any("segment" in key for key in asked)
    asked.clear()
    assert dg.explain(path, machine="pixel-3", numerics="fast").placement.predictions
    assert asked.most_common(1)[0][1] == 1 and not any("segment" in key for key in asked)


def test_energy_needs_figures_of_every_candidate() -> None:
    costs = table(*[{"a": 1, "b": 2}] * 4)
    with pytest.raises(NoEnergyModel, match="found none for"):
        dg.explain(chain(), costs=costs, objective="energy")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((), 4, "costs: expected an object, found 4"),
        (("format",), "delegraph-placement", "a document of format 'delegraph-costs', found 'delegraph-placement'"),
        (("version",), "1", "costs.version: expected 1, found '1'"),
        (("machine",), 4, "costs.machine: expected a text"),
        (("devices",), None, "costs.devices: expected a list"),
        (("devices", 0, "id"), "b", "costs.devices: expected each device once, found b, b"),
        (("devices", 0, "launch_ns"), -1, "costs.devices[0].launch_ns: expected a whole number from 0"),
        (("devices", 0, "launch_ns"), 2**60, "costs.devices[0].launch_ns: expected a whole number from 0"),
        (("devices", 0, "to_device"), 5, "costs.devices[0].to_device: expected an object"),
        (("devices", 0, "may_hang"), 0, "costs.devices[0].may_hang: expected true or false, found 0"),
        (("devices", 0, "limits", "max_segments"), 0, "limits.max_segments: expected a whole number from 1"),
        (("devices", 0, "byte_pj"), -0.5, "byte_pj: expected a number of at least 0, found -0.5"),
        (("devices", 0, "source"), "guess", "costs.devices[0].source: expected one of measured"),
        (("ops", 0, "devices", "x"), {"verdict": "yes"}, "costs.ops[0].devices.x: expected one of the devices a, b"),
        (("ops", 0, "devices", "b", "cost", "time_ns"), 1.5, "devices.b.cost.time_ns: expected a whole number"),
        (("segments", 0, "time_ns"), None, "costs.segments[0].time_ns: expected a whole number"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(dg.InvalidArgument) as caught:
        CostTable.from_json(changed(DOCUMENT, path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize("field", ["machine", "devices", "ops", "fallbacks", "segments"])
def test_what_has_to_be_there_is_missed(field: str) -> None:
    with pytest.raises(dg.InvalidArgument, match=f"costs: expected a field '{field}'"):
        CostTable.from_json(removed(DOCUMENT, (field,)))


@given(spoilt(DOCUMENT))
@settings(max_examples=400, deadline=None)
def test_a_spoilt_document_reads_or_is_refused(document: Any) -> None:
    try:
        found = CostTable.from_json(document)
    except dg.InvalidArgument:
        return
    assert CostTable.from_json(json.loads(json.dumps(found.to_json()))) == found


_SMALL = json.loads(json.dumps(table(*[{"a": 1, "b": 2, "cpu": 5}] * 4, launch_ns=1).to_json()))


@given(spoilt(_SMALL))
@settings(max_examples=200, deadline=None)
def test_spoilt_costs_explain_or_are_refused(document: Any) -> None:
    if not isinstance(document, dict):
        document = {"format": document}
    try:
        found = dg.explain(chain(), costs=document)
    except (dg.InvalidArgument, NoEnergyModel):
        return
    assert len(found.placement.rows) == 4
