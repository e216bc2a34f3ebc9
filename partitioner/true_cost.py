"""What an assignment costs with its segments counted: TRUE, and the time with devices side by side. Imports
partitioner.problem, schedule.

    TRUE(a) = Σ segments [launch(d) + est(segment)] + Σ tensors Σ devices e ≠ home that read it: copy + streaming

est is the device's own estimate of the segment, or the sum of its ops. Outputs are read by the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from delegraph.partitioner.problem import COST_LIMIT, Problem
from delegraph.partitioner.schedule import Schedule

SegmentEstimate = Callable[[int, tuple[int, ...]], int | None]
"""(device, its ops in order) → cost of the segment without launch and copies, or None for the sum of its ops. Must
give the same answer each time."""

Run = tuple[int, tuple[int, ...]]
"""(device, ops) of one segment."""


@dataclass(frozen=True, slots=True)
class TrueCost:
    """TRUE with its parts. total: their sum. runs: the segments, in order; each of core's steps is one."""

    total: int
    ops: int
    copies: int
    launches: int
    streaming: int
    runs: tuple[Run, ...]

    @property
    def n_segments(self) -> int:
        return len(self.runs)


class Judge:
    """TRUE of a problem's assignments. The only mutable thing in it is a memory of segments' estimates."""

    def __init__(self, problem: Problem, estimate: SegmentEstimate | None = None) -> None:
        self.problem = problem
        beside = [d for d, device in enumerate(problem.devices) if device.is_beside]
        self._schedule: Schedule[int] = Schedule(problem.before, beside, problem.core)
        self._estimate = estimate
        self._known: dict[Run, int] = {}
        self._costs: list[list[int]] = problem.op_costs.tolist()
        self._copies: list[list[list[int]]] = problem.copies.tolist()
        self._tensors = [(-1 if t.producer is None else t.producer, t.consumers, t.is_output) for t in problem.tensors]
        touched: list[list[int]] = [[] for _ in problem.ops]
        for index, (producer, consumers, _) in enumerate(self._tensors):
            for op in (producer, *consumers) if producer >= 0 else consumers:
                touched[op].append(index)
        self._touched = tuple(map(tuple, touched))
        self._weights = [op.weight_bytes for op in problem.ops]
        limits = [device.limits.weight_budget_bytes for device in problem.devices]
        self._limited = [
            (d, budget, problem.devices[d].stream_bytes_per_s)
            for d, budget in enumerate(limits)
            if budget is not None and problem.devices[d].stream_bytes_per_s and sum(self._weights) > budget
        ]

    @property
    def may_stream(self) -> bool:
        """Whether some device's weight budget can be exceeded at all."""
        return bool(self._limited)

    def runs(self, assignment: Sequence[int]) -> list[Run]:
        """The segments."""
        return self._schedule.runs(assignment)

    def cost(self, assignment: Sequence[int]) -> TrueCost:
        """TRUE. COST_LIMIT or more where an op is on a device that can't run it, or a prefix is broken."""
        runs = self.runs(assignment)
        ops = self.op_cost(assignment, runs)
        copies = sum(self._copy_cost(i, assignment) for i in range(len(self._tensors)))
        launches = self.launch_cost(runs)
        streaming = self.streaming(assignment)
        return TrueCost(ops + copies + launches + streaming, ops, copies, launches, streaming, tuple(runs))

    def launch_cost(self, runs: Sequence[Run]) -> int:
        launches = self.problem.launches
        return sum(launches[device] for device, _ in runs)

    def op_cost(self, assignment: Sequence[int], runs: Sequence[Run]) -> int:
        if self._estimate is None:
            return sum(row[d] for row, d in zip(self._costs, assignment, strict=True))
        total = 0
        for run in runs:
            if run not in self._known:
                found = self._estimate(*run)
                self._known[run] = sum(self._costs[op][run[0]] for op in run[1]) if found is None else found
            total += self._known[run]
        return total

    def _copy_cost(self, index: int, assignment: Sequence[int], entries: Sequence[int] = ()) -> int:
        producer, consumers, is_output = self._tensors[index]
        host = self.problem.host
        home = host if producer < 0 else assignment[producer]
        row = self._copies[index][home]
        if len(consumers) == 1 and not is_output:
            device = assignment[consumers[0]]
            return row[device] + (entries[device] if entries and device != home else 0)
        read = {assignment[op] for op in consumers}
        entered = sum(entries[d] for d in read if d != home) if entries else 0
        if is_output:
            read.add(host)
        return entered + sum(row[d] for d in read)

    def additive_change(
        self, assignment: list[int], ops: Sequence[int], device: int, entries: Sequence[int] = ()
    ) -> int:
        """How much moving ``ops`` to ``device`` changes op and copy costs, as sums of ops; with ``entries`` (λ·launch
        per device), SURROGATE_λ. ``assignment`` is as before on return."""
        tensors = sorted({index for op in ops for index in self._touched[op]})
        costs = self._costs
        old = [assignment[op] for op in ops]
        change = sum(costs[op][device] - costs[op][d] for op, d in zip(ops, old, strict=True))
        change -= sum(self._copy_cost(index, assignment, entries) for index in tensors)
        for op in ops:
            assignment[op] = device
        change += sum(self._copy_cost(index, assignment, entries) for index in tensors)
        for op, d in zip(ops, old, strict=True):
            assignment[op] = d
        return change

    def beside(self, op: int) -> set[int]:
        """The ops that share a tensor with this one, and itself."""
        found = {op}
        for index in self._touched[op]:
            producer, consumers, _ = self._tensors[index]
            found.update(consumers)
            if producer >= 0:
                found.add(producer)
        return found

    def streaming(self, assignment: Sequence[int]) -> int:
        """Cost of moving the constants beyond the devices' weight budgets, each run."""
        total = 0
        for d, budget, bytes_per_s in self._limited:
            held = sum(size for size, device in zip(self._weights, assignment, strict=True) if device == d)
            total += -(-max(0, held - budget) * 1_000_000_000 // bytes_per_s)
        return total

    def broken_limit(self, assignment: Sequence[int], runs: Sequence[Run]) -> Run | None:
        """A segment that its device's limits forbid, or None: the smallest of those that are too many, one that is too
        small, or the ops that lie behind other devices' on a device that takes only a prefix."""
        for d, device in enumerate(self.problem.devices):
            limits = device.limits
            own = [run for run in runs if run[0] == d]
            if limits.prefix_only:
                behind = tuple(
                    op
                    for op, a in enumerate(assignment)
                    if a == d and any(assignment[earlier] != d for earlier in self.problem.before[op])
                )
                if behind:
                    return d, behind
            small = next((run for run in own if len(run[1]) < limits.min_ops), None)
            if small is not None:
                return small
            if limits.max_segments is not None and len(own) > limits.max_segments:
                return min(own, key=lambda run: (self._weight(run), run[1]))
        return None

    def _weight(self, run: Run) -> int:
        """What the segment is worth: how much more its ops cost on the host."""
        host = self.problem.host
        return sum(min(self._costs[op][host], COST_LIMIT) - self._costs[op][run[0]] for op in run[1])


def concurrent_time(problem: Problem, runs: Sequence[Run], estimate: SegmentEstimate | None = None) -> int:
    """When the last output is on the host if different resources work side by side: list scheduling in the runs'
    order. A segment starts when its resource is free and its operands are there; copies wait for nobody."""
    assignment = {op: device for device, ops in runs for op in ops}
    inputs: list[list[int]] = [[] for _ in problem.ops]
    for index, tensor in enumerate(problem.tensors):
        for op in tensor.consumers:
            inputs[op].append(index)
    copies = problem.copies
    done: dict[int, int] = {}  # op → when its segment ends
    free: dict[str, int] = {}
    for device, ops in runs:
        info = problem.devices[device]
        resource = (
            info.resource or info.id or problem.devices[problem.host].resource or problem.devices[problem.host].id
        )
        start = free.get(resource, 0)
        inside = set(ops)
        for op in ops:
            start = max([start, *(done[earlier] for earlier in problem.before[op] if earlier not in inside)])
            for index in inputs[op]:
                producer = problem.tensors[index].producer
                if producer is None or producer not in inside:
                    home, at = (problem.host, 0) if producer is None else (assignment[producer], done[producer])
                    start = max(start, at + int(copies[index, home, device]))
        cost = estimate(device, ops) if estimate is not None else None
        if cost is None:
            cost = sum(int(problem.op_costs[op, device]) for op in ops)
        end = start + info.launch + cost
        free[resource] = end
        done |= dict.fromkeys(ops, end)
    ends = [*done.values(), 0]
    for index, tensor in enumerate(problem.tensors):
        if tensor.is_output and tensor.producer is not None:
            home = assignment[tensor.producer]
            ends.append(done[tensor.producer] + int(copies[index, home, problem.host]))
    return max(ends)


def broken_rule(problem: Problem, runs: Sequence[Run]) -> str:
    """Why these segments can't be run in this order, or "": every op once, on a device that may run it, and behind what
    it waits for. A run of a topological order is convex, and the quotient of such runs acyclic."""
    seen: set[int] = set()
    for device, ops in runs:
        for op in ops:
            if device not in problem.domains[op]:
                return f"op {op} is on {problem.devices[device].id!r}, which does not run it"
            if op in seen:
                return f"op {op} runs twice"
            if missing := [earlier for earlier in problem.before[op] if earlier not in seen]:
                return f"op {op} runs before op {missing[0]}"
            seen.add(op)
    return "" if len(seen) == len(problem.ops) else "some ops run on no device"
