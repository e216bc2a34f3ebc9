"""Memory plan: offsets in one arena for tensors that are alive at different times. Imports nothing of delegraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """A tensor's claim: its size, and the steps [first, last] between which it must not be overwritten."""

    tensor: int
    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Usage) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Tensor → offset in an arena of ``size_bytes``."""

    offsets: dict[int, int]
    size_bytes: int


def plan_memory(usages: Sequence[Usage], alignment: int = 64) -> MemoryPlan:
    """Offsets such that tensors which are alive together don't overlap.

    Greedy by size: the largest first, each at the best-fitting gap among those placed that live at the same time.
    Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020), Algorithm 3; the
    method of TFLite's GPU delegate and arena planner.
    """
    placed: list[tuple[int, Usage]] = []
    for usage in sorted(usages, key=lambda u: (-u.size_bytes, u.first, u.tensor)):
        size = _aligned(usage.size_bytes, alignment)
        best, best_gap, cursor = None, None, 0
        for offset, other in sorted(((o, u) for o, u in placed if u.overlaps(usage)), key=lambda p: p[0]):
            gap = offset - cursor
            if gap >= size and (best_gap is None or gap < best_gap):
                best, best_gap = cursor, gap
            cursor = max(cursor, offset + _aligned(other.size_bytes, alignment))
        placed.append((cursor if best is None else best, usage))
    return MemoryPlan(
        {usage.tensor: offset for offset, usage in placed},
        max((offset + _aligned(usage.size_bytes, alignment) for offset, usage in placed), default=0),
    )


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
