"""Costs as JSON: they read back, decide a placement as they are written, and what is wrong is named."""

from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from tests.partitioner.documents import TABLE, changed, removed, spoilt
from tests.runtime.test_fallback import chain

import delegraph as dg
from delegraph.core.abi.values import Support, Verdict
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts
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
