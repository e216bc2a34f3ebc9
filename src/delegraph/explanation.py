"""Behind ``dg.explain``: where each op of a model would go and why, without compiling or running. Composition only.

It needs no device that computes: machines that are absent, edited profiles and costs from a file are explained as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from delegraph import registry
from delegraph.core.abi.values import SUPPORTED, Cut, Segment, Support, Verdict
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
from delegraph.partitioner.assignment import judge_of
from delegraph.partitioner.costs import CostTable, DeviceCosts, OpCosts, SegmentEstimate
from delegraph.partitioner.placement import Placement
from delegraph.partitioner.placement_text import amount
from delegraph.partitioner.reasons import Tried, change_of, is_rounding
from delegraph.partitioner.solver.flips import flip_costs
from delegraph.partitioner.work import CPU, CPU_DEVICES, EXACT, EXCLUDED, FAST, Decision, GraphWork
from delegraph.placer import Placer
from delegraph.record import placement_of, predictions
from delegraph.request import HOST, Request, Say, Wishes, replayed, resolved

NUMERICS = "numerics"
"""The rule of a lever: results have to be exact."""
DTYPES = "dtypes"
"""That of the types that a device computes in, whatever the operator."""
MUCH = 10
"""A gain of one in this many parts comes first in what is said."""
LEVERS = 12
"""How many rules are tried for what lifting one would gain: those that keep most ops away."""
ALONE = 12
"""How many pins and exclusions are lifted one by one to see where the op goes."""


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

    def __repr__(self) -> str:
        return repr(self.placement).replace("<Placement of", "<Explanation of", 1)

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
    tried = _Trials(graphs, stages, placer, waiting)
    levers = tried.levers()
    placement = placement_of(
        graphs,
        stages,
        machine=request.machine,
        objective=request.objective,
        devices=placer.devices,
        unavailable=request.unavailable,
        measured={},
        tried=tried.found(),
        waiting=waiting,
    )
    headline, more = _numerics(placement, levers, request)
    return Explanation(
        replace(placement, headline=headline or placement.headline, notes=(*placement.notes, *notes, *more)),
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


Stages = Sequence[Decision]
Refused = tuple[int, int, Support]
"""(position of a decision, position of a node, the answer) of an op that a device does not take."""


class _Trials:
    """What is tried to bring ops elsewhere: each rule lifted, each device named, each pin and exclusion taken back, and
    costs lowered. Only what has been tried is said."""

    def __init__(self, graphs: GraphSet, stages: Stages, placer: Placer, waiting: Collection[tuple[int, int]]) -> None:
        self._graphs = graphs
        self._stages = stages
        self._placer = placer
        all_ops = {(graph.index, op.index) for graph in graphs.graphs for op in graph.ops}
        self._placed = all_ops.difference(waiting)
        entries = dict.fromkeys([0, *(signature.graph for signature in graphs.signatures.values())])
        self._reach = {entry: _reached(graphs, entry) for entry in entries}
        self._now = self._totals(stages)
        self._ends: list[dict[tuple[int, str], str]] = [{} for _ in stages]

    def found(self) -> dict[int, Tried]:
        """For each decision. After the levers, whose trials count."""
        self._name()
        self._take_back()
        return {i: Tried(_less(stage), self._ends[i]) for i, stage in enumerate(self._stages)}

    def _totals(self, stages: Stages) -> Mapping[int, int]:
        """What a run of each graph is predicted to take, with the graphs that it calls; of those of which that is
        known."""
        return {p.graph: p.total_ns for p in predictions(self._graphs, stages, self._placed)}

    def _entry(self, members: Sequence[Refused]) -> int:
        """The graph whose runs a rule slows down: the main one, or the first signature's that leads to its ops."""
        own = {self._stages[i].work.graph.index for i, _, _ in members}
        return next((entry for entry, reached in self._reach.items() if own & reached), 0)

    def levers(self) -> tuple[Lever, ...]:
        """Each rule that keeps ops off a named device, with the prediction if it did not."""
        groups = self._rules()
        found = []
        together: dict[str, Mapping[int, int]] = {}  # other rounding is allowed on all devices or on none
        ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
        for place, ((device, rule), members) in enumerate(ranked):
            if rule in together:
                totals = together[rule]
            else:
                totals = self._without(device, rule) if place < LEVERS or rule == NUMERICS else {}
            if rule == NUMERICS:
                together[rule] = totals
            entry = self._entry(members)
            now, total = self._now.get(entry), totals.get(entry)
            first = members[0][2]
            advice = change_of(first)
            if rule != NUMERICS and all(self._rounds_too(i, p, device) for i, p, _ in members):
                advice = "; ".join(filter(None, [advice, FAST]))
            found.append(
                Lever(
                    device,
                    rule,
                    _of_types([answer for _, _, answer in members]) if rule == DTYPES else first.reason,
                    advice,
                    tuple(self._op(i, p) for i, p, _ in members),
                    total,
                    None if total is None or now is None else max(0, now - total),
                )
            )
        return tuple(sorted(found, key=lambda lever: -(lever.saves_ns or 0)))

    def _rules(self) -> dict[tuple[str, str], list[Refused]]:
        """(device, rule) → what it keeps away."""
        request = self._placer.request
        devices = [
            d for d in request.named if request.machine == HOST or d not in CPU_DEVICES
        ]  # a modelled CPU has no rules
        groups: dict[tuple[str, str], list[Refused]] = {}
        for i, stage in enumerate(self._stages):
            for device, answers in stage.work.answers.items():
                for position, answer in enumerate(answers):
                    is_core = stage.work.nodes[position].op.index in stage.work.host
                    if device in devices and not answer.runs and not is_core:
                        groups.setdefault((device, _rule(stage, device, position)), []).append((i, position, answer))
        return groups

    def _op(self, stage: int, position: int) -> tuple[int, int]:
        work = self._stages[stage].work
        return work.graph.index, work.nodes[position].op.index

    def _rounds_too(self, stage: int, position: int, device: str) -> bool:
        return _rounds_too(self._stages[stage], position, self._placer, device)

    def _without(self, device: str, rule: str) -> Mapping[int, int]:
        """What the graphs are predicted to take if the device did not have that rule; nothing where that would change
        nothing, or can't be told."""
        is_weighed = all(stage.assignment.problem is not None and not stage.is_given for stage in self._stages)
        if not is_weighed or not (self._now or rule == NUMERICS):
            return {}
        stages, is_lifted = list(self._stages), False
        ends: list[tuple[int, int, str]] = []
        for i, stage in enumerate(self._stages):
            answers = {name: list(found) for name, found in stage.work.answers.items()}
            lifted = []
            for name, found in answers.items():
                for position in range(len(found)):
                    answer = self._lifted(i, name, position, rule) if rule == NUMERICS or name == device else None
                    if answer is not None:
                        found[position] = answer
                        lifted.append((position, name))
            if not lifted:
                continue
            ops = [(stage.work.nodes[position].op.index, name) for position, name in lifted]
            work = replace(stage.work, answers=answers)
            other = self._placer.what_if(work, ops, is_thorough=rule == NUMERICS)
            if other is None:
                return {}
            stages[i], is_lifted = other, True
            ends += [(i, position, name) for position, name in lifted]
        if rule == NUMERICS:  # what refused ops would cost is not in the table, from which the record has to follow
            for i, position, name in ends:
                self._ends[i][position, name] = stages[i].assignment.devices[position]
        return self._totals(stages) if is_lifted else {}

    def _lifted(self, stage: int, device: str, position: int, rule: str) -> Support | None:
        """What a device would answer without the rule, None where that would be as it is."""
        decision = self._stages[stage]
        answer = decision.work.answers[device][position]
        if answer.runs or decision.work.nodes[position].op.index in decision.work.host:
            return None
        if rule == NUMERICS:
            return decision.work.asked[device][position] if _is_rounding(decision, device, position) else None
        if _rule(decision, device, position) != rule or self._rounds_too(stage, position, device):
            return None
        return self._own(decision, device, position) if rule == EXCLUDED else SUPPORTED

    def _own(self, decision: Decision, device: str, position: int) -> Support | None:
        """The device's own answer, where it takes the op with the numerics that were asked for."""
        asked = decision.work.asked[device][position]
        is_exact = self._placer.request.numerics == "exact"
        return asked if asked.runs and not (is_exact and asked.verdict is Verdict.DEVIATES) else None

    def _name(self) -> None:
        """Where ops go if a device that nobody named were named, too."""
        request = self._placer.request
        for device in self._placer.devices:
            if device in request.named or device != CPU:
                continue
            for i, stage in enumerate(self._stages):
                other = self._instead(stage, replace(stage.work, named=(*stage.work.named, device)))
                if other is not None:
                    held = {p for p, node in enumerate(stage.work.nodes) if node.op.index in stage.work.pins}
                    taken = {p for p, answer in enumerate(stage.work.answers[device]) if answer.runs}
                    self._ends[i] |= {(p, device): other[p] for p in taken - held}

    def _take_back(self) -> None:
        """Where ops go without their pins and exclusions, one by one."""
        left = ALONE
        for i, stage in enumerate(self._stages):
            work = stage.work
            for position, node in enumerate(work.nodes):
                excluded = [d for d, found in work.answers.items() if found[position].constraint == EXCLUDED]
                is_pinned = stage.assignment.devices[position] == work.pins.get(node.op.index)
                for device in [*excluded, *([""] if is_pinned else [])]:
                    if not left:
                        return
                    left -= 1
                    if device:
                        self._without_exclusion(i, position, device)
                    else:
                        pins = {op: d for op, d in work.pins.items() if op != node.op.index}
                        other = self._instead(stage, replace(work, pins=pins))
                        if other is not None:
                            self._ends[i] |= {(position, d): other[position] for d in work.takers(position)}

    def _without_exclusion(self, stage: int, position: int, device: str) -> None:
        decision = self._stages[stage]
        own = self._own(decision, device, position)
        if own is None:
            return
        answers = {name: list(found) for name, found in decision.work.answers.items()}
        answers[device][position] = own
        other = self._instead(decision, replace(decision.work, answers=answers))
        if other is not None:
            self._ends[stage][position, device] = other[position]

    def _instead(self, stage: Decision, work: GraphWork) -> Sequence[str] | None:
        """The devices of other work, None where that can't be told."""
        if stage.assignment.problem is None or stage.is_given:
            return None
        other = self._placer.what_if(work)
        return None if other is None else other.assignment.devices


