"""A placement that is handed in: whether it fits the model and its devices can run it. Imports core up to abi.

The ops say which device each goes to. Segments are optional: without them they follow from the ops; with them each has
to be one that a device can run in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from delegraph.core.abi.values import Cut, Limits
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import GraphSet
from delegraph.core.ops import effects
from delegraph.partitioner.placement import CORE, FOLDED, OpPlacement, Placement, SegmentPlacement
from delegraph.partitioner.work import GraphWork


def check_model(placement: Placement, graphs: GraphSet, devices: Sequence[str]) -> None:
    """Raises InvalidArgument unless the placement names the model's ops, and only these devices."""
    known = (*devices, CORE, FOLDED)
    rows = {(row.graph, row.op): row for row in placement.rows}
    for row in placement.rows:
        ops = graphs.graphs[row.graph].all_ops if row.graph < len(graphs.graphs) else ()
        name = next((op.name for op in ops if op.index == row.op), None)
        if name is None:
            raise _wrong(row, f"an op of {graphs.source}", f"none of {len(ops)} in graph {row.graph} has that number")
        if row.name and row.name != name:
            raise _wrong(row, name, row.name, "the placement is of another model")
        if row.device not in known:
            raise _wrong(row, f"one of the devices {', '.join(devices)}", repr(row.device), "name it among the devices")
    for graph in graphs.graphs:
        missing = [op for op in graph.ops if (graph.index, op.index) not in rows]
        if missing and any(row.graph == graph.index for row in placement.rows):
            raise InvalidArgument(
                "placement.ops", f"every op of graph {graph.index}",
                f"nothing for op {missing[0].index} {missing[0].name}", "add it",
            )  # fmt: skip
    for segment in placement.segments:
        for op in segment.ops:
            found = rows.get((segment.graph, op))
            if found is None or found.device != segment.device:
                there = "on no device" if found is None else f"on {found.device}"
                raise InvalidArgument(
                    _place(segment), f"ops that are on {segment.device}", f"op {op} {there}",
                    "edit both, or leave out the segments: they follow from the ops",
                )  # fmt: skip


def devices_of(placement: Placement, work: GraphWork) -> tuple[str, ...]:
    """Device per node ("" for core). Where a device has failed on an op, the next that takes it stands in.

    Raises:
        InvalidArgument: a device does not take an op that is on it.
    """
    rows = {row.op: row for row in placement.rows if row.graph == work.graph.index}
    found = []
    for position, node in enumerate(work.nodes):
        row, op = rows.get(node.op.index), node.op.index
        if op in work.host:
            found.append("")
            continue
        if row is None:  # a graph that the placement does not speak of
            found.append((work.domain(position) or [""])[0])
            continue
        answer = work.answers[row.device][position] if row.device in work.answers else None
        if answer is None:
            raise _wrong(row, "a device", row.device, f"put it on one of {', '.join(work.takers(position))}")
        if answer.runs:
            found.append(row.device)
        elif answer.constraint == "device.failed":
            found.append((work.domain(position) or [""])[0])
        else:
            others = ", ".join(work.takers(position)) or "no other"
            raise _wrong(row, f"an op that {row.device} takes", answer.reason, f"it may run on {others}")
    return tuple(found)


def cuts_of(placement: Placement, work: GraphWork, devices: Sequence[str], derived: Sequence[Cut]) -> list[Cut]:
    """The pieces in an order in which they can run: the placement's own segments, as far as every op of one is among
    the nodes and where it should be, else those ``derived`` from the devices.

    Raises:
        InvalidArgument: a segment that can't run in one go.
    """
    own = [segment for segment in placement.segments if segment.graph == work.graph.index]
    position = {node.op.index: p for p, node in enumerate(work.nodes)}
    held = [
        segment
        for segment in own
        if all(op in position and devices[position[op]] == segment.device for op in segment.ops)
    ]
    if not held:
        return list(derived)
    group = list(range(len(devices)))  # an op of no segment is one of its own
    label = {}
    for segment in held:
        members = sorted(position[op] for op in segment.ops)
        for p in members:
            if p in label:
                raise InvalidArgument(_place(segment), "ops of no other segment", f"op {work.nodes[p].op.index}")
            label[p] = segment
            group[p] = members[0]
    order = _order(group, [set(wait) for wait in effects.order(work.graph, work.nodes)])
    if order is None:
        segment, between = _not_convex(work, held, position)
        raise InvalidArgument(
            _place(segment),
            "ops that can run in one go",
            f"op {between} in between, which is not among them",
            "add it to the segment, or split the segment there",
        )
    return [
        Cut(devices[first], tuple(work.nodes[p] for p, g in enumerate(group) if g == first)) for first in order
    ]  # fmt: skip


