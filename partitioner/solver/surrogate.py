"""The additive cost of an assignment, and its exact minimum. Imports solver.problem, elimination.

    SURROGATE_λ(a) = Σ op(v, a_v) + Σ tensors [Σ e entered by it: copy + λ·launch(e)] + copy to the host of an output

A tensor enters the devices, other than its home, on which some op reads it. The minimum is found by elimination over
one variable per op with a choice, and one per tensor with several such readers: the set of devices that it is resident
on. A reader constrains that set, so the widths are those of the graph, not of its fan-outs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from delegraph.partitioner.solver.elimination import TABLE_LIMIT, Factor, eliminate, elimination_order
from delegraph.partitioner.solver.problem import COST_LIMIT, NEVER, Group, IntArray, Problem


@dataclass(frozen=True, slots=True)
class Setting:
    """Which costs are minimised. entries: per device, what a tensor's entry costs beside the copy (λ·launch).
    path: per device, what an entry costs along the problem's longest path alone. allowed: per device. prices: per
    device, what a byte of constants costs beside the ops (empty: nothing)."""

    entries: tuple[int, ...]
    path: tuple[int, ...]
    allowed: tuple[bool, ...]
    prices: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Minimum:
    """The least cost and an assignment that has it; None where no assignment is allowed."""

    value: int
    assignment: tuple[int, ...] | None


def entries_of(problem: Problem, weight: Fraction | int) -> tuple[int, ...]:
    """λ·launch per device, rounded down. weight: λ."""
    weight = Fraction(weight)
    return tuple(launch * weight.numerator // weight.denominator for launch in problem.launches)


def setting(problem: Problem, weight: Fraction | int) -> Setting:
    """SURROGATE_λ over all devices. weight: λ."""
    n = len(problem.devices)
    return Setting(entries_of(problem, weight), (0,) * n, (True,) * n)


def surrogate_cost(problem: Problem, assignment: Sequence[int], entries: Sequence[int]) -> int:
    """SURROGATE_λ of an assignment; COST_LIMIT or more for one that breaks a prefix. entries: λ·launch per device."""
    groups, n = problem.groups, len(problem.devices)
    at = np.array([*assignment, problem.host], np.int64)
    home = at[groups.producer]
    read = np.zeros((len(groups.each), n), bool)
    read[groups.reader_group, at[groups.reader_op]] = True
    costs = groups.entry_costs(entries)[np.arange(len(home)), home]
    total: int = sum(problem.op_costs[np.arange(len(assignment)), at[:-1]].tolist())  # of Python's, without overflow
    total += sum(costs[read].tolist()) + sum(groups.out[np.arange(len(home)), home].tolist())
    for d in problem.prefix_devices:
        total += sum(COST_LIMIT for a, b in problem.order if assignment[b] == d != assignment[a])
    return total


@lru_cache(maxsize=1024)
def _sets_between(least: frozenset[int], most: frozenset[int]) -> tuple[frozenset[int], ...]:
    """The sets that hold the one and lie in the other, smaller ones first, but for the empty one."""
    some = sorted(most - least)
    sets = [least | {d for i, d in enumerate(some) if bits >> i & 1} for bits in range(1 << len(some))]
    return tuple(sorted((s for s in sets if s), key=lambda s: (len(s), sorted(s))))


def longest_path(problem: Problem) -> tuple[int, ...]:
    """A longest chain of ops that wait for each other; of several the one with the lowest ops from its end."""
    length = [1] * len(problem.ops)
    previous = [-1] * len(problem.ops)
    for op, wait in enumerate(problem.before):
        for earlier in wait:
            if length[earlier] + 1 > length[op]:
                length[op], previous[op] = length[earlier] + 1, earlier
    if not length:
        return ()
    path = [length.index(max(length))]
    while previous[path[-1]] >= 0:
        path.append(previous[path[-1]])
    return tuple(reversed(path))


class Surrogate:
    """The structure of a problem's surrogate, made once for all settings.

    domains: those of the problem unless narrower ones are given. kept_readers: how many readers with a choice a tensor
    is charged for at most, the first ones (None: all); with fewer the minimum is a lower bound. has_path: whether
    settings may charge the path. groups: of the problem's, those that are charged (None:
    all).

    Raises:
        TooWide: a table would have more than ``limit`` entries.
    """

    def __init__(
        self,
        problem: Problem,
        domains: Sequence[tuple[int, ...]] | None = None,
        *,
        limit: int = TABLE_LIMIT,
        kept_readers: int | None = None,
        has_path: bool = True,
        groups: Sequence[Group] | None = None,
    ) -> None:
        self.problem = problem
        self.domains = tuple(problem.domains if domains is None else domains)
        self._variable = {op: i for i, op in enumerate(v for v, d in enumerate(self.domains) if len(d) > 1)}
        self._sizes = [len(self.domains[op]) for op in self._variable]
        self._path = longest_path(problem) if has_path else ()
        charged = problem.groups.each if groups is None else groups
        self._groups = [self._kept(group, kept_readers) for group in charged]
        self._masks: list[tuple[int, tuple[frozenset[int], ...]] | None] = []
        scopes: list[Sequence[int]] = []
        for group in self._groups:
            own = self._free(() if group.producer is None else (group.producer,))
            readers = self._free(group.consumers)
            mask = None
            if len(readers) > 1:
                mask = len(self._sizes), self._residencies(group.consumers)
                self._sizes.append(len(mask[1]))
                scopes += [(*own, mask[0])] + [(reader, mask[0]) for reader in readers]
            else:
                scopes.append((*own, *readers))
            self._masks.append(mask)
        pairs = list(zip(self._path, self._path[1:], strict=False))
        if problem.prefix_devices:
            pairs += problem.order
        scopes += [self._free(pair) for pair in pairs]
        self.order = elimination_order(self._sizes, scopes, limit)

    def _free(self, ops: Sequence[int]) -> list[int]:
        return [self._variable[op] for op in ops if op in self._variable]

    def _kept(self, group: Group, kept: int | None) -> Group:
        free = [op for op in group.consumers if op in self._variable]
        if kept is None or len(free) <= kept:
            return group
        dropped = set(free[kept:])
        consumers = tuple(op for op in group.consumers if op not in dropped)
        return replace(group, consumers=consumers)

    def _residencies(self, consumers: Sequence[int]) -> tuple[frozenset[int], ...]:
        """The sets of devices that the consumers may read on."""
        fixed = frozenset(self.domains[op][0] for op in consumers if op not in self._variable)
        return _sets_between(fixed, frozenset(d for op in consumers for d in self.domains[op]))

    def solve(self, settings: Sequence[Setting]) -> list[Minimum]:
        """The minimum under each setting."""
        if not settings:
            return []
        return self._minima(self._factors(settings))

    def solve_pinned(self, setting: Setting, pins: Sequence[tuple[int, int]]) -> list[Minimum]:
        """The minimum for each (op, device), with the op on the device."""
        if not pins:
            return []
        rows: dict[int, list[tuple[int, int]]] = {}
        for row, (op, device) in enumerate(pins):
            rows.setdefault(op, []).append((row, device))
        factors = [*self._factors([setting]), Factor((), np.zeros(len(pins), np.int64))]
        for op in sorted(rows.keys() & self._variable.keys()):
            table = np.zeros((len(pins), len(self.domains[op])), np.int64)
            for row, device in rows[op]:
                table[row] = [0 if d == device else NEVER for d in self.domains[op]]
            factors.append(Factor((self._variable[op],), table))
        return self._minima(factors)

    def _minima(self, factors: Sequence[Factor]) -> list[Minimum]:
        values, choice = eliminate(self._sizes, factors, self.order)
        found = []
        for value, row in zip(values.tolist(), choice.tolist(), strict=True):
            assignment = tuple(
                domain[row[self._variable[op]]] if op in self._variable else domain[0]
                for op, domain in enumerate(self.domains)
            )
            found.append(Minimum(value, assignment if value < COST_LIMIT else None))
        return found

    def _factors(self, settings: Sequence[Setting]) -> list[Factor]:
        entries = np.array([s.entries for s in settings], np.int64)
        path = np.array([s.path for s in settings], np.int64)
        barred = np.where(np.array([s.allowed for s in settings], bool), 0, COST_LIMIT)
        n = len(self.problem.devices)
        prices = np.array([s.prices or (0.0,) * n for s in settings])
        found = self._op_factors(barred, prices)
        found += self._group_factors(entries)
        if path.any():
            found += self._path_factors(path)
        found += self._order_factors()
        return found

    def _op_factors(self, barred: IntArray, prices: npt.NDArray[np.float64]) -> list[Factor]:
        costs, weights = self.problem.op_costs, self.problem.weight_shares if prices.any() else None
        found, constant = [], np.zeros(len(barred), np.int64)
        for op, domain in enumerate(self.domains):
            if op in self._variable:
                table = costs[op, list(domain)] + barred[:, list(domain)]
                if weights is not None:
                    table += (weights[op] * prices[:, list(domain)]).astype(np.int64)
                found.append(Factor((self._variable[op],), table))
            else:
                constant = np.minimum(constant + costs[op, domain[0]] + barred[:, domain[0]], NEVER)
        return [*found, Factor((), constant)]

    def _group_factors(self, entries: IntArray) -> list[Factor]:
        """What the groups cost, and that a reader's device is in the set; those of the same homes and sets at once."""
        alike: dict[tuple[tuple[int, ...], tuple[frozenset[int], ...]], list[int]] = {}
        for index, (group, mask) in enumerate(zip(self._groups, self._masks, strict=True)):
            homes = (self.problem.host,) if group.producer is None else self.domains[group.producer]
            alike.setdefault((homes, self._sets(group, mask)), []).append(index)
        found = []
        for (homes, sets), members in alike.items():
            tables = self._residency_costs([self._groups[index] for index in members], homes, sets, entries)
            known: dict[tuple[int, ...], IntArray] = {}  # tables of the readers' domains
            for index, table in zip(members, tables, strict=True):
                group, mask = self._groups[index], self._masks[index]
                own = () if group.producer is None else tuple(self._free((group.producer,)))
                readers = self._free(group.consumers)
                found.append(self._squeezed((*own, *(readers if mask is None else (mask[0],))), table))
                if mask is not None:
                    found += self._memberships(group, mask, known)
        return found

    def _memberships(
        self, group: Group, mask: tuple[int, tuple[frozenset[int], ...]], known: dict[tuple[int, ...], IntArray]
    ) -> list[Factor]:
        """That each reader's device is in the set. known: domain → table, for these sets."""
        found = []
        for op in group.consumers:
            if op in self._variable:
                domain = self.domains[op]
                if domain not in known:
                    known[domain] = np.array([[[0 if d in s else NEVER for s in mask[1]] for d in domain]], np.int64)
                found.append(Factor((self._variable[op], mask[0]), known[domain]))
        return found

    def _sets(self, group: Group, mask: tuple[int, tuple[frozenset[int], ...]] | None) -> tuple[frozenset[int], ...]:
        """The sets of devices that the group may be resident on."""
        if mask is not None:
            return mask[1]
        fixed = frozenset(self.domains[op][0] for op in group.consumers if op not in self._variable)
        reader = next((op for op in group.consumers if op in self._variable), None)
        return (fixed,) if reader is None else tuple(fixed | {d} for d in self.domains[reader])

    def _residency_costs(
        self, groups: Sequence[Group], homes: Sequence[int], sets: Sequence[frozenset[int]], entries: IntArray
    ) -> IntArray:
        """[groups, n_settings, homes, sets]."""
        n = len(self.problem.devices)
        member = np.array([[d in s for s in sets] for d in range(n)], np.int64)
        copy = np.stack([group.copy for group in groups])[:, None, list(homes)]
        each = copy + np.array([group.n_tensors for group in groups])[:, None, None, None] * entries[:, None, :]
        each[:, :, np.arange(len(homes)), list(homes)] = 0
        out = np.stack([group.out for group in groups])[:, None, list(homes), None]
        found: IntArray = np.minimum(each @ member + out * (1 - member[self.problem.host]), NEVER)
        return found

    def _squeezed(self, scope: tuple[int, ...], table: IntArray) -> Factor:
        """The table without the axes of what has no choice, variables rising."""
        table = table.reshape(table.shape[0], *(self._sizes[v] for v in scope))
        if list(scope) != sorted(scope):
            table = table.transpose(0, 2, 1)
        return Factor(tuple(sorted(scope)), table)

    def _path_factors(self, path: IntArray) -> list[Factor]:
        first = self.domains[self._path[0]]
        found = [self._squeezed(tuple(self._free(self._path[:1])), path[:, list(first)])]
        for pair in zip(self._path, self._path[1:], strict=False):
            a, b = (self.domains[op] for op in pair)
            differs = np.not_equal.outer(a, b).astype(np.int64)
            found.append(self._squeezed(tuple(self._free(pair)), differs * path[:, None, list(b)]))
        return found

    def _order_factors(self) -> list[Factor]:
        """A device that takes only a prefix keeps also what state puts in order."""
        found = []
        for pair in self.problem.order if self.problem.prefix_devices else ():
            a, b = (self.domains[op] for op in pair)
            broken = [[COST_LIMIT if e != d and e in self.problem.prefix_devices else 0 for e in b] for d in a]
            found.append(self._squeezed(tuple(self._free(pair)), np.array([broken], np.int64)))
        return found
