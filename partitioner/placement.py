"""Which op goes where, and why: the decisions and their record. Imports delegraph.core up to abi.

Assignment is by the user's order for now: the first device that takes an op gets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from delegraph.core.abi.values import Support
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node

HOST = ""
"""The device of ops that core runs itself."""


@dataclass(frozen=True, slots=True)
class OpPlacement:
    """Where one op goes. graph, op: as numbered in the file. device: an id, "core" for a host step, or "folded".
    reason: why, in a sentence. refusals: device → why it did not take the op."""

    graph: int
    op: int
    name: str
    device: str
    reason: str
    refusals: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "op": self.op,
            "name": self.name,
            "device": self.device,
            "reason": self.reason,
            "refusals": dict(self.refusals),
        }


@dataclass(frozen=True, slots=True)
class Placement:
    """The record of a model: one row per op that has been placed so far, in the file's order."""

    rows: tuple[OpPlacement, ...]

    def to_json(self) -> list[dict[str, Any]]:
        return [row.to_json() for row in self.rows]

    def __str__(self) -> str:
        head = ("graph", "op", "name", "device", "why")
        lines = [(str(r.graph), str(r.op), r.name, r.device, _why(r)) for r in self.rows]
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head) - 1)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) + "  " + line[-1]
            for line in (head, *lines)
        )


def _why(row: OpPlacement) -> str:
    return "; ".join([row.reason, *(f"{device}: {why}" for device, why in row.refusals.items())])


def place(
    graph: Graph,
    nodes: Sequence[Node],
    supports: Mapping[str, Sequence[Support]],
    host: Mapping[int, str],
    pins: Mapping[int, str] = MappingProxyType({}),
) -> list[OpPlacement]:
    """One row per node: the device that it is pinned to, if that takes it, else the first in ``supports``' order.

    host: op index → why core runs that op itself. pins: op index → device.
    """
    rows = []
    for position, node in enumerate(nodes):
        refusals: dict[str, str] = {}
        device, reason = HOST, host.get(node.op.index, "")
        pin = pins.get(node.op.index)
        if not reason:
            for candidate in sorted(supports, key=lambda name: name != pin):  # stable: else the user's order
                answer = supports[candidate][position]
                if answer.runs:
                    device = candidate
                    why = "pinned" if candidate == pin else "first device in the order that runs it"
                    reason = f"{why}; {answer.reason}" if answer.reason else why
                    break
                refusals[candidate] = answer.reason
        rows.append(OpPlacement(graph.index, node.op.index, node.op.name, device or "core", reason, refusals))
    return rows
