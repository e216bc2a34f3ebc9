"""What ops, launches and transfers cost on each device, as data with its provenance; read and written as JSON.

Imports delegraph.core up to abi, partitioner.json_reader. The same table gives the same placement on any machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delegraph.core.abi.values import Limits, Link, Support, Verdict
from delegraph.core.errors import InvalidArgument
from delegraph.partitioner.json_reader import Reader, read_json

FORMAT, VERSION = "delegraph-costs", 1

SOURCES = ("measured", "device", "roofline", "file")
"""Where a figure comes from, the better one first: a timing of that very op, the device's own estimate, core's roofline
over measured or published peaks; "file": someone wrote it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one op on one device, without launch and copies. time_ns, energy_nj (None: unknown): integers of at least 0.
    source: one of SOURCES. note: how it was arrived at, where that needs saying."""

    time_ns: int
    source: str
    energy_nj: int | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"time_ns": self.time_ns, "source": self.source}
        if self.energy_nj is not None:
            found["energy_nj"] = self.energy_nj
        return found | ({"note": self.note} if self.note else {})


@dataclass(frozen=True, slots=True)
class DeviceCosts:
    """What a device costs beside its ops, and what it can take. launch_ns: of starting a segment; to_device,
    from_device: the links; source: of these figures. memory_domain, resource, may_hang, limits: as in DeviceInfo.
    stream_bytes_per_s: of constants beyond the weight budget. byte_pj: energy of a byte that is copied; power_w: what
    the device draws while it starts a segment and copies; None: unknown. estimates_segments: whether it may say of a
    whole segment what that costs, in place of the sum of its ops.
    weight_cache_bytes: constants that stay on a device whose segments are known to cost no less than the sum of their
    ops, and more only for fetching further ones at stream_bytes_per_s; None: it may say anything of segments.
    """

    id: str
    launch_ns: int = 0
    to_device: Link = Link()
    from_device: Link = Link()
    memory_domain: str = "host"
    resource: str = ""
    may_hang: bool = False
    limits: Limits = Limits()
    stream_bytes_per_s: int = 0
    byte_pj: float | None = None
    source: str = "device"
    estimates_segments: bool = False
    weight_cache_bytes: int | None = None
    power_w: float | None = None

    def to_json(self) -> dict[str, Any]:
        limits = {
            "max_segments": self.limits.max_segments,
            "prefix_only": self.limits.prefix_only,
            "weight_budget_bytes": self.limits.weight_budget_bytes,
            "min_ops": self.limits.min_ops,
        }
        more = {"weight_cache_bytes": self.weight_cache_bytes, "power_w": self.power_w}
        return {
            "id": self.id,
            "launch_ns": self.launch_ns,
            "to_device": _link_json(self.to_device),
            "from_device": _link_json(self.from_device),
            "memory_domain": self.memory_domain,
            "resource": self.resource,
            "may_hang": self.may_hang,
            "limits": limits,
            "stream_bytes_per_s": self.stream_bytes_per_s,
            "byte_pj": self.byte_pj,
            "source": self.source,
            "estimates_segments": self.estimates_segments,
        } | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class OpCosts:
    """One op: what each device answers, and what it costs there (no entry where the device refuses it). shapes: of its
    outputs, for which the costs are; empty: whatever they are."""

    graph: int
    op: int
    name: str
    answers: Mapping[str, Support]
    costs: Mapping[str, Cost]
    shapes: tuple[tuple[int, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "op": self.op,
            "name": self.name,
            "shapes": [list(shape) for shape in self.shapes],
            "devices": {device: _answer_json(a, self.costs.get(device)) for device, a in self.answers.items()},
        }


@dataclass(frozen=True, slots=True)
class SegmentEstimate:
    """A device's own cost of a segment as one, where that is not the sum of its ops."""

    graph: int
    device: str
    ops: tuple[int, ...]
    time_ns: int

    def to_json(self) -> dict[str, Any]:
        return {"graph": self.graph, "device": self.device, "ops": list(self.ops), "time_ns": self.time_ns}


