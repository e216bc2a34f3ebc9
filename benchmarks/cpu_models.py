"""Whole models on the CPU delegate against LiteRT's default resolver, one thread each, interleaved in one process.

    python -m benchmarks.cpu_models [--json FILE] [--rounds N] [MODEL.tflite ...]

Prints per model: our time, LiteRT's, and the median of the paired ratios (below 1: we are faster) with a 95 % bootstrap
interval. A round runs each once per turn, alternating who goes first, so that a machine that slows down slows both.
Without models, those of the shared folder, and with DELEGRAPH_PERF_MODELS also those that materialise.py wrote there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delegraph.core.abi.values import GraphView, Segment
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.model.reader import read
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op, spec_of
from delegraph.core.ops.opdef import TensorSpec
from delegraph.core.ops.prepare import prepare
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.plan import make_segment
from delegraph.delegates.cpu import CpuDelegate

MODELS = (
    "mobilenet_v1_0.25_224_float",
    "mobilenet_v2_1.0_224_quant",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_edgetpu_0.75_224_ptq",
    "mlperf_vww_96_int8",
)


@dataclass(frozen=True)
class Row:
    """One model's figures. ratio: ours over LiteRT's, the median of pairs, with its interval."""

    model: str
    ours_ms: float
    litert_ms: float
    ratio: float
    low: float
    high: float
    compile_s: float
    load_ms: float


def main_segment(path: Path) -> Segment:
    """The whole main graph as one segment, batches of unknown size as the file has them."""
    graph = prepare(build(read(path))).main
    specs: dict[int, TensorSpec] = {
        i: spec_of(graph.tensors[i], tuple(max(1, n) for n in graph.tensors[i].shape)) for i in graph.inputs
    }
    nodes = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        node = None if opdef is None else infer_op(graph, op, opdef, specs)
        if node is None:
            raise SystemExit(f"{path.name}: {op.name} can't be planned ahead")
        nodes.append(node)
    return make_segment(graph, nodes, specs, frozenset(graph.outputs))


def ours(path: Path, isa: str | None) -> tuple[Callable[[], None], list[Array], float, float]:
    """A call that runs the model, its inputs, and the seconds to compile and to load."""
    device = CpuDelegate().open("cpu", {} if isa is None else {"isa": isa})
    segment, packs = main_segment(path), PackStore(None)
    refused = [s.reason for s in device.supports(GraphView(segment.graph, segment.nodes)) if not s.runs]
    if refused:
        raise SystemExit(f"{path.name}: {refused[0]}")
    start = time.perf_counter()
    artifact = device.compile(segment, packs, {})
    compiled = time.perf_counter()
    program = device.load(artifact, segment, packs)
    loaded = time.perf_counter()
    context = program.context(device.allocate(program.scratch_bytes, program.alignment))
    rng = np.random.default_rng(0)
    inputs = [_data(rng, segment.specs[i]) for i in segment.inputs]
    outputs = [np.empty(segment.specs[i].shape, segment.specs[i].dtype.numpy) for i in segment.outputs]
    context.bind([device.import_host(a) for a in inputs], [device.import_host(a) for a in outputs])
    return lambda: context.run().wait(), inputs, compiled - start, loaded - compiled


def _data(rng: np.random.Generator, spec: TensorSpec) -> Array:
    if spec.dtype is DType.FLOAT32:
        return rng.uniform(-1, 1, spec.shape).astype(np.float32)
    info = np.iinfo(spec.dtype.numpy)
    return rng.integers(info.min, info.max, spec.shape, spec.dtype.numpy, endpoint=True)


def litert(path: Path, inputs: Sequence[Array]) -> Callable[[], None]:
    """A call that runs the model in LiteRT with its default resolver on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        if tuple(detail["shape"]) != value.shape:
            interpreter.resize_tensor_input(detail["index"], value.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(detail["index"], value)
    invoke: Callable[[], None] = interpreter.invoke
    return invoke


def compare(path: Path, rounds: int, isa: str | None) -> Row:
    """The figures of one model."""
    run, inputs, compile_s, load_s = ours(path, isa)
    other = litert(path, inputs)
    calls = (run, other)
    for call in calls:
        for _ in range(3):
            call()
    times = np.empty((rounds, 2))
    for i in range(rounds):
        for k in ((0, 1), (1, 0))[i % 2]:
            start = time.perf_counter()
            calls[k]()
            times[i, k] = time.perf_counter() - start
    ratios = times[:, 0] / times[:, 1]
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (2000, rounds)), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    ms = np.median(times, axis=0) * 1e3
    return Row(
        path.stem,
        float(ms[0]),
        float(ms[1]),
        float(np.median(ratios)),
        float(low),
        float(high),
        compile_s,
        load_s * 1e3,
    )


def default_models() -> list[Path]:
    """The models to compare where none are named."""
    shared = Path(os.environ.get("DELEGRAPH_SHARED", Path(__file__).parents[2] / "shared"))
    found = [shared / "models" / "real" / f"{name}.tflite" for name in MODELS]
    if "DELEGRAPH_PERF_MODELS" in os.environ:
        found += sorted(Path(os.environ["DELEGRAPH_PERF_MODELS"]).glob("mobilenet_v2_224.*.tflite"))
    return [path for path in found if path.is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--isa", help="a target to use instead of the machine's best")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    device = CpuDelegate().open("cpu", {} if options.isa is None else {"isa": options.isa})
    print(f"{platform.node()}: {device.target.name}, one thread, {options.rounds} rounds")
    print(f"{'model':34} {'ours ms':>8} {'LiteRT ms':>9} {'ratio':>6} {'95 %':>13} {'compile s':>9} {'load ms':>8}")
    rows = []
    for path in options.models or default_models():
        row = compare(path, options.rounds, options.isa)
        rows.append(row)
        interval = f"{row.low:.2f}..{row.high:.2f}"
        print(
            f"{row.model:34} {row.ours_ms:8.3f} {row.litert_ms:9.3f} {row.ratio:6.2f} {interval:>13}"
            f" {row.compile_s:9.2f} {row.load_ms:8.2f}"
        )
    if options.json is not None:
        result: dict[str, Any] = {
            "isa": device.target.name,
            "rounds": options.rounds,
            "rows": [asdict(r) for r in rows],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
