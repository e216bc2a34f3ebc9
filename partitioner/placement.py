"""The placement record: which op goes where, why, at what cost, and what would change it. Imports core up to abi.

A record prints as a table (``partitioner.placement_text``) and as JSON, reads back, and can be edited and handed to
``dg.compile``, which checks it (``partitioner.given``). The JSON is described in docs/placement.md.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delegraph.core.abi.values import Support, Verdict
from delegraph.core.errors import InvalidArgument
from delegraph.partitioner.costs import Cost, answer_json, read_answer, read_cost
from delegraph.partitioner.json_reader import Reader, read_json

FORMAT, VERSION = "delegraph-placement", 1

CORE = "core"
"""The device of ops that core runs itself, in records."""
FOLDED = "folded"
"""The device of ops that are not run at all."""

DECIDERS = ("cost", "only", "order", "pin", "limit", "given", "failure", "core", "folded")
"""Who decided: the least predicted time (or energy); no other device could run it; the user's order, where there was
nothing to compare; a pin; a device's limit on its segments; a placement that was handed in; a device that failed; core,
which runs it itself; preparation, which left nothing of it to run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one device has to do with one op. answer: its own. cost: there, None where unknown or refused. obstacle:
    what has to be lifted before the op can go there, and where it would go even then, where that was tried. change:
    what brings the op there, for that was tried; empty where nothing is known to. Both are sentences, empty for the
    device that has the op. change_ns: how much less the op would have to cost there (nanojoules for energy), where that
    is what decides. competes: whether the op could have gone there as things are, by its own answer and the wishes."""

    device: str
    answer: Support
    cost: Cost | None = None
    change: str = ""
    change_ns: int | None = None
    obstacle: str = ""
    competes: bool = True

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"device": self.device, **answer_json(self.answer)}
        if self.cost is not None:
            found["cost"] = self.cost.to_json()
        if self.change:
            found["change"] = self.change
        if self.change_ns is not None:
            found["change_ns"] = self.change_ns
        if self.obstacle:
            found["obstacle"] = self.obstacle
        if not self.competes:
            found["competes"] = False
        return found


@dataclass(frozen=True, slots=True)
class OpPlacement:
    """Where one op goes. graph, op: as numbered in the file. device: an id, CORE or FOLDED. decided_by: one of
    DECIDERS. reason: why, in a sentence. candidates: every device that was asked, in the user's order; the reference
    device only where it was named or the op could go there."""

    graph: int
    op: int
    name: str
    device: str
    decided_by: str = "given"
    reason: str = ""
    candidates: tuple[Candidate, ...] = ()

    @property
    def cost(self) -> Cost | None:
        """What the op is predicted to cost where it is."""
        return self.cost_on(self.device)

    def cost_on(self, device: str) -> Cost | None:
        """What the op is predicted to cost there."""
        return next((c.cost for c in self.candidates if c.device == device), None)

    @property
    def deviation(self) -> str:
        """How its result differs from the reference's where it is; "" if it does not."""
        answers = (c.answer for c in self.candidates if c.device == self.device)
        return next((answer.reason for answer in answers if answer.verdict is Verdict.DEVIATES), "")

    @property
    def refusals(self) -> dict[str, str]:
        """Device → why it does not take the op."""
        return {c.device: c.answer.reason for c in self.candidates if not c.answer.runs}

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "op": self.op,
            "name": self.name,
            "device": self.device,
            "decided_by": self.decided_by,
            "reason": self.reason,
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }


@dataclass(frozen=True, slots=True)
class SegmentCost:
    """What a segment is predicted to take, in nanoseconds (nanojoules for energy): its launch, its ops, the tensors
    that enter its device with it, the outputs that leave for the host, constants that are streamed."""

    launch_ns: int
    ops_ns: int
    copies_ns: int
    outputs_ns: int = 0
    streaming_ns: int = 0

    @property
    def total_ns(self) -> int:
        return self.launch_ns + self.ops_ns + self.copies_ns + self.outputs_ns + self.streaming_ns

    def to_json(self) -> dict[str, int]:
        return {
            "total_ns": self.total_ns,
            "launch_ns": self.launch_ns,
            "ops_ns": self.ops_ns,
            "copies_ns": self.copies_ns,
            "outputs_ns": self.outputs_ns,
            "streaming_ns": self.streaming_ns,
        }


@dataclass(frozen=True, slots=True)
class SegmentPlacement:
    """A segment: ops of one graph that one device runs in one go, in the order in which segments run. predicted: None
    where costs were not needed. runs, measured_ns: how often it has run, and how long a run took on average (with its
    copies; None before the first)."""

    graph: int
    device: str
    ops: tuple[int, ...]
    predicted: SegmentCost | None = None
    runs: int = 0
    measured_ns: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "device": self.device,
            "ops": list(self.ops),
            "predicted": None if self.predicted is None else self.predicted.to_json(),
            "runs": self.runs,
            "measured_ns": self.measured_ns,
        }


@dataclass(frozen=True, slots=True)
class GraphPrediction:
    """One run of a graph, with the graphs that it calls. total_ns: segments, launches, copies, one after the other;
    concurrent_ns: with devices side by side; cpu_alone_ns: on the CPU alone; bound_ns: what no split is below; each
    None where it is not known. how: which search won. Nanojoules where the objective is energy."""

    graph: int
    total_ns: int
    concurrent_ns: int | None = None
    cpu_alone_ns: int | None = None
    bound_ns: int | None = None
    how: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "total_ns": self.total_ns,
            "concurrent_ns": self.concurrent_ns,
            "cpu_alone_ns": self.cpu_alone_ns,
            "bound_ns": self.bound_ns,
            "how": self.how,
        }


