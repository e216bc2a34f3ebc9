"""``dg.explain`` on real models and emulated machines: what it says is complete, adds up, replays and comes true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.test_runner import branch, loop
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core import devices
from delegraph.core.abi.values import Support, Verdict
from delegraph.core.devices.rules.rule import RULES, OnlyTrue
from delegraph.core.graph.graph import Array
from delegraph.core.model.reader import read
from delegraph.explanation import Explanation, Lever
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts
from delegraph.partitioner.placement import CORE, FOLDED, OpPlacement, Placement
from delegraph.testing import Oracle

ROOT = Path(__file__).parents[1]
REAL = shared_path() / "models" / "real"
DEEPLAB = "deeplabv3_mnv2_dm05_pascal_quant"
CORAL = "nnapi:coral-dev-board"

CASES = [
    (DEEPLAB, "coral-dev-board", "exact"),
    (DEEPLAB, "coral-dev-board", "fast"),
    ("mobilenet_v1_0.25_128_quant", "coral-usb", "fast"),
    ("mlperf_kws_int8", "pixel-3", "fast"),
    ("mlperf_resnet8_int8", "ethos-u65-board", "exact"),
    ("ssd_mobilenet_v3_int8", "coral-usb", "fast"),
    ("face_landmark", "pixel-4", "fast"),
    ("mobilenet_v1_0.25_224_float", "pixel-4", "fast"),
    ("mlperf_ad01_int8", "ethos-u55-board", "exact"),
    ("dtln_1_while", "pixel-4", "fast"),  # a loop, and shapes that depend on data
    ("movenet_single_pose_lightning_ptq", "coral-usb", "fast"),
    ("torchaudio_conformer", "ethos-u65-board", "exact"),
]
"""Models, machines and numerics: 8-bit and float, with calls, float16 constants and unknown shapes."""

each = pytest.mark.parametrize(("name", "machine", "numerics"), CASES)


@pytest.fixture(autouse=True)
def _shared() -> None:
    require("shared")


@cache
def explanation(name: str, machine: str, numerics: str = "exact") -> Explanation:
    return dg.explain(REAL / f"{name}.tflite", machine=machine, numerics=numerics)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def text_of(placement: Placement) -> str:
    return json.dumps(placement.to_json(), indent=1)


# --- the documents


@each
def test_documents_read_back_and_keep_to_their_schemas(name: str, machine: str, numerics: str) -> None:
    import jsonschema

    found = explanation(name, machine, numerics)
    placement, costs = through_json(found.to_json()), through_json(found.costs.to_json())
    assert Placement.from_json(placement) == found.placement
    assert CostTable.from_json(costs) == found.costs
    for document, schema in ((placement, "placement"), (costs, "costs")):
        rules = json.loads((ROOT / "docs" / f"{schema}.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(rules)
        jsonschema.Draft202012Validator(rules).validate(document)


@each
def test_costs_replay(name: str, machine: str, numerics: str) -> None:
    """Without a device being asked: names of devices that do not exist give the same placement."""
    found = explanation(name, machine, numerics)
    again = dg.explain(REAL / f"{name}.tflite", costs=through_json(found.costs.to_json()), numerics=numerics)
    assert text_of(again.placement) == text_of(found.placement)
    elsewhere = json.loads(json.dumps(found.costs.to_json()).replace("nnapi:", "gone:"))
    gone = dg.explain(REAL / f"{name}.tflite", costs=elsewhere, numerics=numerics)
    assert text_of(gone.placement).replace("gone:", "nnapi:") == text_of(found.placement)


@pytest.mark.parametrize("name", [DEEPLAB, "mobilenet_v1_0.25_128_quant"])
def test_costs_of_several_machines_replay_by_the_order(name: str) -> None:
    """Without a figure, for there is none that could be compared; for the same reason."""
    path = REAL / f"{name}.tflite"
    found = dg.explain(path, devices=[CORAL, "nnapi:coral-usb", "cpu"], numerics="fast")
    assert any("of several machines (coral-dev-board, coral-usb)" in note for note in found.placement.notes)
    assert found.costs.ops and not any(row.costs for row in found.costs.ops)
    again = dg.explain(path, costs=through_json(found.costs.to_json()), numerics="fast")
    assert text_of(again.placement) == text_of(found.placement)


LIMITED = [DEEPLAB, "mobilenet_v2_1.0_224_quant", "movenet_single_pose_lightning_ptq", "ssd_mobilenet_v3_int8"]


@pytest.mark.parametrize("name", LIMITED)
@pytest.mark.parametrize("devices", [["nnapi:coral-usb"], ["nnapi:coral-usb", "cpu"]])
def test_what_a_limit_decided_is_elsewhere_without_limits(name: str, devices: list[str]) -> None:
    found = dg.explain(REAL / f"{name}.tflite", devices=devices, numerics="fast")
    costs = through_json(found.costs.to_json())
    for device in costs["devices"]:
        device["limits"] = {"max_segments": None, "prefix_only": False, "weight_budget_bytes": None, "min_ops": 1}
    free = dg.explain(REAL / f"{name}.tflite", costs=costs, numerics="fast")
    rows = zip(found.placement.rows, free.placement.rows, strict=True)
    limited = [(before, after) for before, after in rows if before.decided_by == "limit"]
    assert all(before.device != after.device for before, after in limited)
    assert bool(limited) == (name in LIMITED[2:])


def test_costs_say_who_answers_for_segments() -> None:
    """An emulated device does where its cache has no room for all constants."""
    for machine, able in (("pixel-3", {}), ("coral-dev-board", {CORAL: 7_000_000})):
        found = explanation("mlperf_kws_int8", machine, "fast").costs.to_json()
        rooms = {d["id"]: d.get("weight_cache_bytes") for d in found["devices"] if d["estimates_segments"]}
        assert rooms == able


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["coral-dev-board", "ethos-u65-board", "pixel-3", "pixel-4"])
@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_every_model_is_explained_alike_from_its_costs(machine: str, numerics: str) -> None:
    explained = 0
    for path in sorted(REAL.glob("*.tflite")):
        try:
            found = dg.explain(path, machine=machine, numerics=numerics)
        except dg.UnsupportedOp:
            continue
        explained += 1
        assert Placement.from_json(through_json(found.placement.to_json())) == found.placement, path
        again = dg.explain(path, costs=through_json(found.costs.to_json()), numerics=numerics)
        assert text_of(again.placement) == text_of(found.placement), path
        for row in found.placement.rows:
            for candidate in row.candidates:
                is_kernel = candidate.answer.constraint.startswith("cpu.")
                is_said = candidate.change or candidate.obstacle or is_kernel
                assert candidate.device == row.device or is_said, (path, row.op, candidate)
    assert explained > 35


_CHILD = """
import json, sys
import delegraph as dg
model, numerics, source, target = sys.argv[1:]
value = {"costs": source} if source.endswith(".json") else {"machine": source}
found = dg.explain(model, numerics=numerics, **value)
open(target, "w").write(json.dumps(found.placement.to_json()))
open(target + ".costs.json", "w").write(json.dumps(found.costs.to_json()))
"""


def _in_child(name: str, source: str, target: Path, **environment: str) -> tuple[str, str]:
    arguments = [sys.executable, "-c", _CHILD, str(REAL / f"{name}.tflite"), "fast", source, str(target)]
    subprocess.run(arguments, env=os.environ | environment, check=True)
    return target.read_text(), Path(f"{target}.costs.json").read_text()


@pytest.mark.parametrize(("name", "machine"), [(DEEPLAB, "my-board"), ("mlperf_kws_int8", "pixel-3")])
def test_the_same_input_gives_the_same_bytes_in_every_process(tmp_path: Path, name: str, machine: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nmachines:\n  my-board: {inherit: coral-dev-board, description: mine}\n"
        "profiles:\n  my-coral: {inherit: coral-dev-board, machine: my-board}\n"
    )
    one = _in_child(name, machine, tmp_path / "one", PYTHONHASHSEED="1", DELEGRAPH_DEVICES_FILE=str(mine))
    two = _in_child(name, machine, tmp_path / "two", PYTHONHASHSEED="77", DELEGRAPH_DEVICES_FILE=str(mine))
    assert one == two
    nothing = tmp_path / "nothing.yaml"  # machine and profile of the costs are not there
    nothing.write_text("version: 1\n")
    costs = tmp_path / "one.costs.json"
    again = _in_child(name, str(costs), tmp_path / "three", PYTHONHASHSEED="5", DELEGRAPH_DEVICES_FILE=str(nothing))
    assert again == one
    assert f'"machine": "{machine}"' in again[0]


# --- complete


@each
def test_every_op_of_the_file_has_one_row_with_a_reason(name: str, machine: str, numerics: str) -> None:
    found = explanation(name, machine, numerics)
    model = read(REAL / f"{name}.tflite")
    late = sum(int(text.split()[0]) for text in found.placement.notes if "wait for shapes" in text)
    placed = {row.graph for row in found.placement.rows}
    in_file = sum(len(model.root.subgraphs[g].operators) for g in placed)
    keys = [(row.graph, row.op) for row in found.placement.rows]
    assert len(set(keys)) == len(keys)
    assert in_file - late <= len(keys) <= in_file  # a folded op may be known before a late one
    assert all(row.reason for row in found.placement.rows)


def test_what_waits_for_a_shape_is_not_called_folded() -> None:
    found = explanation("dtln_1_while", "pixel-4", "fast").placement
    assert any(note.startswith("2 ops of graph 3 wait for shapes") for note in found.notes)
    placed = {row.op for row in found.rows if row.graph == 3}
    in_file = read(REAL / "dtln_1_while.tflite").root.subgraphs[3].operators
    assert len(placed) == len(in_file) - 2
    assert FOLDED not in {row.device for row in found.rows if row.name == "CONCATENATION"}


@each
def test_every_refusal_names_its_rule_and_reason(name: str, machine: str, numerics: str) -> None:
    for row in explanation(name, machine, numerics).placement.rows:
        for candidate in row.candidates:
            answer = candidate.answer
            if not answer.runs:
                assert answer.constraint and answer.reason, (row.op, candidate)
                rule = RULES.get(answer.constraint.rpartition(".")[2])
                if answer.constraint == "op_set":
                    assert answer.value == row.name and answer.limit
                elif rule is not None and candidate.device.startswith("nnapi:"):
                    assert answer.value and (answer.limit or isinstance(rule.takes, OnlyTrue)), answer


@each
def test_what_did_not_get_an_op_says_what_would_change_that(name: str, machine: str, numerics: str) -> None:
    """But for missing kernels of the CPU, which no user can change."""
    for row in explanation(name, machine, numerics).placement.rows:
        for candidate in row.candidates:
            is_said = candidate.change or candidate.obstacle
            if candidate.device == row.device:
                assert candidate.answer.runs and not is_said
            else:
                assert is_said or candidate.answer.constraint.startswith("cpu."), (row.op, candidate)


EXACT = [(name, machine) for name, machine, numerics in CASES if numerics == "exact"]


@pytest.mark.parametrize(
    ("name", "machine"), [*EXACT, ("movenet_single_pose_lightning_ptq", "coral-usb"), ("face_landmark", "pixel-4")]
)
def test_other_rounding_is_called_a_change_only_where_it_moves_the_op(name: str, machine: str) -> None:
    exact, fast = explanation(name, machine).placement, explanation(name, machine, "fast").placement
    after = {(row.graph, row.op): row.device for row in fast.rows}
    moved = 0
    for row in exact.rows:
        for candidate in row.candidates:
            if candidate.obstacle.startswith("allow other rounding"):
                moves = after[row.graph, row.op] == candidate.device
                assert bool(candidate.change) == moves and ("even then" in candidate.obstacle) == (not moves)
                moved += moves
    assert moved == sum(row.device == after[row.graph, row.op] != before for row, before in _moved(exact, fast))


def _moved(before: Placement, after: Placement) -> list[tuple[Any, str]]:
    """The rows of ``after`` on devices that round otherwise, and where their ops were."""
    pairs = zip(before.rows, after.rows, strict=True)
    return [(new, old.device) for old, new in pairs if new.deviation and old.device != new.device]


# --- adding up


@each
def test_predictions_add_up(name: str, machine: str, numerics: str) -> None:
    found = explanation(name, machine, numerics)
    rows = {(row.graph, row.op): row for row in found.placement.rows}
    inside = [(segment.graph, op) for segment in found.placement.segments for op in segment.ops]
    assert len(set(inside)) == len(inside)
    assert set(inside) == {key for key, row in rows.items() if row.device not in (CORE, FOLDED)}
    for segment in found.placement.segments:
        placed = [rows[segment.graph, op] for op in segment.ops]
        assert {row.device for row in placed} == {segment.device}
        assert segment.predicted is not None
        known = sum(row.cost.time_ns for row in placed if row.cost is not None)
        estimates = {(e.graph, e.device, e.ops): e.time_ns for e in found.costs.segments}
        assert segment.predicted.ops_ns == estimates.get((segment.graph, segment.device, segment.ops), known)
    calls = {row.graph for row in rows.values() if row.device == CORE and row.name in ("WHILE", "IF", "CALL_ONCE")}
    for p in found.placement.predictions:
        own = [s.predicted.total_ns for s in found.placement.segments if s.graph == p.graph and s.predicted is not None]
        assert p.total_ns == sum(own) or p.graph in calls
        assert p.bound_ns is None or p.bound_ns <= p.total_ns
        assert p.cpu_alone_ns is None or p.total_ns <= p.cpu_alone_ns
        assert p.concurrent_ns is None or p.concurrent_ns <= p.total_ns


def test_the_cpu_alone_is_the_sum_of_its_rooflines() -> None:
    """MobileNet on the figures of the board's CPU, worked out here: computing or memory, whichever takes longer."""
    found = explanation("mobilenet_v1_0.25_128_quant", "coral-usb", "fast")
    (prediction,) = found.placement.predictions
    on_cpu = [row.costs["cpu"].time_ns for row in found.costs.ops]
    assert prediction.cpu_alone_ns == sum(on_cpu)
    cpu = devices.load().machines["coral-usb"].cpu
    assert cpu is not None
    # op 0: 3x3x3 -> 8 channels at 64x64 of uint8, with its bias
    macs = 64 * 64 * 8 * 27
    moved = 128 * 128 * 3 + 8 * 27 + 4 * 8 + 64 * 64 * 8
    rate = min(speed for dtype, speed in cpu.ops_per_s.items() if str(dtype) == "uint8")
    least = max(2 * macs / rate, moved / cpu.memory_bytes_per_s) * 1e9
    assert least <= on_cpu[0] <= 1.1 * least  # the bias and the activation are work, too


