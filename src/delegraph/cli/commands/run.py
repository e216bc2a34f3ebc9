"""``delegraph run``: a picture, a sound or arrays in; labels, boxes, masks or arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import (
    NUMBERS,
    Seed,
    Whole,
    compile_options,
    exclusions_of,
    import_option,
    pins_of,
    placement_options,
)
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.cli.entry import Entry, Timing
    from delegraph.cli.inputs import Given
    from delegraph.cli.labels import Labels
    from delegraph.cli.views import Output, View
    from delegraph.compiled import CompiledModel

DEFAULT_RATE = 16000
"""Samples a second of a sound that is written, where neither an input nor the metadata says."""


@click.command(short_help="Run a model on files or random values.")
@click.argument("model")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]PATH",
    help="A file for an input; once for each.",
)
@click.option(
    "--random",
    "seed",
    is_flag=False,
    flag_value="0",
    type=Seed(),
    metavar="[SEED]",
    help="Random values for inputs without a file.",
)
@click.option("--labels", "labels_path", metavar="FILE", help="Class names, one a line, the first for class 0.")
@click.option(
    "--top",
    type=Whole(min=1),
    default=5,
    show_default=True,
    help="How many classes or boxes to show.",
)
@click.option("-o", "--output", metavar="FILE", help="Write outputs to .npy, .npz, .json, .png, .bmp or .wav.")
@click.option("--signature", metavar="KEY", help="Run this signature instead of the main graph.")
@click.option("--normalize", type=click.Choice(["none", "-1..1", "0..1"]), help="What pixels 0..255 become.")
@click.option("--mean", type=NUMBERS, metavar="M[,M...]", help="(pixel - mean) / std, for all channels or each.")
@click.option("--std", type=NUMBERS, metavar="S[,S...]", help="See --mean.")
@click.option("--repeat", type=Whole(min=1), default=1, show_default=True, help="Run so often, for the time.")
@click.option("--placement", is_flag=True, help="Show which device runs each op, and why.")
@click.option("--costs", metavar="FILE", help="Take the costs in this file (explain --save-costs) for measured ones.")
@compile_options
@placement_options
@import_option
@common_options
@click.pass_obj
def command(
    settings: Settings,
    model: str,
    inputs: tuple[str, ...],
    seed: int | None,
    labels_path: str | None,
    top: int,
    output: str | None,
    signature: str | None,
    normalize: str | None,
    mean: list[float] | None,
    std: list[float] | None,
    repeat: int,
    placement: bool,
    costs: str | None,
    devices: list[str] | None,
    numerics: str,
    threads: int | None,
    fallback: str,
    pins: tuple[tuple[str, str], ...],
    exclude: tuple[tuple[str, str], ...],
    objective: str,
    machine: str | None,
    placement_file: str | None,
) -> None:
    """Run MODEL once on files or random values, and say what comes out.

    Pictures are resized and normalised for the input, sounds mixed and cut; a note says what was done. Scores are
    shown as the highest classes, class maps as shares, other outputs in numbers.
    """
    from delegraph.api import compile
    from delegraph.cli.entry import entry_of, say_unused, timed_runs
    from delegraph.cli.inputs import load_inputs
    from delegraph.cli.labels import read_labels
    from delegraph.cli.models import labels_for, load_model, metadata_of
    from delegraph.cli.outputs import check_output, write_outputs
    from delegraph.cli.pictures import normalization
    from delegraph.cli.views import Output, views_of

    settings.model = model
    flags = normalization(normalize, mean, std)
    given_labels = read_labels(labels_path) if labels_path is not None else None
    file = load_model(model)
    about, warnings = metadata_of(file)
    render.show_progress()
    with render.status("compiling"):
        compiled = compile(
            file,
            devices=devices,
            numerics=numerics,
            threads=threads,
            fallback=fallback,
            pins=pins_of(pins),
            exclude=exclusions_of(exclude),
            objective=objective,
            machine=machine,
            placement=placement_file,
            costs=costs,
        )
    unused = say_unused(compiled)
    entry = entry_of(compiled, signature, about)
    if output is not None:
        check_output(output, len(entry.outputs))
    values = load_inputs(inputs, entry.inputs, flags, seed)
    labels, label_warnings = labels_for(model, entry.outputs, given_labels)
    _say(values, warnings + label_warnings)
    with render.status("running"):
        arrays, timing = timed_runs(entry, [value.array for value in values], repeat)
    found = [Output(port, array) for port, array in zip(entry.outputs, arrays, strict=True)]
    views = views_of(found, labels, top)
    _warn_of_labels(views, given_labels)
    report = _report(model, entry, values, found, views, timing, compiled, unused)
    if placement:
        report["placement"] = compiled.placement.to_json()
    if output is not None:
        render.note("wrote " + write_outputs(output, found, views, report, _rate(entry, values)))
    if settings.as_json:
        render.write_json(report)
    else:
        _show(views, timing, compiled, placement)


def _say(values: list[Given], warnings: list[str]) -> None:
    for text in warnings:
        render.warn(text)
    for value in values:
        if value.sentence:
            render.note(value.sentence)
        if "warning" in value.record:
            render.warn(str(value.record["warning"]))


def _warn_of_labels(views: list[View], labels: Labels | None) -> None:
    from delegraph.cli.views import Classes

    for view in views:
        if labels is not None and isinstance(view, Classes) and len(labels) != view.n_classes:
            render.warn(
                f"{labels.source} has labels up to class {len(labels) - 1}, output {view.output.port.name!r} has "
                f"classes up to {view.n_classes - 1}: names may be off by some lines"
            )


def _rate(entry: Entry, values: list[Given]) -> int:
    """Samples a second for a sound that is written: an input's, or what the metadata says."""
    rates = [value.record["found"]["rate"] for value in values if value.record.get("kind") == "sound"]
    rates += [port.metadata.sample_rate for port in (*entry.outputs, *entry.inputs)]
    return next((int(rate) for rate in rates if rate), DEFAULT_RATE)


