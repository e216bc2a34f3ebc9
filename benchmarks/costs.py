"""Predicted against measured times of segments of real models, on devices of this machine.

    python -m benchmarks.costs FOLDER_OR_MODEL... [--devices cpu,opencl:0] [--measure] [--subsegments N] [--json FILE]

For each model: the largest segments that a device takes, and random runs of neighbouring ops within them. Predicted is
the launch and the sum over its ops; measured are runs in memory of the device, without copies, all segments of a
model in turns. Prints per device the median and the 90th percentile of |predicted / measured - 1|, the
bias (the median of predicted / measured), and the worst rows. With --measure again, after timing the models' own ops.
The models have no part in the calibration. Needs nothing but this machine; a few minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from delegraph import registry as devices
from delegraph import storage
from delegraph.core.abi.protocols import Device
from delegraph.core.abi.values import DelegateError, GraphView, Segment
from delegraph.core.devices.calibration import Loaded, Turns, least_time, runs_of, usual_time
from delegraph.core.devices.timing import TimingBook, predicted_segment
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Graph
from delegraph.core.model.reader import read
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op, node_of, spec_of
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.ops.prepare import prepare
from delegraph.core.runtime.plan import make_segment
from delegraph.partitioner.segments import cut_segments


@dataclass(frozen=True)
class Row:
    """One segment on one device. book: "generic" after the calibration alone, "measured" with the model's own ops.
    ops: their positions in the file, from first to last."""

    device: str
    model: str
    book: str
    ops: str
    n_ops: int
    measured_us: float
    predicted_us: float

    @property
    def error(self) -> float:
        return self.predicted_us / self.measured_us - 1


def graphs_of(path: Path) -> list[Graph]:
    """The graphs of a model; none of one that can't be read."""
    try:
        return list(prepare(build(read(path))).graphs)
    except DelegraphError:
        return []


def nodes_of(graph: Graph) -> tuple[list[Node], dict[int, TensorSpec], set[int]]:
    """Nodes, what is known of tensors, and which nodes (by op) have shapes that are known ahead of a run. Unknown
    sizes of inputs are 1."""
    specs: dict[int, TensorSpec] = {
        i: spec_of(graph.tensors[i], tuple(max(1, n) for n in graph.tensors[i].shape)) for i in graph.inputs
    }
    nodes, planned, late = [], set(), set[int]()
    for op in graph.ops:
        opdef = registry.find(op.name)
        if opdef is None:
            late.update(op.outputs)
            continue
        try:
            node = None if late.intersection(op.inputs) or opdef.host else infer_op(graph, op, opdef, specs)
            nodes.append(node or node_of(graph, op, opdef, specs))
        except DelegraphError:
            node = None
        if node is None:
            late.update(op.outputs)
        elif not all(specs[i].value is not None for i in op.outputs if i >= 0):
            planned.add(op.index)
    return nodes, specs, planned


def segments_of(device: Device, graph: Graph, n_random: int, rng: np.random.Generator) -> Iterator[Segment]:
    """The largest segments that the device takes, and random parts of them."""
    nodes, specs, planned = nodes_of(graph)
    takes = [answer.runs for answer in device.supports(GraphView(graph, tuple(nodes)))] if nodes else []
    chosen = ["device" if ok and n.op.index in planned else "" for ok, n in zip(takes, nodes, strict=True)]
    whole = [cut for cut in cut_segments(graph, nodes, chosen) if cut.device]
    whole.sort(key=lambda cut: -len(cut.nodes))
    for cut in whole[:4]:
        parts = [cut.nodes]
        for _ in range(n_random if len(cut.nodes) > 3 else 0):
            length = int(rng.integers(1, len(cut.nodes)))
            first = int(rng.integers(0, len(cut.nodes) - length + 1))
            parts.append(cut.nodes[first : first + length])
        for part in parts:
            inside = {node.op.index for node in part}
            read = {i for op in graph.ops if op.index not in inside for i in op.inputs} | set(graph.outputs)
            segment = make_segment(graph, part, specs, read)
            if segment.outputs and device.check(segment).runs:
                yield segment


