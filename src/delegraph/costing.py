"""Where the partitioner's costs come from: measured books, devices' estimates, published figures. Composition only.

All costs of one table are of one machine. On ``host``, the machine that this runs on, real devices are calibrated once
and their timings kept. On any other machine the CPU is a roofline over its published figures, and the emulated devices
say what they take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from delegraph.core.abi.values import DeviceInfo, Estimate, GraphView
from delegraph.core.devices.rules.operands import data_inputs
from delegraph.core.devices.values import Cpu, Energy, Profile
from delegraph.core.errors import InvalidArgument
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.registry import find
from delegraph.core.runtime.border import DeviceSlot
from delegraph.cutting import segment_of
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts, OpCosts
from delegraph.partitioner.work import CPU_DEVICES, GraphWork, SegmentEstimates
from delegraph.request import HOST, Say

if TYPE_CHECKING:
    from delegraph.core.devices.timing import TimingBook

_SOURCES = {"measured": "measured", "estimate": "device", "roofline": "roofline"}


_MEMORIES = 16
"""Graphs in some shapes of which it is remembered what was answered."""


@dataclass(frozen=True, eq=False)
class _Memory:
    """What devices said of these nodes, for they say the same each time. columns: (device, the positions that it was
    asked about) → its costs; segments: (device, ops) → its own estimate, None where it had none."""

    nodes: Sequence[Node]
    columns: dict[tuple[str, tuple[int, ...]], tuple[DeviceCosts, Sequence[Cost | None]]] = field(default_factory=dict)
    segments: dict[tuple[str, tuple[int, ...]], int | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Costing:
    """Costs of a model's devices. machine: whose time base. fallbacks: devices that nobody named. given: costs that
    stand in the place of all others. say: told of calibrations."""

    slots: Mapping[str, DeviceSlot]
    fallbacks: tuple[str, ...]
    machine: str
    given: CostTable | None = None
    say: Say = field(default=lambda _: None)
    asked: dict[tuple[int, str, tuple[int, ...]], int] = field(default_factory=dict)
    _memories: list[_Memory] = field(default_factory=list)

    def table(self, work: GraphWork) -> CostTable:
        """The costs of the ops of ``work`` on the devices that any of them may go to, and on the CPU.

        Raises:
            DelegateError: a device can't be measured.
        """
        if self.given is not None:
            return fitting(self.given, work)
        used = self._used(work)
        view = GraphView(work.graph, tuple(work.nodes))
        devices = {name: _device(slot.info) for name, slot in self.slots.items()}
        columns: dict[str, Sequence[Cost | None]] = {}
        for name in used:
            devices[name], columns[name] = self._remembered(name, view, work)
        devices = {name: self._with_segments(name, device) for name, device in devices.items()}
        rows = [self._row(work, position, node, columns) for position, node in enumerate(work.nodes)]
        return CostTable(self.machine, tuple(devices.values()), tuple(rows), self.fallbacks)

    def _memory(self, work: GraphWork) -> _Memory:
        for memory in self._memories:
            if memory.nodes is work.nodes:
                return memory
        memory = _Memory(work.nodes)
        self._memories[:] = [*self._memories[1 - _MEMORIES :], memory]
        return memory

    def _remembered(self, name: str, view: GraphView, work: GraphWork) -> tuple[DeviceCosts, Sequence[Cost | None]]:
        """What ops cost on the device, as it said before or says now."""
        slot, columns = self.slots[name], self._memory(work).columns
        if self._is_modelled_cpu(name):
            if (name, ()) not in columns:
                columns[name, ()] = self._of_cpu(slot, view)
            return columns[name, ()]
        answers = zip(work.asked[name], work.answers[name], strict=True)
        own = (
            ()
            if _profile(slot) is not None
            else tuple(p for p, (asked, a) in enumerate(answers) if asked.runs or a.runs)
        )
        if (name, own) not in columns:
            columns[name, own] = self._of(slot, view, work)
        return columns[name, own]

    def _used(self, work: GraphWork) -> list[str]:
        """Devices that some op may go to, whatever the wishes, and those that make up the CPU alone."""
        wanted: set[str | None] = set()
        for position, node in enumerate(work.nodes):
            if node.op.index not in work.host:
                wanted |= {name for name in work.named if work.asked[name][position].runs}
                wanted |= {*work.domain(position), *work.stand_ins(position), work.on_cpu(position)}
        return [name for name in self.slots if name in wanted]

    def _is_modelled_cpu(self, name: str) -> bool:
        return self.machine != HOST and name in CPU_DEVICES

    def _row(self, work: GraphWork, position: int, node: Node, columns: Mapping[str, Sequence[Cost | None]]) -> OpCosts:
        """With the devices' own answers, so that other wishes can be tried on the same table."""
        if node.op.index in work.host:
            return OpCosts(work.graph.index, node.op.index, node.op.name, {}, {})
        answers = {name: found[position] for name, found in work.asked.items()}
        costs = {
            name: cost
            for name, column in columns.items()
            if (answers[name].runs or work.answers[name][position].runs) and (cost := column[position]) is not None
        }
        shapes = tuple(spec.shape for spec in node.outputs)
        return OpCosts(work.graph.index, node.op.index, node.op.name, answers, costs, shapes)

    def _of(self, slot: DeviceSlot, view: GraphView, work: GraphWork) -> tuple[DeviceCosts, list[Cost | None]]:
        """A real device by its book, an emulated one by its own estimates. Ops that a device fuses are priced as if all
        that it takes ran together."""
        info = slot.info
        estimates = slot.estimate(view)
        if (profile := _profile(slot)) is not None:
            energy = profile.energy
            costs = [None if e is None else _estimated(e, has_energy=energy is not None) for e in estimates]
            return _with_energy(_device(info), energy), costs
        from delegraph.core.devices.timing import predicted_ops
        from delegraph.storage import kept_costs, measured_costs

        if kept_costs(info) is None:
            self.say(f"measuring what ops cost on {info.id} (once, it is kept)")
        book = measured_costs(info)
        found: list[Cost | None] = [None] * len(view.nodes)
        answers = zip(work.asked[slot.id], work.answers[slot.id], strict=True)
        own = [p for p, (asked, answer) in enumerate(answers) if asked.runs or answer.runs]
        nodes, theirs = [view.nodes[p] for p in own], [estimates[p] for p in own]
        for position, cost in zip(own, predicted_ops(book, nodes, theirs, work.needed), strict=True):
            found[position] = Cost(cost.time_ns, _SOURCES[cost.source], None, cost.text)
        return _measured(info, book), found

    def _of_cpu(self, slot: DeviceSlot, view: GraphView) -> tuple[DeviceCosts, list[Cost | None]]:
        from delegraph.core.devices.locate import load

        machine = load().machines.get(self.machine)
        cpu = None if machine is None else machine.cpu
        if cpu is None:
            raise InvalidArgument(f"machine {self.machine}", "figures of its CPU", "none", "add them to devices.yaml")
        return DeviceCosts(slot.id, source="roofline", power_w=cpu.power_w), [
            cpu_cost(cpu, node) for node in view.nodes
        ]

    def estimates(self, work: GraphWork, table: CostTable) -> tuple[SegmentEstimates | None, bool]:
        """The devices' own estimates of segments, if any has one; and whether none is below the sum of its ops."""
        if self.given is not None:
            return replayed(self.given, work.graph.index)
        able = [device.id for device in table.devices if device.estimates_segments]
        if not able:
            return None, True

        known = self._memory(work).segments

        def estimate(device: str, nodes: Sequence[Node]) -> int | None:
            if device not in able:
                return None
            key = device, tuple([node.op.index for node in nodes])
            if key not in known:
                found = self.slots[device].estimate_segment(segment_of(work, nodes))
                known[key] = None if found is None else found.time_ns
                if found is not None:
                    self.asked[work.graph.index, *key] = found.time_ns
            return known[key]

        return estimate, _exceed(table)

    def _with_segments(self, name: str, device: DeviceCosts) -> DeviceCosts:
        """With whether it has to be asked about segments. Of an emulated device that is known: they are the sum of
        their ops, or more where it has to fetch constants that its cache has no room for."""
        if name not in self.slots or self._is_modelled_cpu(name):
            return device
        slot = self.slots[name]
        if (profile := _profile(slot)) is not None:
            cache, rate = profile.weight_cache_bytes, profile.weights_bytes_per_s
            if not cache or not rate:
                return device
            rate = device.stream_bytes_per_s or math.ceil(rate)
            device = replace(device, weight_cache_bytes=cache, stream_bytes_per_s=rate)
        return replace(device, estimates_segments=slot.estimates_segments)


