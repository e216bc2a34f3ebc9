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
        InvalidArgument: the placements are of different models.
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
    if before.model_digest and after.model_digest and before.model_digest != after.model_digest:
        names = f"{before.model or 'one'} and {after.model or 'another'}, whose tensors have other types or shapes"
        raise InvalidArgument("placements", "two of one model", names)
    return found


def remarks(before: Placement, after: Placement) -> list[str]:
    """What else differs between placements of one model, in sentences."""
    found = []
    is_known = before.model_digest and after.model_digest
    if not is_known and before.model and after.model and before.model != after.model:
        found.append(f"of different models, to go by their names: {before.model} and {after.model}")
    for placement, other, which in ((before, after, "first"), (after, before, "second")):
        if only := sorted(_asked(placement) - _asked(other)):
            found.append(f"only in the {which}: {', '.join(only)}")
    same = {(row.graph, row.op) for row in before.rows} & {(row.graph, row.op) for row in after.rows}
    old, new = ({(s.graph, s.device, frozenset(s.ops)) for s in placement.segments} for placement in (before, after))
    where = [{(row.graph, row.op): row.device for row in placement.rows} for placement in (before, after)]
    if where[0] == where[1] and old and new and old != new:
        found.append(f"{len(new - old)} segments are cut otherwise, of the same ops on the same devices")
    costs = [_costs(placement) for placement in (before, after)]
    if before.machine != after.machine:
        return found
    changed = {key[:2] for key in costs[0].keys() & costs[1].keys() if costs[0][key] != costs[1][key]}
    if changed:
        found.append(f"{len(changed)} of {len(same)} ops cost otherwise on a device")
    return found


def _asked(placement: Placement) -> set[str]:
    """The devices that answered."""
    return {c.device for row in placement.rows for c in row.candidates} or set(placement.devices)


def _costs(placement: Placement) -> dict[tuple[int, int, str], tuple[int, int | None]]:
    return {
        (row.graph, row.op, c.device): (c.cost.time_ns, c.cost.energy_nj)
        for row in placement.rows
        for c in row.candidates
        if c.cost is not None
    }


def _answers(a: OpPlacement, b: OpPlacement) -> dict[str, tuple[str, str]]:
    old = {c.device: c.answer for c in a.candidates}
    new = {c.device: c.answer for c in b.candidates}
    return {
        device: (old[device].reason, new[device].reason)
        for device in old
        if device in new and (old[device].runs, old[device].reason) != (new[device].runs, new[device].reason)
    }
