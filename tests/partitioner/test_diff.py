"""What differs between two placements."""

from __future__ import annotations

import pytest

import delegraph as dg
from delegraph.core.abi.values import Support, Verdict
from delegraph.partitioner.diff import differences
from delegraph.partitioner.placement import Candidate, OpPlacement, Placement

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
