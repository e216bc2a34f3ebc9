"""Segments are convex, in an order in which they can run, and there are no more than need be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.graphs import GraphBuilder, model

from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Graph
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import node_of
from delegraph.core.ops.opdef import Node
from delegraph.partitioner.segments import cut_segments


def _nodes(graph: Graph) -> list[Node]:
    found = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        assert opdef is not None
        found.append(node_of(graph, op, opdef, {}))
    return found


@st.composite
def placed_graphs(draw: st.DrawFn) -> tuple[Graph, list[str]]:
    g = GraphBuilder()
    tensors = [g.input([1])]
    devices = []
    for _ in range(draw(st.integers(1, 14))):
        a, b = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
        tensors.append(g.op("ADD", [a, b], [1]))
        devices.append(draw(st.sampled_from(["", "a", "b"])))
    g.outputs = [tensors[-1]]
    return build(model(g)).main, devices


@given(placed_graphs())
def test_pieces_run_in_order_and_cover_every_op_once(placed: tuple[Graph, list[str]]) -> None:
    graph, devices = placed
    cuts = cut_segments(graph, _nodes(graph), devices)
    assert sorted(node.op.index for cut in cuts for node in cut.nodes) == [op.index for op in graph.ops]
    ready = set(graph.inputs)
    for cut in cuts:
        for node in cut.nodes:  # in this order every operand is there: a run of a topological order is convex
            assert set(node.op.inputs) <= ready
            assert devices[node.op.index] == cut.device
            ready |= set(node.op.outputs)
        assert cut.device or len(cut.nodes) == 1


@given(placed_graphs())
def test_neighbours_differ(placed: tuple[Graph, list[str]]) -> None:
    graph, devices = placed
    cuts = cut_segments(graph, _nodes(graph), devices)
    assert all(a.device != b.device or not a.device for a, b in zip(cuts, cuts[1:], strict=False))


def test_independent_branches_of_one_device_share_a_segment() -> None:
    g = GraphBuilder()
    x = g.input([1])
    a = g.op("ADD", [x, x], [1])  # device a
    b = g.op("ADD", [x, x], [1])  # device b
    c = g.op("ADD", [x, a], [1])  # device a
    g.outputs = [g.op("ADD", [b, c], [1])]  # device b
    graph = build(model(g)).main
    cuts = cut_segments(graph, _nodes(graph), ["a", "b", "a", "b"])
    assert [(cut.device, len(cut.nodes)) for cut in cuts] == [("a", 2), ("b", 2)]


def test_reads_come_before_the_assignment_that_follows_them() -> None:
    from delegraph.core.graph.dtype import DType

    g = GraphBuilder()
    x = g.input([2])
    handle = g.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    old = g.op("READ_VARIABLE", [handle], [2])
    new = g.op("ADD", [x, old], [2])
    g.op("ASSIGN_VARIABLE", [handle, new])
    again = g.op("READ_VARIABLE", [handle], [2])
    g.outputs = [again]
    graph = build(model(g)).main
    cuts = cut_segments(graph, _nodes(graph), ["", "", "a", "", ""])
    assert [node.op.index for cut in cuts for node in cut.nodes] == [0, 1, 2, 3, 4]
