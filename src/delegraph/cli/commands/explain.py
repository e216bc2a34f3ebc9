"""``delegraph explain``: which op would run where and why, what it costs, and what would change that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import NAMES, placement_options
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delegraph.explanation import Explanation
    from delegraph.partitioner.diff import OpDifference
    from delegraph.partitioner.placement import Candidate, OpPlacement, Placement

SHOW = "-"
"""The value of ``--costs`` without a file."""
LEVERS = 10
"""How many rules are shown."""


@click.command()
@click.argument("model", required=False)
@click.option(
    "--devices", type=NAMES, metavar="LIST", help="Devices that compete, as opencl:0,cpu; of --machine by default all."
)
@click.option(
    "--numerics",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="exact: LiteRT's reference results; fast: also devices that round otherwise.",
)
@click.option("--op", "ops", type=int, multiple=True, metavar="N", help="Show all about one op. May be repeated.")
@click.option("--ops", "each", is_flag=True, help="Show every op on a line of its own.")
@click.option(
    "--costs",
    is_flag=False,
    flag_value=SHOW,
    metavar="[FILE]",
    help="Show the costs of every op on every device; with FILE: replay those, whatever devices are here.",
)
@click.option("--save-costs", metavar="FILE", help="Write the costs, for --costs FILE anywhere.")
@click.option("--save", metavar="FILE", help="Write the placement as JSON, to edit and hand to --placement-file.")
@click.option("--dump", metavar="DIR", help="Write each segment as a .tflite, with the placement and the costs.")
@click.option("--diff", nargs=2, metavar="A B", help="Compare two placements that were saved, in place of a model.")
@click.option("--measure", is_flag=True, help="Time the model's own ops on the real devices first, and keep that.")
@placement_options
@common_options
@click.pass_obj
def command(
    settings: Settings,
    model: str | None,
    devices: list[str] | None,
    numerics: str,
    ops: tuple[int, ...],
    each: bool,
    costs: str | None,
    save_costs: str | None,
    save: str | None,
    dump: str | None,
    diff: tuple[str, str] | None,
    measure: bool,
    pins: tuple[tuple[str, str], ...],
    exclude: tuple[tuple[str, str], ...],
    objective: str,
    machine: str | None,
    placement_file: str | None,
) -> None:
    """Say which device would run each op of MODEL, why, and what would change it. Nothing is compiled or run.

    Emulated devices and machines that are not here are explained as well: --machine coral-dev-board. Real devices are
    measured once, in seconds.
    """
    if (model is None) == (diff is None):
        raise click.UsageError("expected MODEL, or --diff A B")
    if diff is not None:
        _compare(settings, *diff)
        return
    from delegraph.api import explain
    from delegraph.cli.models import load_model

    assert model is not None
    settings.model = model
    found = explain(
        load_model(model),
        devices=devices,
        numerics=numerics,
        pins=dict(pins),
        exclude=dict(exclude),
        objective=objective,
        machine=machine,
        placement=placement_file,
        costs=None if costs == SHOW else costs,
        measure=measure,
        say=render.note,
    )
    if dump is not None:
        _dump(found, dump)
    if save_costs is not None:
        _write(save_costs, found.costs.to_json())
    if save is not None:
        _write(save, found.placement.to_json())
    if settings.as_json:
        value = found.to_json()
        render.write_json(value | {"costs": found.costs.to_json()} if costs == SHOW else value)
    elif ops:
        _show_ops(found.placement, ops)
    else:
        _show(found, with_costs=costs == SHOW, each=each)


# --- as text ----------------------------------------------------------------------------------------------------------


def _show(found: Explanation, *, with_costs: bool, each: bool) -> None:
    from delegraph.partitioner.placement_text import summary

    for line in summary(found.placement):
        render.line(line)
    render.line()
    _show_segments(found.placement)
    render.line()
    render.heading("ops")
    if with_costs:
        _show_costs(found)
    elif each:
        _show_reasons(found.placement)
    else:
        _show_groups(found.placement)
    _show_levers(found)


def _show_segments(placement: Placement) -> None:
    from delegraph.partitioner.placement_text import amount

    render.heading(f"{len(placement.segments)} segment{'s' if len(placement.segments) != 1 else ''}")
    rows = []
    for i, segment in enumerate(placement.segments):
        cost = segment.predicted
        parts = (
            [""] * 4
            if cost is None
            else [
                amount(value, placement.objective)
                for value in (
                    cost.launch_ns,
                    cost.ops_ns,
                    cost.copies_ns + cost.outputs_ns + cost.streaming_ns,
                    cost.total_ns,
                )
            ]
        )
        rows.append((i, segment.graph, segment.device, len(segment.ops), _ranges(segment.ops), *parts))
    head = ("#", "graph", "device", "n", "ops", "launch", "compute", "copies", "total")
    render.table(head, rows, right=("#", "graph", "n", "launch", "compute", "copies", "total"))


def _ranges(ops: Sequence[int], *, is_short: bool = True) -> str:
    """Numbers in words: ``0-12, 14``; is_short: of many ranges only some."""
    parts: list[list[int]] = []
    for op in sorted(ops):
        if parts and op == parts[-1][1] + 1:
            parts[-1][1] = op
        else:
            parts.append([op, op])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in parts]
    return ", ".join(texts) if len(texts) <= 6 or not is_short else ", ".join([*texts[:5], f"... {texts[-1]}"])


def _show_groups(placement: Placement) -> None:
    """Ops by where and why. What refused them is among the levers, and with --ops or --op."""
    from delegraph.partitioner.placement_text import amount, groups

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
            _ranges([row.op for row in group.rows], is_short=False),
        )
        rows.append((group.graph, *shown) if has_calls else shown)
    render.table(head, rows, right=("graph", "n", "predicted"))


def _show_reasons(placement: Placement) -> None:
    """One line per op; what several refusals say is said once, below."""
    from delegraph.partitioner.placement_text import amount, value_of

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
    from delegraph.partitioner.placement_text import amount

    energy = found.placement.objective == "energy"
    names = [device.id for device in found.costs.devices]
    rows = []
    for row in found.costs.ops:
        cells = []
        for name in names:
            cost = row.costs.get(name)
            value = None if cost is None else cost.energy_nj if energy else cost.time_ns
            shown = "" if cost is None or value is None else amount(value, found.placement.objective)
            cells += [shown, "" if cost is None else cost.source]
        rows.append((row.graph, row.op, row.name, *cells))
    head = ["graph", "op", "name", *(cell for name in names for cell in (name, "from"))]
    widths = [i for i in range(len(head)) if i < 3 or any(row[i] for row in rows)]
    render.table([head[i] for i in widths], [[row[i] for i in widths] for row in rows], right=("graph", "op", *names))
    render.line()
    for device in found.costs.devices:
        links = [
            f"{way} {amount(link.latency_ns)} + {link.bytes_per_s / 1e9:.3g} GB/s"
            for way, link in (("in", device.to_device), ("out", device.from_device))
            if link.bytes_per_s or link.latency_ns
        ]
        render.line(f"{device.id}: launch {amount(device.launch_ns)}{''.join(f', {text}' for text in links)}")


def _show_levers(found: Explanation) -> None:
    from delegraph.partitioner.placement_text import amount

    if not found.levers:
        return
    shown = found.levers[:LEVERS]
    render.line()
    render.heading("what keeps ops off the devices, and what would be saved if they went there")
    for lever in shown:
        saves = {None: "not known", 0: "nothing"}.get(lever.saves_ns) or amount(
            lever.saves_ns, found.placement.objective
        )
        ops = _ranges([op for graph, op in lever.ops if graph == 0]) or "of called graphs"
        n = f"{len(lever.ops)} op{'s' if len(lever.ops) != 1 else ''}"
        render.line(f"{saves:<10}{lever.device}  {lever.constraint}  {n}: {ops}")
        others = len(_reasons(found.placement, lever.device, lever.ops)) - 1
        render.line(f"{'':10}{lever.reason}" + (f" (and {others} more like it)" if others > 0 else ""))
        if lever.advice:
            render.line(f"{'':10}-> {lever.advice}")
    if len(found.levers) > len(shown):
        render.line(f"and {len(found.levers) - len(shown)} rules more: --json")


def _reasons(placement: Placement, device: str, ops: Sequence[tuple[int, int]]) -> set[str]:
    wanted = set(ops)
    rows = (row for row in placement.rows if (row.graph, row.op) in wanted)
    return {reason for row in rows if (reason := row.refusals.get(device)) is not None}


def _show_ops(placement: Placement, ops: Sequence[int]) -> None:
    from delegraph.core.errors import InvalidArgument
    from delegraph.partitioner.placement_text import amount

    for op in ops:
        rows = [row for row in placement.rows if row.op == op]
        if not rows:
            raise InvalidArgument("--op", "the number of an op", str(op), "see: delegraph explain MODEL")
        for row in rows:
            graph = f" of graph {row.graph}" if row.graph else ""
            render.heading(f"op {row.op}{graph} {row.name}: {row.device}")
            render.line(f"{row.decided_by}: {row.reason}")
            head = ("device", "answer", "cost", "from", "rule", "found", "limit", "why", "what would bring it there")
            render.table(head, [_candidate(c, placement.objective, amount) for c in row.candidates], right=("cost",))
            render.line()


def _candidate(candidate: Candidate, objective: str, amount: Any) -> tuple[str, ...]:
    answer, cost = candidate.answer, candidate.cost
    value = None if cost is None else cost.energy_nj if objective == "energy" else cost.time_ns
    return (
        candidate.device,
        answer.verdict.value,
        amount(value, objective),
        "" if cost is None else f"{cost.source}: {cost.note}" if cost.note else cost.source,
        answer.constraint,
        answer.value,
        answer.limit,
        answer.reason,
        candidate.change,
    )


# --- two placements ---------------------------------------------------------------------------------------------------


def _compare(settings: Settings, before: str, after: str) -> None:
    from delegraph.partitioner.diff import differences
    from delegraph.partitioner.placement import Placement

    a, b = Placement.read(before), Placement.read(after)
    found = differences(a, b)
    if settings.as_json:
        render.write_json(
            {
                "before": _totals(a),
                "after": _totals(b),
                "ops": [each.to_json() for each in found],
            }
        )
        return
    from delegraph.partitioner.placement_text import summary

    for name, placement in ((before, a), (after, b)):
        render.line(f"{name}: {len(placement.segments)} segments; {'; '.join(summary(placement)[:1])}")
    moved = [each for each in found if each.is_moved]
    render.line(f"{len(moved)} of {len(b.rows)} ops are elsewhere")
    if found:
        render.line()
        _show_differences(found)


def _totals(placement: Placement) -> dict[str, Any]:
    return {
        "machine": placement.machine,
        "objective": placement.objective,
        "segments": len(placement.segments),
        "predictions": [prediction.to_json() for prediction in placement.predictions],
    }


def _show_differences(found: Sequence[OpDifference]) -> None:
    """One line for all ops that moved likewise and of which the devices say the same."""
    from delegraph.partitioner.placement_text import operators

    alike: dict[tuple[int, str, str, str], list[OpDifference]] = {}
    for each in found:
        before = "" if each.before is None else each.before.device
        after = "" if each.after is None else each.after.device
        why = "; ".join(
            f"{device} {_said(each.before, device)} -> {_said(each.after, device)}" for device in each.answers
        )
        alike.setdefault((each.graph, before, after, why), []).append(each)
    rows = [
        (graph, before, after, len(ops), operators([each.name for each in ops]), why, _ranges([o.op for o in ops]))
        for (graph, before, after, why), ops in alike.items()
    ]
    head = ("graph", "before", "after", "n", "operators", "what devices say", "ops")
    render.table(head, rows, right=("graph", "n"))


def _said(row: OpPlacement | None, device: str) -> str:
    """A device's answer in words."""
    from delegraph.core.abi.values import SUPPORTED, Verdict

    answer = next(c.answer for c in row.candidates if c.device == device) if row is not None else SUPPORTED
    if not answer.runs:
        return f"refuses: {answer.reason}"
    return "takes, rounding otherwise" if answer.verdict is Verdict.DEVIATES else "takes"


