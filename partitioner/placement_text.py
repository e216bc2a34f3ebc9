"""A placement record as text: summary, segments, ops. Imports partitioner.placement, work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from delegraph.partitioner.costs import Cost
from delegraph.partitioner.placement import CORE, FOLDED, GraphPrediction, OpPlacement, Placement, SegmentCost
from delegraph.partitioner.work import EXCLUDED

SMALL = 100
"""A segment that is predicted to take less than one in this many parts of them all is not worth a line."""


def as_text(placement: Placement) -> str:
    """Summary, segments and ops; as long as it takes."""
    columns, lines, left_out = segment_table(placement)
    segments = ["", *table(columns, lines), *([left_out] if left_out else [])] if lines else []
    return "\n".join([*summary(placement), *segments, "", *table(*op_table(placement))]).lstrip("\n")


def summary(placement: Placement) -> list[str]:
    """The record in a few lines: what it is predicted to take, where the ops are, its notes and fallbacks."""
    lines = [placement.headline] if placement.headline else []
    if any(p.graph == 0 for p in placement.predictions):  # else they are parts of what is not known as a whole
        lines += [_predicted(placement, p) for p in placement.predictions]
    counts = Counter(row.device for row in placement.rows if row.device not in (CORE, FOLDED))
    where = [f"{device} {_ops(counts.pop(device))}" for device in placement.devices if device in counts]
    where += [f"{device} {_ops(n)}" for device, n in counts.items()]
    for device, what in ((CORE, "by delegraph itself"), (FOLDED, "folded away")):
        n = sum(row.device == device for row in placement.rows)
        where += [f"{_ops(n)} {what}"] if n else []
    if where:
        lines.append(f"runs on: {', '.join(where)}")
    lines += [f"{device} can't be used: {why}" for device, why in placement.unavailable.items()]
    differs = Counter((row.device, text) for row in placement.rows if (text := row.deviation))
    lines += [f"{_ops(n)} on {device} round{'s' * (n == 1)} otherwise: {text}" for (device, text), n in differs.items()]
    lines += placement.notes
    lines += [f"fallback: {e.get('device')}: {e.get('message')}" for e in placement.events if e.get("ops")]
    return lines


def _ops(n: int) -> str:
    return f"{n} op" + ("s" if n != 1 else "")


def _predicted(placement: Placement, p: GraphPrediction) -> str:
    """What a graph takes, beside what it could take."""

    def words(value: int) -> str:
        return amount(value, placement.objective)

    found = [words(p.total_ns)]
    if p.cpu_alone_ns is not None:
        is_more = p.total_ns > 0 and p.cpu_alone_ns / p.total_ns >= 1.05
        ratio = f" ({p.cpu_alone_ns / p.total_ns:.1f} times that)" if is_more else ""
        found.append(f"the cpu alone {words(p.cpu_alone_ns)}{ratio}")
    if p.concurrent_ns is not None and p.concurrent_ns < p.total_ns and words(p.concurrent_ns) != found[0]:
        found.append(f"{words(p.concurrent_ns)} with devices side by side")
    if p.bound_ns is not None and not placement.headline:  # which says what would take less
        best = "this is the best split" if p.bound_ns >= p.total_ns else f"at best {words(p.bound_ns)}"
        found.append(best + _wishes(placement))
    where = f"graph {p.graph}, with what it calls, " if p.graph else ""
    return f"{where}predicted for {placement.machine}: {'; '.join(found)}"


def _wishes(placement: Placement) -> str:
    """What the user asked for that a better split might not keep to."""
    is_pinned = any(row.decided_by == "pin" for row in placement.rows)
    is_excluded = any(c.answer.constraint == EXCLUDED for row in placement.rows for c in row.candidates)
    wishes = " and ".join(["pins"] * is_pinned + ["exclusions"] * is_excluded)
    return f" under your {wishes}" if wishes else ""


def segment_table(placement: Placement, *, has_all: bool = False) -> tuple[Sequence[str], list[Sequence[str]], str]:
    """Columns and rows: one line per segment, and what is left out of them, which together is little. has_all: nothing
    is. Predictions and measurements only where there are some."""
    small = () if has_all else _small(placement)
    is_predicted = any(segment.predicted is not None for segment in placement.segments)
    is_measured = any(segment.runs for segment in placement.segments)
    has_calls = any(segment.graph for segment in placement.segments)
    columns = ["segment", *["graph"] * has_calls, "device", "ops"]
    columns += [*["launch", "compute", "copies", "predicted"] * is_predicted, *["runs", "measured"] * is_measured]
    lines: list[Sequence[str]] = []
    for i, segment in enumerate(placement.segments):
        if i in small:
            continue
        cells = [str(i), *[str(segment.graph)] * has_calls, segment.device, ranges(segment.ops)]
        cells += _parts(segment.predicted, placement.objective) * is_predicted
        cells += [str(segment.runs), amount(segment.measured_ns)] * is_measured
        lines.append(cells)
    together = sum(s.predicted.total_ns for i, s in enumerate(placement.segments) if i in small and s.predicted)
    more = f"{len(small)} more take less than 1 % each, {amount(together, placement.objective)} together"
    return columns, lines, more if small else ""


def _parts(cost: SegmentCost | None, objective: str) -> list[str]:
    if cost is None:
        return [""] * 4
    copies = cost.copies_ns + cost.outputs_ns + cost.streaming_ns
    return [amount(value, objective) for value in (cost.launch_ns, cost.ops_ns, copies, cost.total_ns)]


def _small(placement: Placement) -> Sequence[int]:
    """Segments that are not worth a line, if they are several."""
    costs = [0 if s.predicted is None else s.predicted.total_ns for s in placement.segments]
    if any(segment.predicted is None for segment in placement.segments):
        return ()
    found = [i for i, cost in enumerate(costs) if cost * SMALL < sum(costs)]
    return found if len(found) > 1 else ()


def ranges(ops: Sequence[int], *, is_short: bool = True) -> str:
    """Numbers in words: ``0-12, 14``; is_short: of many ranges only some."""
    parts: list[list[int]] = []
    for op in sorted(ops):
        if parts and op == parts[-1][1] + 1:
            parts[-1][1] = op
        else:
            parts.append([op, op])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in parts]
    return ", ".join(texts if len(texts) <= 6 or not is_short else [*texts[:5], f"... {texts[-1]}"])


def op_table(placement: Placement) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Columns and rows: one line per op."""
    is_predicted = any(row.cost is not None for row in placement.rows)
    columns = ["graph", "op", "name", "device", *["predicted"] * is_predicted, "why"]
    lines: list[Sequence[str]] = []
    for row in placement.rows:
        cost = row.cost
        shown = "" if cost is None else amount(value_of(cost, placement.objective), placement.objective)
        why = "; ".join([row.reason, *(f"{device}: {text}" for device, text in row.refusals.items())])
        lines.append([str(row.graph), str(row.op), row.name, row.device, *[shown] * is_predicted, why])
    return columns, lines


