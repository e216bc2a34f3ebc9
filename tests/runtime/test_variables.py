"""Variable tensors: of segments on every kind of device, behind shapes that depend on data, set by hand.

No built-in op that runs here has a variable tensor yet, so the op is one of the test's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.runtime.test_fallback import everything
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.model.model import Model
from delegraph.core.ops import bounds, registry
from delegraph.core.ops.opdef import Form, Kernel, Node, OpDef
from delegraph.testing import faults


def _shapes(node: Node) -> list[Shape]:
    return [node.input(0).shape]


def _prepare(node: Node) -> Kernel:
    def kernel(x: Array, state: Array) -> tuple[Array, Array]:
        return state + x, state + x

    return kernel


ACCUMULATE = OpDef(
    name="TestAccumulate",
    inputs=("x", "state"),
    outputs=("sum",),
    shapes=_shapes,
    forms=(Form("float32, float32 -> float32", _prepare),),
    options="",
    bound=bounds.exact,
    variables=(1,),
    is_custom=True,
)

MANNERS: dict[str, dict[str, Any]] = {
    "inline": {},
    "watched": {"may_hang": True},
    "apart": {"may_hang": True, "memory_domain": "echo:it", "apart": True},
}


@pytest.fixture(autouse=True)
def _accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.find("ADD")
    monkeypatch.setitem(registry._ops, ACCUMULATE.name, ACCUMULATE)


@pytest.fixture(params=MANNERS)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    with registered(EchoDelegate("it", everything, **MANNERS[request.param])):
        yield "echo:it"


def two_in_a_row() -> Model:
    """s += x + x; t += s: two variables, the second one counts what the first one gives."""
    g = GraphBuilder()
    x = g.input([4])
    s, t = g.tensor([4], is_variable=True), g.tensor([4], is_variable=True)
    first = g.op("TestAccumulate", [g.op("ADD", [x, x], [4]), s], [4])
    g.outputs = [g.op("TestAccumulate", [first, t], [4])]
    return model(g)


def behind_data() -> Model:
    """v += reshape(x, shape), then v += the result, both behind a shape that depends on data."""
    g = GraphBuilder()
    x, shape = g.input([4]), g.input([1], DType.INT32)
    v = g.tensor([4], is_variable=True)
    y = g.op("RESHAPE", [x, shape], [1])
    first = g.op("TestAccumulate", [y, v], [4])
    g.outputs = [g.op("TestAccumulate", [first, v], [4]), first]
    return model(g)


X = np.array([1, 2, 3, 4], np.float32)


def test_a_variable_of_a_segment_counts_on(device: str) -> None:
    compiled = dg.compile(two_in_a_row(), devices=[device], fallback="error")
    assert set(compiled.receipt().devices) == {device}
    session = compiled.session()
    s = t = 0 * X
    for _ in range(4):
        s = s + 2 * X
        t = t + s
        np.testing.assert_array_equal(compiled(X), t)
    np.testing.assert_array_equal(session(X), 2 * X)  # has its own
    np.testing.assert_array_equal(session.variable(0, 1), 2 * X)


@pytest.mark.parametrize("fault", [faults.FailRun(at=1), faults.LoseDevice(at=1), faults.OutOfMemory(at=2)])
def test_a_failed_run_counts_once(device: str, fault: faults.Fault) -> None:
    with faults.inject(device, fault) as state:
        compiled = dg.compile(two_in_a_row(), devices=[device])
        s = t = 0 * X
        for _ in range(4):
            s = s + 2 * X
            t = t + s
            np.testing.assert_array_equal(compiled(X), t)
        assert state.struck


def test_a_variable_behind_a_late_shape_counts_on(device: str) -> None:
    compiled = dg.compile(behind_data(), devices=[device])
    v = 0 * X
    for _ in range(3):
        first = v + X
        v = first + first
        found = compiled(X, np.array([4], np.int32))
        np.testing.assert_array_equal(found[1], first)
        np.testing.assert_array_equal(found[0], v)


def test_a_variable_can_be_set_and_read(device: str) -> None:
    session = dg.compile(two_in_a_row(), devices=[device]).session()
    given = np.full(4, 10, np.float32)
    session.set_variable(0, 1, given)
    given[:] = -1  # the session has a copy
    np.testing.assert_array_equal(session(X), 10 + 2 * X)
    np.testing.assert_array_equal(session.variable(0, 1), 10 + 2 * X)
    session.reset_variable_tensors()
    np.testing.assert_array_equal(session(X), 2 * X)
    session.set_variable(0, 1, [1, 2, 3, 4])  # type: ignore[arg-type]
    np.testing.assert_array_equal(session(X), 2 * X + X + 2 * X)


@pytest.mark.parametrize(
    ("tensor", "value", "message"),
    [
        (1, np.zeros(4), "variable 't1': expected float32, found float64; convert it with .astype(numpy.float32)"),
        (1, np.zeros(5, np.float32), "variable 't1': expected shape [4], found [5]"),
        (1, np.zeros((2, 2), np.float32), "variable 't1': expected shape [4], found [2, 2]"),
        (1, "four", "variable 't1': expected float32 values, found str"),
        (0, np.zeros(4, np.float32), "tensor 't0': expected a variable tensor, found one that each run computes"),
    ],
)
def test_what_a_variable_can_not_be_set_to(tensor: int, value: Any, message: str) -> None:
    session = dg.compile(two_in_a_row(), devices="reference").session()
    session(X)
    with pytest.raises(dg.InvalidArgument) as caught:
        session.set_variable(0, tensor, value)
    assert str(caught.value) == message
    np.testing.assert_array_equal(session.variable(0, 1), 2 * X)
