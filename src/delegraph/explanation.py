"""Behind ``dg.explain``: where each op of a model would go and why, without compiling or running. Composition only.

It needs no device that computes: machines that are absent, edited profiles and costs from a file are explained as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from delegraph import registry
from delegraph.core.abi.values import SUPPORTED, Cut, Segment, Support
from delegraph.core.devices.capability import Capability
from delegraph.core.devices.locate import profile_of
from delegraph.core.devices.rules.operands import feature_maps
from delegraph.core.graph.calls import called_graphs
from delegraph.core.graph.graph import GraphSet
from delegraph.core.ops.nodes import spec_of
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.runtime.plan import Cuts, infer
from delegraph.core.runtime.runner import Runners
from delegraph.cutting import segments_of
from delegraph.partitioner.costs import CostTable, DeviceCosts, OpCosts, SegmentEstimate
from delegraph.partitioner.placement import Placement
from delegraph.partitioner.placement_text import amount
from delegraph.partitioner.reasons import Changes, change_of, is_rounding
from delegraph.partitioner.solver.flips import flip_costs
from delegraph.partitioner.solver.true_cost import Judge
from delegraph.partitioner.work import CPU_DEVICES, FAST, Decision
from delegraph.placer import Placer
from delegraph.record import placement_of
from delegraph.request import HOST, Request, Say, Wishes, replayed, resolved

NUMERICS = "numerics"
"""The rule of a lever: results have to be exact."""
LEVERS = 12
"""How many rules are tried for what lifting one would gain: those that keep most ops away."""


@dataclass(frozen=True, slots=True)
class Lever:
    """A rule that keeps ops off a device, and what would be gained if the device took them. ops: (graph, op). total_ns:
    the prediction with that; saves_ns: how much less that is (nanojoules for energy); None where it could not be told.
    reason, advice: of the first of the ops."""

    device: str
    constraint: str
    reason: str
    advice: str
    ops: tuple[tuple[int, int], ...]
    total_ns: int | None = None
    saves_ns: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "constraint": self.constraint,
            "reason": self.reason,
            "advice": self.advice,
            "ops": [{"graph": graph, "op": op} for graph, op in self.ops],
            "total_ns": self.total_ns,
            "saves_ns": self.saves_ns,
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """What ``dg.explain`` found. placement: the record. costs: what it was made from, which replays anywhere. levers:
    rules that keep ops off the devices, the one that would gain most first. segments: in the order of the record."""

    placement: Placement
    costs: CostTable
    levers: tuple[Lever, ...]
    segments: tuple[tuple[Cut, Segment], ...]

    def __str__(self) -> str:
        return str(self.placement)

    def to_json(self) -> dict[str, Any]:
        """The placement's JSON, with the levers."""
        return self.placement.to_json() | {"levers": [lever.to_json() for lever in self.levers]}


def explained(graphs: GraphSet, wishes: Wishes, *, measure: bool, say: Say) -> Explanation:
    """As ``delegraph.api.explain``, of prepared graphs."""
    replays = wishes.costs is not None and wishes.devices is None
    request = replayed(wishes, graphs) if replays else resolved(wishes, graphs)
    placer = Placer(request, weighs_all=True, replays=replays, say=say)
    stages, waiting, notes = _stages(graphs, placer)
    if measure and not replays:
        _measure(stages, request, say)
        stages, waiting, notes = _stages(graphs, placer)
    changes: dict[int, Changes] = {i: _changes(decision) for i, decision in enumerate(stages)}
    placement = placement_of(
        graphs,
        stages,
        machine=request.machine,
        objective=request.objective,
        devices=placer.devices,
        unavailable=request.unavailable,
        measured={},
        changes=changes,
        waiting=waiting,
    )
    levers = _levers(stages, placer)
    notes = [*placement.notes, *notes, *_numerics(levers, request)]
    return Explanation(
        replace(placement, notes=tuple(notes)),
        _table(stages, placer),
        levers,
        tuple(found for stage in stages for found in segments_of(stage.work, stage.cuts)),
    )


