"""Placements that are handed in: what can run runs, what can't is refused in a sentence that names the place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.runtime.test_fallback import X, chain, check, everything, only
from tests.support import require, shared_path
from tests.support_devices import EchoDelegate, EchoDevice, registered

import delegraph as dg
from delegraph.core.abi.values import SUPPORTED, Limits, Segment, Support, Verdict
from delegraph.core.graph.dtype import DType
from delegraph.core.model.model import Model
from delegraph.testing import Oracle, faults

ONE, TWO = "echo:one", "echo:two"
NAMES = ("ADD", "RELU", "MUL", "SUB")
REAL = shared_path() / "models" / "real"


class PickyDevice(EchoDevice):
    def check(self, segment: Segment) -> Support:
        if len(segment.nodes) > 2:
            return Support(Verdict.NO, "picky.size", "a segment has at most 2 ops, found 3", "split it")
        return SUPPORTED


class PickyDelegate(EchoDelegate):
    """Takes every op, but no segment of more than two."""

    def open(self, device_id, options, host=None):  # type: ignore[no-untyped-def]
        return PickyDevice(self._info, everything, False)


@pytest.fixture(autouse=True)
def _devices() -> Iterator[None]:
    with registered(
        EchoDelegate("one", everything),
        EchoDelegate("two", only("ADD", "MUL")),
        EchoDelegate("few", everything, limits=Limits(max_segments=1)),
        EchoDelegate("prefix", everything, limits=Limits(prefix_only=True)),
        EchoDelegate("large", everything, limits=Limits(min_ops=2)),
        EchoDelegate("gone", everything, available=False, reason="it was unplugged", remedy="plug it in"),
        PickyDelegate("picky", everything),
    ):
        yield


def document(*devices: str, segments: Sequence[tuple[str, Sequence[int]]] | None = None, **more: Any) -> dict[str, Any]:
    ops = [{"op": i, "name": NAMES[i], "device": device} for i, device in enumerate(devices)]
    found = {"format": "delegraph-placement", "version": 1, "ops": ops} | more
    if segments is not None:
        found["segments"] = [{"device": device, "ops": list(ops)} for device, ops in segments]
    return found


@pytest.mark.parametrize(
    ("given", "segments"),
    [
        (document(ONE, ONE, ONE, ONE), [(0, 1, 2, 3)]),
        (document(ONE, ONE, TWO, ONE), [(0, 1), (2,), (3,)]),
        (document(ONE, "cpu", TWO, "reference"), [(0,), (1,), (2,), (3,)]),
        (document(ONE, ONE, TWO, ONE, segments=[(ONE, [0, 1]), (TWO, [2]), (ONE, [3])]), [(0, 1), (2,), (3,)]),
        (document(ONE, ONE, TWO, ONE, segments=[(ONE, [3]), (TWO, [2]), (ONE, [1, 0])]), [(0, 1), (2,), (3,)]),
        (document(ONE, ONE, ONE, ONE, segments=[(ONE, [0]), (ONE, [1, 2]), (ONE, [3])]), [(0,), (1, 2), (3,)]),
        (document(ONE, ONE, ONE, ONE, segments=[(ONE, [1, 2])]), [(0,), (1, 2), (3,)]),
        (document("echo:few", "echo:few", ONE, ONE), [(0, 1), (2, 3)]),
        (document("echo:prefix", "echo:prefix", ONE, ONE), [(0, 1), (2, 3)]),
        (document(ONE, "echo:large", "echo:large", ONE), [(0,), (1, 2), (3,)]),
        (document("echo:picky", "echo:picky", ONE, ONE), [(0, 1), (2, 3)]),
    ],
)
def test_what_can_run_runs_as_it_says(given: dict[str, Any], segments: list[tuple[int, ...]]) -> None:
    compiled = dg.compile(chain(), placement=given)
    check(compiled(X))
    placement = compiled.placement
    assert [row.device for row in placement.rows] == [op["device"] for op in given["ops"]]
    assert [segment.ops for segment in placement.segments] == segments
    assert {row.decided_by for row in placement.rows} == {"given"}
    ran = {segment.device for segment in compiled.receipt().segments}
    assert ran == {op["device"] for op in given["ops"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (document(ONE, ONE, "echo:none", ONE), r"placement: op 2: expected one of .*echo:one.*, found 'echo:none'; "),
        (
            document(ONE, ONE, "echo:gone", ONE),
            r"placement: op 2: expected a device that can be used, found echo:gone: it was unplugged; put it on one of",
        ),
        (
            document(ONE, ONE, "core", ONE),
            "placement: op 2: expected a device, found core; core does not run it itself: put it on one of echo:one",
        ),
        (
            document(ONE, ONE, "folded", ONE),
            "placement: op 2: expected a device, found folded; it has to be run: put it on one of echo:one",
        ),
        (document(ONE, ONE, "echo", ONE), "placement: op 2: expected one of the devices .*, found 'echo'; name"),
        (
            document(ONE, TWO, ONE, ONE),
            "placement: op 1: expected an op that echo:two takes, found the test keeps this op from the device; put it "
            "on one of echo:one, cpu",
        ),
        (document(ONE, ONE, ONE), "placement.ops: expected every op of graph 0, found nothing for op 3 SUB; put it on"),
        (document(), "placement.ops: expected every op that is to be run, found none; give each its device"),
        (
            document(ONE, ONE, ONE, ONE) | {"ops": [{"op": 0, "name": "CONV_2D", "device": ONE}]},
            "placement: op 0: expected ADD, found CONV_2D; the placement is of another model",
        ),
        (
            document(ONE) | {"ops": [*document(ONE, ONE, ONE, ONE)["ops"], {"op": 4, "device": ONE}]},
            "placement: op 4: expected an op of test model, found none of that number among the 4 of the graph; remove",
        ),
        (
            document(ONE) | {"ops": [{"graph": 5, "op": 0, "device": ONE}]},
            "placement: op 0 of graph 5: expected a graph of test model, found 5, and it has 1",
        ),
        (
            document(ONE) | {"ops": [{"op": 0, "device": ONE}, {"op": 0, "device": TWO}]},
            "placement.ops: expected each op once, found op 0 of graph 0 again",
        ),
        (
            document(ONE, ONE, TWO, ONE, segments=[(ONE, [0, 1, 3]), (TWO, [2])]),
            "placement: segment of ops 0, 1, 3 on echo:one: expected ops that can run in one go, found op 2 in "
            "between, which is not among them; add it to the segment, or split the segment there",
        ),
        (
            document(ONE, ONE, TWO, ONE, segments=[(ONE, [0, 1, 2])]),
            "segment of ops 0, 1, 2 on echo:one: expected ops that are on echo:one, found op 2 on echo:two; edit both",
        ),
        (document(ONE, ONE, ONE, ONE, segments=[(ONE, [0, 9])]), "expected ops that are on echo:one, found op 9 on no"),
        (
            document(ONE, ONE, ONE, ONE, segments=[(ONE, [0, 1]), (ONE, [1, 2])]),
            "segment of ops 1, 2 on echo:one: expected each op in one segment, found op 1 again; take it out of one",
        ),
        (document(ONE, ONE, ONE, ONE, segments=[(ONE, [0, 0])]), "expected each op in one segment, found op 0 again"),
        (
            document(ONE, ONE, ONE, ONE, segments=[(ONE, [])]),
            r"placement.segments\[0\].ops: expected at least one op, found \[\]; leave the segment out",
        ),
        (document("echo:few", ONE, "echo:few", ONE), "expected no more segments on echo:few than 1, found 2; move ops"),
        (
            document(ONE, "echo:prefix", ONE, ONE),
            "expected a segment on echo:prefix that starts at the graph's inputs, found op 1 behind",
        ),
        (
            document(ONE, ONE, "echo:large", ONE),
            "at least 2 ops in a segment on echo:large, found 1 in the one that st",
        ),
        (
            document("echo:picky", "echo:picky", "echo:picky", ONE),
            "segment of ops 0 to 2: expected one that echo:picky takes, found a segment has at most 2 ops, found 3",
        ),
    ],
)
def test_what_can_not_is_refused_in_a_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(dg.InvalidArgument, match=message) as caught:
        dg.compile(chain(), placement=given)
    assert caught.value.advice or "again" in caught.value.found


def fork() -> Model:
    """y = (x + x) - x, z = relu(x * x): two strands."""
    g = GraphBuilder()
    x = g.input([8, 8])
    a, b = g.op("ADD", [x, x], [8, 8]), g.op("MUL", [x, x], [8, 8])
    g.outputs = [g.op("SUB", [a, x], [8, 8]), g.op("RELU", [b], [8, 8])]
    return model(g)


def _crossed(**more: Any) -> dict[str, Any]:
    devices = {0: ONE, 1: "echo:few", 2: "echo:few", 3: ONE}
    ops = [{"op": op, "device": device} for op, device in devices.items()]
    return {"format": "delegraph-placement", "version": 1, "ops": ops} | more


def test_two_segments_that_wait_for_each_other() -> None:
    """ADD feeds SUB, and MUL feeds RELU: {ADD, RELU} and {MUL, SUB} can't both be first."""
    segments = [{"device": ONE, "ops": [0, 3]}, {"device": "echo:few", "ops": [1, 2]}]
    with pytest.raises(dg.InvalidArgument, match="segment of ops 0, 3 on echo:one: .* found op 1 in between"):
        dg.compile(fork(), placement=_crossed(segments=segments))
    compiled = dg.compile(fork(), placement=_crossed())  # left out, they follow from the ops
    y, z = compiled(X)
    np.testing.assert_array_equal(y, X + X - X)
    np.testing.assert_array_equal(z, np.maximum(X * X, 0))


