"""Agreement with LiteRT, model by model: ``python -m benchmarks.agreement FOLDER_OR_MODEL ...``.

Each model runs on random inputs (the recipe of LiteRT's side is ``delegraph.testing.recipe_inputs``) here and in
LiteRT's reference kernels, in a child process. Prints for each: the worst difference of any output, whether integer
outputs are identical, the worst float difference as a share of the output's range, or why it was refused or why LiteRT
can't run it. ``--json FILE`` writes the same for a program.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import delegraph as dg
from delegraph.core.graph.graph import Array
from delegraph.core.model.extract import as_main
from delegraph.core.model.model import Model
from delegraph.core.model.writer import write
from delegraph.testing import Oracle, OracleError, recipe_inputs
from delegraph.testing.conformance import difference


@dataclass
class Row:
    """One model on one list of devices. outcome: agrees, differs, refused, or no oracle."""

    model: str
    devices: str
    outcome: str
    integers: str = "-"
    worst: float | None = None
    of_range: float | None = None
    top1: str = "-"
    seconds: float = 0.0
    reason: str = ""


def models_in(paths: Sequence[str], testdata: bool) -> Iterator[Path]:
    """The model files named, and those in the folders named (sub-folders only with ``testdata``)."""
    for name in paths:
        path = Path(name)
        if path.is_dir():
            folder = path / "testdata" if testdata else path
            pattern = "**/*" if testdata else "*"
            yield from sorted(
                p for p in folder.glob(pattern) if p.suffix in (".tflite", ".bin", ".lite") and p.is_file()
            )
        else:
            yield path


def entry_points(path: Path) -> list[tuple[str, Model | Path]]:
    """(suffix for the name, model) of the main graph and of each signature that has a graph of its own."""
    points: list[tuple[str, Model | Path]] = [("", path)]
    try:
        model = dg.load(path)
    except dg.DelegraphError:
        return points
    graphs = {s.subgraph_index: s.signature_key for s in model.signatures if s.subgraph_index != 0}
    points += [(f"#{key}", as_main(model, index)) for index, key in sorted(graphs.items())]
    return points


def compare(model: Model | Path, name: str, devices: str, oracle: Oracle, runs: int) -> Row:
    """One model, on inputs of ``runs`` seeds in a row (state carries over on both sides)."""
    source = write(model) if isinstance(model, Model) else model
    row = Row(name, devices, "agrees")
    start = time.perf_counter()
    try:
        compiled = dg.compile(source, devices=devices.split(","))
        refused = ""
    except dg.DelegraphError as exc:
        compiled, refused = None, str(exc)
    try:
        details = oracle.describe(source)
        inputs = [recipe_inputs(details.inputs, seed) for seed in range(runs)]
        expected = [result.outputs for result in oracle.run_sequence(source, inputs)]
    except OracleError as exc:
        row.outcome = "refused" if refused else "no oracle"
        ours = refused or "runs it"
        row.reason = " ".join(f"LiteRT: {exc}; delegraph: {ours}".split())
        return row
    if compiled is None:
        row.outcome, row.reason = "refused", refused
        return row
    try:
        session = compiled.session()
        outputs = compiled.graphs.main.outputs
        found = []
        for given in inputs:
            values = session.run(0, given, resized=True)
            found.append([values[i] for i in outputs])
    except dg.DelegraphError as exc:
        row.outcome, row.reason = "differs", f"failed in the run: {exc}"
        return row
    row.seconds = time.perf_counter() - start
    for outputs_here, outputs_there in zip(found, expected, strict=True):
        _judge(row, outputs_there, outputs_here)
    return row


def _judge(row: Row, expected: Sequence[Array], found: Sequence[Array]) -> None:
    for i, (y, z) in enumerate(zip(expected, found, strict=True)):
        if y.shape != z.shape or y.dtype != z.dtype:
            row.outcome = "differs"
            row.reason = f"output {i}: {y.dtype}{list(y.shape)} expected, found {z.dtype}{list(z.shape)}"
            return
        if not y.size:
            continue
        worst = float(difference(y, z).max())
        row.worst = max(row.worst or 0.0, worst)
        if y.dtype.kind == "f":
            finite = y[np.isfinite(y)]
            spread = float(finite.max() - finite.min()) if finite.size else 0.0
            scale = spread if spread > 0 else max(float(np.abs(finite).max()) if finite.size else 0.0, 1e-30)
            row.of_range = max(row.of_range or 0.0, worst / scale)
            if row.of_range > 1e-4:
                row.outcome = "differs"
            if y.shape[-1:] != (1,) and y.ndim and row.top1 != "no":
                row.top1 = "yes" if int(y.argmax()) == int(z.argmax()) else "no"
        else:
            same = worst == 0.0
            row.integers = "no" if row.integers == "no" or not same else "yes"
            if not same:
                row.outcome = "differs"


def _line(row: Row) -> str:
    worst = "-" if row.worst is None else f"{row.worst:.3g}"
    share = "-" if row.of_range is None else f"{row.of_range:.2g}"
    return (
        f"{row.model:58} {row.outcome:10} {row.integers:8} {worst:>9} {share:>9} {row.top1:5} "
        f"{row.seconds:6.2f}  {row.reason}"
    )


def main() -> int:
    """Exit code 1 if any model differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="models, or folders of models")
    parser.add_argument("--devices", default="reference", help="comma list, as for delegraph run")
    parser.add_argument("--testdata", action="store_true", help="the folder's testdata/ in place of its models")
    parser.add_argument("--runs", type=int, default=2, help="inputs in a row per model")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    args = parser.parse_args()
    rows = []
    print(f"{'model':58} {'outcome':10} {'integers':8} {'worst':>9} {'of range':>9} {'top-1':5} {'s':>6}  reason")
    start = time.perf_counter()
    with Oracle() as oracle:
        for path in models_in(args.paths, args.testdata):
            name = "/".join(path.parts[-2:]) if args.testdata else path.name
            for suffix, model in entry_points(path):
                rows.append(compare(model, name + suffix, args.devices, oracle, args.runs))
                print(_line(rows[-1]), flush=True)
    counts = {kind: sum(r.outcome == kind for r in rows) for kind in ("agrees", "differs", "refused", "no oracle")}
    print(", ".join(f"{n} {kind}" for kind, n in counts.items()), f"in {time.perf_counter() - start:.0f} s")
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return int(counts["differs"] > 0)


if __name__ == "__main__":
    sys.exit(main())
