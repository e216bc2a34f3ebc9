"""What ops cost on a real device: timings of single ops, and predictions from them. Imports core.abi and left of it.

A ``TimingBook`` is what is known of one device, as data: its peaks, what starting a segment costs, and timings of ops.
``predicted`` is pure: the same book and the same node give the same number. In this order: the timing of that very op
(``signature_of``), the device's own estimate, core's roofline corrected from timings of the same op and types.

Timings are taken by core.devices.timer.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from delegraph.core.abi.values import Estimate, Link, Segment
from delegraph.core.devices.calibration import Peaks, count
from delegraph.core.devices.op_traits import (
    INSIDE,
    class_of,
    data_of,
    is_elementwise,
    is_rename,
    kinds_of,
    quantities,
    signature_of,
    sizes_of,
    types_of,
    work_of,
)
from delegraph.core.devices.rates import Rates
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node, Work

VERSION = "4"
"""Part of every key: timings of another version were taken or described in another way."""


@dataclass(frozen=True, slots=True)
class OpCost:
    """What an op takes on a device, without launch and copies. source: "measured", "estimate" or "roofline"; text: how
    the number came about, for people."""

    time_ns: int
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Timing:
    """One op, timed. types: of the data, see ``types_of``. sizes: see ``sizes_of``. signature: which op it was to the
    letter. time_ns: within a segment, without the launch."""

    op: str
    types: str
    work: Work
    sizes: tuple[int, ...]
    signature: str
    time_ns: int

    @classmethod
    def of(cls, node: Node, time_ns: int, inside: bool = False) -> Timing:
        return cls(
            node.op.name,
            types_of(node, inside),
            work_of(node),
            sizes_of(node),
            signature_of(node, inside),
            time_ns,
        )

    @property
    def kinds(self) -> Sequence[tuple[str, ...]]:
        """See ``kinds_of``. What was timed inside says nothing of ops that stand alone."""
        what, data = class_of(self.work), data_of(self.types)
        if self.types.endswith(INSIDE):
            return (self.op, self.types), (what, data + INSIDE)
        return (self.op, self.types), (what, data), (what,)

    def to_json(self) -> list[Any]:
        w = self.work
        work = [w.macs, w.element_ops, w.bytes_read, w.bytes_written]
        return [self.op, self.types, work, list(self.sizes), self.signature, self.time_ns]

    @classmethod
    def from_json(cls, found: Any) -> Timing:
        """Raises one of DAMAGED for anything that ``to_json`` does not make."""
        op, types, work, sizes, signature, time_ns = found
        macs, element_ops, read, written = map(count, work)
        constants, channels, runs, border = map(count, sizes)
        if not all(isinstance(text, str) for text in (op, types, signature)):
            raise TypeError(f"not names: {op!r:.50}, {types!r:.50}, {signature!r:.50}")
        work, sizes = Work(macs, element_ops, read, written), (constants, channels, runs, border)
        return cls(op, types, work, sizes, signature, count(time_ns))


FEW = 3
"""Fewer timings of a kind than this don't tell one rate from another: they scale the rates of a wider kind."""

DOUBT = 0.1
"""How much of a launch a timing of an op may be off: the launch was subtracted from it."""


@dataclass(frozen=True)
class TimingBook:
    """What is known of the costs of one device.

    launch_ns: of starting a segment on the device, beyond its ops. step_ns: what core adds where the segment is a step
    of a plan; 0 is not yet known. is_fusing: an elementwise float op costs less behind another one. timings: at most
    one a signature. left: ops of the calibration that it has not come to yet.
    """

    peaks: Peaks = field(default_factory=Peaks)
    launch_ns: int = 0
    step_ns: int = 0
    is_fusing: bool = False
    timings: tuple[Timing, ...] = ()
    left: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the calibration has come to its end."""
        return self.step_ns > 0 and not self.left

    @property
    def to_device(self) -> Link:
        return self.peaks.to_device

    @property
    def from_device(self) -> Link:
        return self.peaks.from_device

    @cached_property
    def measured(self) -> Mapping[str, Timing]:
        """Timings by signature."""
        return {timing.signature: timing for timing in self.timings}

    @cached_property
    def _kinds(self) -> Mapping[tuple[str, ...], list[Timing]]:
        found: dict[tuple[str, ...], list[Timing]] = {}
        for timing in self.timings:
            for kind in timing.kinds:
                found.setdefault(kind, []).append(timing)
        return found

    @cached_property
    def _rates(self) -> dict[tuple[str, ...], Rates | None]:
        return {}

    def rates(self, kind: tuple[str, ...]) -> Rates | None:
        """What ops of a kind (``kinds_of``) cost; None where none was timed. Fitted when first asked for."""
        if kind not in self._rates:
            self._rates[kind] = self._fitted(kind)
        return self._rates[kind]

    def _fitted(self, kind: tuple[str, ...]) -> Rates | None:
        near = self._kinds.get(kind, [])
        if not near:
            return None
        known = [quantities(timing.work, timing.sizes) for timing in near]
        times = [max(1, timing.time_ns) for timing in near]
        wider = near[0].kinds[1]
        if len(near) < FEW and kind != wider and len(self._kinds[wider]) >= FEW:
            rates = self.rates(wider)
            assert rates is not None
            return rates.scaled(known, times, self.launch_ns * DOUBT)
        return Rates.fitted(known, times, self.launch_ns * DOUBT)

    @cached_property
    def digest(self) -> str:
        """Equal books have equal digests: for cache keys."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def with_timings(self, timings: Iterable[Timing]) -> TimingBook:
        """The book with these timings, in the place of those of the same signatures."""
        merged = {**self.measured, **{timing.signature: timing for timing in timings}}
        return replace(self, timings=tuple(sorted(merged.values(), key=lambda t: t.signature)))

    def to_json(self) -> dict[str, Any]:
        return {
            "peaks": self.peaks.to_json(),
            "launch_ns": self.launch_ns,
            "step_ns": self.step_ns,
            "is_fusing": self.is_fusing,
            "timings": [timing.to_json() for timing in self.timings],
            "left": self.left,
        }

    @classmethod
    def from_json(cls, found: Any) -> TimingBook:
        """Raises one of DAMAGED for anything that ``to_json`` does not make."""
        launch_ns, step_ns, left = (count(found[name]) for name in ("launch_ns", "step_ns", "left"))
        if not isinstance(found["is_fusing"], bool):
            raise TypeError(f"not a truth: {found['is_fusing']!r:.50}")
        book = cls(Peaks.from_json(found["peaks"]), launch_ns, step_ns, found["is_fusing"], left=left)
        return book.with_timings(Timing.from_json(timing) for timing in found["timings"])


