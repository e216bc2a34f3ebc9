"""The record of a compiled model: it follows the plan that ran last of each graph, and the figures are that plan's."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from tests.runtime.test_fallback import X, chain, check, everything, only
from tests.runtime.test_quarantine import Clock
from tests.support import require, shared_path
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.runtime.health import FIRST_S, Health
from delegraph.partitioner.placement_text import amount
from delegraph.testing import faults

REAL = shared_path() / "models" / "real"
RESNET = REAL / "mlperf_resnet8_float.tflite"


@pytest.fixture(autouse=True)
def _devices() -> Iterator[None]:
    with registered(EchoDelegate("it", everything), EchoDelegate("some", only("ADD", "MUL"))):
        yield


def segments(compiled: dg.CompiledModel) -> list[tuple[str, int, int]]:
    return [(segment.device, len(segment.ops), segment.runs) for segment in compiled.placement.segments]


def ran(compiled: dg.CompiledModel) -> list[tuple[str, int, int]]:
    return [(segment.device, len(segment.ops), segment.runs) for segment in compiled.receipt().segments]


def notes(compiled: dg.CompiledModel) -> list[str]:
    return list(compiled.placement.notes)


def _split(*, plan: bool = True) -> dg.CompiledModel:
    """On small batches the CPU alone is quickest, on large ones the device gets a part."""
    require("shared")
    devices, exclude = ["nnapi:sample-minimal", "cpu"], {"0-8": "nnapi:sample-minimal"}
    return dg.compile(RESNET, devices=devices, exclude=exclude, plan=plan)


def test_of_several_shapes_it_shows_the_one_that_ran_last() -> None:
    compiled = _split()
    small, large = (np.ones((n, 32, 32, 3), np.float32) for n in (1, 64))
    assert segments(compiled) == [("cpu", 16, 0)] and notes(compiled) == []
    for _ in range(3):
        compiled(small)
    assert segments(compiled) == [("cpu", 16, 3)] and notes(compiled) == []
    alone = compiled.placement.predictions[0].total_ns
    compiled(large)
    assert segments(compiled) == [("cpu", 9, 1), ("nnapi:sample-minimal", 3, 1), ("cpu", 4, 1)]
    assert compiled.placement.predictions[0].total_ns > alone
    assert notes(compiled) == ["this is for inputs of 64x32x32x3, the last of 2 shapes that are planned for"]
    for _ in range(10):
        compiled(small)
    assert segments(compiled) == [("cpu", 16, 13)]
    assert compiled.placement.predictions[0].total_ns == alone
    assert "inputs of 1x32x32x3" in notes(compiled)[0]
    (segment,) = compiled.placement.segments
    (receipt,) = [each for each in compiled.receipt().segments if len(each.ops) == 16]
    assert segment.measured_ns == round(receipt.seconds / 13 * 1e9)


def test_asking_for_the_record_plans_nothing_that_did_not_run() -> None:
    compiled = _split(plan=False)
    for _ in range(5):
        compiled(np.ones((64, 32, 32, 3), np.float32))
    assert segments(compiled) == ran(compiled) == [("cpu", 9, 5), ("nnapi:sample-minimal", 3, 5), ("cpu", 4, 5)]
    assert notes(compiled) == []
    assert segments(_split(plan=False)) == [("cpu", 16, 0)]  # but for a model of which there is no plan


def test_a_device_that_has_recovered_is_in_the_record_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(registry, "health", Health(clock))
    with faults.inject("echo:it", faults.FailRun(times=1)):
        compiled = dg.compile(chain(), devices=["echo:it"])
        check(compiled(X))
        assert {(row.device, row.decided_by) for row in compiled.placement.rows} == {("cpu", "failure")}
        assert segments(compiled) == [("cpu", 4, 1)]
        clock.now += FIRST_S
        for _ in range(5):
            check(compiled(X))
        assert {(row.device, row.decided_by) for row in compiled.placement.rows} == {("echo:it", "only")}
        assert segments(compiled) == [("echo:it", 4, 5)]
        assert len(compiled.placement.events) == 1
    registry.health.forget("echo:it")


def test_of_a_plan_one_segment_may_have_stood_in_for_another() -> None:
    """It is listed where it runs, with its own figures."""
    with faults.inject("echo:some", faults.FailRun(at=1)):
        compiled = dg.compile(chain(), devices=["echo:some"])
        check(compiled(X))
        found = compiled.placement
        assert [row.device for row in found.rows] == ["echo:some", "cpu", "cpu", "cpu"]
        assert [row.decided_by for row in found.rows] == ["only", "only", "failure", "only"]
        assert [(segment.ops, segment.runs) for segment in found.segments] == [((i,), 1) for i in range(4)]
    registry.health.forget("echo:some")


def test_what_has_not_arrived_yet_is_not_called_folded() -> None:
    """Ops behind a shape that depends on data, before the first run and after it."""
    require("shared")
    path = REAL / "dtln_1_while.tflite"
    compiled = dg.compile(path)
    before = {(row.graph, row.op): row.device for row in compiled.placement.rows}
    graph = dg.load(path).root.subgraphs[0]
    compiled(*(np.zeros(tuple(int(n) for n in graph.tensors[i].shape), np.float32) for i in graph.inputs))
    after = {(row.graph, row.op): row.device for row in compiled.placement.rows}
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before


def test_it_prints_segments_with_what_was_predicted_and_measured() -> None:
    compiled = _split()
    for _ in range(3):
        compiled(np.ones((64, 32, 32, 3), np.float32))
    found = compiled.placement
    lines = str(found).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("segment"))
    assert lines[start].split() == [
        "segment",
        "device",
        "ops",
        "launch",
        "compute",
        "copies",
        "predicted",
        "runs",
        "measured",
    ]
    for segment, line in zip(found.segments, lines[start + 1 :], strict=False):
        assert segment.predicted is not None and segment.measured_ns is not None
        assert re.split(" {2,}", line)[-3:] == [amount(segment.predicted.total_ns), "3", amount(segment.measured_ns)]
    assert "measured" not in str(_split().placement)
    (head,) = [line for line in lines if line.startswith("graph  op")]
    assert head.split() == ["graph", "op", "name", "device", "predicted", "why"]


def test_what_nothing_was_predicted_of_has_no_column_for_it() -> None:
    compiled = dg.compile(chain(), devices="cpu")
    check(compiled(X))
    assert "predicted" not in str(compiled.placement) and "measured" in str(compiled.placement)


def test_a_record_of_another_machine_says_so_when_it_is_handed_in() -> None:
    require("shared")
    model = REAL / "mobilenet_v1_0.25_128_quant.tflite"
    record = dg.explain(model, machine="coral-usb", numerics="fast", objective="energy").placement.to_json()
    again = dg.explain(model, placement=record, numerics="fast").placement
    assert again.objective == "latency"
    assert any("made for coral-usb by energy; its figures here are for coral-usb by latency" in n for n in again.notes)
    same = dg.explain(model, placement=record, numerics="fast", objective="energy").placement
    assert not any("made for" in note for note in same.notes)


def test_an_edited_record_may_use_a_device_that_it_did_not_ask() -> None:
    record = dg.compile(chain(), devices="reference").placement.to_json()
    assert record["devices"] == ["reference", "cpu"] or record["devices"] == ["reference"]
    del record["segments"]
    record["ops"][0]["device"] = "echo:it"
    assert dg.compile(chain(), placement=record).placement.rows[0].device == "echo:it"
