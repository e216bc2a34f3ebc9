"""What ``delegraph explain`` prints: a placement with its segments, reasons, costs and levers, and two compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delegraph.cli import render
from delegraph.core.abi.values import SUPPORTED, Verdict
from delegraph.core.errors import InvalidArgument
from delegraph.explanation import Explanation, Lever
from delegraph.partitioner.costs import Cost
from delegraph.partitioner.diff import OpDifference, remarks
from delegraph.partitioner.placement import Candidate, OpPlacement, Placement
from delegraph.partitioner.placement_text import amount, groups, operators, ranges, segment_table, summary, value_of

LEVERS = 10
"""How many rules are shown."""


def show(found: Explanation, *, with_costs: bool, each: bool) -> None:
    """All of it. with_costs: of each op on each device; each: ops one by one, not in groups."""
    for line in summary(found.placement):
        render.line(line)
    render.line()
    _show_segments(found.placement, has_all=each)
    render.line()
    render.heading("ops")
    if with_costs:
        _show_costs(found)
    elif each:
        _show_reasons(found.placement)
    else:
        _show_groups(found.placement)
    _show_levers(found)


def _show_segments(placement: Placement, *, has_all: bool) -> None:
    render.heading(render.counted(len(placement.segments), "segment"))
    head, rows, left_out = segment_table(placement, has_all=has_all)
    right = ("segment", "graph", "launch", "compute", "copies", "predicted", "runs", "measured")
    render.table(head, rows, right=right)
    if left_out:
        render.line(left_out)


def _show_groups(placement: Placement) -> None:
    """Ops by where and why. What refused them is among the levers, and with --ops or --op."""
    has_calls = any(row.graph for row in placement.rows)
    head = [*(["graph"] if has_calls else []), "device", "n", "predicted", "operators", "why", "ops"]
    rows = []
    for group in groups(placement):
        shown = (
            group.device,
            len(group.rows),
            amount(group.predicted, placement.objective),
            group.names,
            group.why,
            ranges([row.op for row in group.rows], is_short=False),
        )
        rows.append((group.graph, *shown) if has_calls else shown)
    render.table(head, rows, right=("graph", "n", "predicted"))


def show_ops_in_short(placement: Placement) -> None:
    """Which device runs the ops and why: those in a row of which the same is said together, with all refusals."""
    found: list[tuple[tuple[int, str, str], list[OpPlacement]]] = []
    for row in placement.rows:
        why = "; ".join([row.reason, *(f"{device}: {text}" for device, text in row.refusals.items())])
        key = (row.graph, row.device, why)
        if not found or found[-1][0] != key:
            found.append((key, []))
        found[-1][1].append(row)
    rows = [
        (graph, ranges([row.op for row in ops]), operators([row.name for row in ops]), device, why)
        for (graph, device, why), ops in found
    ]
    render.table(("graph", "ops", "operators", "device", "why"), rows, right=("graph",))


def _show_reasons(placement: Placement) -> None:
    """One line per op; what several refusals say is said once, below."""
    numbers: dict[str, int] = {}
    rows = []
    for row in placement.rows:
        cost = row.cost
        value = None if cost is None else value_of(cost, placement.objective)
        refusals = [f"{device}: {why}" for device, why in row.refusals.items()]
        marks = ", ".join(str(numbers.setdefault(text, len(numbers) + 1)) for text in refusals)
        shown = amount(value, placement.objective)
        rows.append((row.graph, row.op, row.name, row.device, shown, row.reason, f"[{marks}]" if marks else ""))
    head = ("graph", "op", "name", "device", "predicted", "why", "refused by")
    render.table(head, rows, right=("graph", "op", "predicted"))
    if numbers:
        render.line()
        for text, number in numbers.items():
            render.line(f"[{number}] {text}")


def _show_costs(found: Explanation) -> None:
    """A row an op; where that is too wide for the terminal, a row for each op and device."""
    names = [device.id for device in found.costs.devices]
    ops = [
        (
            (row.graph, row.op, row.name),
            {name: _cost(cost, found.placement.objective) for name, cost in row.costs.items()},
        )
        for row in found.costs.ops
    ]
    used = [name for name in names if any(name in costs for _, costs in ops)]
    head = ("graph", "op", "name", *(cell for name in used for cell in (name, "from")))
    rows = [(*op, *(cell for name in used for cell in costs.get(name, ("", "")))) for op, costs in ops]
    if render.fits(head, rows):
        render.table(head, rows, right=("graph", "op", *used))
    else:
        rows = [(*op, name, *costs[name]) for op, costs in ops for name in used if name in costs]
        render.table(("graph", "op", "name", "device", "cost", "from"), rows, right=("graph", "op", "cost"))
    render.line()
    for device in found.costs.devices:
        links = [
            f"{way} {amount(link.latency_ns)} + {render.rate(link.bytes_per_s)}B/s"
            for way, link in (("in", device.to_device), ("out", device.from_device))
            if link.bytes_per_s or link.latency_ns
        ]
        render.line(f"{device.id}: launch {amount(device.launch_ns)}{''.join(f', {text}' for text in links)}")


def _cost(cost: Cost | None, objective: str) -> tuple[str, str]:
    """A cost and where it is from, in words; empty where there is none."""
    return ("", "") if cost is None else (amount(value_of(cost, objective), objective), cost.source)


def _show_levers(found: Explanation) -> None:
    """The rules that would save most; devices for which everything is the same share one."""
    if not found.levers:
        return
    alike: dict[tuple[object, ...], list[Lever]] = {}
    for lever in found.levers:
        if lever.saves_ns == 0:
            continue
        key = (lever.saves_ns, lever.constraint, lever.reason, lever.advice, tuple(lever.ops))
        alike.setdefault(key, []).append(lever)
    shown = list(alike.values())[:LEVERS]
    render.line()
    render.heading("what keeps ops off the devices, and what would be saved if they went there")
    for levers in shown:
        _show_lever(levers[0], ", ".join(lever.device for lever in levers), found.placement)
    idle = [lever for lever in found.levers if lever.saves_ns == 0]
    if idle:
        _show_idle(idle)
    n_more = len(found.levers) - len(idle) - sum(map(len, shown))
    if n_more:
        render.line(f"and {render.counted(n_more, 'rule')} more: --json")


def _show_idle(levers: Sequence[Lever]) -> None:
    """What would save nothing, in a line."""
    by_device: dict[str, list[str]] = {}
    for lever in levers:
        by_device.setdefault(lever.device, []).append(f"{lever.constraint} ({len(lever.ops)})")
    alike: dict[str, list[str]] = {}
    for device, rules in by_device.items():
        alike.setdefault(", ".join(rules), []).append(device)
    texts = [f"{', '.join(devices)}  {rules}" for rules, devices in alike.items()]
    render.paragraph(f"{'nothing':<10}", "; ".join(texts))


def _show_lever(lever: Lever, devices: str, placement: Placement) -> None:
    saves = "not known" if lever.saves_ns is None else amount(lever.saves_ns, placement.objective)
    ops = ranges([op for graph, op in lever.ops if graph == 0]) or "of called graphs"
    n = render.counted(len(lever.ops), "op")
    reasons = _reasons(placement, lever.device, lever.ops)
    others = len(reasons) - 1 if lever.reason in reasons else 0
    indent = " " * 10
    render.paragraph(f"{saves:<10}", f"{devices}  {lever.constraint}  {n}: {ops}")
    render.paragraph(indent, lever.reason + (f" (and {others} more like it)" if others > 0 else ""))
    if lever.advice:
        render.paragraph(f"{indent}-> ", lever.advice)


def _reasons(placement: Placement, device: str, ops: Sequence[tuple[int, int]]) -> set[str]:
    wanted = set(ops)
    rows = (row for row in placement.rows if (row.graph, row.op) in wanted)
    return {reason for row in rows if (reason := row.refusals.get(device)) is not None}


def expect_ops(placement: Placement, ops: Sequence[int]) -> None:
    """Raises InvalidArgument for a number that no op has."""
    known = {row.op for row in placement.rows}
    for op in ops:
        if op not in known:
            expected = f"the number of an op, up to {max(known)}" if known else "none, as the model has no ops"
            raise InvalidArgument("--op", expected, str(op), "see: delegraph explain MODEL --ops")


def show_ops(placement: Placement, ops: Sequence[int]) -> None:
    """All about some ops: what each device says of them."""
    for i, row in enumerate(row for op in ops for row in placement.rows if row.op == op):
        if i:
            render.line()
        graph = f" of graph {row.graph}" if row.graph else ""
        render.heading(f"op {row.op}{graph} {row.name}: {row.device}")
        render.line(f"{row.decided_by}: {row.reason}")
        for candidate in row.candidates:
            render.line()
            render.heading(candidate.device)
            render.pairs(_candidate(candidate, placement.objective), indent=2)


def _candidate(candidate: Candidate, objective: str) -> list[tuple[str, str]]:
    answer, cost = candidate.answer, candidate.cost
    return [
        ("answer", answer.verdict.value),
        ("cost", _cost(cost, objective)[0]),
        ("from", "" if cost is None else f"{cost.source}: {cost.note}" if cost.note else cost.source),
        ("rule", answer.constraint),
        ("found", answer.value),
        ("limit", answer.limit),
        ("why", answer.reason),
        ("in its way", "" if candidate.obstacle == candidate.change else candidate.obstacle),
        ("what would bring it there", candidate.change),
    ]


# --- two placements


def show_comparison(names: Sequence[str], placements: Sequence[Placement], found: Sequence[OpDifference]) -> None:
    """Two placements of one model, and what differs between them."""
    for name, placement in zip(names, placements, strict=True):
        segments = render.counted(len(placement.segments), "segment")
        predicted = summary(replace(placement, headline=""))[:1]
        render.line(f"{name}: {'; '.join([segments, *predicted])}")
    moved = [each for each in found if each.is_moved]
    render.line(f"{len(moved)} of {len(placements[1].rows)} ops are elsewhere")
    for remark in remarks(*placements):
        render.line(remark)
    if found:
        render.line()
        _show_differences(found)


def _show_differences(found: Sequence[OpDifference]) -> None:
    """One line for all ops that moved likewise and of which the devices say the same."""
    alike: dict[tuple[int, str, str, str], list[OpDifference]] = {}
    for each in found:
        before = "" if each.before is None else each.before.device
        after = "" if each.after is None else each.after.device
        why = "; ".join(
            f"{device} {_said(each.before, device)} -> {_said(each.after, device)}" for device in each.answers
        )
        alike.setdefault((each.graph, before, after, why), []).append(each)
    rows = [
        (graph, before, after, len(ops), operators([each.name for each in ops]), why, ranges([o.op for o in ops]))
        for (graph, before, after, why), ops in alike.items()
    ]
    head = ("graph", "before", "after", "n", "operators", "what devices say", "ops")
    render.table(head, rows, right=("graph", "n"))


def _said(row: OpPlacement | None, device: str) -> str:
    """A device's answer in words."""
    answer = next(c.answer for c in row.candidates if c.device == device) if row is not None else SUPPORTED
    if not answer.runs:
        return f"refuses: {answer.reason}"
    return "takes, rounding otherwise" if answer.verdict is Verdict.DEVIATES else "takes"