def _shaped() -> Model:
    """y = relu(reshape(x + x, shape of x)), which is known before the run."""
    g = GraphBuilder()
    x = g.input([8, 8])
    a = g.op("ADD", [x, x], [8, 8])
    shape = g.op("SHAPE", [x], [2], DType.INT32, out_type=2)
    g.outputs = [g.op("RELU", [g.op("RESHAPE", [a, shape], [8, 8])], [8, 8])]
    return model(g)


def _edited(found: dg.Placement, op: int, device: str, graph: int = 0) -> dict[str, Any]:
    """The record as it is written, with nothing changed but the device of one op."""
    value: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    (row,) = [row for row in value["ops"] if (row["graph"], row["op"]) == (graph, op)]
    row["device"] = device
    return value | {"segments": []}


def test_an_op_that_is_left_out_of_the_run_can_not_be_put_on_a_device() -> None:
    found = dg.explain(_shaped(), devices=[ONE]).placement
    assert [row.device for row in found.rows] == [ONE, "folded", ONE, ONE]
    with pytest.raises(dg.InvalidArgument, match="op 1: expected folded, found echo:one; nothing of it is left to run"):
        dg.compile(_shaped(), placement=_edited(found, 1, ONE))
    np.testing.assert_array_equal(dg.compile(_shaped(), placement=found)(X), np.maximum(X + X, 0))


