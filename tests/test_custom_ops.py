"""Users' own operators: the documented example runs on a real model with that custom op."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.ops import registry

PAGE = Path(__file__).parents[1] / "docs" / "custom-ops.md"


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    registry.find("ADD")
    monkeypatch.setattr(registry, "_ops", dict(registry._ops))
    yield


def _example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    return str(code)


def test_the_documented_example_runs(fresh_registry: None) -> None:
    require("shared")
    path = shared_path() / "models" / "real" / "testdata" / "litert" / "custom_sinh.bin"
    with pytest.raises(dg.UnsupportedOp, match="Sinh: no custom op of that name is registered; register one with"):
        dg.compile(path)
    exec(compile(_example(), str(PAGE), "exec"), {})
    model = dg.compile(path)
    x = np.linspace(-1, 1, int(np.prod(model.inputs[0].shape)), dtype=np.float32).reshape(model.inputs[0].shape)
    np.testing.assert_allclose(model(x), np.sinh(x), rtol=1e-6)


def test_a_name_can_be_taken_once(fresh_registry: None) -> None:
    found = registry.find("ADD")
    assert found is not None
    with pytest.raises(dg.InvalidArgument, match="an op of that name is registered already"):
        dg.register_op(dg.OpDef("ADD", ("x",), ("y",), found.shapes, ()))


def test_a_custom_op_does_not_pass_for_a_builtin(fresh_registry: None) -> None:
    """A custom op called ADD is not TFLite's ADD."""
    from tests.graphs import GraphBuilder, model

    g = GraphBuilder()
    x = g.input([2])
    g.outputs = [g.op("ADD", [x, x], [2])]
    built = model(g)
    code = built.operator_codes[0].replace(deprecated_builtin_code=32, builtin_code=32, custom_code="ADD")
    custom = type(built)(built.root.replace(operator_codes=(code,)), built.source)
    with pytest.raises(dg.UnsupportedOp):
        dg.compile(custom)