def _reached(graphs: GraphSet, entry: int) -> set[int]:
    """A graph and those that it calls, directly or not."""
    found, queue = {entry}, [entry]
    while queue:
        for op in graphs.graphs[queue.pop()].ops:
            new = set(called_graphs(op).values()) - found
            found |= new
            queue += new
    return found


def _less(decision: Decision) -> dict[tuple[int, str], int]:
    """(position, device) → how much less the op would have to cost there: a tie would not move it."""
    assignment = decision.assignment
    if assignment.problem is None or decision.is_given or assignment.is_forced:
        return {}
    ids = [device.id for device in assignment.problem.devices]
    found = flip_costs(
        assignment.problem,
        judge_of(decision.work, assignment),
        assignment.positions(),
        estimates_exceed_sums=assignment.estimates_exceed_sums,
    )
    return {(op, ids[d]): max(0, less) + 1 for op, by_device in enumerate(found) for d, less in by_device.items()}


def _rule(stage: Decision, device: str, position: int) -> str:
    """The rule of a lever that keeps an op off a device: one for the types of all operators."""
    if _is_rounding(stage, device, position):
        return NUMERICS
    rule = stage.work.answers[device][position].constraint
    return DTYPES if rule.rpartition(".")[2] == DTYPES else rule


def _of_types(answers: Sequence[Support]) -> str:
    """Which types a device refuses, and how often."""
    counts = Counter(answer.value for answer in answers)
    found = ", ".join(f"{value} ({n})" for value, n in counts.most_common())
    return f"ops of types that it does not compute in: {found}; it takes {answers[0].limit}"


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


