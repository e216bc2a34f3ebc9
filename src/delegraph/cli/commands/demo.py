"""``delegraph demo``: a small model reads real handwritten digits; shows the answers, and what ran where."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from delegraph.cli import render
from delegraph.cli.options import Whole, compile_options
from delegraph.cli.settings import Settings, common_options

if TYPE_CHECKING:
    from delegraph.cli.entry import Timing
    from delegraph.compiled import CompiledModel
    from delegraph.core.graph.graph import Array

ROUNDS = 5
"""How often each image is run for the time, if that takes no longer than TIMED_S."""
TIMED_S = 0.5
MOST = 20
"""How many images there are."""
_WIDTH = 80


@click.command(short_help="See it work, on handwritten digits.")
@click.option(
    "--model",
    "name",
    type=click.Choice(["int8", "float"]),
    default="int8",
    show_default=True,
    help="The network in 8-bit integers, or in 32-bit floats.",
)
@click.option("--count", type=Whole(1, MOST), default=12, show_default=True, help="How many images to show.")
@compile_options
@common_options
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    count: int,
    devices: list[str] | None,
    numerics: str,
    threads: int | None,
    fallback: str,
) -> None:
    """Read handwritten digits with a small model that comes along.

    The images are real, and the model was not trained with them. Shows each image with the answer, how many are right,
    which device ran each op and why, and the time.
    """
    import delegraph as dg
    from delegraph import demo
    from delegraph.cli.entry import say_unused

    path = demo.model_path(name)
    settings.model = str(path)
    with render.status("compiling"):
        model = dg.compile(path, devices=devices or "cpu", numerics=numerics, threads=threads, fallback=fallback)
    say_unused(model)
    pictures, labels = (array[:count] for array in demo.images())
    x = demo.model_input(model, pictures)
    with render.status("running"):
        outputs, timing = _run(model, x)
    scores = demo.scores(model, outputs)
    rows = [
        {
            "label": int(label),
            "answer": int(row.argmax()),
            "confidence": float(row.max()),
            "right": bool(row.argmax() == label),
        }
        for label, row in zip(labels, scores, strict=True)
    ]
    if settings.as_json:
        render.write_json(_report(name, str(path), rows, timing, model))
    else:
        _show(name, path.stat().st_size, rows, pictures / demo.BRIGHTEST, timing, model)


def _run(model: CompiledModel, x: Array) -> tuple[Array, Timing]:
    """The outputs of all images, and the times of single ones; the first is a warm-up's."""
    import numpy as np

    from delegraph.cli.entry import Timing

    images = [x[i : i + 1] for i in range(len(x))]
    seconds = [_timed(model, images[0])[1]]
    outputs: list[Array] = []
    started = time.perf_counter()
    for round_ in range(ROUNDS):
        if round_ and time.perf_counter() - started > TIMED_S:
            break
        found = [_timed(model, image) for image in images]
        outputs = [output for output, _ in found]
        seconds += [taken for _, taken in found]
    return np.concatenate(outputs), Timing(tuple(seconds))


def _timed(model: CompiledModel, image: Array) -> tuple[Array, float]:
    start = time.perf_counter()
    output: Array = model(image)
    return output, time.perf_counter() - start


def _report(name: str, path: str, rows: list[dict[str, Any]], timing: Timing, model: CompiledModel) -> dict[str, Any]:
    """What ``--json`` writes."""
    return {
        "model": name,
        "path": path,
        "count": len(rows),
        "right": sum(row["right"] for row in rows),
        "images": rows,
        "timing": timing.to_json(),
        "devices": model.receipt().devices,
        "placement": model.placement.to_json(),
    }


def _show(
    name: str,
    size_bytes: int,
    rows: list[dict[str, Any]],
    pixels: Array,
    timing: Timing,
    model: CompiledModel,
) -> None:
    from delegraph.cli import thumbnails

    form = {"int8": "8-bit integers", "float": "32-bit floats"}[name]
    render.heading(f"handwritten digits, read by a model of {render.size(size_bytes)} in {form}")
    render.line()
    thumbnails.show(
        [
            thumbnails.Thumbnail(image, _caption(row), "bold green" if row["right"] else "bold red")
            for image, row in zip(pixels, rows, strict=True)
        ]
    )
    n_right = sum(row["right"] for row in rows)
    render.heading(f"{n_right} of {len(rows)} right; the model was not trained with these images")
    render.line()
    _show_placement(model)
    render.line()
    ms = timing.to_json()
    render.heading(f"time per image: {ms['median_ms']:.2f} ms")
    render.line(
        f"  median of {len(timing.later)} runs of one image, from {ms['min_ms']:.2f} to {ms['max_ms']:.2f} ms, "
        "after a first one"
    )
    render.line()
    render.heading("next")
    render.line("  delegraph run MODEL --input PICTURE   a model and a picture of yours")
    render.line("  delegraph devices                     what this machine can run models on")


def _caption(row: dict[str, Any]) -> tuple[str, str]:
    confidence = ">99.9%" if row["confidence"] > 0.9995 else f"{row['confidence']:.1%}"
    return f"{row['answer']}  {confidence}", "right" if row["right"] else f"wrong, is {row['label']}"


def _show_placement(model: CompiledModel) -> None:
    """Each op with its device and why, then why other devices were passed over: each reason once."""
    placed = model.placement.rows
    devices = ", ".join(dict.fromkeys(row.device for row in placed))
    render.heading(f"{len(placed)} ops ran on {devices}")
    head = ("op", "device")
    cells = [head, *((row.name, row.device) for row in placed)]
    op_width, device_width = (max(len(cell[i]) for cell in cells) for i in range(2))
    above = ""
    for (op, device), why in zip(cells, ["why", *(row.reason for row in placed)], strict=True):
        _hanging(f"  {op:{op_width}}  {device:{device_width}}  ", "same" if why == above else why)
        above = why
    passed: dict[tuple[str, str], list[str]] = {}
    for row in placed:
        for device, why in row.refusals.items():
            passed.setdefault((device, why), []).append(row.name)
    for (device, why), names in passed.items():
        ops = "" if len(names) == len(placed) else f" for {', '.join(dict.fromkeys(names))}"
        _hanging(f"  not {device}{ops}: ", why)


def _hanging(start: str, text: str) -> None:
    """One paragraph within the width; further lines begin below the text, or a little in after a long start."""
    import textwrap

    indent = len(start) if len(start) <= _WIDTH // 2 else 4
    wrapped = textwrap.wrap(render.plain(text), _WIDTH, initial_indent=start, subsequent_indent=" " * indent)
    for line in wrapped or [start.rstrip()]:
        render.line(line)
