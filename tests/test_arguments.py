"""What ``dg.compile`` and ``dg.explain`` refuse, in words; and what a compiled model shows of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph.core.graph.dtype import DType
from delegraph.core.model.model import Model


def doubled(signature: str = "") -> Model:
    g = GraphBuilder()
    x = g.input([1, 4])
    y = g.op("ADD", [x, x], [1, 4])
    g.outputs = [g.op("MUL", [y, x], [1, 4])]
    return model(g, signatures={signature: (0, {"x": x}, {"y": g.outputs[0]})} if signature else None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 3}, "devices: expected a device's id, or a list of ids, found 3"),
        ({"devices": True}, "devices: expected a device's id, or a list of ids, found True"),
        ({"timeout_s": "x"}, "timeout_s: expected a positive number of seconds, found 'x'"),
        ({"timeout_s": None}, "timeout_s: expected a positive number of seconds, found None"),
        ({"timeout_s": float("nan")}, "timeout_s: expected a positive number of seconds, found nan"),
        ({"threads": "2"}, "threads: expected a whole number of at least 1, or None, found '2'"),
        ({"threads": 2.0}, "threads: expected a whole number of at least 1, or None, found 2.0"),
        ({"threads": np.int64(0)}, "threads: expected a whole number of at least 1, or None, found np.int64(0)"),
        ({"threads": True}, "threads: expected a whole number of at least 1, or None, found True"),
        (
            {"pins": {0: "cpu"}, "exclude": {0: "cpu"}},
            "pins and exclude for cpu: expected different ops, found op 0 in both; take them out of one",
        ),
        (
            {"pins": {"0-1": "reference", "MUL": "cpu"}, "exclude": {"0-9": "cpu"}},
            "pins and exclude for cpu: expected different ops, found op 1 in both; take them out of one",
        ),
        (
            {"pins": {"0-1": "cpu"}, "exclude": {"MUL": "cpu", "ADD": "cpu"}},
            "pins and exclude for cpu: expected different ops, found op 0 and 1 more in both; take them out of one",
        ),
    ],
    ids=lambda v: repr(v)[:60],
)
def test_what_compile_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(dg.InvalidArgument) as caught:
        dg.compile(doubled(), **options)
    assert str(caught.value) == message


def test_a_device_without_figures_for_energy_is_an_argument_out_of_its_range() -> None:
    with pytest.raises(dg.NoEnergyModel, match="expected an energy cost for every candidate, found none for cpu; use"):
        dg.compile(doubled(), objective="energy")
    assert issubclass(dg.NoEnergyModel, dg.InvalidArgument)


def test_explain_refuses_contradictions_too() -> None:
    with pytest.raises(dg.InvalidArgument, match="pins and exclude for cpu: expected different ops"):
        dg.explain(doubled(), pins={0: "cpu"}, exclude={0: "cpu"})
    costs = dg.explain(doubled(), devices=["cpu"]).costs
    with pytest.raises(dg.InvalidArgument, match="pins and exclude for cpu: expected different ops"):
        dg.explain(doubled(), costs=costs, pins={0: "cpu"}, exclude={0: "cpu"})


def test_ops_may_be_pinned_here_and_excluded_there() -> None:
    m = dg.compile(doubled(), pins={0: "reference"}, exclude={0: "cpu"})
    assert [row.device for row in m.placement.rows] == ["reference", "cpu"]


@pytest.mark.parametrize("options", [{"threads": np.int64(2)}, {"timeout_s": np.float32(3)}, {"timeout_s": 2}], ids=str)
def test_numbers_of_numpy_are_numbers(options: dict[str, Any]) -> None:
    assert dg.compile(doubled(), **options)(np.ones((1, 4), np.float32)).tolist() == [[2.0] * 4]


def test_a_model_without_signatures_says_so() -> None:
    for callable_model in (dg.compile(doubled()), dg.compile(doubled()).session()):
        with pytest.raises(dg.InvalidArgument) as caught:
            callable_model.signature("serve")
        found = "signature: expected a model with signatures, found one without any; call the model itself: m(...)"
        assert str(caught.value) == found
    with pytest.raises(dg.InvalidArgument, match="signature: expected one of 'serve', found 'save'"):
        dg.compile(doubled("serve")).signature("save")


def test_what_is_shown_is_short() -> None:
    m = dg.compile(doubled("serve"))
    shown = "CompiledModel('test model', (t0: float32[1, 4]) -> (t2: float32[1, 4]))"
    assert repr(m) == shown
    assert repr(m.placement).startswith("<Placement of test model: runs on: ") and len(repr(m.placement)) < 200
    assert repr(m.receipt()).startswith("<Receipt: 0 runs in 0 s on ")
    assert repr(m.session()) == f"ModelSession({shown})"
    assert repr(m.signature("serve")) == "SignatureCall('serve', (x: float32[1, 4]) -> (y: float32[1, 4]))"


def test_an_open_dimension_is_shown_as_the_file_has_it() -> None:
    g = GraphBuilder()
    g.outputs = [g.input([1, 4], DType.INT8, signature=[-1, 4])]
    assert repr(dg.compile(model(g))) == "CompiledModel('test model', (t0: int8[-1, 4]) -> (t0: int8[-1, 4]))"
