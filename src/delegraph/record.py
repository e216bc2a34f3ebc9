"""The placement record of a compiled model, from its decisions and receipts. Composition only."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from delegraph.core.graph.calls import called_graphs
from delegraph.core.graph.graph import Graph, GraphSet
from delegraph.core.runtime.plan import Plan, SegmentStep
from delegraph.core.runtime.runner import GraphRunner, Stage
from delegraph.partitioner.placement import (
    FOLDED,
    GraphPrediction,
    OpPlacement,
    Placement,
    SegmentCost,
    SegmentPlacement,
)
from delegraph.partitioner.reasons import UNTRIED, Tried, rows_of
from delegraph.partitioner.work import Decision

WHILE_TRIPS = 16
"""How often a loop is taken to run."""

Measured = Mapping[tuple[int, tuple[int, ...]], tuple[int, int]]
"""(position of a decision, ops of one of its segments) → runs so far, and nanoseconds that one took on average."""


@dataclass
class Stages:
    """What the record of a compiled model is made from. decisions: of each graph's last plans, those that stood in for
    a device behind the one that they stood in for. waiting: (graph, op) that have not been planned yet. notes: for
    which shapes it is."""

    decisions: list[Decision] = field(default_factory=list)
    measured: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = field(default_factory=dict)
    waiting: set[tuple[int, int]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def stages_of(runners: Iterable[GraphRunner]) -> Stages:
    """How the graphs ran last."""
    found = Stages()
    for runner in runners:
        stages, index = runner.latest(), runner.graph.index
        planned: set[int] = set()
        for i, stage in enumerate(stages):
            decision = stage.plan.decision
            assert isinstance(decision, Decision)
            found.measured |= _measured(stage.plan, len(found.decisions))
            found.decisions.append(decision)
            planned |= {node.op.index for node in decision.work.nodes}
            found.waiting |= {(index, op.index) for op in stage.plan.late}
            found.notes += _of_late_shapes(stage) if i else _of_shapes(stage)
        found.waiting -= {(index, op) for op in planned}
    return found


def _measured(plan: Plan, position: int) -> dict[tuple[int, tuple[int, ...]], tuple[int, int]]:
    steps = [step for step in plan.steps if isinstance(step, SegmentStep)]
    return {
        (position, tuple(node.op.index for node in step.segment.nodes)): (
            step.loaded.runs,
            round(step.loaded.seconds / max(1, step.loaded.runs) * 1e9),
        )
        for step in steps
    }


def _of_shapes(stage: Stage) -> list[str]:
    """For which of the shapes that have been planned it is, if they are several."""
    graph = stage.plan.graph
    known = {tuple(plan.specs[i].shape for i in graph.inputs) for plan in stage.kept}
    if len(known) < 2:
        return []
    shapes = ", ".join("x".join(map(str, stage.plan.specs[i].shape)) or "scalar" for i in graph.inputs)
    return [f"{_graph(graph)}this is for inputs of {shapes}, the last of {len(known)} shapes that are planned for"]


def _of_late_shapes(stage: Stage) -> list[str]:
    if len(stage.kept) < 2:
        return []
    what = "what waits for shapes is shown for the last ones"
    return [f"{_graph(stage.plan.graph)}{what}, of {len(stage.kept)} that are planned for"]


def _graph(graph: Graph) -> str:
    return f"graph {graph.index}: " if graph.index else ""


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
    tried: Mapping[int, Tried] | None = None,
    waiting: Collection[tuple[int, int]] = (),
    notes: Sequence[str] = (),
) -> Placement:
    """The record. decisions: the last for each op wins. tried: position of a decision → what would move its ops.
    waiting: (graph, op) that are placed when their shapes are known. notes: beside those of the decisions."""
    rows: dict[tuple[int, int], OpPlacement] = {}
    segments: dict[tuple[int, ...], SegmentPlacement] = {}
    places: dict[tuple[int, int], tuple[int, ...]] = {}
    latest: dict[tuple[int, int], int] = {}
    for index, decision in enumerate(decisions):
        for row in rows_of(decision, (tried or {}).get(index, UNTRIED)):
            rows[row.graph, row.op] = row
            latest[row.graph, row.op] = index
    for index, decision in enumerate(decisions):
        for position, segment in enumerate(_segments(decision, index, measured)):
            keys = [(segment.graph, op) for op in segment.ops]
            place = (*places.get(keys[0], (index,)), position)  # what stands in for a device runs where that would have
            places |= dict.fromkeys(keys, place)
            if all(latest[key] == index for key in keys):
                segments[segment.graph, *place] = segment
    for graph in graphs.graphs:
        if any(key[0] == graph.index for key in rows):
            rows |= {key: row for key, row in _folded(graph, rows).items() if key not in waiting}
    predicted = predictions(graphs, decisions, rows)
    is_late = bool(waiting) and all(p.graph for p in predicted)
    all_notes = dict.fromkeys([*(note for decision in decisions for note in decision.notes), *notes])
    return Placement(
        tuple(rows[key] for key in sorted(rows)),
        tuple(segments[key] for key in sorted(segments)),
        tuple(predicted),
        graphs.source,
        machine,
        objective,
        tuple(devices),
        dict(unavailable),
        tuple(all_notes),
        tuple(events),
        f"not predicted: {len(waiting)} ops wait for shapes" if is_late else "",
        _digest(graphs),
    )


def _digest(graphs: GraphSet) -> str:
    """Of the ops with the types and shapes of their tensors: models of which a placement says the same."""
    hasher = hashlib.sha256()
    for graph in graphs.graphs:
        for op in graph.all_ops:
            tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
            types = [(str(tensor.dtype), *tensor.shape_signature) for tensor in tensors]
            hasher.update(repr((graph.index, op.index, op.name, types)).encode())
    return hasher.hexdigest()[:16]


def _segments(decision: Decision, index: int, measured: Measured) -> list[SegmentPlacement]:
    work = decision.work
    costs = {tuple(work.nodes[p].op.index for p in run.ops): run for run in decision.assignment.runs}
    found = []
    for cut in decision.cuts:
        ops = tuple(node.op.index for node in cut.nodes)
        if not cut.device:
            continue
        cost = costs.get(ops)
        runs, nanoseconds = measured.get((index, ops), (0, 0))
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


def predictions(
    graphs: GraphSet, decisions: Sequence[Decision], placed: Collection[tuple[int, int]]
) -> list[GraphPrediction]:
    """One per graph whose ops have all been placed and weighed, with the graphs that it calls. placed: (graph, op)."""
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
            has_concurrent &= solution is not None and stage.objective == "latency"
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