def test_deeplab_on_the_coral_board_with_fast_numerics() -> None:
    """The Edge TPU takes one piece that starts at the input; the last resize costs less than to fetch its result."""
    found = explanation(DEEPLAB, "coral-dev-board", "fast").placement
    assert [(s.device, s.ops[0], s.ops[-1]) for s in found.segments] == [
        (CORAL, 0, 69), ("cpu", 70, 70), ("reference", 71, 71),
    ]  # fmt: skip
    assert "op_set" in {c.answer.constraint for c in found.rows[71].candidates if c.device == CORAL}
    moved = 513 * 513 * 21  # bytes of the scores behind op 70
    (resize,) = [c for c in found.rows[70].candidates if c.device == CORAL]
    cpu = found.rows[70].cost
    assert cpu is not None and resize.cost is not None
    assert resize.cost.time_ns + moved / 0.36 > cpu.time_ns  # bytes at 0.36 GB/s are nanoseconds / 0.36
    assert resize.change_ns is not None and resize.change_ns > 0


# --- levers


def _lever(found: Explanation, constraint: str) -> Lever:
    (lever,) = [lever for lever in found.levers if lever.constraint == constraint]
    return lever


def _total(found: Explanation) -> int:
    """What the main graph is predicted to take, which is what the record says first."""
    return next(p.total_ns for p in found.placement.predictions if p.graph == 0)


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        (DEEPLAB, "coral-dev-board"),
        ("mobilenet_v1_0.25_128_quant", "coral-usb"),
        ("face_landmark", "pixel-4"),
        ("toy_llm_kv_cache_two_signatures", "pixel-4"),
    ],
)
def test_numerics_keep_their_promise(name: str, machine: str) -> None:
    exact, fast = explanation(name, machine), explanation(name, machine, "fast")
    lever = _lever(exact, "numerics")
    assert lever.total_ns == _total(fast)
    assert lever.saves_ns == _total(exact) - _total(fast)
    assert "numerics='fast'" in lever.advice
    assert any("numerics='fast'" in text for text in (exact.placement.headline, *exact.placement.notes))
    replayed = dg.explain(REAL / f"{name}.tflite", costs=through_json(exact.costs.to_json()))
    assert _lever(replayed, "numerics") == lever


