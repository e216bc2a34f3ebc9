"""What differs between two placements."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.graphs import GraphBuilder, model
from tests.runtime.test_fallback import chain

import delegraph as dg
from delegraph.core.abi.values import Support, Verdict
from delegraph.partitioner.costs import Cost
from delegraph.partitioner.diff import differences, remarks
from delegraph.partitioner.placement import Candidate, OpPlacement, Placement, SegmentPlacement

YES = Support(Verdict.YES)
NO = Support(Verdict.NO, "x", "it can't")


def placement(*rows: tuple[int, str, str, Support]) -> Placement:
    return Placement(tuple(OpPlacement(0, op, name, d, "cost", "so", (Candidate("a", a),)) for op, name, d, a in rows))


def test_ops_that_moved_and_answers_that_changed() -> None:
    before = placement((0, "ADD", "a", YES), (1, "MUL", "a", YES), (2, "SUB", "b", NO), (3, "NEG", "b", YES))
    after = placement((0, "ADD", "a", YES), (1, "MUL", "b", NO), (2, "SUB", "b", YES), (4, "ABS", "b", YES))
    found = {each.op: each for each in differences(before, after)}
    assert list(found) == [1, 2, 3, 4]
    assert found[1].is_moved and found[1].answers == {"a": ("", "it can't")}
    assert not found[2].is_moved and found[2].answers == {"a": ("it can't", "")}
    assert found[3].after is None and found[4].before is None and found[3].is_moved and found[4].is_moved
    assert found[1].to_json()["before"] == {"device": "a", "reason": "so"}
    assert differences(before, before) == []


def test_placements_of_two_models_are_refused() -> None:
    one, two = placement((3, "ADD", "a", YES)), placement((3, "MUL", "a", YES))
    with pytest.raises(dg.InvalidArgument, match="two of one model, found op 3 of graph 0 is ADD here and MUL there"):
        differences(one, two)


def test_models_whose_ops_have_the_same_names_are_told_apart() -> None:
    one, two = (replace(placement((3, "ADD", "a", YES)), model=f"{d}.tflite", model_digest=d) for d in ("1", "2"))
    with pytest.raises(dg.InvalidArgument, match="two of one model, found 1.tflite and 2.tflite, whose tensors"):
        differences(one, two)
    old = [replace(each, model_digest="") for each in (one, two)]  # as written by hand
    assert differences(*old) == []
    assert remarks(*old) == ["of different models, to go by their names: 1.tflite and 2.tflite"]
    assert remarks(one, one) == []


def test_real_models_of_the_same_ops_have_other_digests() -> None:
    wide, narrow = (dg.compile(chain(), devices=device, plan=False).placement for device in ("cpu", "reference"))
    assert wide.model_digest == narrow.model_digest != ""
    g = GraphBuilder()
    x = g.input([8, 9])
    a = g.op("ADD", [x, x], [8, 9])
    b = g.op("RELU", [a], [8, 9])
    g.outputs = [g.op("SUB", [g.op("MUL", [b, x], [8, 9]), x], [8, 9]), b]
    with pytest.raises(dg.InvalidArgument, match="two of one model"):
        differences(wide, dg.compile(model(g), devices="cpu", plan=False).placement)


def test_what_else_differs_is_said() -> None:
    """Segments that are cut otherwise, costs, and devices that one of them did not ask."""
    cost, other = Cost(5, "file"), Cost(6, "file")
    before = placement((0, "ADD", "a", YES), (1, "MUL", "a", YES))
    rows = [replace(row, candidates=(Candidate("a", YES, cost),)) for row in before.rows]
    before = replace(before, rows=tuple(rows), segments=(SegmentPlacement(0, "a", (0, 1)),))
    after = replace(
        before,
        rows=(replace(rows[0], candidates=(Candidate("a", YES, other), Candidate("b", NO))), rows[1]),
        segments=(SegmentPlacement(0, "a", (0,)), SegmentPlacement(0, "a", (1,))),
    )
    assert remarks(before, after) == [
        "only in the second: b",
        "2 segments are cut otherwise, of the same ops on the same devices",
        "1 of 2 ops cost otherwise on a device",
    ]
