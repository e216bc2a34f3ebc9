"""What a model's plans are made with: where ops go, artifacts, what happens when a device fails. Composition only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delegraph.core.abi.values import Cut, DelegateError, ErrorCode, GraphView, Segment, Support, Verdict
from delegraph.core.graph.graph import Graph
from delegraph.core.ops import registry as ops
from delegraph.core.ops.nodes import output_shapes
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.artifacts import artifact_key, load_artifact, save_artifact
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.loaded import LoadedSegment
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.plan import Excluded
from delegraph.partitioner.pins import Pins
from delegraph.partitioner.placement import OpPlacement, Placement, place
from delegraph.partitioner.segments import cut_segments

log = logging.getLogger("delegraph")

EVENTS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class FallbackEvent:
    """A device did not do what it was to do, and the next one did. moment: "plan", "compile" or "run". at: seconds
    since the epoch. ops: the segment's op indices."""

    moment: str
    device: str
    code: str
    message: str
    graph: int
    ops: tuple[int, ...]
    at: float

    def to_json(self) -> dict[str, Any]:
        return {
            "moment": self.moment,
            "device": self.device,
            "code": self.code,
            "message": self.message,
            "graph": self.graph,
            "ops": list(self.ops),
            "at": self.at,
        }


class Backend:
    """The devices of one compiled model in the user's order, and the record of what went where. Thread-safe.

    slots: by id, the floor last. unavailable: device → why it can't be used at all. numerics: "exact" takes only
    devices that answer yes; "fast" also those that deviate.
    """

    def __init__(
        self,
        slots: Mapping[str, DeviceSlot],
        unavailable: Mapping[str, str],
        *,
        fallback: str,
        numerics: str,
        packs: PackStore,
        pins: Pins,
    ) -> None:
        self._slots = dict(slots)
        self._unavailable = dict(unavailable)
        self.may_fall_back = fallback == "allow"
        self._numerics = numerics
        self._packs = packs
        self._pins = pins
        self._lock = threading.Lock()
        self.compilations = 0
        """Segments compiled in this process, not loaded from the store; a warm start compiles none."""
        self._rows: dict[tuple[int, int], OpPlacement] = {}
        self._events: list[FallbackEvent] = [
            FallbackEvent("plan", device, ErrorCode.UNSUPPORTED.value, why, 0, (), time.time())
            for device, why in self._unavailable.items()
        ]

    @property
    def placement(self) -> Placement:
        """The record so far."""
        with self._lock:
            return Placement(tuple(row for _, row in sorted(self._rows.items())))

    @property
    def events(self) -> tuple[FallbackEvent, ...]:
        """What failed so far, the oldest first; the last EVENTS_KEPT."""
        with self._lock:
            return tuple(self._events)

    def cut(self, graph: Graph, nodes: Sequence[Node], excluded: Excluded) -> list[Cut]:
        """Where each node goes, as pieces in an order in which they can run."""
        host = {node.op.index: reason for node in nodes if (reason := host_reason(node))}
        view = GraphView(graph, tuple(nodes))
        answers = {
            name: [self._taken(a, name, n, excluded) for a, n in zip(slot.supports(view), nodes, strict=True)]
            for name, slot in self._slots.items()
        }
        pinned = {op: d for (g, op), d in self._pins.devices.items() if g == graph.index}
        rows = place(graph, nodes, answers, host, pinned)
        self._expect_places(rows, host)
        with self._lock:
            for row in rows:
                refusals = row.refusals if row.device == "core" else {**self._unavailable, **row.refusals}
                self._rows[row.graph, row.op] = OpPlacement(
                    row.graph, row.op, row.name, row.device, row.reason, refusals
                )
        watched = frozenset(name for name, slot in self._slots.items() if slot.info.may_hang)
        return cut_segments(graph, nodes, ["" if r.device == "core" else r.device for r in rows], watched)

    def _expect_places(self, rows: Sequence[OpPlacement], host: Mapping[int, str]) -> None:
        """Without the floor an op may find no device: that is the typed error that was asked for."""
        for row in rows:
            if row.device == "core" and row.op not in host:
                device, reason = next(iter(row.refusals.items()), ("", "no device"))
                where = f"subgraphs[{row.graph}].operators[{row.op}] {row.name}"
                raise DelegateError(device, ErrorCode.UNSUPPORTED, f"{where}: {reason}")

    def _taken(self, answer: Support, device: str, node: Node, excluded: Excluded) -> Support:
        if (node.op.index, device) in excluded:
            return Support(Verdict.NO, "device.failed", "the device failed on a segment with this op")
        if answer.verdict is Verdict.DEVIATES and self._numerics == "exact":
            return Support(Verdict.NO, answer.constraint, f"{answer.reason}, and numerics='exact' was asked for")
        return answer

    def load(self, segment: Segment, device: str) -> LoadedSegment:
        """The segment on that device. Raises DelegateError."""
        slot = self._slots[device]
        refusal = slot.check(segment)
        if not refusal.runs:
            raise DelegateError(device, ErrorCode.UNSUPPORTED, refusal.reason)
        if slot.is_floor:  # nothing to compile, nothing to keep
            return LoadedSegment(segment, slot, slot.compile(segment, self._packs, {}), self._packs)
        return self._through_store(segment, slot)

    def _through_store(self, segment: Segment, slot: DeviceSlot) -> LoadedSegment:
        """Loads what an earlier process compiled; compiles and keeps what is not there, or is refused."""
        store = self._packs.store
        if store is None:
            return self._compiled(segment, slot)
        key = artifact_key(segment, *slot.delegate, slot.info, {}, self._packs)
        artifact = load_artifact(store, key)
        if artifact is not None:
            try:
                return LoadedSegment(segment, slot, artifact, self._packs)
            except DelegateError as exc:
                if exc.code is not ErrorCode.ARTIFACT_REFUSED:
                    raise
                log.info("%s refused a kept artifact, compiling again: %s", slot.id, exc.message)
                store.remove(key)
        loaded = self._compiled(segment, slot)
        save_artifact(store, key, loaded.artifact)
        return loaded

    def _compiled(self, segment: Segment, slot: DeviceSlot) -> LoadedSegment:
        with self._lock:
            self.compilations += 1
        return LoadedSegment(segment, slot, slot.compile(segment, self._packs, {}), self._packs)

    def on_failure(self, moment: str, segment: Segment, error: DelegateError) -> None:
        """Records and logs a failure. Raises it where falling back is not wanted, or was the floor's."""
        is_refusal = error.code is ErrorCode.UNSUPPORTED
        event = FallbackEvent(
            "plan" if is_refusal else moment,
            error.device,
            error.code.value,
            error.message,
            segment.graph.index,
            tuple(node.op.index for node in segment.nodes),
            time.time(),
        )
        with self._lock:
            self._events.append(event)
            del self._events[:-EVENTS_KEPT]
        slot = self._slots.get(error.device)
        if not self.may_fall_back or (slot is not None and slot.is_floor):
            raise error
        log.log(
            logging.INFO if is_refusal else logging.WARNING,
            "fallback at %s: %s (%d ops go to the next device)",
            event.moment,
            error,
            len(segment.nodes),
        )


def host_reason(node: Node) -> str:
    """Why core runs an op itself, or "" for one that a device runs."""
    opdef = ops.find(node.op.name)
    if opdef is None:
        return ""
    if opdef.host:
        return {"control": "control flow is run by core", "resource": "variables belong to core"}[opdef.host]
    if any(shape is None for shape in output_shapes(node, opdef)):
        return "the shape of its result depends on data"
    if any(not spec.dtype.is_plain for spec in (*node.outputs, *(s for s in node.inputs if s is not None))):
        return "strings and handles never leave core"
    return ""
