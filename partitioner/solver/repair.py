"""Assignments that keep the devices' limits, made of those that don't. Imports solver.true_cost."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise

from delegraph.core.abi.values import Limits
from delegraph.partitioner.solver.problem import COST_LIMIT, Problem, Unplaceable
from delegraph.partitioner.solver.true_cost import Additive, Judge, Position, Run

_JOINS = 24
"""Steps of a repair that may bring more ops to a device with limits; others take some away, which comes to an end."""
_CONSIDERED = 6
"""Segments, and pairs of them, that one step considers: the ones that seem to matter least."""

_Step = tuple[tuple[int, ...], int]
"""(ops, device): ops that go to a device."""


def is_limited(limits: Limits) -> bool:
    return limits.max_segments is not None or limits.prefix_only or limits.min_ops > 1


def repaired(judge: Judge, assignment: Sequence[int]) -> tuple[int, ...]:
    """The assignment with what a limit forbids moved elsewhere, or joined with more ops until it is allowed.

    Raises:
        Unplaceable: no such move was found.
    """
    return tuple(repair(judge, Position(judge, assignment)).assignment)


def repair(judge: Judge, position: Position) -> Position:
    """The position, moved to where ``repaired`` ends: of the moves that mend what is broken the one of least TRUE,
    again and again.

    Raises:
        Unplaceable: no such move was found.
    """
    broken = judge.broken_limit(position.assignment, position.track.runs)
    n_joins = 0
    while broken is not None:
        moves = list(_moves_away(judge, position, broken))
        if n_joins < _JOINS:
            moves += [[join] for join in _joins(judge.problem, position, broken)]
        if not moves:
            device, ops = broken
            name = judge.problem.devices[device].id
            raise Unplaceable(ops[0], f"a device beside {name}, whose limits it breaks", "none", "add the cpu")
        best = min(moves, key=lambda steps: _total(judge, position, steps)) if len(moves) > 1 else moves[0]
        n_joins += any(is_limited(judge.problem.devices[d].limits) for _, d in best)
        for ops, d in best:
            position.go(ops, d, judge.after_move(position, ops, d))
        broken = judge.broken_limit(position.assignment, position.track.runs)
    return position


def _total(judge: Judge, position: Position, steps: Sequence[_Step]) -> int:
    """TRUE behind the steps, or nearly: of several the launches are those of the first."""
    first, *others = steps
    total = judge.after_move(position, *first).total
    return total + sum(position.additive.change(*step) for step in others)


def _moves_away(judge: Judge, position: Position, broken: Run) -> Iterator[list[_Step]]:
    """What is broken, or another segment of a device that has too many, to devices without limits: as a whole where one
    runs all of it, else op by op."""
    problem, (device, ops) = judge.problem, broken
    free = [d for d, info in enumerate(problem.devices) if not is_limited(info.limits)]
    segments = [run[1] for run in position.track.runs if run[0] == device]
    is_one_of_many = ops in segments and len(ops) >= problem.devices[device].limits.min_ops
    others = sorted(segments, key=lambda some: (judge.worth((device, some)), some))[:_CONSIDERED]
    for some in dict.fromkeys([ops, *others]) if is_one_of_many else [ops]:
        steps: list[_Step] = []
        if common := [d for d in free if all(d in problem.domains[op] for op in some)]:
            steps.append((some, min((position.additive.change(some, d), d) for d in common)[1]))
        else:
            for op in some:
                if choices := [d for d in free if d in problem.domains[op]]:
                    steps.append(((op,), min((position.additive.change((op,), d), d) for d in choices)[1]))
        if sum(len(step[0]) for step in steps) == len(some):
            yield steps


def _joins(problem: Problem, position: Position, broken: Run) -> Iterator[_Step]:
    """More ops for the device: what lies between two of its segments, or around one that is too small; what its ops
    wait for, where it takes only a prefix."""
    device, ops = broken
    limits, assignment = problem.devices[device].limits, position.assignment
    found: list[tuple[int, ...]] = []
    if limits.prefix_only:
        found.append(_elsewhere(_reach(ops, problem.binding), assignment, device))
    if len(ops) < limits.min_ops:
        found += _grown(problem, position, broken)
    runs = position.track.runs
    own = [i for i, run in enumerate(runs) if run[0] == device]
    is_too_many = limits.max_segments is not None and len(own) > limits.max_segments
    pairs = [(i, j) for i, j in pairwise(own) if is_too_many or ops in (runs[i][1], runs[j][1])]
    for i, j in sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair))[:_CONSIDERED]:
        between = {op for run in runs[i + 1 : j] for op in run[1]}
        found.append(tuple(sorted(between)))
        linked = _reach(runs[i][1], problem.after, between) & _reach(runs[j][1], problem.before, between)
        found.append(_elsewhere(linked, assignment, device))
    usable = {some for some in found if some and all(device in problem.domains[op] for op in some)}
    for some in sorted(usable, key=lambda some: (len(some), some))[:_CONSIDERED]:
        yield some, device


def _elsewhere(ops: Iterable[int], assignment: Sequence[int], device: int) -> tuple[int, ...]:
    return tuple(sorted(op for op in ops if assignment[op] != device))


def _reach(ops: Iterable[int], near: Sequence[Sequence[int]], among: Collection[int] | None = None) -> set[int]:
    """What can be reached from the ops, themselves left out. among: over these alone, None for all."""
    found: set[int] = set()
    waiting = list(ops)
    while waiting:
        for other in near[waiting.pop()]:
            if other not in found and (among is None or other in among):
                found.add(other)
                waiting.append(other)
    return found


def _grown(problem: Problem, position: Position, small: Run) -> list[tuple[int, ...]]:
    """Neighbours that make a segment large enough: those that cost least, those before it, those behind it; and those
    of its neighbours' segments."""
    device, ops = small
    found: list[tuple[int, ...]] = []
    for near in ([problem.before, problem.after], [problem.before], [problem.after]):
        inside, more = set(ops), list[int]()
        while len(ops) + len(more) < problem.devices[device].limits.min_ops:
            around = {other for op in inside for each in near for other in each[op]} - inside
            around = {op for op in around if device in problem.domains[op] and position.assignment[op] != device}
            if not around:
                break
            best = min(around, key=lambda op: (position.additive.change((op,), device), op))
            inside.add(best)
            more.append(best)
        found.append(tuple(sorted(more)))
    for op in ops:
        for other in (*problem.before[op], *problem.after[op]):
            run = position.track.runs[position.track.run_of(other)]
            found.append(tuple(sorted(o for o in run[1] if device in problem.domains[o] and run[0] != device)))
    return found


