"""What an assignment costs with its segments counted: TRUE, and the time with devices side by side. Imports
solver.problem, schedule.

    TRUE(a) = Σ segments [launch(d) + est(segment)] + Σ tensors Σ devices e ≠ home that read it: copy + streaming

est is the device's own estimate of the segment, or the sum of its ops. Outputs are read by the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.partitioner.schedule import Change, Schedule, Track
from delegraph.partitioner.solver.problem import COST_LIMIT, Problem

SegmentEstimate = Callable[[int, tuple[int, ...]], int | None]
"""(device, its ops in order) → cost of the segment without launch and copies, or None for the sum of its ops. Must
give the same answer each time."""

Run = tuple[int, tuple[int, ...]]
"""(device, ops) of one segment."""


_CALLER = ""
"""The resource of the caller's thread."""

Tables = tuple[
    list[list[int]], list[list[list[int]]], list[list[int]], list[list[int]], list[tuple[int, tuple[int, ...], bool]]
]
"""op → costs by device; tensor → home → costs by device; op → the tensors it makes, those it reads; tensor → (producer
or -1, consumers, is_output)."""


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


@dataclass(frozen=True, slots=True)
class RunCost:
    """One segment's share of TRUE. copies_ns: of the tensors that enter its device with it, each with the first segment
    that reads it there; outputs_ns: of bringing outputs that it makes to the host, where no segment there reads them;
    streaming_ns: of the device's constants, with its first segment."""

    device: int
    ops: tuple[int, ...]
    launch_ns: int
    ops_ns: int
    copies_ns: int
    outputs_ns: int = 0
    streaming_ns: int = 0

    @property
    def total_ns(self) -> int:
        return self.launch_ns + self.ops_ns + self.copies_ns + self.outputs_ns + self.streaming_ns


