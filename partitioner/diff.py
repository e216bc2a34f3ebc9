"""What differs between two placements of one model. Imports partitioner.placement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from delegraph.core.errors import InvalidArgument
from delegraph.partitioner.placement import OpPlacement, Placement


@dataclass(frozen=True, slots=True)
class OpDifference:
    """An op that is elsewhere, or that a device answers otherwise about. before, after: None where a record lacks it.
    answers: device → (its reason before, and after)."""

    graph: int
    op: int
    name: str
    before: OpPlacement | None
    after: OpPlacement | None
    answers: dict[str, tuple[str, str]]

    @property
    def is_moved(self) -> bool:
        return self.before is None or self.after is None or self.before.device != self.after.device

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "op": self.op,
            "name": self.name,
            "before": None if self.before is None else {"device": self.before.device, "reason": self.before.reason},
            "after": None if self.after is None else {"device": self.after.device, "reason": self.after.reason},
            "answers": {device: {"before": a, "after": b} for device, (a, b) in self.answers.items()},
        }


def differences(before: Placement, after: Placement) -> list[OpDifference]:
    """The ops that differ, in the file's order.

    Raises:
        InvalidArgument: an op has another name: the placements are of different models.
    """
    old = {(row.graph, row.op): row for row in before.rows}
    new = {(row.graph, row.op): row for row in after.rows}
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if a is not None and b is not None and a.name and b.name and a.name != b.name:
            raise InvalidArgument(
                "placements", "two of one model", f"op {key[1]} of graph {key[0]} is {a.name} here and {b.name} there"
            )
        answers = {} if a is None or b is None else _answers(a, b)
        row = b if b is not None else a
        assert row is not None
        each = OpDifference(*key, row.name, a, b, answers)
        if each.is_moved or answers:
            found.append(each)
    return found


def _answers(a: OpPlacement, b: OpPlacement) -> dict[str, tuple[str, str]]:
    old = {c.device: c.answer for c in a.candidates}
    new = {c.device: c.answer for c in b.candidates}
    return {
        device: (old[device].reason, new[device].reason)
        for device in old
        if device in new and (old[device].runs, old[device].reason) != (new[device].runs, new[device].reason)
    }
