"""The best of all assignments of a small problem: they are few enough to be tried. Imports solver.true_cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from delegraph.partitioner.solver.problem import COST_LIMIT, NEVER, IntArray, Problem
from delegraph.partitioner.solver.true_cost import Judge

MOST = 4_096
"""Assignments up to which they are listed."""
_JUDGED = 1_500
"""How many of them are judged by TRUE, if another one that keeps the limits is known."""


@dataclass(frozen=True, slots=True)
class Exact:
    """assignment: of the least TRUE, None where none is less than what was known. is_proven: whether all were tried
    that could be less."""

    assignment: tuple[int, ...] | None
    is_proven: bool


def exact(judge: Judge, least: int, *, sums_are_floors: bool) -> Exact:
    """least: the TRUE that is known. sums_are_floors: no segment is estimated below the sum of its ops."""
    problem = judge.problem
    if not problem.ops or math.prod(map(len, problem.domains)) > MOST:
        return Exact(None, False)
    assignments = _all(problem)
    floors = _floors(problem, assignments)
    if not sums_are_floors:
        floors = np.where(floors < COST_LIMIT, 0, floors)
    most = _JUDGED if least < COST_LIMIT else MOST
    best: tuple[int, ...] | None = None
    for n, i in enumerate(np.argsort(floors, kind="stable").tolist()):
        if floors[i] >= min(least, COST_LIMIT):
            break
        if n >= most:
            return Exact(best, False)
        some = tuple(assignments[i].tolist())
        cost = judge.cost(some)
        if cost.total < least and judge.broken_limit(some, cost.runs) is None:
            best, least = some, cost.total
    return Exact(best, True)


def _all(problem: Problem) -> IntArray:
    """[n_assignments, n_ops], in lexicographic order."""
    found = np.array([domain[0] for domain in problem.domains], np.int64)[None]
    for op in reversed([op for op, domain in enumerate(problem.domains) if len(domain) > 1]):
        domain = np.array(problem.domains[op], np.int64)
        n = len(found)
        found = np.tile(found, (len(domain), 1))
        found[:, op] = np.repeat(domain, n)
    return found


def _floors(problem: Problem, assignments: IntArray) -> IntArray:
    """What TRUE is not below: the sums, and each used device launches once. NEVER where too few ops are on a device."""
    n, n_devices = len(assignments), len(problem.devices)
    rows = np.arange(n)
    total: IntArray = np.minimum(problem.op_costs[np.arange(len(problem.ops)), assignments].sum(axis=1), NEVER)
    groups = problem.groups
    entry = groups.entry_costs((0,) * n_devices)
    for g, group in enumerate(groups.each):
        home = np.full(n, problem.host) if group.producer is None else assignments[:, group.producer]
        read = np.zeros((n, n_devices), bool)
        for op in group.consumers:
            read[rows, assignments[:, op]] = True
        total += np.where(read, entry[g, home], 0).sum(axis=1) + groups.out[g, home]
        total = np.minimum(total, NEVER)
    for d, device in enumerate(problem.devices):
        used = (assignments == d).sum(axis=1)
        total += np.where(used > 0, device.launch, 0)
        total[(used > 0) & (used < device.limits.min_ops)] = NEVER
    return total