def typical(turns: Turns, launch_ns: int) -> float:
    """Seconds of a run: as a rule, where it is about a launch; the least of longer ones, which something always
    disturbs on a machine that others use."""
    least = least_time(turns)
    return least if least * 1e9 > 10 * launch_ns else usual_time(turns)


def measure(
    path: Path, found: dict[str, Device], books: dict[str, TimingBook], n_random: int, rng: np.random.Generator
) -> list[tuple[str, Segment, float]]:
    """(device, segment, seconds) of a model's segments."""
    packs = storage.shared_packs()
    todo: list[tuple[str, Segment, Loaded]] = []
    for graph in graphs_of(path):
        for name, device in found.items():
            for segment in segments_of(device, graph, n_random, rng):
                try:
                    loaded = Loaded.of(device, packs, segment)
                except DelegateError as exc:
                    print(f"{path.stem}: {exc}", file=sys.stderr)
                    continue
                if loaded is not None:
                    todo.append((name, segment, loaded))
    turns = runs_of([loaded for _, _, loaded in todo], 0.005, time.perf_counter)
    return [
        (name, segment, typical(own, books[name].launch_ns))
        for (name, segment, _), own in zip(todo, turns, strict=True)
    ]


def row(model: str, device: str, book: TimingBook, name: str, segment: Segment, seconds: float) -> Row:
    nodes = segment.nodes
    ops = f"{segment.graph.index}:{nodes[0].op.index}-{nodes[-1].op.index}"
    return Row(device, model, name, ops, len(nodes), seconds * 1e6, predicted_segment(book, segment) / 1e3)


def print_rows(rows: Sequence[Row], n_worst: int) -> None:
    for name in sorted({(r.device, r.book) for r in rows}):
        these = [r for r in rows if (r.device, r.book) == name]
        errors = sorted(abs(r.error) for r in these)
        p90 = errors[min(len(errors) - 1, int(0.9 * len(errors)))]
        bias = statistics.median(r.predicted_us / r.measured_us for r in these)
        print(
            f"\n{name[0]}, {name[1]} costs: {len(these)} segments, |error| median {statistics.median(errors):.1%}, "
            f"90 % below {p90:.1%}, predicted / measured {bias:.3f} in the middle"
        )
        for r in sorted(these, key=lambda r: -abs(np.log(r.predicted_us / r.measured_us)))[:n_worst]:
            where = f"{r.model[:40]:40} {r.ops:>9} {r.n_ops:4} ops"
            print(f"  {where} {r.measured_us:10.1f} µs, predicted {r.predicted_us:10.1f} µs {r.error:+7.0%}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--devices", default="cpu,opencl:0")
    parser.add_argument("--measure", action="store_true", help="also with the models' own ops timed")
    parser.add_argument("--subsegments", type=int, default=3, help="random parts of each segment")
    parser.add_argument("--worst", type=int, default=8, help="rows to print a device")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = [f for path in options.models for f in (sorted(path.glob("*.tflite")) if path.is_dir() else [path])]
    infos = {name: devices.device(name) for name in options.devices.split(",")}
    books = {}
    for name, info in infos.items():
        start = time.perf_counter()
        books[name] = storage.measured_costs(info)
        print(f"{name}: {len(books[name].timings)} timings, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    opened = {name: devices.slot(info).opening().device for name, info in infos.items()}
    rng = np.random.default_rng(0)
    rows = []
    for path in files:
        found = measure(path, opened, books, options.subsegments, rng)
        rows += [row(path.stem, name, books[name], "generic", segment, s) for name, segment, s in found]
        if options.measure:
            for name in infos:
                views = {id(s.graph): s.graph for n, s, _ in found if n == name}
                own = books[name]
                for graph in views.values():
                    ops = {n.op.index: n for d, s, _ in found if d == name and s.graph is graph for n in s.nodes}
                    own = storage.time_ops(infos[name], GraphView(graph, tuple(ops.values())))
                rows += [row(path.stem, d, own, "measured", segment, s) for d, segment, s in found if d == name]
    print_rows(rows, options.worst)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
