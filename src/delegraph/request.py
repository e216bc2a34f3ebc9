"""What a user asks of a placement (devices, pins, objective, machine, ...), checked and resolved. Composition only."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delegraph import registry
from delegraph.core.abi.values import DelegateError, DeviceInfo, ErrorCode
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import GraphSet
from delegraph.core.runtime.border import DeviceSlot
from delegraph.partitioner.pins import Pins, parse_pins
from delegraph.partitioner.work import CPU_DEVICES

if TYPE_CHECKING:
    from delegraph.partitioner.costs import CostTable
    from delegraph.partitioner.placement import OpPlacement, Placement

HOST = "host"
"""The machine that this runs on."""
NUMERICS = ("exact", "fast")
FALLBACKS = ("allow", "error")
OBJECTIVES = ("latency", "energy")

_AND = " and "
"""Between the names of several machines."""

Say = Callable[[str], None]
"""Told what takes its time, in words."""

PinsLike = Mapping[str | int, str] | Mapping[str, str] | Mapping[int, str]
"""Ops ("12", "3-17", "CONV_2D", "1:4") → device."""


@dataclass(frozen=True, eq=False)
class Wishes:
    """The arguments of ``dg.compile`` and ``dg.explain`` that say where ops go, as the user wrote them; see there.

    Raises:
        InvalidArgument: an argument out of its range.
    """

    devices: str | Sequence[str] | None = None
    numerics: str = "exact"
    fallback: str = "allow"
    pins: PinsLike | None = None
    exclude: PinsLike | None = None
    objective: str = "latency"
    machine: str | None = None
    placement: Placement | str | os.PathLike[str] | Mapping[str, Any] | None = None
    costs: CostTable | str | os.PathLike[str] | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.devices is not None and not isinstance(self.devices, Iterable):
            raise InvalidArgument("devices", "a device's id, or a list of ids", repr(self.devices))
        for name, known in (("numerics", NUMERICS), ("fallback", FALLBACKS), ("objective", OBJECTIVES)):
            value = getattr(self, name)
            if value not in known:
                raise InvalidArgument(name, " or ".join(map(repr, known)), repr(value))


@dataclass(frozen=True, eq=False)
class Request:
    """What was asked for, resolved against the model and this machine.

    slots: devices by id, in the user's order, those that stand under them last. named: those that the user named.
    unavailable: device → why it can't be used at all. machine: in whose time base costs are. why_by_order: why times
    can't be compared, so that the order decides. given, costs: a placement, and costs, that were handed in.
    may_fall_back: whether a device that fails may be passed over.
    """

    slots: Mapping[str, DeviceSlot]
    named: Collection[str]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    numerics: str = "exact"
    pins: Pins = Pins({})
    excluded: Collection[tuple[int, int, str]] = ()
    objective: str = "latency"
    machine: str = HOST
    why_by_order: str = ""
    given: Placement | None = None
    costs: CostTable | None = None
    may_fall_back: bool = True

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The devices that nobody named."""
        return tuple(name for name in self.slots if name not in self.named)


def resolved(wishes: Wishes, graphs: GraphSet) -> Request:
    """The request behind the wishes.

    Raises:
        InvalidArgument: a device, machine, op or file that is not there, or that does not fit the others.
        DelegateError: a device that was named can't be used, and fallback is "error".
    """
    given, costs = _placement(wishes), _costs(wishes)
    names = _names(wishes, given)
    infos = registry.resolve(names, floor=wishes.fallback == "allow")
    named = {info.id for info in registry.resolve(names, floor=False)}
    slots, unavailable = _slots(infos, wishes.fallback)
    machine, why = _machine(wishes, [info for info in infos if info.id in named], costs)
    if given is not None:
        from delegraph.partitioner.given import check_model

        check_model(given, graphs, tuple(slots), unavailable)
    return Request(
        slots,
        tuple(name for name in slots if name in named),
        unavailable,
        wishes.numerics,
        *_pins_and_exclusions(wishes, graphs, slots),
        wishes.objective,
        machine,
        why,
        given,
        costs,
        wishes.fallback == "allow",
    )


def replayed(wishes: Wishes, graphs: GraphSet) -> Request:
    """The request that the costs were written for: their devices and machine, whatever is here.

    Raises:
        InvalidArgument: an op, device or file that is not there, or that does not fit the others.
    """
    given, costs = _placement(wishes), _costs(wishes)
    assert costs is not None
    if wishes.machine not in (None, costs.machine):
        raise InvalidArgument(f"machine {wishes.machine}", "costs of that machine", f"those of {costs.machine}")
    names = [device.id for device in costs.devices]
    if given is not None:
        from delegraph.partitioner.given import check_model

        check_model(given, graphs, names)
    return Request(
        {},
        tuple(name for name in names if name not in costs.fallbacks),
        {},
        wishes.numerics,
        *_pins_and_exclusions(wishes, graphs, names),
        wishes.objective,
        costs.machine,
        _why_by_order(costs.machine.split(_AND)),
        given,
        costs,
    )