def _order(group: Sequence[int], before: Sequence[set[int]]) -> list[int] | None:
    """The groups in an order in which they can run, or None where they wait for each other."""
    waits: dict[int, set[int]] = {g: set() for g in group}
    for op, wait in enumerate(before):
        waits[group[op]] |= {group[earlier] for earlier in wait} - {group[op]}
    found: list[int] = []
    left = dict(waits)
    while left:
        ready = min((g for g, wait in left.items() if not wait & left.keys()), default=None)
        if ready is None:
            return None
        found.append(ready)
        del left[ready]
    return found


def _not_convex(
    work: GraphWork, segments: Sequence[SegmentPlacement], position: Mapping[int, int]
) -> tuple[SegmentPlacement, int]:
    """A segment that something outside of it both needs and is needed by, and that op."""
    before = [set(wait) for wait in effects.order(work.graph, work.nodes)]
    own = {position[op]: i for i, segment in enumerate(segments) for op in segment.ops}
    for i, segment in enumerate(segments):
        inside = {position[op] for op in segment.ops}
        behind: set[int] = set()
        for op in range(len(before)):  # what needs the segment, through segments as a whole
            if op not in inside and (before[op] & (inside | behind)):
                mates = {p for p, s in own.items() if s == own.get(op, -1)} or {op}
                behind |= mates - inside
        for op in inside:
            if between := before[op] & behind:
                return segments[i], work.nodes[min(between)].op.index
    return segments[0], segments[0].ops[0]


def check_limits(cuts: Sequence[Cut], limits: Mapping[str, Limits], work: GraphWork) -> None:
    """Raises InvalidArgument for a device that gets more segments than it takes, too small ones, or one that does not
    start at the graph's inputs where it has to."""
    device_of = {node.op.index: cut.device for cut in cuts for node in cut.nodes}
    before = effects.order(work.graph, work.nodes)
    waits = {
        node.op.index: {work.nodes[p].op.index for p in wait} for node, wait in zip(work.nodes, before, strict=True)
    }
    for device, limit in limits.items():
        own = [cut for cut in cuts if cut.device == device]
        if limit.max_segments is not None and len(own) > limit.max_segments:
            raise InvalidArgument(
                "placement", f"at most {limit.max_segments} segments on {device}", f"{len(own)}", "merge or move some"
            )
        for cut in own:
            if len(cut.nodes) < limit.min_ops:
                op = cut.nodes[0].op.index
                raise InvalidArgument(
                    "placement", f"at least {limit.min_ops} ops in a segment on {device}",
                    f"{len(cut.nodes)} in the one that starts with op {op}", "move it to another device",
                )  # fmt: skip
            late = [
                node.op.index
                for node in cut.nodes
                if limit.prefix_only and any(device_of[op] != device for op in waits[node.op.index])
            ]
            if late:
                raise InvalidArgument(
                    "placement", f"a segment on {device} that starts at the graph's inputs",
                    f"op {late[0]} behind ops of other devices", "move it to another device",
                )  # fmt: skip


def _wrong(row: OpPlacement, expected: str, found: str, advice: str = "") -> InvalidArgument:
    graph = "" if row.graph == 0 else f" of graph {row.graph}"
    return InvalidArgument(f"placement: op {row.op}{graph}", expected, found, advice)


def _place(segment: SegmentPlacement) -> str:
    ops = ", ".join(map(str, segment.ops[:4])) + (", ..." if len(segment.ops) > 4 else "")
    return f"placement: segment of ops {ops} on {segment.device}"