@pytest.mark.parametrize(("kind", "runs"), [("WHILE", 16), ("IF", 1)])
def test_levers_count_called_graphs_as_the_record_does(kind: str, runs: int) -> None:
    """A loop runs 16 times, one branch of two; worked out here from the costs of their ops."""
    model = loop() if kind == "WHILE" else branch()
    rows = dg.explain(model).placement.rows
    costs = _rounding_costs(rows)
    exact, fast = (dg.explain(model, costs=costs, numerics=numerics) for numerics in ("exact", "fast"))
    called = sum(row.graph > 0 for row in rows) * runs / (2 if kind == "IF" else 1)
    own = sum(row.graph == 0 and row.device != CORE for row in rows)
    assert (_total(exact), _total(fast)) == (1000 * (own + called), 100 * (own + called))
    lever = _lever(exact, "numerics")
    assert (lever.total_ns, lever.saves_ns) == (_total(fast), _total(exact) - _total(fast))
    assert exact.placement.headline.startswith("as asked (numerics='exact'), nothing runs on acc:0; with")


def _rounding_costs(rows: tuple[OpPlacement, ...]) -> CostTable:
    """1000 ns an op on the cpu, 100 on a device that rounds otherwise."""
    answers = {"acc:0": Support(Verdict.DEVIATES, "numerics", "it rounds"), "cpu": Support(Verdict.YES)}
    costs = {"acc:0": Cost(100, "file"), "cpu": Cost(1000, "file")}
    ops = [
        OpCosts(row.graph, row.op, row.name, *(({}, {}) if row.device == CORE else (answers, costs)))
        for row in rows
        if row.device != FOLDED
    ]
    return CostTable("host", (DeviceCosts("acc:0"), DeviceCosts("cpu")), tuple(ops))