def _numerics(placement: Placement, levers: Sequence[Lever], request: Request) -> tuple[str, list[str]]:
    """What would be gained by letting devices round otherwise: the headline if that is much, else a note."""
    found = [lever for lever in levers if lever.constraint == NUMERICS]
    ops = {op for lever in found for op in lever.ops}
    if not ops:
        return "", []
    total, saves = found[0].total_ns, found[0].saves_ns
    devices = ", ".join(lever.device for lever in found)
    if total is not None and saves is not None and saves * MUCH >= total + saves:
        idle = [lever.device for lever in found if all(row.device != lever.device for row in placement.rows)]
        what = f"nothing runs on {', '.join(idle)}" if idle else f"{_ops(len(ops))} stay off {devices}"
        faster = f", {(total + saves) / total:.1f}x faster" if total else ""
        moved = {(row.graph, row.op): c.answer for row in placement.rows for c in row.candidates if c.change == FAST}
        how = dict.fromkeys(answer.reason.removesuffix(EXACT) for answer in moved.values())
        return (
            f"as asked (numerics='exact'), {what}; with numerics='fast' (--numerics fast): "
            f"{amount(total, request.objective)}{faster}; {_ops(len(moved))} round otherwise: {'; '.join(how)}"
        ), []
    what = f"{_ops(len(ops))} {'stays' if len(ops) == 1 else 'stay'} off {devices}, which would round otherwise"
    if total is None:
        return "", [f"{what}; numerics='fast' (--numerics fast) allows that"]
    predicted = f"predicted are {amount(total, request.objective)}" if saves else "nothing is saved"
    return "", [f"{what}; with numerics='fast' (--numerics fast) {predicted}"]


def _ops(n: int) -> str:
    return f"{n} op" + ("s" if n != 1 else "")


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