def test_what_was_folded_into_another_op_can_not_be_put_on_a_device() -> None:
    require("shared")
    path = REAL / "face_landmark.tflite"
    found = dg.explain(path, devices=["cpu"]).placement
    op = next(row.op for row in found.rows if row.device == "folded")
    with pytest.raises(dg.InvalidArgument, match=f"op {op}: expected folded, found cpu; nothing of it is left to run"):
        dg.compile(path, placement=_edited(found, op, "cpu"))


def test_what_core_runs_itself_can_not_be_put_on_a_device() -> None:
    from tests.runtime.test_runner import loop

    found = dg.explain(loop(), devices=[ONE]).placement
    op = next(row.op for row in found.rows if row.device == "core")
    with pytest.raises(dg.InvalidArgument, match=f"op {op}: expected core, found echo:one; core runs it itself: contr"):
        dg.compile(loop(), placement=_edited(found, op, ONE))
    dg.compile(loop(), placement=found)


def test_a_record_runs_in_the_order_in_which_it_lists_its_segments() -> None:
    """Of two strands the later one in the file is listed first."""
    ops = [{"op": op, "device": device} for op, device in enumerate((ONE, "echo:few", ONE, "echo:few"))]
    listed = [{"device": "echo:few", "ops": [1, 3]}, {"device": ONE, "ops": [0, 2]}]
    document = {"format": "delegraph-placement", "version": 1, "ops": ops}
    for segments in (listed, listed[::-1]):
        compiled = dg.compile(fork(), placement=document | {"segments": segments})
        wanted = [(segment["device"], tuple(segment["ops"])) for segment in segments]
        assert [(segment.device, segment.ops) for segment in compiled.placement.segments] == wanted
        assert [(segment.device, segment.ops) for segment in compiled.receipt().segments] == wanted


@pytest.mark.parametrize(
    ("name", "machine", "objective"),
    [
        ("style_transfer_quantized_384", "coral-usb", "energy"),
        ("movenet_single_pose_lightning_ptq", "pixel-3", "latency"),
        ("dtln_1_while", "pixel-4", "latency"),
    ],
)
def test_a_record_that_is_handed_back_is_the_same_again(name: str, machine: str, objective: str) -> None:
    require("shared")
    path, wishes = REAL / f"{name}.tflite", {"machine": machine, "objective": objective, "numerics": "fast"}
    found = dg.explain(path, **wishes).placement  # type: ignore[arg-type]
    again = dg.explain(path, placement=found, **wishes).placement  # type: ignore[arg-type]
    assert again.segments == found.segments
    assert [(p.total_ns, p.concurrent_ns, p.cpu_alone_ns) for p in again.predictions] == [
        (p.total_ns, p.concurrent_ns, p.cpu_alone_ns) for p in found.predictions
    ]


def test_a_device_that_was_not_named_is_refused() -> None:
    with pytest.raises(dg.InvalidArgument, match="op 2: expected one of the devices echo:one, cpu, reference, found"):
        dg.compile(chain(), devices=[ONE], placement=document(ONE, ONE, TWO, ONE))


