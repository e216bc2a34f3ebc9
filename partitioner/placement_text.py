"""A placement record as text: summary, segments, ops. Imports partitioner.placement."""

from __future__ import annotations

from collections.abc import Sequence

from delegraph.partitioner.costs import Cost
from delegraph.partitioner.placement import Placement


def as_text(placement: Placement) -> str:
    """Summary and table of the ops; as long as it takes."""
    return "\n".join([*summary(placement), "", *table(*op_table(placement))]).lstrip("\n")


def summary(placement: Placement) -> list[str]:
    """The record in a few lines: what it is for, what it is predicted to take, its notes and fallbacks."""
    lines = []
    for p in placement.predictions:
        where = "" if p.graph == 0 else f"graph {p.graph}: "
        beside = [
            text
            for text, value in (
                ("the cpu alone: {}", p.cpu_alone_ns),
                ("no split is below {}", p.bound_ns),
                ("{} with devices side by side", None if p.concurrent_ns == p.total_ns else p.concurrent_ns),
            )
            if value is not None
            for text in [text.format(amount(value, placement.objective))]
        ]
        lines.append(
            f"{where}predicted for {placement.machine}: {amount(p.total_ns, placement.objective)}"
            + (f" ({'; '.join(beside)})" if beside else "")
        )
    lines += [f"{device} can't be used: {why}" for device, why in placement.unavailable.items()]
    lines += placement.notes
    lines += [f"fallback: {e.get('device')}: {e.get('message')}" for e in placement.events if e.get("ops")]
    return lines


def op_table(placement: Placement) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Columns and rows: one line per op."""
    columns = ("graph", "op", "name", "device", "predicted", "why")
    lines: list[Sequence[str]] = []
    for row in placement.rows:
        cost = row.cost
        shown = "" if cost is None else amount(_value(cost, placement.objective), placement.objective)
        why = "; ".join([row.reason, *(f"{device}: {text}" for device, text in row.refusals.items())])
        lines.append((str(row.graph), str(row.op), row.name, row.device, shown, why))
    return columns, lines


def _value(cost: Cost, objective: str) -> int | None:
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
