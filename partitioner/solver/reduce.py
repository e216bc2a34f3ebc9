"""Which devices an op can be kept from without loss: dominated choices. Imports solver.problem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from delegraph.partitioner.solver.problem import COST_LIMIT, IntArray, Problem

BoolArray = npt.NDArray[np.bool_]

_SWEEPS = 12
_LEAST = 0.005
"""The share of choices that a sweep has to remove, or else it is the last."""


def undominated(problem: Problem, entries: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Domains on which some least SURROGATE_λ still lies. entries: λ·launch per device.

    A device goes when another is at most as expensive for the op wherever its neighbours are: its op cost and the
    worst that the switch can do to the tensors around. A sweep looks at all ops at once: whatever the others do, moving
    one op after another away from what it loses never costs more. Of equal devices the first remains.
    """
    never = problem.cost_bound  # what breaks a prefix costs this much, so that sums stay small
    if never > COST_LIMIT // (8 * (1 + len(problem.groups.reader_op))):
        return problem.domains
    reduction = _Reduction(problem, entries, never)
    for _ in range(_SWEEPS):
        if not reduction.sweep():
            break
    return tuple(tuple(np.flatnonzero(row).tolist()) for row in reduction.domains[:-1])


class _Reduction:
    """The shrinking domains of one reduction, [n_ops + 1, D]; the last row is the host's, which makes the inputs."""

    def __init__(self, problem: Problem, entries: Sequence[int], never: int) -> None:
        n = len(problem.devices)
        self.domains: BoolArray = np.zeros((len(problem.ops) + 1, n), bool)
        for op, domain in enumerate(problem.domains):
            self.domains[op, list(domain)] = True
        self.domains[-1, problem.host] = True
        self._groups = problem.groups
        self._costs = np.minimum(self._groups.entry_costs(entries), never)
        own = np.minimum(problem.op_costs, never)
        self._own = own[:, None, :] - own[:, :, None]
        self._is_open = np.ones(len(problem.ops), bool)
        for pair in problem.order if problem.prefix_devices else ():
            self._is_open[list(pair)] = False

    def sweep(self) -> bool:
        """Whether another sweep is worth it."""
        change = self._changes()
        before = self.domains[:-1]
        after = before.copy()
        n = after.shape[1]
        is_free = self._is_open & (after.sum(axis=1) > 1)
        for d in reversed(range(n)):
            others = after.copy()
            others[:, d] = False
            after[:, d] &= ~(is_free & (others & (change[:, d] <= 0)).any(axis=1))
        n_gone = int(before.sum() - after.sum())
        self.domains[:-1] = after
        return n_gone > _LEAST * len(after)

    def _changes(self) -> IntArray:
        """[op, d, d'] how much more the op and the tensors around cost at most if it goes from d to d'."""
        groups, costs, domains = self._groups, self._costs, self.domains
        is_fixed = domains.sum(axis=1) == 1
        group, op = groups.reader_group, groups.reader_op
        shape = len(groups.each), domains.shape[1]
        some, fixed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)  # readers that may be, that are on a device
        own = domains[op].astype(np.int64)
        own_fixed = own * is_fixed[op, None]
        np.add.at(some, group, own)
        np.add.at(fixed, group, own_fixed)
        found = np.concatenate([self._own, np.zeros((1, *self._own.shape[1:]), np.int64)])

        more = costs[:, None, :, :] - costs[:, :, None, :]  # [group, d, d', e] with the producer on d' instead of d
        more = np.where((fixed > 0)[:, None, None], more, np.maximum(more, 0) * (some > 0)[:, None, None])
        np.add.at(found, groups.producer, more.sum(axis=3) + groups.out[:, None, :] - groups.out[:, :, None])

        adds = costs[group] * (fixed[group] == own_fixed)[:, None]  # [reader, home, d']: no other is sure to be there
        saves = costs[group] * (some[group] == own)[:, None]  # no other can be there
        worst = adds[:, :, None, :] - saves[:, :, :, None]
        is_home = domains[groups.producer[group]]
        worst = np.where(is_home[:, :, None, None], worst, -COST_LIMIT).max(axis=1)
        np.add.at(found, op, worst)
        return found[:-1]
