"""Device per op → segments: convex, in an order in which they can run. Imports delegraph.core up to abi."""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.core.abi.values import Cut
from delegraph.core.graph.graph import Graph
from delegraph.core.ops import effects
from delegraph.core.ops.opdef import Node
from delegraph.partitioner.schedule import Schedule


def cut_segments(
    graph: Graph, nodes: Sequence[Node], devices: Sequence[str], beside: frozenset[str] = frozenset()
) -> list[Cut]:
    """Pieces of ``nodes`` by device ("" for what core runs itself, one op a piece), in the order of ``Schedule.runs``.

    beside: devices that run while the caller goes on; of several with ready ops, one of these goes first.
    """
    runs = Schedule(effects.order(graph, nodes), beside, "").runs(devices)
    return [Cut(device, tuple(nodes[op] for op in ops)) for device, ops in runs]