def _profile(slot: DeviceSlot) -> Profile | None:
    """The model behind an emulated device."""
    if not slot.info.is_virtual:
        return None
    from delegraph.core.devices.locate import profile_of

    return profile_of(slot.info)


def fitting(table: CostTable, work: GraphWork) -> CostTable:
    """What of a table that was handed in holds for these ops: not what is for other shapes.

    Raises:
        InvalidArgument: it is of another model.
    """
    nodes = {node.op.index: node for node in work.nodes}
    kept = []
    for row in table.ops:
        node = nodes.get(row.op) if row.graph == work.graph.index else None
        if node is not None and row.name and row.name != node.op.name:
            raise InvalidArgument(f"costs: {node.place}", node.op.name, row.name, "the costs are of another model")
        if node is None or not row.shapes or row.shapes == tuple(spec.shape for spec in node.outputs):
            kept.append(row)
    return replace(table, ops=tuple(kept))


def replayed(table: CostTable, graph: int) -> tuple[SegmentEstimates | None, bool]:
    """As ``Costing.estimates``, from what a table says that the devices said."""
    known = {(row.device, row.ops): row.time_ns for row in table.segments if row.graph == graph}
    if not known and not any(device.estimates_segments for device in table.devices):
        return None, True
    return lambda device, nodes: known.get((device, tuple(node.op.index for node in nodes))), _exceed(table)