def _stages(graphs: GraphSet, placer: Placer) -> tuple[list[Decision], set[tuple[int, int]], list[str]]:
    """The decision for each graph that the main one leads to, called ones first; which ops have to wait for a run, and
    that in sentences."""
    runners = Runners(graphs, lambda *_: Cuts(()), _never, lambda *_: None, health=registry.health)
    planner = runners.planner(True)
    found: dict[int, Decision] = {}
    waiting: set[tuple[int, int]] = set()
    notes: list[str] = []
    seen: set[int] = set()

    def visit(index: int, inputs: Mapping[int, TensorSpec]) -> None:
        seen.add(index)
        graph = graphs.graphs[index]
        known = infer(graph, graph.ops, inputs, frozenset(graph.outputs), planner)
        for node in known.nodes:
            for option, called in called_graphs(node.op).items():
                if called not in seen:
                    visit(called, _called_inputs(graphs, node, option, called))
        waiting.update((index, op.index) for op in known.late)
        if known.late:
            names = ", ".join(dict.fromkeys(op.name for op in known.late))
            notes.append(
                f"{len(known.late)} ops of graph {index} wait for shapes that depend on data and are placed when the "
                f"model runs: {names}"
            )
        if known.nodes:
            found[index] = placer.place(graph, known.nodes, known.needed, frozenset())[0]

    main = graphs.main
    visit(0, {i: spec_of(main.tensors[i]) for i in main.inputs})
    for signature in graphs.signatures.values():
        graph = graphs.graphs[signature.graph]
        if graph.index not in seen:
            visit(graph.index, {i: spec_of(graph.tensors[i]) for i in graph.inputs})
    return [found[index] for index in sorted(found)], waiting, notes


def _never(segment: Segment, device: str) -> Any:
    raise AssertionError(f"{device} is not to load anything")


def _called_inputs(graphs: GraphSet, node: Node, option: str, called: int) -> dict[int, TensorSpec]:
    graph = graphs.graphs[called]
    given = node.inputs[1:] if option in ("then_subgraph_index", "else_subgraph_index") else node.inputs
    shapes = [None if spec is None or option == "init_subgraph_index" else spec.shape for spec in given]
    return {i: spec_of(graph.tensors[i], shape) for i, shape in zip(graph.inputs, shapes, strict=False)}


def _changes(decision: Decision) -> Changes:
    """(position, device) → how much less the op would have to cost there: a tie would not move it."""
    assignment = decision.assignment
    if assignment.problem is None or decision.is_given or assignment.is_forced:
        return {}
    ids = [device.id for device in assignment.problem.devices]
    found = flip_costs(assignment.problem, Judge(assignment.problem), assignment.positions())
    return {(op, ids[d]): max(0, less) + 1 for op, by_device in enumerate(found) for d, less in by_device.items()}


def _measure(stages: Sequence[Decision], request: Request, say: Say) -> None:
    """Times the ops on the real devices that take them."""
    from delegraph.core.abi.values import GraphView
    from delegraph.storage import time_ops

    for name, slot in request.slots.items():
        if slot.info.is_virtual or request.machine != HOST:
            continue
        for stage in stages:
            taken = [n for p, n in enumerate(stage.work.nodes) if name in stage.work.takers(p)]
            mine = [n for n in taken if n.op.index not in stage.work.host]
            if mine and (name in request.named or not slot.is_floor):
                say(f"timing {len(mine)} ops on {name}")
                time_ops(slot.info, GraphView(stage.work.graph, tuple(mine)))


# --- what would change it


def _levers(stages: Sequence[Decision], placer: Placer) -> tuple[Lever, ...]:
    """Each rule that keeps ops off a named device, with the prediction if it did not."""
    request = placer.request
    devices = [
        d for d in request.named if request.machine == HOST or d not in CPU_DEVICES
    ]  # a modelled CPU has no rules
    groups: dict[tuple[str, str], list[tuple[Decision, int, Support]]] = {}
    for stage in stages:
        for device, answers in stage.work.answers.items():
            for position, answer in enumerate(answers):
                is_core = stage.work.nodes[position].op.index in stage.work.host
                if device in devices and not answer.runs and not is_core:
                    rule = NUMERICS if _is_rounding(stage, device, position) else answer.constraint
                    groups.setdefault((device, rule), []).append((stage, position, answer))
    is_known = all(_total(stage) is not None for stage in stages)
    now = sum(_total(stage) or 0 for stage in stages)
    found = []
    together: dict[str, int | None] = {}  # other rounding is allowed on all devices or on none
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    for place, ((device, rule), members) in enumerate(ranked):
        total = None
        if rule in together:
            total = together[rule]
        elif is_known and (place < LEVERS or rule == NUMERICS):
            total = _without(stages, placer, device, rule)
        if rule == NUMERICS:
            together[rule] = total
        first = members[0][2]
        advice = change_of(first)
        if rule != NUMERICS and all(_rounds_too(stage, p, placer, device) for stage, p, _ in members):
            advice = "; ".join(filter(None, [advice, FAST]))
        found.append(
            Lever(
                device,
                rule,
                first.reason,
                advice,
                tuple((stage.work.graph.index, stage.work.nodes[p].op.index) for stage, p, _ in members),
                total,
                None if total is None else max(0, now - total),
            )
        )
    return tuple(sorted(found, key=lambda lever: -(lever.saves_ns or 0)))


