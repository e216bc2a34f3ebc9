"""The placement record of a compiled model, from its decisions and receipts. Composition only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from delegraph.core.graph.calls import called_graphs
from delegraph.core.graph.graph import Graph, GraphSet
from delegraph.partitioner.placement import (
    FOLDED,
    GraphPrediction,
    OpPlacement,
    Placement,
    SegmentCost,
    SegmentPlacement,
)
from delegraph.partitioner.reasons import Changes, rows_of
from delegraph.partitioner.work import Decision

WHILE_TRIPS = 16
"""How often a loop is taken to run."""

Measured = Mapping[tuple[int, str, tuple[int, ...]], tuple[int, int]]
"""(graph, device, ops) of a segment → runs so far, and nanoseconds that one took on average."""


def placement_of(
    graphs: GraphSet,
    decisions: Sequence[Decision],
    *,
    machine: str,
    objective: str,
    devices: Sequence[str],
    unavailable: Mapping[str, str],
    measured: Measured,
    events: Sequence[Mapping[str, Any]] = (),
    changes: Mapping[int, Changes] | None = None,
    waiting: Collection[tuple[int, int]] = (),
) -> Placement:
    """The record. decisions: the last for each op wins. changes: position of a decision → what would move its ops.
    waiting: (graph, op) that are placed when their shapes are known."""
    rows: dict[tuple[int, int], OpPlacement] = {}
    segments: dict[tuple[int, int], SegmentPlacement] = {}
    latest: dict[tuple[int, int], int] = {}
    for index, decision in enumerate(decisions):
        for row in rows_of(decision, (changes or {}).get(index, {})):
            rows[row.graph, row.op] = row
            latest[row.graph, row.op] = index
    for index, decision in enumerate(decisions):
        for position, segment in enumerate(_segments(decision, measured)):
            if all(latest[segment.graph, op] == index for op in segment.ops):
                segments[index, position] = segment
    for graph in graphs.graphs:
        if any(key[0] == graph.index for key in rows):
            rows |= {key: row for key, row in _folded(graph, rows).items() if key not in waiting}
    notes = dict.fromkeys(note for decision in decisions for note in decision.notes)
    return Placement(
        tuple(rows[key] for key in sorted(rows)),
        tuple(sorted(segments.values(), key=lambda segment: segment.graph)),
        tuple(_predictions(graphs, decisions, rows)),
        graphs.source,
        machine,
        objective,
        tuple(devices),
        dict(unavailable),
        tuple(notes),
        tuple(events),
    )


def _segments(decision: Decision, measured: Measured) -> list[SegmentPlacement]:
    work = decision.work
    costs = {tuple(work.nodes[p].op.index for p in run.ops): run for run in decision.assignment.runs}
    found = []
    for cut in decision.cuts:
        ops = tuple(node.op.index for node in cut.nodes)
        if not cut.device:
            continue
        cost = costs.get(ops)
        runs, nanoseconds = measured.get((work.graph.index, cut.device, ops), (0, 0))
        found.append(
            SegmentPlacement(
                work.graph.index,
                cut.device,
                ops,
                None
                if cost is None
                else SegmentCost(cost.launch_ns, cost.ops_ns, cost.copies_ns, cost.outputs_ns, cost.streaming_ns),
                runs,
                nanoseconds if runs else None,
            )
        )
    return found


def _folded(graph: Graph, rows: Mapping[tuple[int, int], OpPlacement]) -> dict[tuple[int, int], OpPlacement]:
    """Ops that nothing runs: computed ahead of the run, or known from shapes alone."""
    why = {each.op.index: each.reason for each in graph.folded}
    readers: dict[int, list[str]] = {}
    for op in graph.all_ops:
        for i in op.inputs:
            readers.setdefault(i, []).append(f"op {op.index} {op.name}")
    found = {}
    for op in graph.all_ops:
        if (graph.index, op.index) in rows or (op.index not in why and not _is_behind(graph, op.index, rows)):
            continue  # placed, or not planned yet
        into = ", ".join(dict.fromkeys(text for i in op.outputs for text in readers.get(i, ())))
        reason = why.get(op.index, "its result is known before the run") + (f"; folded into {into}" if into else "")
        found[graph.index, op.index] = OpPlacement(graph.index, op.index, op.name, FOLDED, "folded", reason)
    return found


def _is_behind(graph: Graph, op: int, rows: Mapping[tuple[int, int], OpPlacement]) -> bool:
    """Whether a later op has been placed, so that this one was seen and left out."""
    return any(key[0] == graph.index and key[1] > op for key in rows)


def _predictions(
    graphs: GraphSet, decisions: Sequence[Decision], placed: Collection[tuple[int, int]]
) -> list[GraphPrediction]:
    """One per graph whose ops have all been placed and weighed, with the graphs that it calls."""
    own: dict[int, list[Decision]] = {}
    seen: set[tuple[int, int]] = set()
    for decision in decisions:
        ops = {(decision.work.graph.index, node.op.index) for node in decision.work.nodes}
        if not ops & seen:  # else what stands in for a device that failed
            own.setdefault(decision.work.graph.index, []).append(decision)
        seen |= ops
    found: dict[int, GraphPrediction] = {}

    def predict(index: int) -> GraphPrediction | None:
        if index in found:
            return found[index]
        stages = own.get(index, [])
        if not stages or any(stage.assignment.problem is None for stage in stages):
            return None
        if any((index, op.index) not in placed for op in graphs.graphs[index].ops):
            return None  # some wait for shapes that depend on data
        total, concurrent, alone, bound = 0, 0, 0, 0
        has_alone = has_bound = has_concurrent = True
        for stage in stages:
            assignment = stage.assignment
            own_total = sum(run.total_ns for run in assignment.runs)
            total += own_total
            solution = assignment.solution
            has_alone &= assignment.cpu_alone_ns is not None
            alone += assignment.cpu_alone_ns or 0
            has_bound &= solution is not None and solution.bound_ns is not None
            bound += 0 if solution is None else solution.bound_ns or 0
            has_concurrent &= solution is not None
            concurrent += 0 if solution is None else solution.concurrent_ns
        for op in graphs.graphs[index].ops:
            for name, called in called_graphs(op).items():
                inner = predict(called)
                if inner is None:
                    return None
                times = WHILE_TRIPS if op.name == "WHILE" else 1
                share = 2 if name in ("then_subgraph_index", "else_subgraph_index") else 1
                total += times * inner.total_ns // share
                concurrent += times * (inner.concurrent_ns or inner.total_ns) // share
                has_alone &= inner.cpu_alone_ns is not None
                alone += times * (inner.cpu_alone_ns or 0) // share
                has_bound &= inner.bound_ns is not None
                bound += times * (inner.bound_ns or 0) // share
        how = "; ".join(dict.fromkeys(s.assignment.solution.how for s in stages if s.assignment.solution is not None))
        found[index] = GraphPrediction(
            index,
            total,
            concurrent if has_concurrent else None,
            alone if has_alone else None,
            bound if has_bound else None,
            how,
        )
        return found[index]

    for index in sorted(own):
        predict(index)
    return [found[index] for index in sorted(found)]
