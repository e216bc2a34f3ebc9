"""The placement record as JSON: it reads back, hand-made ones may be short, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from tests.partitioner.documents import PLACEMENT, changed, places, removed, spoilt
from tests.runtime.test_fallback import chain

import delegraph as dg
from delegraph.partitioner import json_reader
from delegraph.partitioner.placement import OpPlacement, Placement, SegmentCost, SegmentPlacement
from delegraph.partitioner.placement_text import as_text, groups, segment_table, summary

DOCUMENT = json.loads(json.dumps(PLACEMENT.to_json()))
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "placement.schema.json").read_text())
SHORT = {"format": "delegraph-placement", "version": 1, "ops": [{"op": 1, "device": "a"}, {"op": 0, "device": "b"}]}


def test_every_field_reads_back() -> None:
    assert Placement.from_json(DOCUMENT) == PLACEMENT
    assert Placement.from_json(DOCUMENT).to_json() == PLACEMENT.to_json()
    jsonschema.validate(DOCUMENT, SCHEMA, jsonschema.Draft202012Validator)


def test_the_schema_has_every_field() -> None:
    """Each place of a full document is one that the schema knows, for it allows no others."""
    for path in places(DOCUMENT):
        value: Any = DOCUMENT
        for key in path:
            value = value[key]
        if isinstance(value, dict) and path[-1:] != ("unavailable",) and path[:1] != ("events",):
            with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
                jsonschema.validate(changed(DOCUMENT, path, value | {"no_such_field": 1}), SCHEMA)


def test_a_hand_made_one_may_be_short() -> None:
    jsonschema.validate(SHORT, SCHEMA)
    found = Placement.from_json(SHORT)
    assert found.rows == (OpPlacement(0, 0, "", "b"), OpPlacement(0, 1, "", "a"))
    assert (found.machine, found.objective, found.segments) == ("host", "latency", ())
    segment = Placement.from_json(SHORT | {"segments": [{"device": "a", "ops": [1]}]}).segments
    assert segment == (SegmentPlacement(0, "a", (1,)),)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((), [], "placement: expected an object, found []"),
        (("format",), "other", "placement: expected a document of format 'delegraph-placement', found 'other'"),
        (("version",), 2, "placement.version: expected 1, found 2; write it again"),
        (("ops",), {}, "placement.ops: expected a list, found {}"),
        (("ops", 0), 3, "placement.ops[0]: expected an object, found 3"),
        (("ops", 0, "op"), -1, "placement.ops[0].op: expected a whole number from 0 to"),
        (("ops", 0, "op"), True, "placement.ops[0].op: expected a whole number"),
        (("ops", 0, "graph"), 1.5, "placement.ops[0].graph: expected a whole number"),
        (("ops", 0, "device"), "", "placement.ops[0].device: expected a device's id, core or folded, found ''"),
        (("ops", 0, "device"), None, "placement.ops[0].device: expected a text, found None"),
        (("ops", 0, "decided_by"), "me", "placement.ops[0].decided_by: expected one of cost, only, order"),
        (("ops", 0, "name"), 4, "placement.ops[0].name: expected a text, found 4"),
        (("ops", 0, "candidates", 1, "verdict"), "maybe", "ops[0].candidates[1].verdict: expected one of yes"),
        (("ops", 0, "candidates", 1, "cost", "source"), "guess", "cost.source: expected one of measured, device"),
        (("ops", 0, "candidates", 2, "change_ns"), "4", "candidates[2].change_ns: expected a whole number"),
        (("segments", 0, "ops"), [], "placement.segments[0].ops: expected at least one op, found []; leave"),
        (("segments", 0, "ops"), [None], "placement.segments[0].ops[0]: expected a whole number"),
        (("segments", 0, "predicted"), 5, "placement.segments[0].predicted: expected an object, found 5"),
        (("segments", 0, "runs"), -3, "placement.segments[0].runs: expected a whole number"),
        (("predictions", 0, "total_ns"), None, "placement.predictions[0].total_ns: expected a whole number"),
        (("unavailable", "d"), 4, "placement.unavailable.d: expected a text, found 4"),
        (("unavailable",), ["d"], "placement.unavailable: expected an object"),
        (("notes",), "a", "placement.notes: expected a list, found 'a'"),
        (("events", 0), 4, "placement.events[0]: expected an object, found 4"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(dg.InvalidArgument) as caught:
        Placement.from_json(changed(DOCUMENT, path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize("path", [("format",), ("version",), ("ops",), ("ops", 0, "op"), ("ops", 0, "device")])
def test_what_has_to_be_there_is_missed(path: tuple[Any, ...]) -> None:
    with pytest.raises(dg.InvalidArgument, match=f"delegraph-placement|a field '{path[-1]}'"):
        Placement.from_json(removed(DOCUMENT, path))


@given(spoilt(DOCUMENT))
@settings(max_examples=400, deadline=None)
def test_a_spoilt_document_reads_or_is_refused(document: Any) -> None:
    try:
        found = Placement.from_json(document)
    except dg.InvalidArgument:
        return
    assert Placement.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert as_text(found) is not None and groups(found) is not None and summary(found) is not None


_REAL = json.loads(json.dumps(dg.compile(chain(), devices="reference").placement.to_json()))


@given(spoilt(_REAL))
@settings(max_examples=150, deadline=None)
def test_a_spoilt_document_compiles_or_is_refused(document: Any) -> None:
    if not isinstance(document, dict):
        document = {"format": document}
    try:
        dg.compile(chain(), placement=document)
    except dg.InvalidArgument:
        return
    assert Placement.from_json(document).rows


def test_sums_of_the_largest_costs_read_back() -> None:
    """What may be handed in is bounded; what that adds up to is not."""
    largest = json_reader.LARGEST
    document = changed(DOCUMENT, ("predictions", 0, "total_ns"), 64 * largest)
    document = changed(document, ("segments", 0, "predicted", "ops_ns"), 64 * largest)
    document = changed(document, ("ops", 0, "candidates", 2, "change_ns"), 2 * largest)
    found = Placement.from_json(document)
    assert found.predictions[0].total_ns == 64 * largest and found.to_json() != DOCUMENT
    jsonschema.validate(document, SCHEMA)
    with pytest.raises(dg.InvalidArgument, match="time_ns: expected a whole number from 0 to"):
        Placement.from_json(changed(DOCUMENT, ("ops", 0, "candidates", 2, "cost", "time_ns"), largest + 1))


def test_records_from_before_obstacles_read() -> None:
    """Without them, every device that takes an op competes."""
    document = json.loads(json.dumps(DOCUMENT))
    for field in ("headline", "model_digest"):
        del document[field]
    for candidate in document["ops"][0]["candidates"]:
        candidate.pop("obstacle", None), candidate.pop("competes", None)
    found = Placement.from_json(document)
    assert all(c.competes and not c.obstacle for c in found.rows[0].candidates)


def test_many_small_segments_share_a_line() -> None:
    segments = [SegmentPlacement(0, "a", (op,), SegmentCost(0, 10_000 if op == 3 else 9, 0)) for op in range(9)]
    placement = Placement((), tuple(segments))
    lines = as_text(placement).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["segment", "3"]
    assert lines[2] == "8 more take less than 1 % each, 72 ns together"
    assert len(segment_table(placement, has_all=True)[1]) == 9
