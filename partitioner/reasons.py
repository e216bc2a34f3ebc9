"""Why each op is where it is, and what would bring it elsewhere: the rows of the record. Imports core up to abi.

Made when somebody asks, from the decision that was taken: a run that nobody asks about pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from delegraph.core.abi.values import FAILED, Limits, Support, Verdict
from delegraph.partitioner.assignment import by_cost
from delegraph.partitioner.costs import Cost, CostTable
from delegraph.partitioner.placement import CORE, Candidate, OpPlacement
from delegraph.partitioner.placement_text import amount
from delegraph.partitioner.solver.problem import Problem
from delegraph.partitioner.solver.true_cost import Judge, Moved, Position
from delegraph.partitioner.work import REFERENCE, Decision, GraphWork

QUICK_BEYOND = 1000
"""Ops times devices beyond which the split without limits is searched quickly."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What was tried to move the ops of a decision, by (position, device). less: how much less the op would have to
    cost there to move, 1 where it would be as good there. ends: where it goes when its obstacle is lifted."""

    less: Mapping[tuple[int, str], int] = field(default_factory=dict)
    ends: Mapping[tuple[int, str], str] = field(default_factory=dict)


UNTRIED = Tried()


def rows_of(decision: Decision, tried: Tried = UNTRIED) -> list[OpPlacement]:
    """One row per op."""
    limits = _Limits(decision)
    return [_row(decision, limits, tried, position) for position in range(len(decision.work.nodes))]


def _row(decision: Decision, limits: _Limits, tried: Tried, position: int) -> OpPlacement:
    work = decision.work
    node, device = work.nodes[position], decision.assignment.devices[position]
    costs = {} if decision.table is None else _costs(decision.table, work, position)
    obstacles = {} if not device else limits.obstacles(position)
    candidates = tuple(
        _candidate(decision, limits, position, name, costs.get(name), obstacles.get(name, ""), tried)
        for name in (() if node.op.index in work.host else work.answers)
        if name != REFERENCE or name in work.named or name in (device, *decision.assignment.domains[position])
    )
    decided, reason = _decided(decision, limits, position, costs, obstacles)
    return OpPlacement(work.graph.index, node.op.index, node.op.name, device or CORE, decided, reason, candidates)


def _costs(table: CostTable, work: GraphWork, position: int) -> Mapping[str, Cost]:
    row = table.of_graph(work.graph.index).get(work.nodes[position].op.index)
    return {} if row is None else row.costs


def _decided(
    decision: Decision, limits: _Limits, position: int, costs: Mapping[str, Cost], obstacles: Mapping[str, str]
) -> tuple[str, str]:
    """Who decided, and the reason in a sentence."""
    work, device = decision.work, decision.assignment.devices[position]
    op = work.nodes[position].op.index
    if op in work.host:
        return "core", work.host[op]
    own = work.answers[device][position].reason
    decided, reason = _how(decision, limits, position, costs, obstacles)
    return decided, f"{reason}; {own}" if own else reason


def _how(
    decision: Decision, limits: _Limits, position: int, costs: Mapping[str, Cost], obstacles: Mapping[str, str]
) -> tuple[str, str]:
    work, device = decision.work, decision.assignment.devices[position]
    takers = work.takers(position)
    failed = [name for name, answers in work.answers.items() if answers[position].constraint == FAILED]
    if decision.is_given:
        return "given", "the placement that was handed in"
    if work.pins.get(work.nodes[position].op.index) == device:
        return "pin", "pinned"
    if failed and not any(name in work.named for name in takers):
        return "failure", f"{failed[0]} failed"
    wanted = work.domain(position)
    if device not in wanted:  # it got what those that were named could not have all of
        name = next((name for name in wanted if name in obstacles), wanted[0])
        return "limit", f"{name}: {obstacles.get(name, 'its limits leave no room for it')}"
    if len(wanted) <= 1:
        return "only", _only(work, device)
    if decision.table is None:
        return "order", "first device in the order that runs it"
    elsewhere = limits.elsewhere(position)
    if elsewhere in obstacles:
        return "limit", f"{elsewhere}: {obstacles[elsewhere]}"
    return "cost", _by_cost(decision, device, {name: costs[name] for name in wanted if name in costs})


def _only(work: GraphWork, device: str) -> str:
    competing = tuple(work.named)
    if device in competing:
        return "no other device competes" if len(competing) == 1 else "no other device that competes runs it"
    refusing = competing[0] if len(competing) == 1 else "no device that competes"
    return f"{refusing} {'does not run' if len(competing) == 1 else 'runs'} it, {device} does"


def _by_cost(decision: Decision, device: str, costs: Mapping[str, Cost]) -> str:
    values = {name: _value(cost, decision.objective) for name, cost in costs.items()}
    others = [name for name in values if name != device]
    if device not in values or not others:
        return "part of the best split found"
    best = min(others, key=lambda name: values[name])
    here, there = (amount(values[name], decision.objective) for name in (device, best))
    if values[device] <= values[best]:
        return f"{here} here, {there} on {best}"
    return f"{here} here, {there} on {best}, where launch and copies would cost more than that saves"


def _value(cost: Cost, objective: str) -> int:
    return (cost.energy_nj or 0) if objective == "energy" else cost.time_ns


def _candidate(
    decision: Decision, limits: _Limits, position: int, name: str, cost: Cost | None, limit: str, tried: Tried
) -> Candidate:
    """limit: what the limits say of the op on the device, "" where they allow it."""
    work, device = decision.work, decision.assignment.devices[position]
    answer = work.answers[name][position]
    competes = not decision.is_given and name in work.domain(position)
    found = Candidate(name, answer, cost, competes=competes)
    if name == device:
        return found
    obstacle = _obstacle(decision, position, name)
    if obstacle or not answer.runs:
        return _lifted(found, obstacle, tried.ends.get((position, name)), device)
    if decision.is_given:
        how = f"put it on {name} in the placement"
        if limits.has_none(name):
            return replace(found, change=how)
        return replace(found, obstacle=f"{how}, if its limits allow")
    if limit:
        found = replace(found, obstacle=f"not alone: {limit}")
    less = tried.less.get((position, name))
    if less is not None:
        return replace(found, change=_cheaper(less, cost, decision.objective), change_ns=less)
    if decision.table is None:
        return replace(found, change=f"put {name} first among the devices")
    if all(limits.has_none(device.id) for device in decision.table.devices):
        return replace(found, change=f"pin it to {name}")
    return replace(found, obstacle=found.obstacle or f"pin it to {name}, if the devices' limits allow")


def _obstacle(decision: Decision, position: int, name: str) -> str:
    """What has to be lifted before a device may get an op at all; "" for nothing, or nothing that a user could."""
    work, device = decision.work, decision.assignment.devices[position]
    answer = work.answers[name][position]
    if not answer.runs:
        return change_of(answer)
    if decision.is_given:
        return ""
    if work.pins.get(work.nodes[position].op.index) == device:
        return "remove the pin"
    return "" if name in work.domain(position) else f"name {name} among the devices"


def _lifted(found: Candidate, obstacle: str, end: str | None, device: str) -> Candidate:
    """With an obstacle, and where lifting it brings the op, if that was tried. device: where the op is."""
    if end is None or not obstacle:
        return replace(found, obstacle=obstacle)
    if end == found.device:
        return replace(found, obstacle=obstacle, change=obstacle)
    how = "stays on" if end == device else "goes to"
    return replace(found, obstacle=f"{obstacle}; even then it {how} {end or CORE}")


def _cheaper(less: int, cost: Cost | None, objective: str) -> str:
    """How much cheaper the op would have to be."""
    if less <= 1:
        return "as good there: pin it"
    value = None if cost is None else _value(cost, objective)
    if value is not None and less > value:  # no price of the op itself would do
        return f"cost nothing there, and {amount(less - value, objective)} less for launch and copies"
    return f"{amount(less, objective)} less there"


def is_rounding(asked: Support, answer: Support) -> bool:
    """Whether a device would take the op, were it not for its rounding."""
    return asked.verdict is Verdict.DEVIATES and not answer.runs and answer.constraint == asked.constraint


def change_of(answer: Support) -> str:
    """The smallest change of an op, or of the request, with which the device that refuses it would take it; "" where
    nothing that the user has in hand would do."""
    if answer.constraint == FAILED:
        return "the device is tried again after a while; see its reason"
    if answer.constraint.rpartition(".")[2] == "op_set" and answer.limit:
        return f"replace {answer.value} by one of {answer.limit}"
    sentences = [
        sentence for part in answer.reason.split("; ") for sentence, found, _ in [part.partition(", found ")] if found
    ]
    if answer.advice:
        return answer.advice
    return f"change the op so that {' and '.join(sentences)}" if sentences else ""


class _Limits:
    """What the devices' limits forbid, op by op."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        problem = decision.assignment.problem
        self._problem: Problem | None = problem
        is_limited = problem is not None and any(device.limits != Limits() for device in problem.devices)
        self._judge = Judge(problem) if problem is not None and is_limited else None
        self._position: Position | None = None
        if self._judge is not None:
            position = Position(self._judge, decision.assignment.positions())
            is_broken = self._judge.broken_limit(position.assignment, position.track.runs) is not None
            self._position = None if is_broken else position

    def has_none(self, name: str) -> bool:
        """Whether it is known that a device has no limits."""
        table = self._decision.table
        return table is not None and any(d.id == name and d.limits == Limits() for d in table.devices)

    def elsewhere(self, position: int) -> str:
        """The device that an op would be on if no device had limits, "" where it would stay."""
        found, assignment = self._unlimited, self._decision.assignment
        if not found or assignment.is_forced or found[position] == assignment.devices[position]:
            return ""
        return found[position]

    @cached_property
    def _unlimited(self) -> tuple[str, ...]:
        """The split if no device had limits, found as the one that was chosen."""
        decision = self._decision
        assignment = decision.assignment
        if self._judge is None or decision.table is None or assignment.is_forced:
            return ()
        devices = tuple(replace(device, limits=Limits()) for device in decision.table.devices)
        found = by_cost(
            decision.work,
            replace(decision.table, devices=devices),
            decision.objective,
            assignment.estimates,
            estimates_exceed_sums=assignment.estimates_exceed_sums,
            is_quick=len(decision.work.nodes) * len(devices) > QUICK_BEYOND,
        )
        return found.devices

    def obstacles(self, position: int) -> dict[str, str]:
        """Device → the limit that keeps an op from it, and what would lift it."""
        if self._judge is None or self._problem is None:
            return {}
        found = {}
        assignment = self._decision.assignment.positions()
        for d, device in enumerate(self._problem.devices):
            answers = self._decision.work.answers.get(device.id)
            if d == assignment[position] or answers is None or not answers[position].runs:
                continue
            if device.limits.prefix_only and any(assignment[p] != d for p in self._problem.binding[position]):
                found[device.id] = self._behind(d, position, assignment)
            elif d in self._problem.domains[position] and self._position is not None:
                moved = self._judge.after_move(self._position, (position,), d)
                if not self._judge.keeps_limits(self._position, (position,), d, moved):
                    found[device.id] = self._broken(moved, d)
        return found

    def _broken(self, moved: Moved, target: int) -> str:
        """What a limit says of what moving one op to ``target`` would make."""
        assert self._problem is not None and self._position is not None
        devices, new = self._problem.devices, moved.change.runs
        gone = self._position.track.runs[moved.change.first : moved.change.last]
        for d, ops in new:
            if len(ops) < devices[d].limits.min_ops:
                name, least = "it" if d == target else devices[d].id, devices[d].limits.min_ops
                return f"{name} takes segments of at least {least} ops, and there would be one of {len(ops)}"
        for d, device in enumerate(devices):
            most, name = device.limits.max_segments, "it" if d == target else device.id
            more = sum(run[0] == d for run in new) - sum(run[0] == d for run in gone)
            now = sum(run[0] == d for run in self._position.track.runs)
            if most is not None and more > 0 and now + more > most:
                return f"{name} takes at most {_segments(most)}, and there would be another"
        name = next((device.id for d, device in enumerate(devices) if device.limits.prefix_only and d != target), "it")
        return f"{name} takes only what starts at the graph's inputs, and some of its ops would lie behind this one"

    def _behind(self, device: int, position: int, assignment: Sequence[int]) -> str:
        """Which op stands in the way of a device that takes only what starts at the graph's inputs: the first before
        this one that it refuses, else the first that is not on it."""
        problem, work = self._problem, self._decision.work
        assert problem is not None
        name = problem.devices[device].id
        elsewhere: set[int] = set()
        seen, queue = {position}, [position]
        while queue:
            for earlier in problem.binding[queue.pop()]:
                if earlier not in seen:
                    seen.add(earlier)
                    queue.append(earlier)
                    if assignment[earlier] != device:
                        elsewhere.add(earlier)
        refused = [p for p in elsewhere if _is_core(work, p) or not work.answers[name][p].runs]
        first = min(refused or elsewhere)
        node = work.nodes[first]
        why = "is not one that it takes" if refused else "is not on it"
        op = f"op {node.op.index} {node.op.name}"
        return f"it takes only what starts at the graph's inputs, and {op} before this one {why}"


def _is_core(work: GraphWork, position: int) -> bool:
    return work.nodes[position].op.index in work.host


def _segments(n: int) -> str:
    return f"{n} segment" + ("s" if n != 1 else "")
