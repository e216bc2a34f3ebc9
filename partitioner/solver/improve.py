"""Better assignments near a given one, by TRUE and within the devices' limits. Imports solver.true_cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from delegraph.partitioner.solver.problem import COST_LIMIT
from delegraph.partitioner.solver.repair import end_changes, is_limited
from delegraph.partitioner.solver.true_cost import Judge, Position

PASSES = 8
"""Rounds over all segments and boundary ops at most."""
WORK = 40_000
"""Op positions that may be scheduled while improving one assignment; what bounds the time."""
_WIDENED = 800
"""Ops up to which moves are judged that seem not to pay."""
_CONSIDERED = 10
"""What looking at a move counts for, in op positions."""


@dataclass(frozen=True, slots=True)
class _Move:
    """ops go to device; change: of op and copy costs."""

    ops: tuple[int, ...]
    device: int
    change: int


def improved(
    judge: Judge,
    assignment: Sequence[int],
    has_estimates: bool = False,
    work: int = WORK,
    *,
    kept: Collection[int] = (),
    near: Collection[int] | None = None,
) -> tuple[int, ...]:
    """An assignment of at most the same TRUE: segments, then ops at boundaries, then both sides of a boundary, go to a
    neighbour's device while that makes it less; from the second round on only near what the last one changed. Where a
    device is limited, the ends of segments too; where one is short of room, segments go last, so that part of one may
    stay.
    Deterministic: the first move that pays is taken, in the order of the ops; bounded by PASSES and by ``work``, the op
    positions that are scheduled. kept: ops that stay where they are. near: those to start with, if not with all.

    Must hold on entry: the assignment keeps the limits; so does the one returned.
    """
    search = _Search(judge, assignment, has_estimates, work, frozenset(kept), near)
    for _ in range(PASSES):
        if not search.sweep() and not search.widen():
            break
    return tuple(search.assignment)


class _Search:
    """The state of one improvement: the position, and how much work is left."""

    def __init__(
        self,
        judge: Judge,
        assignment: Sequence[int],
        has_estimates: bool,
        work: int,
        kept: frozenset[int],
        near: Collection[int] | None,
    ) -> None:
        self.judge = judge
        self.problem = judge.problem
        self._is_sure = has_estimates  # whether TRUE is asked of moves that seem not to pay, too
        self._is_limited = any(is_limited(device.limits) for device in self.problem.devices)
        self._left = work
        self._kept = kept
        self._is_tight = bool(self.problem.rooms) or has_estimates or self._is_limited
        self._near = set(range(len(assignment)) if near is None else near)  # the ops whose moves are tried
        self._start = frozenset(self._near)
        self._changed: set[int] = set()
        self._position = Position(judge, assignment)
        self.assignment = self._position.assignment
        self._look()

    def _look(self) -> None:
        """Takes down what is asked for often."""
        self._total = self._position.total
        self._streaming = self.judge.streaming(self.assignment) if self.judge.may_stream else 0
        self._runs = self._position.track.runs

    def sweep(self) -> bool:
        """Tries every move near the last sweep's once; whether one was taken."""
        moves = [self._segment_moves, self._op_moves, self._pair_moves]
        if self.problem.rooms:
            moves = [self._op_moves, self._end_moves, self._segment_moves, self._pair_moves]
        elif self._is_tight:
            moves.insert(2, self._end_moves)
        taken = [self._try(each()) for each in moves]
        self._near, self._changed = self._changed, set()
        return any(taken)

    def widen(self) -> bool:
        """From now on tries all moves, if it did not: how many launches a move spares is only guessed."""
        if self._is_sure or len(self.assignment) > _WIDENED:
            return False
        self._is_sure = True
        self._near = set(self._start)
        return True

    def _try(self, moves: Iterator[_Move]) -> bool:
        taken = False
        for move in moves:
            if self._left <= 0:
                return taken
            self._left -= _CONSIDERED
            taken |= self._take(move)
        return taken

    def _take(self, move: _Move) -> bool:
        """Makes the move if TRUE becomes less, or stays with fewer segments."""
        judge = self.judge
        if move.change >= COST_LIMIT:
            return False
        if not self._is_sure and move.change > self._spare(move) + self._streaming:
            return False
        found = judge.after_move(self._position, move.ops, move.device, move.change)
        self._left -= found.n_scheduled
        if (found.total, found.n_segments) >= (self._total, len(self._runs)):
            return False
        if self._is_limited and not judge.keeps_limits(self._position, move.ops, move.device, found):
            return False
        self._position.go(move.ops, move.device, found)
        self._look()
        for op in move.ops:
            self._changed |= judge.beside(op)
        return True

    def _spare(self, move: _Move) -> int:
        """Launches that the move can do without, to all appearance: those of segments that it takes away, and one of
        the device that it goes to if it stands between two of its segments."""
        problem = self.problem
        run_of = self._position.track.run_of
        indices = {run_of(op) for op in move.ops}
        gone = [i for i in indices if len(self._runs[i][1]) <= len(move.ops) and set(self._runs[i][1]) <= set(move.ops)]
        near = {
            run_of(o)
            for op in move.ops
            for o in (*problem.before[op], *problem.after[op])
            if self.assignment[o] == move.device
        }
        spare = sum(problem.launches[self._runs[i][0]] for i in gone)
        return spare + max(0, len(near) - 1) * problem.launches[move.device]

    def _moves(self, ops: tuple[int, ...], devices: Sequence[int]) -> Iterator[_Move]:
        if not self._kept.isdisjoint(ops):
            return
        for d in devices:
            if all(d in self.problem.domains[op] for op in ops) and any(self.assignment[op] != d for op in ops):
                yield _Move(ops, d, self._position.additive.change(ops, d))

    def _around(self, ops: Sequence[int]) -> list[int]:
        """Devices of the ops' neighbours: what is next to the graph's inputs and outputs is next to the host."""
        problem = self.problem
        found = {self.assignment[o] for op in ops for o in (*problem.before[op], *problem.after[op])}
        if not problem.edge_ops.isdisjoint(ops):
            found.add(problem.host)
        return sorted(found)

    def _segment_moves(self) -> Iterator[_Move]:
        for first in [run[1][0] for run in self._runs if not self._near.isdisjoint(run[1])]:
            ops = next((run[1] for run in self._runs if run[1][0] == first), None)
            if ops is not None:  # an earlier move may have joined it to another
                yield from self._moves(ops, list(dict.fromkeys([*self._around(ops), self.problem.host])))

    def _end_moves(self) -> Iterator[_Move]:
        """The first or last ops of a segment: as many as cost least, by the sums and with what streaming would take,
        and as few as leave the device room."""
        problem = self.problem
        for first in [run[1][0] for run in self._runs if len(run[1]) > 1 and not self._near.isdisjoint(run[1])]:
            holder, ops = next((run for run in self._runs if run[1][0] == first), (-1, ()))
            if not self._kept.isdisjoint(ops):
                continue
            around = dict.fromkeys([*self._around(ops), problem.host])
            for d, row in [(d, row) for d in around if d != holder for row in (ops, ops[::-1])]:
                held = self._position.held.get(holder, 0)
                ends = end_changes(self.judge, self._position.additive, row, d, holder, held)
                self._left -= len(ends)
                room = problem.rooms.get(holder, held)
                rate = problem.devices[holder].stream_bytes_per_s or 1
                taken = [min(ends, key=lambda end: (end[1], end[0]), default=None)]
                if held > room:
                    streamed = [(n, change + max(0, h - room) * 1_000_000_000 // rate, h) for n, change, h in ends]
                    taken.append(min(streamed, key=lambda end: (end[1], end[0]), default=None))
                    taken.append(next((end for end in ends if end[2] <= room), None))
                for n in dict.fromkeys(end[0] for end in taken if end is not None and end[0] < len(row)):
                    moved = tuple(sorted(row[:n]))
                    yield _Move(moved, d, self._position.additive.change(moved, d))

    def _op_moves(self) -> Iterator[_Move]:
        for op in sorted(self._near):
            if len(self.problem.domains[op]) > 1:
                around = [*self._around((op,)), *([self.problem.host] if self._is_tight else [])]
                devices = [d for d in dict.fromkeys(around) if d != self.assignment[op]]
                yield from self._moves((op,), devices)

    def _pair_moves(self) -> Iterator[_Move]:
        """An op with one that reads from it, to a device next to either."""
        for op in sorted(self._near):
            for other in self.problem.after[op]:
                around = self._around((op, other))
                if any(d != self.assignment[op] or d != self.assignment[other] for d in around):
                    yield from self._moves((op, other), around)
