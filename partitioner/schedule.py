"""Device per op → runs of ops on one device, in an order in which they can run. Imports nothing of delegraph.

The one place that decides what a segment is: what is executed (``partitioner.segments``) and what is predicted
(``partitioner.true_cost``) both ask it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Sequence
from typing import Generic, TypeVar

D = TypeVar("D", bound=Hashable)


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
        self._after = tuple(tuple(later) for later in after)
        self._missing = tuple(len(wait) for wait in before)
        self._beside = frozenset(beside)
        self._alone = alone

    def runs(self, devices: Sequence[D]) -> list[tuple[D, tuple[int, ...]]]:
        """(device, ops) of each run, in order.

        A topological schedule that stays on a device while it has ready ops, and runs every ready op of ``alone``
        before it opens another run. Of several devices with ready ops, one of ``beside`` goes first, then the one
        whose op comes first. Holds on return: each run is a piece of that schedule, hence convex, and the runs'
        quotient is acyclic; no two runs in a row are of one device, but for ``alone``.
        """
        after, beside, alone = self._after, self._beside, self._alone
        missing = list(self._missing)
        ready: dict[D, list[int]] = {}
        for op, count in enumerate(missing):
            if not count:
                ready.setdefault(devices[op], []).append(op)  # in rising order: a heap
        runs: list[tuple[D, tuple[int, ...]]] = []
        left = len(missing)
        while left:
            if alone is not None and ready.get(alone):
                device, queue = alone, ready[alone]
            else:
                device, queue = min(
                    ((d, q) for d, q in ready.items() if q), key=lambda found: (found[0] not in beside, found[1][0])
                )
            run: list[int] = []
            while queue:
                op = heapq.heappop(queue)
                run.append(op)
                for later in after[op]:
                    missing[later] -= 1
                    if not missing[later]:
                        if (other := ready.get(devices[later])) is None:
                            ready[devices[later]] = [later]
                        else:
                            heapq.heappush(other, later)
            left -= len(run)
            if device == alone:
                runs += [(device, (op,)) for op in run]
            else:
                runs.append((device, tuple(run)))
        return runs