@dataclass(frozen=True, slots=True)
class Group:
    """Ops of one graph that are on one device for one reason. predicted: of all of them, None where that of one is
    unknown."""

    graph: int
    device: str
    rows: tuple[OpPlacement, ...]
    predicted: int | None
    why: str

    @property
    def names(self) -> str:
        """Their operators, the most frequent first."""
        return operators([row.name for row in self.rows])


def operators(names: Sequence[str]) -> str:
    """How often which operator is among them, the most frequent ones."""
    found = [f"{name} x {n}" if n > 1 else name for name, n in Counter(names).most_common()]
    return ", ".join(found if len(found) < 4 else [*found[:2], "..."])


def groups(placement: Placement) -> list[Group]:
    """The ops that are run, by where and why, in the order of their first ones."""
    found: dict[tuple[int, str, str, str], list[OpPlacement]] = {}
    for row in placement.rows:
        found.setdefault((row.graph, row.device, *_reason(row, placement.objective)), []).append(row)
    made = []
    for (graph, device, why, other), rows in found.items():
        here = _sum([row.cost for row in rows], placement.objective)
        there = _sum([row.cost_on(other) for row in rows], placement.objective)
        if other and here is not None and there is not None:
            why = why.replace("{}", amount(there, placement.objective), 1)
        made.append(Group(graph, device, tuple(rows), here, why))
    return made


def _reason(row: OpPlacement, objective: str) -> tuple[str, str]:
    """Why an op is where it is, in words that others share ("{}" for the sum of costs there), and the device
    that it was compared with."""
    if row.decided_by == "folded":
        return row.reason.partition("; folded into")[0], ""
    here = row.cost
    others = [c for c in row.candidates if c.device != row.device and c.answer.runs and c.competes]
    costs = {c.device: c.cost for c in others if c.cost is not None}
    values = {device: value for device, cost in costs.items() if (value := value_of(cost, objective)) is not None}
    best = min(values, key=values.__getitem__, default="")
    own = None if here is None else value_of(here, objective)
    if row.decided_by != "cost" or own is None or not best:
        beside = "; ".join(
            f"{device}: {text}" for device, text in row.refusals.items() if device in ("cpu", "reference")
        )
        return row.reason + (f"; {beside}" if beside and row.decided_by == "only" else ""), ""
    if own <= values[best]:
        return f"would take {{}} on {best}", best
    return f"would take {{}} on {best}, but launch and copies cost more than that saves", best


def _sum(costs: Sequence[Cost | None], objective: str) -> int | None:
    values = [None if cost is None else value_of(cost, objective) for cost in costs]
    return sum(value for value in values if value is not None) if None not in values else None


def value_of(cost: Cost, objective: str) -> int | None:
    """Nanoseconds, or nanojoules for energy."""
    return cost.energy_nj if objective == "energy" else cost.time_ns


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Aligned text; the last column as long as it is."""
    widths = [max(len(line[i]) for line in (columns, *lines)) for i in range(len(columns) - 1)]
    return [
        ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) + "  " + line[-1]).rstrip()
        for line in (columns, *lines)
    ]


def amount(value: int | None, objective: str = "latency") -> str:
    """Nanoseconds, or nanojoules for energy, in words: ``12.3 us``."""
    if value is None:
        return ""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if abs(value) >= size:
            return f"{value / size:.4g} {unit if objective == 'latency' else unit.replace('s', '') + 'J'}"
    return f"{value} {'ns' if objective == 'latency' else 'nJ'}"
