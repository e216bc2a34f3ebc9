"""A placement that is handed in: whether it fits the model and its devices can run it. Imports core up to abi.

The ops say which device each goes to. Segments are optional: without them they follow from the ops; with them each has
to be one that a device can run in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from delegraph.core.abi.values import FAILED, Cut, Limits
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import GraphSet
from delegraph.core.ops import effects
from delegraph.partitioner.placement import CORE, FOLDED, OpPlacement, Placement, SegmentPlacement
from delegraph.partitioner.work import GraphWork


def check_model(
    placement: Placement,
    graphs: GraphSet,
    devices: Sequence[str],
    unavailable: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raises InvalidArgument unless the placement names ops of the model, and only these devices. unavailable: device →
    why it can't be used."""
    known = (*devices, CORE, FOLDED)
    rows = {(row.graph, row.op): row for row in placement.rows}
    if not rows and any(graph.ops for graph in graphs.graphs):
        raise InvalidArgument("placement.ops", "every op that is to be run", "none", "give each its device")
    for row in placement.rows:
        if row.graph >= len(graphs.graphs):
            n = len(graphs.graphs)
            raise _wrong(
                row, f"a graph of {graphs.source}", f"{row.graph}, and it has {n}", "graphs are counted from 0"
            )
        graph = graphs.graphs[row.graph]
        ops = graph.all_ops
        name = next((op.name for op in ops if op.index == row.op), None)
        if name is None:
            none = f"none of that number among the {len(ops)} of the graph"
            raise _wrong(row, f"an op of {graphs.source}", none, "remove it, or take the placement of this model")
        if row.name and row.name != name:
            raise _wrong(row, name, row.name, "the placement is of another model: write one with delegraph explain")
        if row.device in unavailable:
            why = unavailable[row.device]
            raise _wrong(
                row, "a device that can be used", f"{row.device}: {why}", f"put it on one of {', '.join(devices)}"
            )
        if row.device not in known:
            raise _wrong(row, f"one of the devices {', '.join(devices)}", repr(row.device), "name it among the devices")
        folded = next((each for each in graph.folded if each.op.index == row.op), None)
        if folded is not None and row.device != FOLDED:
            raise _wrong(row, FOLDED, row.device, f"nothing of it is left to run: {folded.reason}")
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
    """Device per node ("" for core). Where a device has failed on an op, the next that takes it stands in; nodes of
    which the placement says nothing at all (their shapes were not known when it was made) go by the order.

    Raises:
        InvalidArgument: a device does not take an op that is on it, or no device runs it at all; only some of the nodes
            are in the placement.
    """
    rows = {row.op: row for row in placement.rows if row.graph == work.graph.index}
    missing = unspoken(placement, work)
    spoken = {row.op for row in rows.values() if row.device not in (CORE, FOLDED)}
    if missing and any(node.op.index in spoken for node in work.nodes):
        node = work.nodes[missing[0]]
        raise InvalidArgument(
            "placement.ops", f"every op of graph {work.graph.index}",
            f"nothing for op {node.op.index} {node.op.name}",
            f"put it on one of {', '.join(work.takers(missing[0]))}",
        )  # fmt: skip
    for op in sorted(_known(work) & spoken):
        raise _wrong(rows[op], FOLDED, rows[op].device, "nothing of it is left to run: its result is known before")
    found = []
    for position, node in enumerate(work.nodes):
        row, op = rows.get(node.op.index), node.op.index
        if op in work.host:
            if op in spoken:
                raise _wrong(rows[op], CORE, rows[op].device, f"core runs it itself: {work.host[op]}")
            found.append("")
            continue
        is_left_out = row is not None and row.device in (CORE, FOLDED) and row.decided_by == row.device
        if row is None or is_left_out:  # as a record has it that was made where the op needed no device
            found.append((work.domain(position) or [""])[0])
            continue
        answer = work.answers[row.device][position] if row.device in work.answers else None
        if answer is None:
            why = "core does not run it itself" if row.device == CORE else "it has to be run"
            raise _wrong(row, "a device", row.device, f"{why}: put it on one of {', '.join(work.takers(position))}")
        if answer.runs:
            found.append(row.device)
        elif answer.constraint == FAILED:
            found.append((work.domain(position) or [""])[0])
        else:
            others = f"put it on one of {', '.join(work.takers(position)) or 'no other'}"
            advice = f"{answer.advice}, or {others}" if answer.advice else others
            raise _wrong(row, f"an op that {row.device} takes", answer.reason, advice)
    return tuple(found)


def _known(work: GraphWork) -> set[int]:
    """Ops that are not run because what they make is known before the run, as far as ops of the work read it."""
    answers = [found[0] for found in work.answers.values() if found]
    if any(answer.constraint == FAILED for answer in answers):
        return set()  # a part of a plan, of which it is not known what else is run
    placed = {node.op.index for node in work.nodes}
    makers = {i: op for op in work.graph.ops for i in op.outputs}
    inputs = [pair for node in work.nodes for pair in zip(node.op.inputs, node.inputs, strict=True)]
    queue = [i for i, spec in inputs if spec is not None and spec.value is not None]
    found: set[int] = set()
    while queue:
        op = makers.get(queue.pop())
        if op is None or op.index in placed | found or work.needed.intersection(op.outputs):
            continue
        found.add(op.index)
        queue += () if op.name in ("SHAPE", "RANK") else op.inputs
    return found


def unspoken(placement: Placement, work: GraphWork) -> list[int]:
    """Positions of the nodes that are to be run and of which the placement says nothing."""
    rows = {row.op for row in placement.rows if row.graph == work.graph.index}
    ops = [node.op.index for node in work.nodes]
    return [position for position, op in enumerate(ops) if op not in rows and op not in work.host]


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
                found = f"op {work.nodes[p].op.index} again"
                raise InvalidArgument(_place(segment), "each op in one segment", found, "take it out of one of them")
            label[p] = segment
            group[p] = members[0]
    listed = {min(position[op] for op in segment.ops): place for place, segment in enumerate(held)}
    order = _order(group, [set(wait) for wait in effects.order(work.graph, work.nodes)], listed)
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


def _order(group: Sequence[int], before: Sequence[set[int]], listed: Mapping[int, int]) -> list[int] | None:
    """The groups in an order in which they can run, or None where they wait for each other. listed: the places of those
    that were listed, in whose order they run if they can; others run as soon as they can."""
    waits: dict[int, set[int]] = {g: set() for g in group}
    for op, wait in enumerate(before):
        waits[group[op]] |= {group[earlier] for earlier in wait} - {group[op]}
    found: list[int] = []
    left = dict(waits)
    while left:
        able = (g for g, wait in left.items() if not wait & left.keys())
        ready = min(able, key=lambda g: (listed.get(g, -1), g), default=None)
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
        node.op.index: {work.nodes[p].op.index for p in wait - work.starts}
        for node, wait in zip(work.nodes, before, strict=True)
    }
    for device, limit in limits.items():
        own = [cut for cut in cuts if cut.device == device]
        if limit.max_segments is not None and len(own) > limit.max_segments:
            raise InvalidArgument(
                "placement", f"no more segments on {device} than {limit.max_segments}", f"{len(own)}",
                "move ops to other devices until what is left can run in one go",
            )  # fmt: skip
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
