"""Documents for the tests of placements and costs: every field filled in, and ways to spoil them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from delegraph.core.abi.values import Limits, Link, Support, Verdict
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts, SegmentEstimate
from delegraph.partitioner.placement import (
    Candidate,
    GraphPrediction,
    OpPlacement,
    Placement,
    SegmentCost,
    SegmentPlacement,
)

REFUSAL = Support(Verdict.NO, "CONV_2D.stride", "strides are at most 3, found 4", "use smaller strides", "4", "3")
ROUNDS = Support(Verdict.DEVIATES, "numerics", "it rounds otherwise")
PLACEMENT = Placement(
    (
        OpPlacement(
            0, 0, "CONV_2D", "b", "cost", "5 ns here", (
                Candidate("a", REFUSAL, None, "use smaller strides", None, "use smaller strides", False),
                Candidate("b", ROUNDS, Cost(5, "measured", 7, "timed 3 times")),
                Candidate("c", Support(Verdict.YES), Cost(9, "roofline"), "4 ns less there", 4),
            ),
        ),
        OpPlacement(0, 1, "WHILE", "core", "core", "control flow is run by core"),
        OpPlacement(1, 0, "ADD", "folded", "folded", "computed ahead of the run"),
    ),
    (SegmentPlacement(0, "b", (0,), SegmentCost(1, 5, 2, 3, 4), 2, 17), SegmentPlacement(1, "c", (3, 4))),
    (GraphPrediction(0, 15, 14, 20, 10, "elimination"), GraphPrediction(1, 3)),
    "model.tflite", "my-board", "energy", ("a", "b", "c"), {"d": "it was unplugged"}, ("a note",),
    ({"moment": "run", "device": "b", "ops": [0], "at": 1.5},), "nothing runs on a",
    "0123456789abcdef",
)  # fmt: skip
"""A record with every field filled in."""

TABLE = CostTable(
    "my-board",
    (
        DeviceCosts(
            "a",
            5,
            Link(1, 10),
            Link(2, 20),
            "a",
            "bus",
            True,
            Limits(2, True, 1000, 3),
            7,
            0.5,
            "measured",
            True,
            100,
            2.5,
        ),
        DeviceCosts("b"),
    ),
    (
        OpCosts(0, 0, "CONV_2D", {"a": REFUSAL, "b": ROUNDS}, {"b": Cost(5, "device", 7, "a note")}),
        OpCosts(1, 0, "ADD", {"a": Support(Verdict.YES)}, {"a": Cost(0, "file")}),
    ),
    ("b",),
    (SegmentEstimate(0, "a", (0, 1), 12),),
)
"""Costs with every field filled in."""

_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4), st.just([]), st.just({}),
    st.lists(st.integers(-2, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at that place."""
    if not path:
        return value
    found = copy.deepcopy(document)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return found


def removed(document: Any, path: tuple[Any, ...]) -> Any:
    """The document without that place."""
    found = copy.deepcopy(document)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return found


@st.composite
def spoilt(draw: st.DrawFn, document: Any) -> Any:
    """The document with up to three of its values replaced, removed or doubled."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        paths = places(found)
        path = paths[draw(st.integers(0, len(paths) - 1))]
        how = draw(st.sampled_from(["replace", "remove", "double", "other"]))
        if how == "remove" and path:
            found = removed(found, path)
        elif how == "double" and path and isinstance(path[-1], int):
            holder = found
            for key in path[:-1]:
                holder = holder[key]
            holder.append(copy.deepcopy(holder[path[-1]]))
        elif how == "other":  # a value from elsewhere in the document
            other = found
            for key in paths[draw(st.integers(0, len(paths) - 1))]:
                other = other[key]
            found = changed(found, path, copy.deepcopy(other))
        else:
            found = changed(found, path, draw(_ODD))
    return found
