"""Which state an op reads and writes, and the order that follows from it. Imports core.ops.opdef, core.graph."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from delegraph.core.graph.graph import Graph
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Node

ANY = "any"
"""Stands for all state: what an op touches whose variables can't be told before the run."""


def effects(graph: Graph, node: Node) -> list[tuple[Hashable, bool]]:
    """(variable, whether it is written) for each piece of state that the op touches."""
    opdef = registry.find(node.op.name)
    if opdef is None:
        return []
    found: list[tuple[Hashable, bool]] = [(("tensor", node.op.inputs[slot]), True) for slot in opdef.variables]
    found += [
        (("tensor", i), False)
        for slot, (i, spec) in enumerate(zip(node.op.inputs, node.inputs, strict=True))
        if spec is not None and spec.is_variable and slot not in opdef.variables
    ]
    if opdef.host == "control":
        found.append((ANY, True))
    elif opdef.host == "resource" and node.op.inputs:
        found.append((_resource(graph, node), node.op.name != "READ_VARIABLE"))
    return found


def _resource(graph: Graph, node: Node) -> Hashable:
    maker = graph.producers.get(node.op.inputs[0])
    if maker is None or maker.name != "VAR_HANDLE":
        return ANY
    options = maker.options
    if options is None:
        return ("resource", "", "")
    return ("resource", options.container or "", options.shared_name or "")


def order(graph: Graph, nodes: Sequence[Node]) -> list[set[int]]:
    """For each node the positions of nodes that must run before it: those that make its inputs, and state in order."""
    makers: dict[int, int] = {}
    before: list[set[int]] = []
    last_write: dict[Hashable, int] = {}
    reads_since: dict[Hashable, set[int]] = {}
    for position, node in enumerate(nodes):
        wait = {makers[i] for i in node.op.inputs if i in makers}
        for name, writes in effects(graph, node):
            names = set(last_write) | set(reads_since) if name == ANY else {name, ANY}
            for other in names:
                if other in last_write:
                    wait.add(last_write[other])
                if writes:
                    wait |= reads_since.get(other, set())
            if writes:
                last_write[name] = position
                reads_since[name] = set()
            else:
                reads_since.setdefault(name, set()).add(position)
        wait.discard(position)
        before.append(wait)
        makers.update({i: position for i in node.op.outputs if i >= 0})
    return before
