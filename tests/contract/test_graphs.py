"""What the suite judges with: generated graphs, the reference's results, how far a float may be from them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.sound import SoundDelegate

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Result
from delegraph.testing.contract import cases, glue
from delegraph.testing.contract.expected import complaint, of_feed
from delegraph.testing.contract.sketch import Sketch, Specimen, UnusableSketch
from delegraph.testing.contract.subject import Subject

F32 = Result(DType.FLOAT32)
SUBJECT = Subject(SoundDelegate(), SoundDelegate().devices()[0])


@pytest.mark.parametrize("name", glue.TYPES)
def test_graphs_of_every_type_have_results(name: str) -> None:
    palette = SUBJECT.palette(name)
    assert len(palette) >= 3
    kind = glue.type_of(name, (2, 3))
    graphs = [glue.workbench(palette, kind), glue.chain(palette, kind), glue.pair(palette, kind)]
    graphs += [glue.random_graph(palette, kind, seed) for seed in range(5)]
    for graph in graphs:
        assert len(graph.segment.outputs) >= 1
        one, two = of_feed(graph, 0), of_feed(graph, 1)
        assert any((a != b).any() for a, b in zip(one.values, two.values, strict=True)), graph.name


def test_random_graphs_have_forks_and_joins() -> None:
    palette, kind = SUBJECT.palette("float32"), glue.type_of("float32", (2,))
    segments = [glue.random_graph(palette, kind, seed).segment for seed in range(6)]
    assert max(len(segment.outputs) for segment in segments) > 1
    assert max(len(segment.inputs) for segment in segments) > 1
    reads = [[i for node in segment.nodes for i in node.op.inputs] for segment in segments]
    assert any(len(some) > len(set(some)) for some in reads)
    assert any(set(segment.outputs) & set(some) for segment, some in zip(segments, reads, strict=True))


def test_the_sample_has_most_ops_in_each_kind() -> None:
    pieces = cases.pieces()
    assert len({piece.op.name for piece in pieces}) > 100
    for kind in ("float", "quantized", "integer"):
        assert sum(piece.kind == kind for piece in pieces) > 50


def test_the_sample_is_the_same_each_time() -> None:
    first = [(piece.op.name, piece.case.name) for piece in cases.pieces()]
    feeds = [value.tobytes() for value in cases.everything().feed(1)]
    for cached in (cases.pieces, cases.everything):
        cached.cache_clear()
    assert [(piece.op.name, piece.case.name) for piece in cases.pieces()] == first
    assert [value.tobytes() for value in cases.everything().feed(1)] == feeds


def _moved(specimen: Specimen, by: float) -> str:
    expected = of_feed(specimen, 0)
    (value,), (allowed,) = expected.values, expected.allowed
    return complaint(expected, [(value + by * np.asarray(allowed)).astype(value.dtype)])


def test_bounds_add_up_along_a_graph() -> None:
    """y = tanh(x), z = y - y: each y may be off by the bound of TANH, so z may be off by twice that and no more."""
    s = Sketch("bounds")
    x = s.input((64,))
    (y,) = s.op("TANH", [x], [F32])
    s.op("SUB", [y, y], [F32])
    specimen = s.specimen()
    assert _moved(specimen, 0.99) == ""
    assert "elements are wrong" in _moved(specimen, 1.5)
    one = Sketch("one")
    one.op("TANH", [one.input((64,))], [F32])
    (twice,), (once,) = of_feed(specimen, 0).allowed, of_feed(one.specimen(), 0).allowed
    assert 2 * once.max() <= np.max(twice) < 3 * once.max()


def test_bounds_grow_with_what_an_op_does_to_them() -> None:
    """exp(100 · tanh(x)): a last-place difference of TANH is a large one behind EXP."""
    s = Sketch("growing")
    x = s.input((64,))
    (y,) = s.op("TANH", [x], [F32])
    c = s.constant(np.full((64,), 80, np.float32))
    (z,) = s.op("MUL", [y, c], [F32])
    s.op("EXP", [z], [F32])
    expected = of_feed(s.specimen(), 0)
    share = expected.allowed[0] / np.abs(expected.values[0])
    assert 1e-6 < share.max() < 1e-2


def test_a_wrong_integer_is_always_wrong() -> None:
    s = Sketch("integers")
    x = s.input((4,), DType.INT32)
    s.op("ADD", [x, x], [Result(DType.INT32)])
    specimen = s.specimen()
    (value,) = of_feed(specimen, 0).values
    assert complaint(of_feed(specimen, 0), [value]) == ""
    assert "1 of 4 elements are wrong, first at [2]" in complaint(
        of_feed(specimen, 0), [value + np.eye(4, dtype=int)[2]]
    )


def test_nan_is_equal_to_nan_only() -> None:
    s = Sketch("nan")
    x = s.input((2,), make=lambda k: np.array([-1, 1], np.float32))
    s.op("SQRT", [x], [F32])
    expected = of_feed(s.specimen(), 0)
    assert complaint(expected, [np.array([np.nan, 1], np.float32)]) == ""
    assert complaint(expected, [np.array([0, 1], np.float32)])
    assert complaint(expected, [np.array([np.nan, np.nan], np.float32)])


def test_what_core_runs_itself_is_no_graph_for_a_device() -> None:
    s = Sketch("known")
    c = s.constant(np.ones(2, np.float32))
    s.op("ADD", [c, c], [F32])
    with pytest.raises(UnusableSketch, match="known before the run"):
        s.specimen()
    with pytest.raises(UnusableSketch, match="no OpDef"):
        s.op("NO_SUCH_OP", [c], [F32])
