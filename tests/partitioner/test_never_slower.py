"""What each split of a real model promises: not predicted slower than the CPU alone, and sums that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.devices.locate import load
from delegraph.core.graph.build import build
from delegraph.core.graph.calls import called_graphs
from delegraph.core.graph.graph import GraphSet
from delegraph.core.model.reader import read
from delegraph.core.ops.prepare import prepare
from delegraph.core.ops.support import check_ops
from delegraph.explanation import _stages
from delegraph.partitioner.placement import Placement
from delegraph.placer import Placer
from delegraph.record import placement_of
from delegraph.request import HOST, Wishes, resolved

MODELS = sorted(path.stem for path in (shared_path() / "models" / "real").glob("*.tflite"))
MACHINES = [machine for machine in load().machines if machine != HOST]


def model_path(name: str) -> Path:
    return shared_path() / "models" / "real" / f"{name}.tflite"


def prepared(name: str) -> GraphSet:
    """The graphs of a real model. Raises UnsupportedOp for one with an op that nothing here runs."""
    graphs = prepare(build(read(model_path(name))))
    check_ops(graphs)
    return graphs


def split(graphs: GraphSet, wishes: Wishes) -> Placement:
    """As ``dg.explain``, but for what would change the placement, which takes most of its time."""
    request = resolved(wishes, graphs)
    placer = Placer(request, weighs_all=True)
    stages, *_ = _stages(graphs, placer)
    return placement_of(
        graphs,
        stages,
        machine=request.machine,
        objective=request.objective,
        devices=placer.devices,
        unavailable=request.unavailable,
        measured={},
    )


def broken_promises(placement: Placement, calls: Mapping[int, bool], *, has_cpu: bool = True) -> list[str]:
    """What a placement breaks of what every placement promises. calls: graph → whether it calls others, whose time is
    then in its prediction. has_cpu: whether the CPU was named."""
    found = []
    sums: Counter[int] = Counter()
    for segment in placement.segments:
        if segment.predicted is None:
            found.append(f"graph {segment.graph}: a segment on {segment.device} has no prediction")
        else:
            sums[segment.graph] += segment.predicted.total_ns
    for p in placement.predictions:
        where = f"graph {p.graph}: {p.total_ns}"
        if has_cpu and (p.cpu_alone_ns is None or p.total_ns > p.cpu_alone_ns):
            found.append(f"{where} is more than {p.cpu_alone_ns} of the cpu alone")
        if p.bound_ns is not None and p.bound_ns > p.total_ns:
            found.append(f"{where} is below the bound {p.bound_ns}")
        has_times = placement.objective == "latency"  # energy is the same side by side
        if (p.concurrent_ns is not None) != has_times or (p.concurrent_ns or 0) > p.total_ns:
            found.append(f"{where} one after the other, {p.concurrent_ns} side by side")
        if not calls.get(p.graph) and sums[p.graph] != p.total_ns:
            found.append(f"{where}, its segments {sums[p.graph]}")
    return found


def calls_of(graphs: GraphSet) -> dict[int, bool]:
    """Graph → whether any of its ops calls another one."""
    return {graph.index: any(called_graphs(op) for op in graph.ops) for graph in graphs.graphs}


def check(
    name: str, machine: str, numerics: str, objective: str = "latency", devices: Sequence[str] | None = None
) -> None:
    graphs = prepared(name)
    placement = split(graphs, Wishes(devices, machine=machine, numerics=numerics, objective=objective))
    found = broken_promises(placement, calls_of(graphs), has_cpu=devices is None)
    assert found == [], f"{name} on {machine}, numerics {numerics}"


@pytest.mark.slow
@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("name", MODELS)
def test_no_split_is_predicted_slower_than_the_cpu_alone(name: str, numerics: str) -> None:
    require("shared")
    pytest.importorskip("llvmlite")
    for machine in MACHINES:
        try:
            check(name, machine, numerics)
        except dg.UnsupportedOp as exc:
            pytest.skip(str(exc))


@pytest.mark.parametrize("machine", MACHINES)
def test_a_graph_whose_ops_the_cpu_leaves_to_the_reference_device(machine: str) -> None:
    """Ops that the CPU can't run go to a device that was named only where that takes less time in all."""
    require("shared")
    pytest.importorskip("llvmlite")
    check("gesture_embedder", machine, "fast")


@pytest.mark.parametrize("machine", ["coral-usb", "coral-dev-board"])
@pytest.mark.parametrize("name", ["micro_speech_quantized", "mobilenet_v1_0.25_128_quant"])
def test_no_split_is_predicted_to_need_more_energy_than_the_cpu_alone(name: str, machine: str) -> None:
    require("shared")
    pytest.importorskip("llvmlite")
    check(name, machine, "fast", "energy")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["microwakeword_okay_nabu", "mobilenet_v1_0.25_128_quant"])
def test_sums_add_up_where_the_cpu_is_only_under_the_others(name: str, machine: str) -> None:
    require("shared")
    pytest.importorskip("llvmlite")
    devices = [f"{p.family}:{p.id}" for p in load().profiles.values() if p.machine == machine]
    check(name, machine, "fast", devices=devices)


@pytest.mark.parametrize("name", ["gesture_embedder", "mobilenet_v1_0.25_128_quant", "sdpa_composite"])
def test_compile_splits_as_explain_says(name: str) -> None:
    require("shared")
    pytest.importorskip("llvmlite")
    for device in ("nnapi:phone-gpu", "nnapi:ethos-u65-256"):
        compiled = dg.compile(model_path(name), devices=[device, "cpu"], numerics="fast")
        told = dg.explain(model_path(name), devices=[device, "cpu"], numerics="fast").placement
        rows = {(row.graph, row.op): row.device for row in told.rows}
        assert {(row.graph, row.op): row.device for row in compiled.placement.rows if row.graph == 0}.items() <= (
            rows.items()
        )