# --- prediction ---------------------------------------------------------------------------------------------------


def predicted(book: TimingBook, node: Node, estimate: Estimate | None = None, *, inside: bool | None = None) -> OpCost:
    """The cost of a node on the book's device.

    estimate: the device's own. inside: whether another op of the segment makes its data and others read its result; by
    default so for an op that only renames.
    """
    inside = is_rename(node) if inside is None else inside
    for one in (True, False) if inside else (False,):
        timing = book.measured.get(signature_of(node, one))
        if timing is not None:
            return OpCost(timing.time_ns, "measured", f"measured: this {timing.op} of {timing.types}")
    if estimate is not None:
        return OpCost(estimate.time_ns, "estimate", "the device's own estimate")
    work, sizes, types = work_of(node), sizes_of(node), types_of(node)
    for kind, what in kinds_of(node.op.name, types, work, inside):
        rates = book.rates(kind)
        if rates is not None:
            text = f"roofline, corrected from {len(rates.rests)} timings of {what}"
            return OpCost(max(1, round(rates.time(quantities(work, sizes)))), "roofline", text)
    return OpCost(max(1, round(roofline(book.peaks, node))), "roofline", "roofline of the device's peaks")


def predicted_ops(
    book: TimingBook,
    nodes: Sequence[Node],
    estimates: Sequence[Estimate | None] | None = None,
    delivered: frozenset[int] = frozenset(),
) -> list[OpCost]:
    """The costs of nodes that run together: an op costs less where another one makes its data.

    delivered: tensors that are read from outside.
    """
    own = estimates or [None] * len(nodes)
    inside = [False] * len(nodes)
    makers = {i: position for position, node in enumerate(nodes) for i in node.op.outputs if i >= 0}
    readers = Counter(i for node in nodes for i in set(node.op.inputs))
    for position, node in enumerate(nodes):
        if is_rename(node):
            inside[position] = not delivered.intersection(node.op.outputs)
        elif book.is_fusing and is_elementwise(node):
            before = [(nodes[makers[i]], i) for i in node.op.inputs if i in makers]
            inside[position] = any(
                is_elementwise(maker)
                and readers[i] == 1
                and i not in delivered
                and maker.outputs[0].shape == node.outputs[0].shape
                for maker, i in before
            )
    return [predicted(book, n, e, inside=within) for n, e, within in zip(nodes, own, inside, strict=True)]


def predicted_segment(book: TimingBook, segment: Segment) -> int:
    """ns of a run of a segment on the book's device: the launch, and its ops."""
    costs = predicted_ops(book, segment.nodes, delivered=frozenset((*segment.outputs, *segment.variables)))
    return book.launch_ns + sum(cost.time_ns for cost in costs)


def roofline(peaks: Peaks, node: Node) -> float:
    """ns of a node at the device's peaks."""
    work, rates = work_of(node), peaks.ops_per_s
    dtype = DType.FLOAT32 if types_of(node).startswith("float") else DType.INT8
    rate = rates.get(dtype) or max(rates.values(), default=1e9)
    compute = (2.0 * work.macs + work.element_ops) / rate
    memory = (work.bytes_read + work.bytes_written) / (peaks.memory_bytes_per_s or 1e9)
    return max(1.0, 1e9 * max(compute, memory))
