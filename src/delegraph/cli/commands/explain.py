"""``delegraph explain``: which op would run where and why, what it costs, and what would change that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import NAMES, Whole, exclusions_of, import_option, pins_of, placement_options
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.explanation import Explanation
    from delegraph.partitioner.placement import Placement

SHOW = "-"
"""The value of ``--costs`` without a file."""


@click.command(short_help="Say which device would run each op, and why.")
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
@click.option(
    "--op", "ops", type=Whole(min=0), multiple=True, metavar="N", help="Show all about one op. May be repeated."
)
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
@import_option
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
    from delegraph.cli.placement_views import expect_ops, show, show_ops

    assert model is not None
    settings.model = model
    for option, path in (("--save", save), ("--save-costs", save_costs)):
        if path is not None:
            from delegraph.cli.outputs import expect_folder

            expect_folder(option, path)
    found = explain(
        load_model(model),
        devices=devices,
        numerics=numerics,
        pins=pins_of(pins),
        exclude=exclusions_of(exclude),
        objective=objective,
        machine=machine,
        placement=placement_file,
        costs=None if costs == SHOW else costs,
        measure=measure,
        say=render.note,
    )
    expect_ops(found.placement, ops)
    if dump is not None:
        _dump(found, dump)
    if save_costs is not None:
        _write(save_costs, found.costs.to_json())
    if save is not None:
        _write(save, found.placement.to_json())
    if settings.as_json:
        value = found.to_json()
        render.write_json(value | {"costs": found.costs.to_json()} if costs == SHOW else value)
        return
    if ops:
        show_ops(found.placement, ops)
    else:
        show(found, with_costs=costs == SHOW, each=each)


def _compare(settings: Settings, before: str, after: str) -> None:
    from delegraph.partitioner.diff import differences, remarks
    from delegraph.partitioner.placement import Placement

    a, b = Placement.read(before), Placement.read(after)
    found = differences(a, b)
    if settings.as_json:
        ops = [each.to_json() for each in found]
        render.write_json({"before": _totals(a), "after": _totals(b), "remarks": remarks(a, b), "ops": ops})
        return
    from delegraph.cli.placement_views import show_comparison

    show_comparison((before, after), (a, b), found)


def _totals(placement: Placement) -> dict[str, Any]:
    return {
        "machine": placement.machine,
        "objective": placement.objective,
        "segments": len(placement.segments),
        "predictions": [prediction.to_json() for prediction in placement.predictions],
    }


def _write(path: str, value: dict[str, Any]) -> None:
    from pathlib import Path

    from delegraph.cli.outputs import naming

    with naming(path):
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
    render.note(f"wrote {render.counted(len(found.segments), 'segment')}, placement.json and costs.json to {folder}")
