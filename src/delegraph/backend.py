"""What a model's plans are made with: where ops go, artifacts, what happens when a device fails. Composition only."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, Segment
from delegraph.core.forks import RenewedLock
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.artifacts import artifact_key, load_artifact, save_artifact
from delegraph.core.runtime.border import DeviceSlot, Opening
from delegraph.core.runtime.health import Rest
from delegraph.core.runtime.loaded import LoadedSegment
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.plan import Cuts, Excluded
from delegraph.placer import Placer

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

    @classmethod
    def of(cls, moment: str, error: DelegateError, graph: Graph, nodes: Sequence[Node]) -> FallbackEvent:
        """What happened just now to some ops of a graph."""
        ops = tuple(node.op.index for node in nodes)
        return cls(moment, error.device, error.code.value, error.message, graph.index, ops, time.time())

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
    """The devices of one compiled model in the user's order, and what they failed to do. Thread-safe.

    slots: by id, the floor last. placer: decides what goes where.
    """

    def __init__(
        self,
        slots: Mapping[str, DeviceSlot],
        placer: Placer,
        *,
        fallback: str,
        packs: PackStore,
    ) -> None:
        self._slots = dict(slots)
        self._placer = placer
        self.may_fall_back = fallback == "allow"
        self._packs = packs
        self._guard = RenewedLock()
        self.compilations = 0
        """Segments compiled in this process, not loaded from the store; a warm start compiles none."""
        self._events: list[FallbackEvent] = [
            FallbackEvent("plan", device, ErrorCode.UNSUPPORTED.value, why, 0, (), time.time())
            for device, why in placer.request.unavailable.items()
        ]

    @property
    def events(self) -> tuple[FallbackEvent, ...]:
        """What failed so far, the oldest first; the last EVENTS_KEPT."""
        with self._guard.lock:
            return tuple(self._events)

    @property
    def placer(self) -> Placer:
        return self._placer

    def cut(self, graph: Graph, nodes: Sequence[Node], needed: frozenset[int], excluded: Excluded) -> Cuts:
        """Where each node goes, with the ``Decision`` behind it."""
        decision, cuts = self._placer.place(graph, nodes, needed, excluded)
        for error in decision.failures:
            self._note(FallbackEvent.of("plan", error, graph, nodes), logging.WARNING)
        return Cuts(cuts, decision, frozenset(Rest(error.device, "ask") for error in decision.failures))

    def load(self, segment: Segment, device: str) -> LoadedSegment:
        """The segment on that device. Raises DelegateError."""
        slot = self._slots[device]
        refusal = slot.checked(segment)
        if not refusal.runs:
            raise DelegateError(device, ErrorCode.UNSUPPORTED, refusal.reason)
        if slot.is_floor:  # nothing to compile, nothing to keep
            return LoadedSegment(segment, slot, slot.compile(segment, self._packs, {}), self._packs)
        return self._through_store(segment, slot)

    def _through_store(self, segment: Segment, slot: DeviceSlot) -> LoadedSegment:
        """Loads what an earlier process compiled; compiles and keeps what is not there, or can't be loaded."""
        store = self._packs.store
        key = None if store is None else artifact_key(segment, *slot.delegate, slot.info, {}, self._packs)

        def compiled(opening: Opening | None = None) -> Artifact:
            """Anew, on a device that is open already or on any thread."""
            with self._guard.lock:
                self.compilations += 1
            if opening is None:
                artifact = slot.compile(segment, self._packs, {})
            else:
                artifact = slot.compiled(opening, segment, self._packs, {})
            if store is not None and key is not None:
                save_artifact(store, key, artifact)
            return artifact

        kept = load_artifact(store, key) if store is not None and key is not None else None
        if kept is not None:
            try:
                return LoadedSegment(segment, slot, kept, self._packs, compiled)
            except DelegateError as exc:
                if exc.code in (ErrorCode.OUT_OF_MEMORY, ErrorCode.DEVICE_LOST, ErrorCode.TIMEOUT):
                    raise
                log.info("%s can't load a kept artifact, compiling again: %s", slot.id, exc.message)
        return LoadedSegment(segment, slot, compiled(), self._packs, compiled)

    def on_failure(self, moment: str, segment: Segment, error: DelegateError) -> None:
        """Records and logs a failure. Raises it where falling back is not wanted, or was the floor's."""
        is_refusal = error.code is ErrorCode.UNSUPPORTED
        event = FallbackEvent.of("plan" if is_refusal else moment, error, segment.graph, segment.nodes)
        slot = self._slots.get(error.device)
        if not self.may_fall_back or (slot is not None and slot.is_floor):
            self._keep(event)
            raise error
        self._note(event, logging.INFO if is_refusal else logging.WARNING)

    def _note(self, event: FallbackEvent, level: int) -> None:
        """Keeps the event, and logs it."""
        self._keep(event)
        text = "fallback at %s: %s: %s: %s (%d ops go to the next device)"
        log.log(level, text, event.moment, event.device, event.code, event.message, len(event.ops))

    def _keep(self, event: FallbackEvent) -> None:
        with self._guard.lock:
            self._events.append(event)
            del self._events[:-EVENTS_KEPT]