# --- files ------------------------------------------------------------------------------------------------------------


def _write(path: str, value: dict[str, Any]) -> None:
    from pathlib import Path

    Path(path).write_text(render.json_text(value) + "\n", encoding="utf-8")
    render.note(f"wrote {path}")


def _dump(found: Explanation, folder: str) -> None:
    """Each segment as a model of its own, with every constant inside."""
    from pathlib import Path

    from delegraph.core.abi.native.segment_model import segment_model
    from delegraph.core.errors import InvalidArgument
    from delegraph.core.model.writer import write

    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgument("--dump", "a new or empty folder", folder, "name another one")
    target.mkdir(parents=True, exist_ok=True)
    for i, (cut, segment) in enumerate(found.segments):
        device = "".join(c if c.isalnum() or c in "-_" else "_" for c in cut.device)
        name = f"segment_{i:03}_graph_{segment.graph.index}_{device}.tflite"
        (target / name).write_bytes(write(segment_model(segment).model(inline_all=True)))
    (target / "placement.json").write_text(render.json_text(found.placement.to_json()) + "\n", encoding="utf-8")
    (target / "costs.json").write_text(render.json_text(found.costs.to_json()) + "\n", encoding="utf-8")
    render.note(f"wrote {len(found.segments)} segments, placement.json and costs.json to {folder}")