def _is_rounding(stage: Decision, device: str, position: int) -> bool:
    return is_rounding(stage.work.asked[device][position], stage.work.answers[device][position])


def _rounds_too(stage: Decision, position: int, placer: Placer, device: str) -> bool:
    """Whether exact numerics would keep an op from a device that refuses it if nothing else did."""
    slot = placer.request.slots.get(device)
    profile = None if slot is None else profile_of(slot.info)
    if profile is None or placer.request.numerics != "exact":
        return False
    node = stage.work.nodes[position]
    return bool(Capability(profile).deviation(node.op.name, [spec.dtype for spec in feature_maps(node)]))


def _total(stage: Decision) -> int | None:
    return None if stage.assignment.problem is None else sum(run.total_ns for run in stage.assignment.runs)


def _without(stages: Sequence[Decision], placer: Placer, device: str, rule: str) -> int | None:
    """What the graphs are predicted to take if the device did not have that rule; None where that would change nothing,
    or can't be told."""
    total, is_lifted = 0, False
    for stage in stages:
        answers = {name: list(found) for name, found in stage.work.answers.items()}
        lifted = []
        for name, found in answers.items():
            for position, answer in enumerate(found):
                if rule == NUMERICS:
                    takes = _is_rounding(stage, name, position)
                else:
                    takes = name == device and answer.constraint == rule and not answer.runs
                    takes = takes and not _rounds_too(stage, position, placer, name)
                if takes:
                    found[position] = SUPPORTED
                    lifted.append((stage.work.nodes[position].op.index, name))
        if not lifted:
            total += _total(stage) or 0
            continue
        predicted = placer.what_if(replace(stage.work, answers=answers), lifted)
        if predicted is None:
            return None
        total += predicted
        is_lifted = True
    return total if is_lifted else None


def _numerics(levers: Sequence[Lever], request: Request) -> list[str]:
    """What would be gained by letting devices round otherwise."""
    found = [lever for lever in levers if lever.constraint == NUMERICS and lever.total_ns is not None]
    if not found or found[0].total_ns is None:
        return []
    ops = len({op for lever in found for op in lever.ops})
    what = f"{ops} ops stay" if ops != 1 else "1 op stays"
    devices = ", ".join(lever.device for lever in found)
    predicted = (
        f"predicted are {amount(found[0].total_ns, request.objective)}" if found[0].saves_ns else "nothing is saved"
    )
    return [f"{what} off {devices}, which would round otherwise; with numerics='fast' (--numerics fast) {predicted}"]


def _table(stages: Sequence[Decision], placer: Placer) -> CostTable:
    """The costs of all graphs in one; of what was not weighed, what the devices answered."""
    if placer.request.costs is not None:
        return placer.request.costs
    tables = [_answers(stage, placer) if stage.table is None else stage.table for stage in stages]
    devices = {device.id: device for table in reversed(tables) for device in table.devices}
    order = [name for name in placer.devices if name in devices]
    segments = [
        SegmentEstimate(graph, device, ops, time_ns)
        for (graph, device, ops), time_ns in sorted(placer.asked_segments.items())
    ]
    return CostTable(
        placer.request.machine,
        tuple(devices[name] for name in order),
        tuple(row for table in tables for row in table.ops),
        tuple(name for name in placer.request.fallbacks if name in devices),
        tuple(segments),
    )


def _answers(stage: Decision, placer: Placer) -> CostTable:
    """What the devices answered, without a figure: there is none that could be compared with others."""
    infos = [slot.info for slot in placer.request.slots.values()]
    devices = [
        DeviceCosts(
            info.id, memory_domain=info.memory_domain, resource=info.resource, may_hang=info.may_hang,
            limits=info.limits,
        )
        for info in infos
    ]  # fmt: skip
    rows = [
        OpCosts(
            stage.work.graph.index,
            node.op.index,
            node.op.name,
            {} if node.op.index in stage.work.host else {name: found[p] for name, found in stage.work.asked.items()},
            {},
        )
        for p, node in enumerate(stage.work.nodes)
    ]
    return CostTable(placer.request.machine, tuple(devices), tuple(rows), placer.request.fallbacks)