@dataclass(frozen=True, slots=True)
class Moved:
    """TRUE after a move, its number of segments, the op positions that were scheduled to find out, and what becomes of
    the segments."""

    total: int
    n_segments: int
    n_scheduled: int
    change: Change[int]


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
        self._made: list[list[int]] = [[] for _ in problem.ops]
        self._read: list[list[int]] = [[] for _ in problem.ops]
        for index, (producer, consumers, _) in enumerate(self._tensors):
            if producer >= 0:
                self._made[producer].append(index)
            for op in consumers:
                self._read[op].append(index)
        self._weights = [op.weight_bytes for op in problem.ops]
        self._shared_of: dict[int, list[int]] = {}
        for index, constant in enumerate(problem.shared):
            for op in constant.readers:
                self._shared_of.setdefault(op, []).append(index)
        self._streaming_devices = [
            (d, budget, problem.devices[d].stream_bytes_per_s)
            for d in problem.rooms
            if (budget := problem.devices[d].limits.weight_budget_bytes) is not None
        ]

    @property
    def has_estimates(self) -> bool:
        return self._estimate is not None

    @property
    def tables(self) -> Tables:
        return self._costs, self._copies, self._made, self._read, self._tensors

    @property
    def may_stream(self) -> bool:
        """Whether some device's weight budget can be exceeded at all."""
        return bool(self._streaming_devices)

    def runs(self, assignment: Sequence[int]) -> list[Run]:
        """The segments."""
        return self._schedule.runs(assignment)

    def track(self, assignment: Sequence[int]) -> Track[int]:
        """The segments, ready to be asked about moves."""
        return Track(self._schedule, self.runs(assignment))

    def cost(self, assignment: Sequence[int], runs: Sequence[Run] | None = None) -> TrueCost:
        """TRUE. COST_LIMIT or more where an op is on a device that can't run it, or a prefix is broken. runs: the
        assignment's, if they are known."""
        runs = self.runs(assignment) if runs is None else runs
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
        return sum(self._run_cost(run) for run in runs)

    def _run_cost(self, run: Run) -> int:
        """The ops of one segment, as the device estimates it or summed up."""
        if self._estimate is None:
            return sum(self._costs[op][run[0]] for op in run[1])
        if run not in self._known:
            found = self._estimate(*run)
            self._known[run] = sum(self._costs[op][run[0]] for op in run[1]) if found is None else found
        return self._known[run]

    def run_costs(self, assignment: Sequence[int], runs: Sequence[Run] | None = None) -> tuple[RunCost, ...]:
        """What each segment costs, those of ``runs`` or others of the same assignment; together TRUE."""
        runs = self.runs(assignment) if runs is None else runs
        run_of = {op: i for i, (_, ops) in enumerate(runs) for op in ops}
        copies, outputs, streaming = ([0] * len(runs) for _ in range(3))
        host = self.problem.host
        for index, (producer, consumers, is_output) in enumerate(self._tensors):
            home = host if producer < 0 else assignment[producer]
            row = self._copies[index][home]
            entered: dict[int, int] = {}  # device → the first of its segments that reads the tensor
            for op in consumers:
                d = assignment[op]
                entered[d] = min(run_of[op], entered.get(d, len(runs)))
            for d, run in entered.items():
                copies[run] += row[d]
            if is_output and producer >= 0 and host not in entered:
                outputs[run_of[producer]] += row[host]
        for d, cost in self._streaming_of(assignment).items():
            streaming[next(i for i, run in enumerate(runs) if run[0] == d)] += cost
        parts = zip(runs, copies, outputs, streaming, strict=True)
        return tuple(
            RunCost(run[0], run[1], self.problem.launches[run[0]], self._run_cost(run), *more) for run, *more in parts
        )

    def _copy_cost(self, index: int, assignment: Sequence[int]) -> int:
        producer, consumers, is_output = self._tensors[index]
        host = self.problem.host
        row = self._copies[index][host if producer < 0 else assignment[producer]]
        if len(consumers) == 1 and not is_output:
            return row[assignment[consumers[0]]]
        read = {assignment[op] for op in consumers}
        if is_output:
            read.add(host)
        return sum(row[d] for d in read)

    def additive(self, assignment: Sequence[int], entries: Sequence[int] = ()) -> Additive:
        """The part of TRUE that is a sum over ops and tensors; with ``entries`` (λ·launch per device), SURROGATE_λ."""
        return Additive(self, assignment, entries)

    def after_move(self, position: Position, ops: Sequence[int], device: int, change: int | None = None) -> Moved:
        """What TRUE would be if ``ops`` went to ``device``. change: that of the sums, if it is known. ``position`` is
        as before on return."""
        assignment, runs = position.assignment, position.track.runs
        if change is None:
            change = position.additive.change(ops, device)
        streaming = self._streaming_change(position, ops, device)
        old = [assignment[op] for op in ops]
        for op in ops:
            assignment[op] = device
        new = position.track.change(assignment, [op for op, d in zip(ops, old, strict=True) if d != device] or ops)
        for op, d in zip(ops, old, strict=True):
            assignment[op] = d
        gone = runs[new.first : new.last]
        launches = self.launch_cost(new.runs) - self.launch_cost(gone)
        if self._estimate is not None:  # in place of the sums
            change -= sum(self._costs[op][device] - self._costs[op][d] for op, d in zip(ops, old, strict=True))
            change += sum(self._run_cost(run) for run in new.runs) - sum(self._run_cost(run) for run in gone)
        n_scheduled = sum([len(run[1]) for run in new.runs])
        n_segments = len(runs) + len(new.runs) - len(gone)
        return Moved(position.total + change + launches + streaming, n_segments, n_scheduled, new)

    def keeps_limits(self, position: Position, ops: Sequence[int], device: int, moved: Moved) -> bool:
        """Whether a position that keeps the limits still does after a move."""
        problem, new = self.problem, moved.change.runs
        limits = [info.limits for info in problem.devices]
        if any(len(run[1]) < limits[run[0]].min_ops for run in new):
            return False
        gone = position.track.runs[moved.change.first : moved.change.last]
        for d, own in enumerate(limits):
            if own.max_segments is not None:
                more = sum([run[0] == d for run in new]) - sum([run[0] == d for run in gone])
                if more > 0 and sum([run[0] == d for run in position.track.runs]) + more > own.max_segments:
                    return False
        if problem.prefix_devices:
            changed = list(position.assignment)
            for op in ops:
                changed[op] = device
            return self.broken_limit(changed, position.track.after(moved.change).runs) is None
        return True

    def _streaming_change(self, position: Position, ops: Sequence[int], device: int) -> int:
        change = 0
        for d, budget, bytes_per_s in self._streaming_devices:
            before = position.held[d]
            after = before + self.held_change(position.assignment, ops, device, d)
            change += _streamed(after, budget, bytes_per_s) - _streamed(before, budget, bytes_per_s)
        return change

    def held_change(self, assignment: Sequence[int], ops: Sequence[int], device: int, holder: int) -> int:
        """How many more bytes of constants ``holder`` holds if ``ops`` go to ``device``."""
        change = 0
        shared: set[int] = set()
        for op in ops:
            was, will = assignment[op] == holder, device == holder
            if was != will:
                change += self._weights[op] if will else -self._weights[op]
                shared.update(self._shared_of.get(op, ()))
        for index in shared:
            constant = self.problem.shared[index]
            before = sum([assignment[op] == holder for op in constant.readers])
            after = sum([(device if op in ops else assignment[op]) == holder for op in constant.readers])
            change -= constant.size_bytes * (max(0, after - 1) - max(0, before - 1))
        return change

    def beside(self, op: int) -> set[int]:
        """The ops that share a tensor with this one, and itself."""
        found = {op}
        for index in (*self._made[op], *self._read[op]):
            producer, consumers, _ = self._tensors[index]
            found.update(consumers)
            if producer >= 0:
                found.add(producer)
        return found

    def streaming(self, assignment: Sequence[int]) -> int:
        """Cost of moving the constants beyond the devices' weight budgets, each run."""
        return sum(self._streaming_of(assignment).values()) if self._streaming_devices else 0

    def _streaming_of(self, assignment: Sequence[int]) -> dict[int, int]:
        """Device → cost, of those whose budget is exceeded."""
        held = self.held(assignment)
        return {
            d: _streamed(held[d], budget, bytes_per_s)
            for d, budget, bytes_per_s in self._streaming_devices
            if held[d] > budget
        }

    def held(self, assignment: Sequence[int]) -> dict[int, int]:
        """Bytes of constants on each device that may get more than it has room for."""
        return {d: self.problem.held_bytes(assignment, d) for d in self.problem.rooms}

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
                    if a == d and any(assignment[earlier] != d for earlier in self.problem.binding[op])
                )
                if behind:
                    return d, behind
            small = next((run for run in own if len(run[1]) < limits.min_ops), None)
            if small is not None:
                return small
            if limits.max_segments is not None and len(own) > limits.max_segments:
                return min(own, key=lambda run: (self.worth(run), run[1]))
        return None

    def worth(self, run: Run) -> int:
        """What the segment is worth: how much more its ops cost on the host."""
        host = self.problem.host
        return sum(min(self._costs[op][host], COST_LIMIT) - self._costs[op][run[0]] for op in run[1])


