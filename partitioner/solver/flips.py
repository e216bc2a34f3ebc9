"""How much cheaper an op would have to be elsewhere to go there: for the record of a placement. Imports the solver.

For an op v and another device e it is the least TRUE among assignments with v on e, less TRUE of the choice. What is
found is an upper bound, for the assignments are found, not all tried: each is judged by TRUE and keeps the limits, and
each counts for every op that it has elsewhere than the choice. More are tried the smaller the graph is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from delegraph.partitioner.solver.elimination import TooWide
from delegraph.partitioner.solver.improve import improved
from delegraph.partitioner.solver.problem import COST_LIMIT, Problem, Unplaceable
from delegraph.partitioner.solver.repair import is_limited, repair
from delegraph.partitioner.solver.surrogate import Surrogate, setting
from delegraph.partitioner.solver.true_cost import Judge, Position

_PINNED_ENTRIES = 1 << 22
"""Entries of all tables of all pins together up to which SURROGATE_1 is minimised with each op on each device."""
_TABLE = 1 << 12
"""Entries of one of those tables."""
_REPAIRED = 200
"""Ops up to which what breaks a limit is repaired even if an assignment is known already."""
_REPAIR_WORK = 100_000
"""Op positions of all assignments that are repaired together."""
_IMPROVE_WORK = 150_000
"""Op positions that improving with an op held may cost, over all ops and devices."""
_LEAST_WORK = 400
"""What one improvement gets at least, or else there is none."""
_SIGHT = 60
"""Ops around v among which the nearest one on the other device is looked for."""


def flip_costs(
    problem: Problem,
    judge: Judge,
    assignment: Sequence[int],
    others: Iterable[Sequence[int]] = (),
    *,
    estimates_exceed_sums: bool = False,
) -> tuple[Mapping[int, int], ...]:
    """For each op: device → cost by which the op would have to be cheaper there, or more, for a better assignment than
    this one to have it there. Below 0 where a better one has been found as it is; without an entry where every
    assignment that was tried breaks a limit.

    judge: of the problem. assignment: keeps the limits. others: more assignments that are worth a try.
    estimates_exceed_sums: the caller promises that no segment is estimated below the sum of its ops.
    """
    search = _Flips(problem, judge, assignment, estimates_exceed_sums)
    for other in others:
        search.judged(other)
    for d in range(len(problem.devices)):
        search.judged([d if d in domain else a for a, domain in zip(assignment, problem.domains, strict=True)])
    search.near()
    for pinned in _pinned_minima(problem, search.pairs):
        search.judged(pinned)
    search.improve()
    return search.found()


class _Flips:
    """The least TRUE so far with each op on each device."""

    def __init__(self, problem: Problem, judge: Judge, assignment: Sequence[int], estimates_exceed_sums: bool) -> None:
        self._problem = problem
        self._judge = judge
        self._choice = tuple(assignment)
        self._position = Position(judge, assignment)
        self._array = np.array(assignment, np.int64)
        self._rows = np.arange(len(assignment))
        self._least = np.full((len(assignment), len(problem.devices)), COST_LIMIT, np.int64)
        self._from: dict[tuple[int, int], tuple[int, ...]] = {}
        self._seen: set[tuple[int, ...]] = {self._choice}
        ops = int(problem.op_costs[self._rows, self._array].sum())
        self._sums = ops + judge.cost(assignment).copies
        self._used = np.bincount(self._array, minlength=len(problem.devices)).tolist()
        self._segments: set[tuple[int, int]] = set()
        self._has_estimates = judge.has_estimates
        self._is_bounded = estimates_exceed_sums or not judge.has_estimates
        self._work = _REPAIR_WORK
        self._is_limited = any(is_limited(device.limits) for device in problem.devices)
        self.pairs = [(op, d) for op, domain in enumerate(problem.domains) for d in domain if d != assignment[op]]

    def found(self) -> tuple[Mapping[int, int], ...]:
        least = self._least - self._position.total
        rows: list[dict[int, int]] = [{} for _ in self._choice]
        for op, d in self.pairs:
            if self._least[op, d] < COST_LIMIT:
                rows[op][d] = int(least[op, d])
        return tuple(rows)

    def judged(self, assignment: Sequence[int]) -> None:
        """Counts an assignment, made to keep the limits if it does not."""
        if tuple(assignment) in self._seen:
            return
        position = Position(self._judge, assignment)
        if self._is_limited:
            try:
                position = repair(self._judge, position)
            except Unplaceable:
                return
        if (found := tuple(position.assignment)) not in self._seen:
            self._count(found, position.total)

    def _count(self, assignment: tuple[int, ...], total: int) -> None:
        self._seen.add(assignment)
        array = np.array(assignment, np.int64)
        least = self._least[self._rows, array]
        better = np.flatnonzero((total < least) & (array != self._array))
        self._least[better, array[better]] = total
        for op in better.tolist():
            self._from[op, assignment[op]] = assignment

    def near(self) -> None:
        """v alone, with the ops between it and the nearest ones on the device, and with its segment."""
        for op, d in self.pairs:
            for ops in self._companies(op, d):
                self._move(ops, d)

    def _companies(self, op: int, device: int) -> Iterator[tuple[int, ...]]:
        back, ahead = self._way(op, device, self._problem.before), self._way(op, device, self._problem.after)
        yield from dict.fromkeys([(op,), back, ahead, tuple(sorted({*back, *ahead}))])
        run = self._position.track.run_of(op)
        if (run, device) not in self._segments:
            self._segments.add((run, device))
            yield tuple(o for o in self._position.track.runs[run][1] if device in self._problem.domains[o])

    def _way(self, op: int, device: int, near: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """op and those between it and the nearest op on the device, if the device can run them all; else op alone."""
        via = {op: op}
        waiting = deque([op])
        while waiting and len(via) <= _SIGHT:
            now = waiting.popleft()
            for other in near[now]:
                if self._choice[other] == device:
                    way = {op, now}
                    while now != op:
                        now = via[now]
                        way.add(now)
                    return tuple(sorted(way))
                if other not in via and device in self._problem.domains[other]:
                    via[other] = now
                    waiting.append(other)
        return (op,)

    def _move(self, ops: tuple[int, ...], device: int) -> None:
        """Counts the choice with ``ops`` on the device, unless it can't be less than what is known of them."""
        position = self._position
        change = position.additive.change(ops, device)
        most = max(int(self._least[op, device]) for op in ops if self._choice[op] != device)
        if self._floor(ops, device) + change >= most:
            return
        moved = self._judge.after_move(position, ops, device, change)
        if moved.total >= most:
            return
        moving = set(ops)
        changed = tuple(device if op in moving else d for op, d in enumerate(self._choice))
        if self._is_limited and not self._judge.keeps_limits(position, ops, device, moved):
            if self._work > 0 and (most >= COST_LIMIT or len(changed) <= _REPAIRED):
                self._work -= len(changed)
                self.judged(changed)
        else:
            self._count(changed, moved.total)

    def _floor(self, ops: Sequence[int], device: int) -> int:
        """What a move that leaves the sums as they are makes of TRUE at least: each used device launches once, and
        nothing is streamed. Of estimates that may be below the sums nothing is known."""
        if not self._is_bounded:
            return -COST_LIMIT
        used = list(self._used)
        for op in ops:
            used[self._choice[op]] -= 1
        launches = self._problem.launches
        return self._sums + sum(launches[d] for d, n in enumerate(used) if n > 0 or d == device)

    def improve(self) -> None:
        """Improves the best assignment of each pair with the op held where it is, if there is work for all of them."""
        work = _IMPROVE_WORK // max(1, len(self.pairs))
        if work < _LEAST_WORK:
            return
        for op, d in self.pairs:
            start = self._from.get((op, d))
            if start is not None:
                near = {o for v, now in enumerate(start) if now != self._choice[v] for o in self._judge.beside(v)}
                better = improved(self._judge, start, self._has_estimates, work, kept=(op,), near=near)
                if better not in self._seen:
                    self._count(better, self._judge.cost(better).total)


def _pinned_minima(problem: Problem, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The least SURROGATE_1 with each op on each device, as far as tables are small; each assignment once."""
    try:
        surrogate = Surrogate(problem, limit=_TABLE, has_path=False)
    except TooWide:
        return []
    if surrogate.order.entries * len(pairs) > _PINNED_ENTRIES:
        return []
    minima = surrogate.solve_pinned(setting(problem, 1), pairs)
    return list(dict.fromkeys(m.assignment for m in minima if m.assignment is not None))
