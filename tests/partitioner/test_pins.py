"""Pins: an op runs where the user wants it, if that device takes it; what names no op is an error."""

from __future__ import annotations

import numpy as np
import pytest
from tests.runtime.test_fallback import X, chain, check, everything, only
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts

DEVICES = ["echo:one", "echo:two"]
HERE = {device: Cost(1000 + n, "file") for n, device in enumerate((*DEVICES, "cpu", "reference"))}
COSTS = CostTable(
    "host", tuple(map(DeviceCosts, HERE)), tuple(OpCosts(0, op, "", {}, HERE) for op in range(4)), ("cpu", "reference")
)
"""Every op is cheapest on the first device; starting a segment and copying cost nothing."""


def _placed(pins: dict[str | int, str]) -> list[str]:
    compiled = dg.compile(chain(), devices=DEVICES, pins=pins, costs=COSTS)
    check(compiled(X))
    return [row.device.removeprefix("echo:") for row in compiled.placement.rows]


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ({}, ["one", "one", "one", "one"]),
        ({1: "echo:two"}, ["one", "two", "one", "one"]),
        ({"1-2": "echo:two"}, ["one", "two", "two", "one"]),
        ({"MUL": "echo:two"}, ["one", "one", "two", "one"]),
        ({"0:3": "echo:two"}, ["one", "one", "one", "two"]),
        ({"0-3": "echo:two", "RELU": "echo:one"}, ["two", "one", "two", "two"]),
    ],
)
def test_pins_decide(pins: dict[str | int, str], expected: list[str]) -> None:
    with registered(EchoDelegate("one", everything), EchoDelegate("two", everything)):
        assert _placed(pins) == expected


def test_a_device_that_refuses_gives_way_and_the_record_says_so() -> None:
    with registered(EchoDelegate("one", everything), EchoDelegate("two", only("MUL"))):
        compiled = dg.compile(chain(), devices=DEVICES, pins={"0-3": "echo:two"}, costs=COSTS)
        row = compiled.placement.rows[0]
        assert row.device == "echo:one" and "keeps this op" in row.refusals["echo:two"]
        np.testing.assert_array_equal(compiled(X)[1], np.maximum(X + X, 0))


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ({"99": "echo:one"}, "ops of test model, found none that '99' names"),
        ({"CONV_2D": "echo:one"}, "found none that 'CONV_2D' names"),
        ({"4:0": "echo:one"}, "found none that '4:0' names"),
        ({"a-b": "echo:one"}, "an op's index, a range such as 3-17"),
        ({"0": "opencl:7"}, "one of the model's devices"),
    ],
)
def test_what_names_nothing_is_an_error(pins: dict[str | int, str], message: str) -> None:
    with registered(EchoDelegate("one", everything), EchoDelegate("two", everything)):
        with pytest.raises(dg.InvalidArgument, match=message):
            dg.compile(chain(), devices=DEVICES, pins=pins)