@dataclass(frozen=True, slots=True)
class Placement:
    """The record of a model: one row per op that has been placed so far, in the file's order.

    machine: whose time base the predictions are in. objective: what was to be least. devices: the ids that were asked,
    in the user's order. unavailable: device → why it could not be asked. notes: what else decided, in sentences.
    events: every fallback so far, as plain values. headline: what matters before all figures, "" for nothing.
    model_digest: of the model's ops with the types and shapes of their tensors; weights don't count.
    """

    rows: tuple[OpPlacement, ...]
    segments: tuple[SegmentPlacement, ...] = ()
    predictions: tuple[GraphPrediction, ...] = ()
    model: str = ""
    machine: str = "host"
    objective: str = "latency"
    devices: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    headline: str = ""
    model_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "model_digest": self.model_digest,
            "machine": self.machine,
            "objective": self.objective,
            "devices": list(self.devices),
            "unavailable": dict(self.unavailable),
            "headline": self.headline,
            "notes": list(self.notes),
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "segments": [segment.to_json() for segment in self.segments],
            "ops": [row.to_json() for row in self.rows],
            "events": [dict(event) for event in self.events],
        }

    @classmethod
    def read(cls, source: str | os.PathLike[str]) -> Placement:
        """From a file. Raises OSError, or InvalidArgument naming the place that is wrong."""
        return cls.from_json(read_json(source, "placement"))

    @classmethod
    def from_json(cls, found: Any) -> Placement:
        """What ``to_json`` makes; of a hand-made document only format, version and ops (graph, op, device) have to be
        there. Raises InvalidArgument naming the place that is wrong."""
        root = Reader(found, "placement")
        root.expect_format(FORMAT, VERSION, "delegraph explain MODEL --json writes one")
        rows = tuple(_row(item) for item in root.items("ops"))
        twice = [key for key, n in Counter((row.graph, row.op) for row in rows).items() if n > 1]
        if twice:
            raise InvalidArgument("placement.ops", "each op once", f"op {twice[0][1]} of graph {twice[0][0]} again")
        return cls(
            tuple(sorted(rows, key=lambda row: (row.graph, row.op))),
            tuple(_segment(item) for item in _list(root, "segments")),
            tuple(_prediction(item) for item in _list(root, "predictions")),
            _text(root, "model"),
            _text(root, "machine", "host"),
            _text(root, "objective", "latency"),
            tuple(item.text() for item in _list(root, "devices")),
            {key: item.text() for key, item in (root.fields("unavailable") if root.get("unavailable") else {}).items()},
            tuple(item.text() for item in _list(root, "notes")),
            tuple(_plain(item) for item in _list(root, "events")),
            _text(root, "headline"),
            _text(root, "model_digest"),
        )

    def __str__(self) -> str:
        from delegraph.partitioner.placement_text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        from delegraph.partitioner.placement_text import summary

        return f"<Placement of {self.model or 'a model'}: {'; '.join(summary(self))}; print() shows the ops>"


def _row(item: Reader) -> OpPlacement:
    device = item["device"].text()
    if not device:
        raise item["device"].wrong("a device's id, core or folded")
    decided = _text(item, "decided_by", "given")
    if decided not in DECIDERS:
        raise item["decided_by"].wrong(f"one of {', '.join(DECIDERS)}")
    return OpPlacement(
        0 if item.get("graph") is None else item["graph"].whole(),
        item["op"].whole(),
        _text(item, "name"),
        device,
        decided,
        _text(item, "reason"),
        tuple(_candidate(found) for found in _list(item, "candidates")),
    )


def _candidate(item: Reader) -> Candidate:
    cost, change_ns = item.get("cost"), item.get("change_ns")
    return Candidate(
        item["device"].text(),
        read_answer(item),
        None if cost is None else read_cost(cost),
        _text(item, "change"),
        None if change_ns is None else change_ns.total(),
        _text(item, "obstacle"),
        item.get("competes") is None or item["competes"].flag(),
    )


def _segment(item: Reader) -> SegmentPlacement:
    predicted, measured, runs = item.get("predicted"), item.get("measured_ns"), item.get("runs")
    ops = tuple(op.whole() for op in item.items("ops"))
    if not ops:
        raise item["ops"].wrong("at least one op", "leave the segment out")
    return SegmentPlacement(
        0 if item.get("graph") is None else item["graph"].whole(),
        item["device"].text(),
        ops,
        None if predicted is None else _segment_cost(predicted),
        0 if runs is None else runs.whole(),
        None if measured is None else measured.total(),
    )


def _segment_cost(item: Reader) -> SegmentCost:
    return SegmentCost(
        *(item[name].total() for name in ("launch_ns", "ops_ns", "copies_ns", "outputs_ns", "streaming_ns"))
    )


def _prediction(item: Reader) -> GraphPrediction:
    concurrent, alone, bound = (
        None if (found := item.get(name)) is None else found.total()
        for name in ("concurrent_ns", "cpu_alone_ns", "bound_ns")
    )
    total = item["total_ns"].total()
    return GraphPrediction(item["graph"].whole(), total, concurrent, alone, bound, _text(item, "how"))


def _plain(item: Reader) -> dict[str, Any]:
    if not isinstance(item.value, dict):
        raise item.wrong("an object")
    try:
        json.dumps(item.value, allow_nan=False)
    except (TypeError, ValueError) as exc:  # NaN, above all, which is not even equal to itself
        raise item.wrong("an object of values that JSON has") from exc
    return dict(item.value)


def _list(item: Reader, name: str) -> list[Reader]:
    return item.items(name) if item.get(name) is not None else []


def _text(item: Reader, name: str, default: str = "") -> str:
    found = item.get(name)
    return default if found is None else found.text()
