"""Blocks and tables of elementwise ops: what the conformance cases are too small to reach."""

from __future__ import annotations

import numpy as np
import pytest

from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops import broadcasting, registry
from delegraph.core.ops.cases import case_model, quantized
from delegraph.core.ops.nodes import node_of, with_shapes
from delegraph.core.ops.opdef import Case, Operand, Result

SHAPES = [
    ((7, 11, 3), (7, 11, 3)),
    ((7, 1, 13), (5, 1)),
    ((2, 200), ()),
    ((1, 300), (1,)),
    ((3, 1, 40), (1, 9, 1)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_cover_every_element(
    a: tuple[int, ...], b: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "BLOCK_ELEMENTS", block)
    x, y = np.arange(np.prod(a)).reshape(a), np.arange(np.prod(b, dtype=int)).reshape(b) * 1000
    out = np.full(np.broadcast_shapes(a, b), -1)
    assert np.array_equal(broadcasting.fill(out, np.add, [x, y]), x + y)


def _run(name: str, dtype: DType) -> Array:
    """All pairs of values of an 8-bit type."""
    rng = np.random.default_rng(5)
    values = np.arange(256, dtype=np.uint8).view(dtype.numpy)
    qs = [quantized(rng, dtype, ())[0] for _ in range(3)]
    divisors = values[values != qs[1].zero_point]
    operands = (Operand(values[:, None], qs[0]), Operand(divisors, qs[1]))
    op = registry.find(name)
    assert op is not None
    graph = build(case_model(op, Case("pairs", operands, (Result(dtype, qs[2]),)))).main
    node = node_of(graph, graph.ops[0], op, {})
    node = with_shapes(node, tuple(shape for shape in op.shapes(node) if shape is not None))
    form = op.form(node)
    assert form is not None
    return np.asarray(form.prepare(node)(*(operand.data for operand in operands))[0])


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "DIV"])
def test_a_table_gives_what_the_formula_gives(name: str, dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "TABLE_FROM", 1 << 60)
    expected = _run(name, dtype)
    monkeypatch.setattr(broadcasting, "TABLE_FROM", 1)
    assert np.array_equal(_run(name, dtype), expected)