# --- weight budgets: to exceed one only costs time


def fitted(judge: Judge, assignment: Sequence[int]) -> list[tuple[int, ...]]:
    """The assignment with ops taken from devices that have more constants than they have room for: those of the least
    gain per byte, and the end of one of its segments that costs least. Empty where all have room."""
    problem = judge.problem
    if all(held <= problem.rooms[d] for d, held in judge.held(assignment).items()):
        return []
    found = []
    for leave in (_op_by_op, _end_by_end):
        sums = judge.additive(assignment, problem.launches)
        for d in problem.rooms:
            leave(judge, sums, d)
        found.append(tuple(sums.assignment))
    return [some for some in dict.fromkeys(found) if some != tuple(assignment)]


def _others(problem: Problem, device: int, op: int) -> list[int]:
    return [d for d in problem.domains[op] if d != device and d not in problem.rooms]


def _op_by_op(judge: Judge, sums: Additive, device: int) -> None:
    problem = judge.problem
    shares = problem.weight_shares

    def rank(op: int) -> tuple[float, int, int]:
        change, d = min((sums.change((op,), d), d) for d in _others(problem, device, op))
        return change / int(shares[op]), op, d

    heap = [
        rank(op)
        for op, d in enumerate(sums.assignment)
        if d == device and shares[op] and _others(problem, device, op)
    ]  # fmt: skip
    heapq.heapify(heap)
    held = problem.held_bytes(sums.assignment, device)
    while heap and held > problem.rooms[device]:
        found = heapq.heappop(heap)
        op = found[1]
        if sums.assignment[op] != device:
            continue
        if (now := rank(op)) > found:
            heapq.heappush(heap, now)
            continue
        held += judge.held_change(sums.assignment, (op,), found[2], device)
        sums.move((op,), found[2])
        for other in sorted(judge.beside(op)):
            if sums.assignment[other] == device and shares[other] and _others(problem, device, other):
                heapq.heappush(heap, rank(other))


def _end_by_end(judge: Judge, sums: Additive, device: int) -> None:
    problem = judge.problem
    held = problem.held_bytes(sums.assignment, device)
    if held <= problem.rooms[device]:
        return
    ends = [
        (change, row[:n], d)
        for run in judge.runs(sums.assignment)
        if run[0] == device
        for d in sorted({d for op in run[1] for d in _others(problem, device, op)})
        for row in (run[1], run[1][::-1])
        for n, change, rest in end_changes(judge, sums, row, d, device, held)
        if rest <= problem.rooms[device]
    ]
    if ends:
        _, ops, d = min(ends)
        sums.move(ops, d)


def end_changes(
    judge: Judge, sums: Additive, row: Sequence[int], to: int, holder: int = -1, held: int = 0
) -> list[tuple[int, int, int]]:
    """(n, change, held) of the first n ops of a row, for each n as long as they may go to ``to``: what moving them
    there changes of the sums, and how many bytes ``holder`` then holds. All is as before on return."""
    old = [sums.assignment[op] for op in row]
    found = []
    change = n = 0
    for op in row:
        if to not in judge.problem.domains[op]:
            break
        change += sums.change((op,), to)
        held += judge.held_change(sums.assignment, (op,), to, holder)
        sums.move((op,), to)
        n += 1
        found.append((n, change, held))
    for op, d in zip(row[:n], old, strict=False):
        sums.move((op,), d)
    return [each for each in found if each[1] < COST_LIMIT]