def test_what_was_excluded_is_refused_with_the_way_out() -> None:
    with pytest.raises(dg.InvalidArgument, match="found it was excluded; remove the exclusion, or put it on one of"):
        dg.compile(chain(), placement=document(ONE, ONE, ONE, ONE), exclude={"ADD": ONE})


def test_the_placement_of_another_model() -> None:
    found = dg.compile(fork(), devices=[ONE]).placement
    with pytest.raises(dg.InvalidArgument, match="op 1: expected RELU, found MUL; the placement is of another model"):
        dg.compile(chain(), placement=found)


def test_a_failing_device_costs_time_with_a_placement_too() -> None:
    with faults.inject(TWO, faults.FailRun(times=None)):
        compiled = dg.compile(chain(), placement=document(ONE, ONE, TWO, ONE))
        check(compiled(X))
        (event,) = compiled.receipt().events
        assert event.device == TWO and event.ops == (2,)
        assert compiled.placement.rows[2].device != TWO


def test_a_record_a_document_and_a_file_are_the_same(tmp_path: Path) -> None:
    pinned = dg.compile(chain(), devices=[ONE, TWO], pins={"MUL": TWO, "0-1": ONE, "SUB": ONE}).placement
    path = tmp_path / "placement.json"
    path.write_text(json.dumps(pinned.to_json()))
    for given in (pinned, pinned.to_json(), path, str(path)):
        compiled = dg.compile(chain(), placement=given)
        check(compiled(X))
        assert [row.device for row in compiled.placement.rows] == [ONE, ONE, TWO, ONE]


def test_files_that_are_no_placement(tmp_path: Path) -> None:
    path = tmp_path / "placement.json"
    path.write_text("{")
    with pytest.raises(dg.InvalidArgument, match=r"placement .*placement.json: expected a JSON file, found Expecting"):
        dg.compile(chain(), placement=path)
    path.write_text('{"format": "delegraph-costs", "version": 1}')
    with pytest.raises(dg.InvalidArgument, match="placement: expected a document of format 'delegraph-placement'"):
        dg.compile(chain(), placement=path)
    with pytest.raises(OSError):
        dg.compile(chain(), placement=tmp_path / "missing.json")


# --- real models


def test_an_edited_explanation_runs_and_gives_litert_s_integers(oracle: Oracle) -> None:
    """An Ethos-U65's placement with one op moved by hand, and its segments left to follow."""
    require("shared")
    path = REAL / "mlperf_resnet8_int8.tflite"
    found = dg.explain(path, machine="ethos-u65-board").placement.to_json()
    assert {op["device"] for op in found["ops"]} >= {"nnapi:ethos-u65-256"}
    moved = next(op for op in found["ops"] if op["name"] == "CONV_2D" and op["op"] > 3)
    moved["device"] = "cpu"
    del found["segments"]
    compiled = dg.compile(path, placement=found)
    image = np.random.default_rng(1).integers(-128, 128, (1, 32, 32, 3), np.int8)
    np.testing.assert_array_equal(compiled(image), oracle.run(path, [image]).outputs[0])
    assert compiled.placement.rows[moved["op"]].device == "cpu"
    ran = compiled.receipt().devices
    assert ran["nnapi:ethos-u65-256"] >= 2 and ran["cpu"] >= 1


def test_a_placement_of_a_model_with_unknown_shapes_is_taken_as_far_as_it_goes(oracle: Oracle) -> None:
    """What waits for shapes that depend on data is in no explanation: it goes by the order when it arrives."""
    require("shared")
    path = REAL / "dtln_1_while.tflite"
    found = dg.explain(path, devices=["cpu"], machine="pixel-4")
    assert any("wait for shapes" in note for note in found.placement.notes)
    compiled = dg.compile(path, placement=found.placement)
    rng = np.random.default_rng(2)
    graph = dg.load(path).root.subgraphs[0]
    inputs = [rng.random(tuple(int(n) for n in graph.tensors[i].shape), np.float32) for i in graph.inputs]
    ours = compiled(*inputs)
    theirs = oracle.run(path, inputs).outputs
    for mine, wanted in zip(ours if isinstance(ours, list) else [ours], theirs, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)
    assert any("the placement says nothing of" in note for note in compiled.placement.notes)
    document = found.placement.to_json()
    assert (3, 23) not in {(op["graph"], op["op"]) for op in document["ops"]}
    document["ops"].append({"graph": 3, "op": 23, "device": "folded", "decided_by": "folded"})
    again = dg.compile(path, placement=document)(*inputs)  # it has to be run after all
    for mine, wanted in zip(again if isinstance(again, list) else [again], theirs, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)
