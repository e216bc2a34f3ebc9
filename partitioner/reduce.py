"""Which devices an op can be kept from without loss: dominated choices. Imports partitioner.problem, surrogate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delegraph.partitioner.problem import IntArray, Problem
from delegraph.partitioner.surrogate import Group, groups_of

_SWEEPS = 6


def undominated(problem: Problem, entries: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Domains on which some least SURROGATE_λ still lies. entries: λ·launch per device.

    A device goes when another is at most as expensive for the op wherever its neighbours are: its op cost and the
    worst that the switch can do to the tensors around. One at a time, so that of equal ones the first remains.
    """
    return _Reduction(problem, entries).run()


class _Reduction:
    """The shrinking domains of one reduction."""

    def __init__(self, problem: Problem, entries: Sequence[int]) -> None:
        self._problem = problem
        self._domains = [list(domain) for domain in problem.domains]
        self._groups = groups_of(problem)
        self._costs = [entry_costs(group, entries) for group in self._groups]
        self._made: list[list[int]] = [[] for _ in problem.ops]
        self._read: list[list[int]] = [[] for _ in problem.ops]
        for index, group in enumerate(self._groups):
            if group.producer is not None:
                self._made[group.producer].append(index)
            for op in group.consumers:
                self._read[op].append(index)
        bound_by_state = {op for pair in problem.order for op in pair} if problem.prefix_devices else set()
        self._open = [op for op, d in enumerate(self._domains) if len(d) > 1 and op not in bound_by_state]

    def run(self) -> tuple[tuple[int, ...], ...]:
        dirty = set(self._open)
        for _ in range(_SWEEPS):
            again: set[int] = set()
            for op in self._open:
                if op in dirty and len(self._domains[op]) > 1 and self._shrink(op):
                    for index in (*self._made[op], *self._read[op]):
                        group = self._groups[index]
                        again.update(group.consumers)
                        if group.producer is not None:
                            again.add(group.producer)
            if not again:
                break
            dirty = again
        return tuple(map(tuple, self._domains))

    def _shrink(self, op: int) -> bool:
        own = self._problem.op_costs[op]
        change = own[None, :] - own[:, None]
        for index in self._made[op]:
            change = change + self._producer_change(index)
        for index in self._read[op]:
            change = change + self._reader_change(index, op)
        domain = self._domains[op]
        before = len(domain)
        for d in reversed(list(domain)):
            if any(other != d and change[d, other] <= 0 for other in domain):
                domain.remove(d)
        return len(domain) < before

    def _producer_change(self, index: int) -> IntArray:
        """[d, d'] how much more the tensors cost at most if the producer goes from d to d'."""
        group, costs = self._groups[index], self._costs[index]
        some: set[int] = set()
        fixed: set[int] = set()
        for op in group.consumers:
            (some if len(self._domains[op]) > 1 else fixed).update(self._domains[op])
        found: IntArray = group.out[None, :] - group.out[:, None]
        for e in sorted(some | fixed):
            more = costs[None, :, e] - costs[:, None, e]
            found = found + (more if e in fixed else np.maximum(more, 0))
        return found

    def _reader_change(self, index: int, op: int) -> IntArray:
        """[d, d'] how much more the tensors cost at most if this reader goes from d to d'."""
        group, costs = self._groups[index], self._costs[index]
        homes = [self._problem.host] if group.producer is None else self._domains[group.producer]
        n = len(self._problem.devices)
        others: set[int] = set()
        fixed: set[int] = set()
        for other in group.consumers:
            if other != op:
                others.update(self._domains[other])
                if len(self._domains[other]) == 1:
                    fixed.update(self._domains[other])
        here = costs[homes]
        adds = here * np.array([d not in fixed for d in range(n)])
        saves = here * np.array([d not in others for d in range(n)])
        found: IntArray = (adds[:, None, :] - saves[:, :, None]).max(axis=0)
        return found


def entry_costs(group: Group, entries: Sequence[int]) -> IntArray:
    """[home, device] what residency of the group's tensors adds; delivery to the host, ``group.out``, is apart."""
    found = group.copy + group.n_tensors * np.array(entries, np.int64)
    found[:, group.host] -= group.out
    np.fill_diagonal(found, 0)
    return found