def test_several_devices_that_round_share_one_promise() -> None:
    exact, fast = explanation("mlperf_kws_int8", "pixel-3"), explanation("mlperf_kws_int8", "pixel-3", "fast")
    assert {lever.total_ns for lever in exact.levers if lever.constraint == "numerics"} == {_total(fast)}


@pytest.mark.parametrize(
    ("name", "machine", "lifted"),
    [
        (DEEPLAB, "coral-dev-board", "ARG_MAX: {output_dtypes: any}"),
        ("ssd_mobilenet_v3_int8", "coral-usb", "HARD_SWISH: {}"),
    ],
)
def test_a_rule_that_is_lifted_in_the_profile_keeps_its_promise(
    tmp_path: Path, name: str, machine: str, lifted: str
) -> None:
    before = explanation(name, machine, "fast")
    lever = _lever(before, "op_set")
    assert lever.saves_ns is not None and lever.saves_ns > 0
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"version: 1\nprofiles:\n  lifted-{machine}:\n    inherit: {machine}\n    ops:\n      {lifted}\n")
    devices.use(mine)
    try:
        after = dg.explain(REAL / f"{name}.tflite", devices=[f"nnapi:lifted-{machine}", "cpu"], numerics="fast")
    finally:
        devices.use(None)
    assert _total(after) == lever.total_ns == _total(before) - lever.saves_ns