@dataclass(frozen=True, slots=True)
class CostTable:
    """All costs of a model's ops. machine: in whose time base they are. devices: in the user's order, the ones that
    stand under them last; fallbacks: ids of those that nobody named, which take what the others refuse. segments: what
    the devices said of whole segments when the table was made."""

    machine: str
    devices: tuple[DeviceCosts, ...]
    ops: tuple[OpCosts, ...]
    fallbacks: tuple[str, ...] = ()
    segments: tuple[SegmentEstimate, ...] = ()

    def of_graph(self, graph: int) -> dict[int, OpCosts]:
        """Op number → its costs."""
        return {row.op: row for row in self.ops if row.graph == graph}

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "machine": self.machine,
            "devices": [device.to_json() for device in self.devices],
            "fallbacks": list(self.fallbacks),
            "ops": [row.to_json() for row in self.ops],
            "segments": [segment.to_json() for segment in self.segments],
        }

    @classmethod
    def read(cls, source: str | os.PathLike[str]) -> CostTable:
        """From a file. Raises OSError, or InvalidArgument naming the place that is wrong."""
        return cls.from_json(read_json(source, "costs"))

    @classmethod
    def from_json(cls, found: Any) -> CostTable:
        """What ``to_json`` makes. Raises InvalidArgument naming the place that is wrong."""
        root = Reader(found, "costs")
        root.expect_format(FORMAT, VERSION, "delegraph explain MODEL --save-costs FILE writes one")
        devices = tuple(_device(item) for item in root.items("devices"))
        names = [device.id for device in devices]
        if len(set(names)) != len(names):
            raise InvalidArgument("costs.devices", "each device once", ", ".join(names))
        fallbacks = tuple(item.text() for item in root.items("fallbacks"))
        ops = tuple(_op(item, names) for item in root.items("ops"))
        segments = tuple(_segment(item) for item in root.items("segments"))
        return cls(root["machine"].text(), devices, ops, fallbacks, segments)


def _link_json(link: Link) -> dict[str, int]:
    return {"latency_ns": link.latency_ns, "bytes_per_s": link.bytes_per_s}


def answer_json(answer: Support) -> dict[str, str]:
    """The verdict, and what of the rest is not empty."""
    fields = ("constraint", "reason", "value", "limit", "advice")
    found = {"verdict": answer.verdict.value}
    return found | {name: text for name in fields if (text := getattr(answer, name))}


def _answer_json(answer: Support, cost: Cost | None) -> dict[str, Any]:
    return answer_json(answer) | ({} if cost is None else {"cost": cost.to_json()})


def _device(item: Reader) -> DeviceCosts:
    limits = item["limits"]
    most, budget, byte_pj = limits.get("max_segments"), limits.get("weight_budget_bytes"), item.get("byte_pj")
    estimates, cache, power_w = (item.get(name) for name in ("estimates_segments", "weight_cache_bytes", "power_w"))
    return DeviceCosts(
        item["id"].text(),
        item["launch_ns"].whole(),
        _link(item["to_device"]),
        _link(item["from_device"]),
        item["memory_domain"].text(),
        item["resource"].text(),
        item["may_hang"].flag(),
        Limits(
            None if most is None else most.whole(1),
            limits["prefix_only"].flag(),
            None if budget is None else budget.whole(),
            limits["min_ops"].whole(1),
        ),
        item["stream_bytes_per_s"].whole(),
        None if byte_pj is None else byte_pj.number(),
        _source(item["source"]),
        False if estimates is None else estimates.flag(),
        None if cache is None else cache.whole(),
        None if power_w is None else power_w.number(),
    )


def _link(item: Reader) -> Link:
    return Link(item["latency_ns"].whole(), item["bytes_per_s"].whole())


def _source(item: Reader) -> str:
    if item.value not in SOURCES:
        raise item.wrong(f"one of {', '.join(SOURCES)}")
    return item.text()


def _op(item: Reader, devices: Sequence[str]) -> OpCosts:
    answers, costs = {}, {}
    for device, found in item.fields("devices").items():
        if device not in devices:
            raise InvalidArgument(found.place, f"one of the devices {', '.join(devices)}", repr(device))
        answers[device] = read_answer(found)
        cost = found.get("cost")
        if cost is not None and answers[device].runs:
            costs[device] = read_cost(cost)
    shapes = () if item.get("shapes") is None else tuple(_shape(shape) for shape in item.items("shapes"))
    return OpCosts(item["graph"].whole(), item["op"].whole(), item["name"].text(), answers, costs, shapes)


def _shape(item: Reader) -> tuple[int, ...]:
    if not isinstance(item.value, list):
        raise item.wrong("a list of sizes")
    return tuple(Reader(size, f"{item.place}[{i}]").whole() for i, size in enumerate(item.value))


def _segment(item: Reader) -> SegmentEstimate:
    ops = tuple(op.whole() for op in item.items("ops"))
    return SegmentEstimate(item["graph"].whole(), item["device"].text(), ops, item["time_ns"].whole())


def read_answer(item: Reader) -> Support:
    """What ``answer_json`` makes."""
    verdicts = {verdict.value: verdict for verdict in Verdict}
    verdict = item["verdict"]
    if verdict.value not in list(verdicts):
        raise verdict.wrong(f"one of {', '.join(verdicts)}")
    constraint, reason, advice, value, limit = (
        field.text() if (field := item.get(name)) else ""
        for name in ("constraint", "reason", "advice", "value", "limit")
    )
    return Support(verdicts[verdict.value], constraint, reason, advice, value, limit)


def read_cost(item: Reader) -> Cost:
    """What ``Cost.to_json`` makes; of an unnamed source it is "file"."""
    energy, source, note = item.get("energy_nj"), item.get("source"), item.get("note")
    return Cost(
        item["time_ns"].whole(),
        "file" if source is None else _source(source),
        None if energy is None else energy.whole(),
        "" if note is None else note.text(),
    )
