"""Device per op → runs of ops on one device, in an order in which they can run. Imports nothing of delegraph.

The one place that decides what a segment is: what is executed (``partitioner.segments``) and what is predicted
(``solver.true_cost``) both ask it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
D = TypeVar("D", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Change(Generic[D]):
    """What a move makes of a list of runs: those from ``first`` up to ``last`` are replaced by ``runs``."""

    first: int
    last: int
    runs: tuple[tuple[D, tuple[int, ...]], ...]


class Schedule(Generic[D]):
    """The order of a graph's ops, ready to be cut for any assignment.

    before: for each op the ops that must run earlier. beside: devices that go first of several with ready ops (they
    run while the caller goes on). alone: the label of ops that core runs itself, one op a run.
    """

    def __init__(self, before: Sequence[Collection[int]], beside: Collection[D], alone: D | None) -> None:
        after: list[list[int]] = [[] for _ in before]
        for op, wait in enumerate(before):
            for earlier in wait:
                after[earlier].append(op)
        self.before = tuple(tuple(wait) for wait in before)
        self.after = tuple(tuple(later) for later in after)
        self.alone = alone
        self._beside = frozenset(beside)

    @cached_property
    def flat_before(self) -> tuple[IntArray, IntArray]:
        """All of ``before`` in one row, each behind the number of ops, and where each starts."""
        n = len(self.before)
        flat = np.array([op for wait in self.before for op in (n, *wait)], np.int64)
        starts = np.cumsum([0, *(1 + len(wait) for wait in self.before)], dtype=np.int64)[:-1]
        return flat, starts

    def runs(self, devices: Sequence[D]) -> list[tuple[D, tuple[int, ...]]]:
        """(device, ops) of each run, in order.

        A topological schedule that stays on a device while it has ready ops, and runs every ready op of ``alone``
        before it opens another run. Of several devices with ready ops, one of ``beside`` goes first, then the one
        whose op comes first. Holds on return: each run is a piece of that schedule, hence convex, and the runs'
        quotient is acyclic; no two runs in a row are of one device, but for ``alone``.
        """
        return [run for turn in self.turns(devices) for run in self.runs_of(turn)]

    def turns(self, devices: Sequence[D]) -> Iterator[tuple[D, tuple[int, ...]]]:
        """(device, ops) of each turn, which is a run, or several of ``alone`` that follow each other."""
        missing = [len(wait) for wait in self.before]
        ready: dict[D, list[int]] = {}
        for op, count in enumerate(missing):
            if not count:
                ready.setdefault(devices[op], []).append(op)  # in rising order: a heap
        return self.turns_from(devices, ready, missing.__getitem__)

    def turns_from(
        self, devices: Sequence[D], ready: dict[D, list[int]], missing: Callable[[int], int]
    ) -> Iterator[tuple[D, tuple[int, ...]]]:
        """The turns from where these ops are ready. missing: for how many others an op that is not ready waits there.
        Each turn is made when it is asked for; ``ready`` is used up."""
        after, beside, alone = self.after, self._beside, self.alone
        waiting: dict[int, int] = {}
        while True:
            if alone is not None and ready.get(alone):
                device, queue = alone, ready[alone]
            else:
                open_ = [(d not in beside, q[0], d, q) for d, q in ready.items() if q]
                if not open_:
                    return
                _, _, device, queue = min(open_, key=lambda found: found[:2])
            turn: list[int] = []
            while queue:
                op = heapq.heappop(queue)
                turn.append(op)
                for later in after[op]:
                    count = (waiting[later] if later in waiting else missing(later)) - 1
                    waiting[later] = count
                    if not count:
                        if (other := ready.get(devices[later])) is None:
                            ready[devices[later]] = [later]
                        else:
                            heapq.heappush(other, later)
            yield device, tuple(turn)

    def runs_of(self, turn: tuple[D, tuple[int, ...]]) -> list[tuple[D, tuple[int, ...]]]:
        device, ops = turn
        return [(device, (op,)) for op in ops] if device == self.alone else [turn]


class Track(Generic[D]):
    """An assignment's runs, which can be asked what moving a few ops makes of them without going through all of them:
    the runs before the one in which the first moved op gets ready stay, and so do those from where both have run the
    same ops. runs: ``Schedule.runs`` of the assignment."""

    def __init__(self, schedule: Schedule[D], runs: Sequence[tuple[D, tuple[int, ...]]]) -> None:
        self._schedule = schedule
        self.runs = list(runs)
        lengths = [len(ops) for _, ops in runs]
        self._n_ops = [0, *accumulate(lengths)]
        at = np.full(self._n_ops[-1] + 1, -1)  # the last one stands for no op at all
        at[[op for _, ops in runs for op in ops]] = np.repeat(np.arange(len(runs)), lengths)
        flat, starts = schedule.flat_before
        self._ready_in = np.maximum.reduceat(at[flat], starts) if len(starts) else at[:0]
        self._at = at[:-1]
        self._run_of: list[int] = self._at.tolist()

    def run_of(self, op: int) -> int:
        return self._run_of[op]

    def after(self, change: Change[D]) -> Track[D]:
        """The track of what the change makes of the runs."""
        return Track(self._schedule, [*self.runs[: change.first], *change.runs, *self.runs[change.last :]])

    def change(self, devices: Sequence[D], moved: Collection[int]) -> Change[D]:
        """What becomes of the runs with these devices, which differ from the track's in the ``moved`` ops alone."""
        schedule, at = self._schedule, self._run_of
        first = max(0, min([int(self._ready_in[op]) for op in moved]))
        ready: dict[D, list[int]] = {}
        for op in np.flatnonzero((self._ready_in < first) & (self._at >= first)).tolist():
            ready.setdefault(devices[op], []).append(op)
        before = schedule.before
        left, n_run, last = set(moved), self._n_ops[first], first
        found: list[tuple[D, tuple[int, ...]]] = []
        turns = schedule.turns_from(devices, ready, lambda op: sum([at[b] >= first for b in before[op]]))
        for new in turns:
            found += schedule.runs_of(new)
            left.difference_update(new[1])
            n_run += len(new[1])
            last = max(last, 1 + max([at[op] for op in new[1]]))
            if not left and n_run == self._n_ops[last]:  # the same ops as up to there in the track: the same rest
                break
        return Change(first, last, tuple(found))