def test_a_lever_that_exact_numerics_would_undo_promises_nothing() -> None:
    """The Edge TPU has no HARD_SWISH, and would round it otherwise if it had one."""
    lever = _lever(explanation("ssd_mobilenet_v3_int8", "coral-usb"), "op_set")
    assert lever.total_ns is None and lever.saves_ns is None
    assert "replace HARD_SWISH" in lever.advice and "numerics='fast'" in lever.advice


def test_costs_without_a_refused_ops_cost_promise_nothing_either() -> None:
    found = explanation(DEEPLAB, "coral-dev-board", "fast")
    again = dg.explain(REAL / f"{DEEPLAB}.tflite", costs=through_json(found.costs.to_json()), numerics="fast")
    assert _lever(again, "op_set").total_ns is None


# --- what is said first


def test_it_leads_with_what_to_do() -> None:
    found = explanation(DEEPLAB, "coral-dev-board").placement
    lines = str(found).splitlines()
    assert lines[0].startswith(
        f"as asked (numerics='exact'), nothing runs on {CORAL}; with numerics='fast' (--numerics fast): 13.94 ms, "
        "16.7x faster; 70 ops round otherwise: "
    )
    assert "best" not in lines[1]  # with other wishes it is not
    fast = explanation(DEEPLAB, "coral-dev-board", "fast").placement
    assert str(fast).splitlines()[0].endswith("this is the best split") and not fast.headline


def test_a_bound_under_pins_says_so() -> None:
    pinned = dg.explain(REAL / f"{DEEPLAB}.tflite", machine="coral-dev-board", numerics="fast", pins={"0": "cpu"})
    assert re.search("(this is the best split|at best .*) under your pins", str(pinned).splitlines()[0])