def _report(
    model: str,
    entry: Entry,
    values: list[Given],
    outputs: list[Output],
    views: list[View],
    timing: Timing,
    compiled: CompiledModel,
    unused: dict[str, str],
) -> dict[str, Any]:
    """What ``--json`` writes; documented in docs/cli.md."""
    from delegraph.cli.tensors import quantization_json
    from delegraph.cli.views import Boxes, output_json

    described = [output_json(output) for output in outputs]
    report: dict[str, Any] = {
        "model": model,
        "signature": entry.signature,
        "inputs": [
            {
                "name": port.name,
                "dtype": str(port.dtype),
                "shape": list(value.array.shape),
                "quantization": quantization_json(port.quantization),
                "source": value.source,
                "preprocessing": {key: item for key, item in value.record.items() if key != "warning"},
            }
            for port, value in zip(entry.inputs, values, strict=True)
        ],
        "outputs": described,
        "timing": timing.to_json(),
        "devices": compiled.receipt().devices,
        "unused_devices": unused,
    }
    if len(views) == 1 and isinstance(views[0], Boxes):
        report["detections"] = views[0].to_json()
        views = []
    for place, view in zip(described, views, strict=False):
        place |= {"kind": view.kind, **view.to_json()}
    return report


def _show(views: list[View], timing: Timing, compiled: CompiledModel, placement: bool) -> None:
    for view in views:
        view.show()
        render.line()
    if placement:
        from delegraph.cli.placement_views import show_ops_in_short

        show_ops_in_short(compiled.placement)
        render.line()
    render.pairs([("time", timing), ("ran on", _ran_on(compiled))])


def _ran_on(compiled: CompiledModel) -> str:
    segments = compiled.receipt().devices
    devices = [f"{name} ({n} segment{'s' if n > 1 else ''})" for name, n in segments.items() if name != "core"]
    return ", ".join(devices + (["core (control flow, strings, shapes from data)"] if "core" in segments else []))
