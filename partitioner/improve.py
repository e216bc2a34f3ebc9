"""Better assignments near a given one, by TRUE and within the devices' limits. Imports partitioner.true_cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from delegraph.core.abi.values import Limits
from delegraph.partitioner.problem import COST_LIMIT, Unplaceable
from delegraph.partitioner.true_cost import Judge, Run

PASSES = 8
"""Rounds over all segments and boundary ops at most."""
_WORK = 80_000
"""Op positions that may be scheduled while improving one assignment; what bounds the time."""
_FEWEST = 40
"""Schedules that are tried however large the problem is."""


@dataclass(frozen=True, slots=True)
class _Move:
    """ops go to device; change: of op and copy costs."""

    ops: tuple[int, ...]
    device: int
    change: int


def repaired(judge: Judge, assignment: Sequence[int]) -> tuple[int, ...]:
    """The assignment with every segment that a limit forbids moved to a device without limits.

    Raises:
        Unplaceable: an op of such a segment may run nowhere else.
    """
    problem = judge.problem
    free = [d for d, device in enumerate(problem.devices) if not _is_limited(device.limits)]
    found = list(assignment)
    while (broken := judge.broken_limit(found, judge.runs(found))) is not None:
        device, ops = broken
        common = [d for d in free if all(d in problem.domains[op] for op in ops)]
        if common:
            best = min(common, key=lambda d: (judge.additive_change(found, ops, d), d))
            for op in ops:
                found[op] = best
            continue
        for op in ops:
            others = [d for d in free if d in problem.domains[op]]
            if not others:
                name = problem.devices[device].id
                raise Unplaceable(op, f"a device beside {name}, whose limits it breaks", "none", "add the cpu")
            found[op] = min(others, key=lambda d: (judge.additive_change(found, (op,), d), d))
    return tuple(found)


def _is_limited(limits: Limits) -> bool:
    return limits.max_segments is not None or limits.prefix_only or limits.min_ops > 1


def improved(judge: Judge, assignment: Sequence[int], has_estimates: bool = False) -> tuple[int, ...]:
    """An assignment of at most the same TRUE: segments, then ops at boundaries, then both sides of a boundary, go to a
    neighbour's device while that makes it less. Deterministic: the first move that pays is taken, in the order of the
    ops; bounded by PASSES and by the work of scheduling.

    Must hold on entry: the assignment keeps the limits; so does the one returned.
    """
    search = _Search(judge, assignment, has_estimates)
    for _ in range(PASSES):
        if not search.sweep():
            break
    return tuple(search.assignment)


class _Search:
    """The state of one improvement: the assignment, its segments, its TRUE, and how many schedules are left."""

    def __init__(self, judge: Judge, assignment: Sequence[int], has_estimates: bool) -> None:
        self.judge = judge
        self.problem = judge.problem
        self.assignment = list(assignment)
        self._has_estimates = has_estimates
        self._is_limited = any(_is_limited(device.limits) for device in self.problem.devices)
        self._left = max(_FEWEST, _WORK // max(1, len(self.problem.ops)))
        cost = judge.cost(assignment)
        self._total = cost.total
        self._set_runs(cost.runs)

    def _set_runs(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._run_of = {op: i for i, (_, ops) in enumerate(runs) for op in ops}

    def sweep(self) -> bool:
        """Tries every move once; whether one was taken."""
        return any([self._try(self._segment_moves()), self._try(self._op_moves()), self._try(self._pair_moves())])

    def _try(self, moves: Iterator[_Move]) -> bool:
        taken = False
        for move in moves:
            if self._left <= 0:
                return taken
            taken |= self._take(move)
        return taken

    def _take(self, move: _Move) -> bool:
        """Makes the move if TRUE becomes less, or stays with fewer segments."""
        judge = self.judge
        old = [self.assignment[op] for op in move.ops]
        if move.change >= COST_LIMIT:
            return False
        before = judge.streaming(self.assignment) if judge.may_stream else 0
        if not self._has_estimates and move.change > self._spare(move) + before:
            return False
        for op in move.ops:
            self.assignment[op] = move.device
        self._left -= 1
        runs = judge.runs(self.assignment)
        if self._has_estimates:
            total = judge.cost(self.assignment).total
        else:
            total = self._total + move.change + judge.launch_cost(runs) - judge.launch_cost(self._runs)
            total += (judge.streaming(self.assignment) if judge.may_stream else 0) - before
        better = (total, len(runs)) < (self._total, len(self._runs))
        if better and not (self._is_limited and judge.broken_limit(self.assignment, runs)):
            self._total = total
            self._set_runs(runs)
            return True
        for op, d in zip(move.ops, old, strict=True):
            self.assignment[op] = d
        return False

    def _spare(self, move: _Move) -> int:
        """Launches that the move can do without, to all appearance: those of segments that it takes away, and one of
        the device that it goes to if it stands between two of its segments."""
        problem = self.problem
        indices = {self._run_of[op] for op in move.ops}
        gone = [i for i in indices if len(self._runs[i][1]) <= len(move.ops) and set(self._runs[i][1]) <= set(move.ops)]
        near = {
            self._run_of[o]
            for op in move.ops
            for o in (*problem.before[op], *problem.after[op])
            if self.assignment[o] == move.device
        }
        spare = sum(problem.launches[self._runs[i][0]] for i in gone)
        return spare + max(0, len(near) - 1) * problem.launches[move.device]

    def _moves(self, ops: tuple[int, ...], devices: Sequence[int]) -> Iterator[_Move]:
        for d in devices:
            if all(d in self.problem.domains[op] for op in ops) and any(self.assignment[op] != d for op in ops):
                yield _Move(ops, d, self.judge.additive_change(self.assignment, ops, d))

    def _around(self, ops: Sequence[int]) -> list[int]:
        """Devices of the ops' neighbours."""
        problem = self.problem
        return sorted({self.assignment[o] for op in ops for o in (*problem.before[op], *problem.after[op])})

    def _segment_moves(self) -> Iterator[_Move]:
        for first in [run[1][0] for run in self._runs]:
            ops = next((run[1] for run in self._runs if run[1][0] == first), None)
            if ops is not None:  # an earlier move may have joined it to another
                yield from self._moves(ops, list(dict.fromkeys([*self._around(ops), self.problem.host])))

    def _op_moves(self) -> Iterator[_Move]:
        for op in range(len(self.assignment)):
            if len(self.problem.domains[op]) > 1:
                around = [*self._around((op,)), *([self.problem.host] if self.judge.may_stream else [])]
                devices = [d for d in dict.fromkeys(around) if d != self.assignment[op]]
                yield from self._moves((op,), devices)

    def _pair_moves(self) -> Iterator[_Move]:
        """An op with one that reads from it, to a device next to either."""
        for op in range(len(self.assignment)):
            for other in self.problem.after[op]:
                around = self._around((op, other))
                if any(d != self.assignment[op] or d != self.assignment[other] for d in around):
                    yield from self._moves((op, other), around)