def test_parts_of_what_is_not_predicted_are_not_its_prediction() -> None:
    found = explanation("dtln_1_while", "pixel-4").placement
    assert str(found).splitlines()[0] == "not predicted: 12 ops wait for shapes"
    assert found.predictions and "predicted for" not in str(found)


def test_energy_is_the_same_side_by_side() -> None:
    found = dg.explain(REAL / f"{DEEPLAB}.tflite", machine="coral-usb", numerics="fast", objective="energy").placement
    assert [p.concurrent_ns for p in found.predictions] == [None]


def test_one_rule_for_the_types_of_all_operators() -> None:
    found = explanation("movenet_single_pose_lightning_ptq", "coral-usb")
    lever = _lever(found, "dtypes")
    refused = [
        (row.graph, row.op, candidate.answer)
        for row in found.placement.rows
        for candidate in row.candidates
        if candidate.answer.constraint.endswith(".dtypes")
    ]
    assert set(lever.ops) == {(graph, op) for graph, op, _ in refused}
    for value in {answer.value for _, _, answer in refused}:
        assert f"{value} ({sum(answer.value == value for _, _, answer in refused)})" in lever.reason


# --- the segments as models


def _inputs(model: Path) -> list[Array]:
    rng = np.random.default_rng(3)
    graph = dg.load(model).root.subgraphs[0]
    found = []
    for i in graph.inputs:
        shape = tuple(int(n) for n in graph.tensors[i].shape)
        is_byte = int(graph.tensors[i].type) == 3
        found.append(rng.integers(0, 256, shape, np.uint8) if is_byte else rng.random(shape, np.float32))
    return found


@pytest.mark.parametrize(
    ("name", "machine", "least"),
    [
        ("mobilenet_v2_1.0_224_quant", "coral-dev-board", 1),
        (DEEPLAB, "coral-dev-board", 3),
        ("mobilenet_v1_0.25_224_float", "pixel-4", 1),
    ],
)
def test_segments_in_a_row_are_the_model(tmp_path: Path, oracle: Oracle, name: str, machine: str, least: int) -> None:
    """Every file that --dump writes loads in LiteRT; one after the other they give what the whole model gives."""
    from delegraph.cli.commands.explain import _dump

    path = REAL / f"{name}.tflite"
    found = explanation(name, machine, "fast")
    _dump(found, str(tmp_path / "parts"))
    files = sorted((tmp_path / "parts").glob("*.tflite"))
    assert len(files) == len(found.segments) == len(found.placement.segments) >= least
    given = _inputs(path)
    main = found.segments[0][1].graph
    values: dict[int, Array] = dict(zip(main.inputs, given, strict=True))
    for file, (_, segment) in zip(files, found.segments, strict=True):
        outputs = oracle.run(file, [values[i] for i in segment.inputs]).outputs
        values |= dict(zip(segment.outputs, outputs, strict=True))
    wanted = oracle.run(path, given).outputs
    for ours, theirs in zip((values[i] for i in main.outputs), wanted, strict=True):
        if ours.dtype == np.float32:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(ours, theirs)
    assert json.loads((tmp_path / "parts" / "placement.json").read_text())["model"] == found.placement.model


# --- what it leaves alone


def test_explaining_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither compiled nor loaded, on any device."""
    from delegraph.core.runtime.border import DeviceSlot

    def never(*_: object, **__: object) -> None:
        raise AssertionError("explain computes nothing")

    for name in ("compile", "load"):
        monkeypatch.setattr(DeviceSlot, name, never)
    dg.explain(REAL / "mlperf_kws_int8.tflite", machine="ethos-u65-board")


_IMPORTS = """
import sys
import numpy as np
import delegraph as dg
compiled = dg.compile(sys.argv[1], devices=sys.argv[2].split(","))
print(*sorted(sys.modules))
"""


@pytest.mark.parametrize("wanted", ["reference", "cpu"])
def test_a_model_for_one_device_compiles_without_the_partitioner(wanted: str) -> None:
    """Neither solver, nor timings, nor HiGHS are imported where no op has a choice."""
    command = [sys.executable, "-c", _IMPORTS, str(REAL / "mlperf_kws_int8.tflite"), wanted]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "delegraph.placer" in modules
    heavy = re.compile(
        r"highspy|delegraph\.(costing|explanation|partitioner\.(solve|elimination|surrogate|ilp|assignment|problem)"
        r"|core\.devices\.(timing|timer|calibration).*)"
    )
    assert [name for name in modules if heavy.fullmatch(name)] == []
