"""Pieces of a graph's ops as segments, before there is a plan: to ask devices about them, or to write them to files.

Imports core and partitioner.work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from delegraph.core.abi.values import Cut, Segment
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.runtime.plan import make_segment
from delegraph.partitioner.work import GraphWork


def segments_of(work: GraphWork, cuts: Sequence[Cut]) -> list[tuple[Cut, Segment]]:
    """The segments of these pieces, which are all of the work's ops in an order in which they can run; core's own steps
    left out."""
    specs = _specs(work.nodes)
    later = set(work.needed)
    found = []
    for cut in reversed(cuts):
        if cut.device:
            found.append((cut, make_segment(work.graph, cut.nodes, specs, frozenset(later))))
        later |= {i for node in cut.nodes for i in node.op.inputs}
    return found[::-1]


def segment_of(work: GraphWork, nodes: Sequence[Node]) -> Segment:
    """The segment of some of the work's ops: it delivers what any other op, or the caller, reads."""
    inside = {node.op.index for node in nodes}
    read = {i for node in work.nodes if node.op.index not in inside for i in node.op.inputs}
    return make_segment(work.graph, nodes, _specs(nodes), frozenset(read | work.needed))


def _specs(nodes: Iterable[Node]) -> dict[int, TensorSpec]:
    found: dict[int, TensorSpec] = {}
    for node in nodes:
        made = (i for i in node.op.outputs if i >= 0)
        for i, spec in (*zip(node.op.inputs, node.inputs, strict=True), *zip(made, node.outputs, strict=False)):
            if spec is not None:
                found.setdefault(i, spec)
    return found
