"""What a model's plans are made with: where ops go, artifacts, what happens when a device fails. Composition only."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delegraph.core.abi.values import Cut, DelegateError, ErrorCode, Segment
from delegraph.core.forks import RenewedLock
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.artifacts import artifact_key, load_artifact, save_artifact
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.loaded import LoadedSegment
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.plan import Excluded
from delegraph.partitioner.work import Decision
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
        self._decisions: list[Decision] = []
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
    def decisions(self) -> tuple[Decision, ...]:
        """What was decided so far, for every graph and stage of it: the last for each op."""
        with self._guard.lock:
            return tuple(self._decisions)

    @property
    def placer(self) -> Placer:
        return self._placer

    def cut(self, graph: Graph, nodes: Sequence[Node], needed: frozenset[int], excluded: Excluded) -> list[Cut]:
        """Where each node goes, as pieces in an order in which they can run."""
        decision, cuts = self._placer.place(graph, nodes, needed, excluded)
        with self._guard.lock:
            self._decisions = [old for old in self._decisions if not _covers(decision, old)] + [decision]
        return cuts

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
        with self._guard.lock:
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
        with self._guard.lock:
            self._events.append(event)
            del self._events[:-EVENTS_KEPT]
        slot = self._slots.get(error.device)
        if not self.may_fall_back or (slot is not None and slot.is_floor):
            raise error
        log.log(
            logging.INFO if is_refusal else logging.WARNING,
            "fallback at %s: %s (%d ops go to the next device)",
            event.moment,
            str(error),
            len(segment.nodes),
        )


def _covers(new: Decision, old: Decision) -> bool:
    """Whether every op of an older decision is decided anew."""
    ops = {node.op.index for node in new.work.nodes}
    return new.work.graph.index == old.work.graph.index and all(node.op.index in ops for node in old.work.nodes)
