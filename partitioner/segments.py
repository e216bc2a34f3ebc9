"""Device per op → segments: convex, in an order in which they can run. Imports delegraph.core up to abi."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from delegraph.core.abi.values import Cut
from delegraph.core.graph.graph import Graph
from delegraph.core.ops import effects
from delegraph.core.ops.opdef import Node


def cut_segments(
    graph: Graph, nodes: Sequence[Node], devices: Sequence[str], beside: frozenset[str] = frozenset()
) -> list[Cut]:
    """Pieces of ``nodes`` by device ("" for what core runs itself, one op a piece).

    A topological schedule that stays on a device while it has ready ops, and runs every ready host op before it opens
    another segment. Of several devices with ready ops, one of ``beside`` goes first (they run while the caller goes
    on), then the one whose op comes first. Each piece is a run of that schedule, hence convex, and the pieces are in
    order.
    """
    before = effects.order(graph, nodes)
    after: list[list[int]] = [[] for _ in nodes]
    missing = [len(wait) for wait in before]
    for position, wait in enumerate(before):
        for earlier in wait:
            after[earlier].append(position)
    ready: dict[str, list[int]] = {}
    for position, count in enumerate(missing):
        if not count:
            heapq.heappush(ready.setdefault(devices[position], []), position)
    cuts: list[Cut] = []
    piece: list[Node] = []
    device = ""
    while any(ready.values()):
        if not (device and ready.get(device)):
            if piece:
                cuts.append(Cut(device, tuple(piece)))
                piece = []
            device = "" if ready.get("") else min((d not in beside, q[0], d) for d, q in ready.items() if q)[2]
        position = heapq.heappop(ready[device])
        if device:
            piece.append(nodes[position])
        else:
            cuts.append(Cut("", (nodes[position],)))
        for later in after[position]:
            missing[later] -= 1
            if not missing[later]:
                heapq.heappush(ready.setdefault(devices[later], []), later)
    if piece:
        cuts.append(Cut(device, tuple(piece)))
    return cuts
