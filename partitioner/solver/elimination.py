"""Least sum of small tables over discrete variables, exactly: variable elimination. Imports solver.problem.

Tables are batches: axis 0 is the scenario, so that many cost settings of one structure cost one walk through it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.partitioner.solver.problem import NEVER, IntArray

TABLE_LIMIT = 1 << 20
"""Entries up to which a table is made, per scenario."""
_BATCH_ENTRIES = 1 << 21
_UNCUT = 6
"""Tables of up to NEVER that can be added to one without being cut off in between: the sum has to stay below 2⁶³."""


class TooWide(Exception):
    """No elimination order was found whose tables stay below the limit. Never leaves the partitioner."""


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A table of costs. scope: variables, rising; table: [n_scenarios or 1, one axis per variable]."""

    scope: tuple[int, ...]
    table: IntArray


@dataclass(frozen=True, slots=True)
class Order:
    """Variables in the order of their elimination; entries: of all tables together, per scenario; widest: of one."""

    variables: tuple[int, ...]
    entries: int
    widest: int


def elimination_order(sizes: Sequence[int], scopes: Iterable[Sequence[int]], limit: int = TABLE_LIMIT) -> Order:
    """Min-fill order: next is the variable whose neighbours lack the fewest edges, then the smallest table, then the
    lowest index.

    Raises:
        TooWide: a table would exceed ``limit`` entries.
    """
    most = limit.bit_length() - 1  # neighbours, of two values each, that a table has room for
    near: list[set[int]] = [set() for _ in sizes]
    for scope in scopes:
        for variable in scope:
            near[variable].update(scope)
    for variable, others in enumerate(near):
        others.discard(variable)
    bits = [sum([1 << other for other in others]) for others in near]  # the same, quick to intersect

    def entries_of(variable: int) -> int:
        product = sizes[variable]
        for other in near[variable]:
            product *= sizes[other]
            if product > limit:
                return limit + 1
        return product

    def key(variable: int) -> tuple[int, int, int]:
        others = near[variable]
        count = len(others)
        if count > most:
            return (most * most, limit + 1, variable)
        lacking = 0
        if count > 1:
            own = bits[variable]
            lacking = (count * (count - 1) - sum([(bits[other] & own).bit_count() for other in others])) // 2
        return (lacking, entries_of(variable), variable)

    keys = {variable: key(variable) for variable in range(len(sizes))}
    heap = sorted(keys.values())
    order: list[int] = []
    total = widest = 0
    while keys:
        if not heap:
            raise TooWide(f"tables of more than {limit} entries")
        found = heapq.heappop(heap)
        variable = found[2]
        if keys.get(variable) != found:
            continue
        if found[1] > limit:  # put off: it comes again when its neighbours get fewer
            continue
        others = near[variable]
        order.append(variable)
        total += found[1]
        widest = max(widest, found[1])
        del keys[variable]
        touched = set(others)
        own, gone = bits[variable], ~(1 << variable)
        for other in others:
            near[other] |= others
            near[other] -= {other, variable}
            bits[other] = (bits[other] | own) & gone & ~(1 << other)
        if len(others) > 2:
            for other in others:
                if len(near[other]) <= most:
                    touched |= near[other]
        elif others:
            touched |= set.intersection(*(near[other] for other in others))
        for other in sorted(touched):
            if other in keys and (new := key(other)) != keys[other]:
                keys[other] = new
                heapq.heappush(heap, new)
    return Order(tuple(order), total, widest)


def eliminate(sizes: Sequence[int], factors: Sequence[Factor], order: Order) -> tuple[IntArray, IntArray]:
    """Least sums and the values that give them: [n_scenarios], [n_scenarios, n_variables].

    A sum of NEVER or more says that the scenario has no solution. Of equal choices the lowest value is taken.
    """
    n = max((factor.table.shape[0] for factor in factors), default=1)
    step = max(1, _BATCH_ENTRIES // max(1, order.widest))
    parts = []
    for start in range(0, n, step):
        part = [f if f.table.shape[0] == 1 else Factor(f.scope, f.table[start : start + step]) for f in factors]
        parts.append(_eliminate(sizes, part, order.variables, min(step, n - start)))
    return np.concatenate([value for value, _ in parts]), np.concatenate([choice for _, choice in parts])


def _eliminate(
    sizes: Sequence[int], factors: Sequence[Factor], variables: tuple[int, ...], n: int
) -> tuple[IntArray, IntArray]:
    position = {variable: i for i, variable in enumerate(variables)}
    buckets: list[list[Factor]] = [[] for _ in variables]
    total = np.zeros(n, np.int64)

    def put(factor: Factor) -> None:
        nonlocal total
        if factor.scope:
            buckets[min(position[v] for v in factor.scope)].append(factor)
        else:
            total = np.minimum(total + factor.table, NEVER)

    for factor in factors:
        put(factor)
    best: list[tuple[tuple[int, ...], IntArray]] = []
    for variable, bucket in zip(variables, buckets, strict=True):
        scope = tuple(sorted({v for factor in bucket for v in factor.scope} | {variable}))
        joint = _sum(bucket, scope, sizes)
        axis = 1 + scope.index(variable)
        choice = joint.argmin(axis=axis)
        rest = tuple(v for v in scope if v != variable)
        best.append((rest, choice))
        put(Factor(rest, joint.min(axis=axis)))
    values = np.zeros((n, len(sizes)), np.int64)
    rows = np.arange(n)
    for variable, (rest, choice) in zip(reversed(variables), reversed(best), strict=True):
        row = rows if choice.shape[0] == n else np.zeros(n, np.int64)
        values[:, variable] = choice[(row, *(values[:, v] for v in rest))]
    return total, values


def _sum(bucket: Sequence[Factor], scope: tuple[int, ...], sizes: Sequence[int]) -> IntArray:
    """The tables' sum over ``scope``, cut off at NEVER."""
    full = tuple([sizes[v] for v in scope])
    joint: IntArray | None = None
    for index, factor in enumerate(bucket):
        table = factor.table
        if factor.scope != scope:
            own = factor.scope
            table = table.reshape([table.shape[0], *[sizes[v] if v in own else 1 for v in scope]])
        joint = table if joint is None else joint + table
        if index and not index % _UNCUT:
            joint = np.minimum(joint, NEVER)
    if joint is None:
        return np.zeros((1, *full), np.int64)
    if len(bucket) > 1:
        joint = np.minimum(joint, NEVER)
    return joint if joint.shape[1:] == full else np.broadcast_to(joint, (joint.shape[0], *full))