class Additive:
    """An assignment that can be changed op by op, with the readers of each tensor counted by device, so that a change
    of its sums costs no more than the tensors that it touches."""

    def __init__(self, judge: Judge, assignment: Sequence[int], entries: Sequence[int] = ()) -> None:
        self.assignment = list(assignment)
        self._costs, self._copies, self._made, self._read, self._tensors = judge.tables
        self._host = judge.problem.host
        self._enter = self._copies
        if any(entries):
            each = judge.problem.copies + np.array(entries, np.int64)
            n = len(entries)
            each[:, np.arange(n), np.arange(n)] = 0
            self._enter = each.tolist()
        self._counts = [[0] * len(judge.problem.devices) for _ in self._tensors]
        for counts, (_, consumers, _) in zip(self._counts, self._tensors, strict=True):
            for op in consumers:
                counts[self.assignment[op]] += 1

    def change(self, ops: Sequence[int], device: int) -> int:
        """How much moving ``ops`` to ``device`` changes the sums. All is as before on return."""
        if len(ops) == 1:
            return self._change(ops[0], device)
        old = [self.assignment[op] for op in ops]
        change = 0
        for op in ops:
            change += self._change(op, device)
            self._put(op, device)
        for op, d in zip(ops, old, strict=True):
            self._put(op, d)
        return change

    def move(self, ops: Sequence[int], device: int) -> None:
        for op in ops:
            self._put(op, device)

    def _put(self, op: int, device: int) -> None:
        old = self.assignment[op]
        self.assignment[op] = device
        for index in self._read[op]:
            counts = self._counts[index]
            counts[old] -= 1
            counts[device] += 1

    def _change(self, op: int, device: int) -> int:
        old, host = self.assignment[op], self._host
        if old == device:
            return 0
        change = self._costs[op][device] - self._costs[op][old]
        for index in self._read[op]:
            counts = self._counts[index]
            leaves, enters = counts[old] == 1, not counts[device]
            if leaves or enters:
                producer, _, is_output = self._tensors[index]
                home = host if producer < 0 else self.assignment[producer]
                row = self._enter[index][home]
                change += (row[device] if enters else 0) - (row[old] if leaves else 0)
                if is_output:  # the host is brought it anyway
                    delivered = self._copies[index][home][host]
                    change += (delivered if leaves and old == host else 0) - (
                        delivered if enters and device == host else 0
                    )
        for index in self._made[op]:
            counts = self._counts[index]
            was, will = self._enter[index][old], self._enter[index][device]
            change += sum([will[d] - was[d] for d, count in enumerate(counts) if count])
            if self._tensors[index][2] and not counts[host]:
                change += self._copies[index][device][host] - self._copies[index][old][host]
        return change


class Position:
    """An assignment with its segments and TRUE, from which ``Judge.after_move`` tells what a move makes of it at the
    price of what the move changes."""

    def __init__(self, judge: Judge, assignment: Sequence[int]) -> None:
        self._judge = judge
        self.additive = judge.additive(assignment)
        self.assignment = self.additive.assignment
        self.track = judge.track(assignment)
        self.total = judge.cost(assignment, self.track.runs).total
        self.held = judge.held(assignment)

    def go(self, ops: Sequence[int], device: int, moved: Moved) -> None:
        """Makes the move, whose outcome is known."""
        self.additive.move(ops, device)
        self.track = self.track.after(moved.change)
        self.total = moved.total
        self.held = self._judge.held(self.assignment)


def _streamed(held: int, budget: int, bytes_per_s: int) -> int:
    return -(-max(0, held - budget) * 1_000_000_000 // bytes_per_s)


def concurrent_time(problem: Problem, runs: Sequence[Run], estimate: SegmentEstimate | None = None) -> int:
    """When the last output is on the host if different resources work side by side: list scheduling in the runs'
    order. What does not run beside the caller takes turns on the caller's thread. A segment starts when its resource is
    free and its operands are there; copies wait for nobody."""
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
        held = {info.resource or info.id} if info.is_beside else {info.resource or _CALLER, _CALLER}
        start = max(free.get(resource, 0) for resource in held)
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
        free |= dict.fromkeys(held, end)
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
