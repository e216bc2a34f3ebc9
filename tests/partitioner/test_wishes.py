"""What users ask of a placement, in combinations: it is kept, or a sentence says why not, and the model still runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support import shared_path

import delegraph as dg
from delegraph.partitioner.costs import CostTable, DeviceCosts
from delegraph.partitioner.solver.problem import NoEnergyModel

CORAL = "nnapi:coral-dev-board"


def path(name: str) -> str:
    return str(shared_path() / "models" / "real" / f"{name}.tflite")


QUANT, FLOAT = "mobilenet_v1_0.25_128_quant", "mlperf_resnet8_float"


def devices_of(found: Any) -> dict[int, str]:
    placement = getattr(found, "placement", found)
    return {row.op: row.device for row in placement.rows}


@pytest.mark.parametrize("make", [dg.compile, dg.explain], ids=["compile", "explain"])
def test_what_the_cpu_must_not_run_the_reference_device_runs(make: Callable[..., Any]) -> None:
    found = make(path(QUANT), machine="coral-dev-board", devices=["nnapi:coral-dev-board", "cpu"], exclude={"5": "cpu"})
    assert devices_of(found)[5] == "reference" and devices_of(found)[4] == "cpu"


def test_an_op_can_be_pinned_to_the_reference_device() -> None:
    found = dg.explain(path(QUANT), devices=[CORAL, "cpu"], pins={"20": "reference"})
    assert devices_of(found)[20] == "reference"


def test_the_reference_device_can_stand_for_the_cpu() -> None:
    found = dg.explain(path(QUANT), devices=[CORAL, "reference"], numerics="fast").placement
    assert {row.device for row in found.rows} == {CORAL}
    (prediction,) = found.predictions
    assert prediction.cpu_alone_ns is not None and prediction.total_ns <= prediction.cpu_alone_ns


def test_costs_that_say_nothing_of_a_late_stage_leave_it_to_the_order() -> None:
    costs = dg.explain(path("dtln_1_while"), machine="pixel-3", numerics="fast").costs
    model = dg.compile(path("dtln_1_while"), devices=["nnapi:phone-dsp", "cpu"], costs=costs, numerics="fast")
    inputs = [np.zeros([max(1, size) for size in each.shape], each.dtype.numpy) for each in model.inputs]
    expected = dg.compile(path("dtln_1_while"), devices="reference")(*inputs)
    for ours, theirs in zip(model(*inputs), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_costs_are_for_the_shapes_that_they_were_written_for() -> None:
    costs = dg.explain(path(FLOAT), machine="pixel-3").costs
    model = dg.compile(path(FLOAT), devices=["nnapi:sample-minimal", "cpu"], costs=costs)
    model.plan(0, [(64, 32, 32, 3)])
    assert any("in these shapes" in note for note in model.placement.notes)


def test_costs_of_another_model_or_machine_are_refused() -> None:
    costs = dg.explain(path(QUANT), machine="coral-dev-board", numerics="fast").costs
    for make in (dg.compile, dg.explain):
        with pytest.raises(dg.InvalidArgument, match="the costs are of another model"):
            make(path("person_detect"), devices=[CORAL, "cpu"], costs=costs, numerics="fast")
        with pytest.raises(dg.InvalidArgument, match="machine pixel-3: expected costs of that machine"):
            make(path(QUANT), machine="pixel-3", costs=costs)


def test_shapes_in_costs_read_back() -> None:
    costs = dg.explain(path(QUANT), machine="coral-dev-board").costs
    assert costs.ops[0].shapes == ((1, 64, 64, 8),)
    assert CostTable.from_json(costs.to_json()) == costs


def test_a_pin_that_can_not_be_kept_is_told() -> None:
    found = dg.explain(path(QUANT), devices=[CORAL, "cpu"], pins={"3": CORAL, "5-7": CORAL}).placement
    assert any(note.startswith(f"4 ops (the first is 3) are pinned to {CORAL}, which refuses") for note in found.notes)


def test_a_pin_may_name_the_only_device_of_a_family() -> None:
    found = dg.explain(path(QUANT), devices=[CORAL, "cpu"], pins={"3": "nnapi"}, numerics="fast")
    assert devices_of(found)[3] == CORAL


@pytest.mark.parametrize("pins", [[("3", "cpu")], {"3": ["cpu"]}, {"3": "opencl"}, {"3": 7}, "3=cpu"], ids=repr)
def test_pins_of_another_form_are_refused(pins: Any) -> None:
    for wish in ("pins", "exclude"):
        with pytest.raises(dg.InvalidArgument, match="expected (ops and devices|one of the model's devices)"):
            dg.explain(path(QUANT), devices=[CORAL, "cpu"], **{wish: pins})


def test_energy_without_figures_is_an_error_for_every_entry() -> None:
    for make in (dg.compile, dg.explain):
        with pytest.raises(NoEnergyModel):
            make(path(QUANT), devices=["nnapi:ethos-u65-256", "cpu"], objective="energy")


def test_without_falling_back_every_device_says_why() -> None:
    with pytest.raises(dg.DelegateError) as caught:
        dg.compile(path("deeplabv3_mnv2_dm05_pascal_quant"), devices=[CORAL, "cpu"], fallback="error")
    text = str(caught.value)
    assert (
        text.startswith(CORAL)
        and "coral-dev-board has no ARG_MAX" in text
        and "cpu: there is no native code for ARG_MAX" in text
    )
    assert "allow falling back" in text


def test_costs_that_know_no_op_leave_everything_to_the_order() -> None:
    nothing = CostTable("coral-dev-board", (DeviceCosts(CORAL), DeviceCosts("cpu"), DeviceCosts("reference")), ())
    found = dg.compile(path(QUANT), devices=[CORAL, "cpu"], costs=nothing, numerics="fast")
    assert set(devices_of(found).values()) == {CORAL}
    assert any("say nothing of 31 ops" in note for note in found.placement.notes)
