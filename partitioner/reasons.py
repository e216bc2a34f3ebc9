"""Why each op is where it is, and what would bring it elsewhere: the rows of the record. Imports core up to abi.

Made when somebody asks, from the decision that was taken: a run that nobody asks about pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from delegraph.core.abi.values import FAILED, Limits, Support, Verdict
from delegraph.partitioner.assignment import by_cost
from delegraph.partitioner.costs import Cost, CostTable
from delegraph.partitioner.placement import CORE, Candidate, OpPlacement
from delegraph.partitioner.placement_text import amount
from delegraph.partitioner.solver.problem import Problem
from delegraph.partitioner.solver.true_cost import Judge
from delegraph.partitioner.work import Decision, GraphWork

Changes = Mapping[tuple[int, str], int]
"""(position, device) → how much less the op would have to cost there to move: 1 where it would be as good there."""
QUICK_BEYOND = 1000
"""Ops times devices beyond which the split without limits is searched quickly."""


def rows_of(decision: Decision, changes: Changes = MappingProxyType({})) -> list[OpPlacement]:
    """One row per op."""
    limits = _Limits(decision)
    return [_row(decision, limits, changes, position) for position in range(len(decision.work.nodes))]


def _row(decision: Decision, limits: _Limits, changes: Changes, position: int) -> OpPlacement:
    work = decision.work
    node, device = work.nodes[position], decision.assignment.devices[position]
    costs = {} if decision.table is None else _costs(decision.table, work, position)
    obstacles = {} if not device else limits.obstacles(position)
    candidates = tuple(
        _candidate(decision, position, name, costs.get(name), obstacles.get(name, ""), changes)
        for name in (() if node.op.index in work.host else work.answers)
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
    domain = decision.assignment.domains[position]
    if len(domain) <= 1:
        if device in work.named:
            return "only", "the only named device that runs it"
        return "only", f"no named device runs it, {device} does"
    wanted = work.domain(position)
    if device not in wanted:  # it got what those that were named could not have all of
        name = next((name for name in wanted if name in obstacles), wanted[0])
        return "limit", f"{name}: {obstacles.get(name, 'its limits leave no room for it')}"
    if decision.table is None:
        return "order", "first device in the order that runs it"
    elsewhere = limits.elsewhere(position)
    if elsewhere in obstacles:
        return "limit", f"{elsewhere}: {obstacles[elsewhere]}"
    return "cost", _by_cost(decision, device, {name: costs[name] for name in domain if name in costs})


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
    decision: Decision, position: int, name: str, cost: Cost | None, obstacle: str, changes: Changes
) -> Candidate:
    work = decision.work
    answer = work.answers[name][position]
    if name == decision.assignment.devices[position]:
        return Candidate(name, answer, cost)
    if not answer.runs:
        return Candidate(name, answer, cost, change_of(answer))
    op = work.nodes[position].op.index
    if decision.is_given:
        return Candidate(name, answer, cost, f"put it on {name} in the placement")
    if op in work.pins:
        return Candidate(name, answer, cost, "remove the pin")
    competes = name in decision.assignment.domains[position] and not decision.assignment.is_forced
    if name not in work.named and not competes:
        return Candidate(name, answer, cost, f"name {name} among the devices")
    if obstacle:
        return Candidate(name, answer, cost, f"not alone: {obstacle}")
    less = changes.get((position, name))
    if less is None:
        return Candidate(
            name, answer, cost, f"pin it to {name}" if decision.table else f"put {name} first among the devices"
        )
    words = amount(less, decision.objective)
    value = None if cost is None else _value(cost, decision.objective)
    if value is not None and less > value:  # no price of the op itself would do
        beside = "it would not pay there for nothing: launch and copies have to cost {} less, too"
        return Candidate(name, answer, cost, beside.format(amount(less - value, decision.objective)), less)
    return Candidate(name, answer, cost, f"{words} less there" if less > 1 else "as good there: pin it", less)


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
        self._is_broken = False
        if self._judge is not None:
            chosen = decision.assignment.positions()
            self._is_broken = self._judge.broken_limit(chosen, self._judge.runs(chosen)) is not None

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
        if self._judge is None or decision.table is None or decision.assignment.is_forced:
            return ()
        devices = tuple(replace(device, limits=Limits()) for device in decision.table.devices)
        is_quick = len(decision.work.nodes) * len(devices) > QUICK_BEYOND
        table = replace(decision.table, devices=devices)
        return by_cost(decision.work, table, decision.objective, is_quick=is_quick).devices

    def obstacles(self, position: int) -> dict[str, str]:
        """Device → the limit that keeps an op from it, and what would lift it."""
        if self._judge is None or self._problem is None:
            return {}
        found = {}
        assignment = list(self._decision.assignment.positions())
        for d, device in enumerate(self._problem.devices):
            answers = self._decision.work.answers.get(device.id)
            if d == assignment[position] or answers is None or not answers[position].runs:
                continue
            limits = device.limits
            if limits.prefix_only and any(assignment[p] != d for p in self._problem.binding[position]):
                found[device.id] = self._behind(d, position, assignment)
            elif d in self._problem.domains[position] and not self._is_broken:
                assignment[position], old = d, assignment[position]
                broken = self._judge.broken_limit(assignment, self._judge.runs(assignment))
                assignment[position] = old
                if broken is not None:
                    found[device.id] = self._broken(broken, d)
        return found

    def _broken(self, segment: tuple[int, Sequence[int]], target: int) -> str:
        """What a limit says of a segment that moving one op to ``target`` would make."""
        assert self._problem is not None
        device = self._problem.devices[segment[0]]
        limits, name = device.limits, "it" if segment[0] == target else device.id
        if limits.max_segments is not None and len(segment[1]) >= limits.min_ops and not limits.prefix_only:
            return f"{name} takes at most {_segments(limits.max_segments)}, and there would be another"
        if len(segment[1]) < limits.min_ops:
            return (
                f"{name} takes segments of at least {limits.min_ops} ops, and there would be one of {len(segment[1])}"
            )
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