def _exceed(table: CostTable) -> bool:
    """Whether what devices say of segments is no less than the sum of their ops: so in the models that are known, while
    a stranger's device may fuse its ops, which is why it is asked."""
    return all(device.weight_cache_bytes is not None for device in table.devices if device.estimates_segments)


def cpu_cost(cpu: Cpu, node: Node) -> Cost:
    """A roofline over the published figures of a machine's CPU: computing or memory, whichever takes longer."""
    opdef = find(node.op.name)
    if opdef is None:
        return Cost(0, "roofline")
    work = opdef.count(node)
    rates = [cpu.ops_per_s[spec.dtype] for spec in data_inputs(node) if spec.dtype in cpu.ops_per_s]
    rate = min(rates or cpu.ops_per_s.values())
    moved = work.bytes_read + work.bytes_written
    seconds = max((2 * work.macs + work.element_ops) / rate, moved / cpu.memory_bytes_per_s)
    time_ns = math.ceil(seconds * 1e9)
    energy = None if cpu.power_w is None else math.ceil(time_ns * cpu.power_w)
    return Cost(time_ns, "roofline", energy, f"published figures of {cpu.name}")


def _estimated(estimate: Estimate, *, has_energy: bool) -> Cost:
    return Cost(estimate.time_ns, "device", estimate.energy_nj if has_energy else None)


def _with_energy(device: DeviceCosts, energy: Energy | None) -> DeviceCosts:
    """With what starts and copies take: of bytes whose energy nobody publishes, what the device draws meanwhile."""
    if energy is None:
        return device
    return replace(device, byte_pj=energy.byte_pj or None, power_w=energy.power_w)


def _device(info: DeviceInfo) -> DeviceCosts:
    """What the device says of itself."""
    return DeviceCosts(
        info.id,
        info.launch_ns,
        info.to_device,
        info.from_device,
        info.memory_domain,
        info.resource,
        info.may_hang,
        info.limits,
        info.to_device.bytes_per_s if info.limits.weight_budget_bytes is not None else 0,
    )


def _measured(info: DeviceInfo, book: TimingBook) -> DeviceCosts:
    """With launch and links as they were measured."""
    return replace(
        _device(info),
        launch_ns=book.launch_ns + book.step_ns,
        to_device=book.to_device,
        from_device=book.from_device,
        source="measured",
    )