def _names(wishes: Wishes, given: Placement | None) -> str | Sequence[str]:
    """The devices that the user named, that a placement or a machine has, or the CPU."""
    if wishes.devices is not None:
        return wishes.devices
    if given is not None:
        from delegraph.partitioner.placement import CORE, FOLDED

        used: dict[str, OpPlacement] = {}
        for row in given.rows:
            if row.device not in (CORE, FOLDED):
                used.setdefault(row.device, row)
        for name, row in used.items():
            try:
                registry.resolve(name, floor=False)
            except InvalidArgument as exc:
                place = f"placement: op {row.op}" + (f" of graph {row.graph}" if row.graph else "")
                raise InvalidArgument(place, exc.expected, exc.found, exc.advice) from exc
        return list(dict.fromkeys([*(name for name in given.devices if name in used), *used])) or "cpu"
    if wishes.machine not in (None, HOST):
        from delegraph.core.devices.locate import load

        found = [f"{p.family}:{p.id}" for p in load().profiles.values() if p.machine == wishes.machine]
        return [*found, "cpu"]
    return "cpu"


def _slots(infos: Sequence[DeviceInfo], fallback: str) -> tuple[dict[str, DeviceSlot], dict[str, str]]:
    """The devices that can be used in order, and why the others can't."""
    slots: dict[str, DeviceSlot] = {}
    unavailable: dict[str, str] = {}
    for info in infos:
        if info.available:
            slots[info.id] = registry.slot(info)
        elif fallback == "error":
            raise DelegateError(info.id, ErrorCode.UNSUPPORTED, f"{info.reason}; {info.remedy}")
        else:
            unavailable[info.id] = info.reason
    return slots, unavailable


def _machine(wishes: Wishes, named: Sequence[DeviceInfo], costs: CostTable | None) -> tuple[str, str]:
    """The machine that is meant, and why times can't be compared, if they can't."""
    machines = dict.fromkeys(info.machine for info in named if info.id not in CPU_DEVICES)
    if wishes.machine is not None:
        expect_machine(wishes.machine)
        if costs is not None and costs.machine != wishes.machine:
            raise InvalidArgument(f"machine {wishes.machine}", "costs of that machine", f"those of {costs.machine}")
        other = next((info for info in named if info.id not in CPU_DEVICES and info.machine != wishes.machine), None)
        if other is not None:
            raise InvalidArgument(
                f"machine {wishes.machine}", "devices of that machine", f"{other.id}, which is of {other.machine}",
                "name one machine's devices",
            )  # fmt: skip
        return wishes.machine, ""
    if costs is not None:
        return costs.machine, _why_by_order(costs.machine.split(_AND))
    return _AND.join(machines) or HOST, _why_by_order(tuple(machines))


def _why_by_order(machines: Sequence[str]) -> str:
    """Why times of these machines can't be compared, "" for one alone."""
    if len(machines) < 2:
        return ""
    return (
        f"the devices are of several machines ({', '.join(machines)}), whose times can't be compared: each op goes "
        "to the first device in the order that runs it"
    )


def expect_machine(name: str) -> None:
    """Raises InvalidArgument for a machine that devices.yaml does not have."""
    from delegraph.core.devices.locate import load

    machines = load().machines
    if name not in machines:
        raise InvalidArgument("machine", f"one of {', '.join(machines)}", repr(name))


def _pins_and_exclusions(
    wishes: Wishes, graphs: GraphSet, devices: Collection[str]
) -> tuple[Pins, frozenset[tuple[int, int, str]]]:
    """What is to run where, and what is not; no op is in both for one device."""
    pins = _pins(wishes.pins or {}, graphs, devices, "pin")
    excluded = _excluded(wishes.exclude or {}, graphs, devices)
    both = sorted({(*op, device) for op, device in pins.devices.items()} & excluded)
    if both:
        (graph, op, device), others = both[0], len(both) - 1
        found = f"op {op}" + (f" of graph {graph}" if graph else "") + (f" and {others} more" if others else "")
        raise InvalidArgument(
            f"pins and exclude for {device}", "different ops", f"{found} in both", "take them out of one"
        )
    return pins, excluded


def _pins(pins: PinsLike, graphs: GraphSet, devices: Collection[str], what: str) -> Pins:
    if not isinstance(pins, Mapping):
        raise InvalidArgument(what, "ops and devices, as {'3-17': 'cpu'}", repr(pins))
    known = {key: _device(device, devices, what) for key, device in pins.items()}
    return parse_pins(known, graphs)


def _device(name: object, devices: Collection[str], what: str) -> str:
    """The device of that name, or the only one of a family of that name."""
    family = [device for device in devices if isinstance(name, str) and device.partition(":")[0] == name]
    if isinstance(name, str) and name in devices:
        return name
    if len(family) == 1:
        return family[0]
    raise InvalidArgument(what, f"one of the model's devices {', '.join(devices)}", repr(name))


def _excluded(exclude: PinsLike, graphs: GraphSet, devices: Collection[str]) -> frozenset[tuple[int, int, str]]:
    found: set[tuple[int, int, str]] = set()
    if not isinstance(exclude, Mapping):
        raise InvalidArgument("exclude", "ops and devices, as {'3-17': 'cpu'}", repr(exclude))
    for key, device in exclude.items():  # one by one: several may name an op
        pins = _pins({key: device}, graphs, devices, "exclude")
        found |= {(graph, op, name) for (graph, op), name in pins.devices.items()}
    return frozenset(found)


def _placement(wishes: Wishes) -> Placement | None:
    from delegraph.partitioner.placement import Placement

    found = wishes.placement
    if found is None or isinstance(found, Placement):
        return found
    if isinstance(found, str | os.PathLike):
        return Placement.read(found)
    return Placement.from_json(found)


def _costs(wishes: Wishes) -> CostTable | None:
    if wishes.costs is None:
        return None
    from delegraph.partitioner.costs import CostTable

    found = wishes.costs
    if isinstance(found, CostTable):
        return found
    if isinstance(found, str | os.PathLike):
        return CostTable.read(found)
    return CostTable.from_json(found)
