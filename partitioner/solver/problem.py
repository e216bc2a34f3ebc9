"""What the solver decides over, as plain numbers: devices, ops, tensors and their costs. Imports core.abi's values.

Words: an *entry* is where a tensor reaches a device that did not make it. The *home* of a tensor is the device of the
op that makes it, or the host for the graph's inputs. *Core's steps* are ops that core runs itself: they belong to the
device with id "", which launches for nothing and shares the host's memory.

All costs are integers of one unit: nanoseconds, or nanojoules where the objective is energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from delegraph.core.abi.values import Limits, Link
from delegraph.core.errors import DelegraphError, InternalError
from delegraph.core.errors import NoEnergyModel as NoEnergyModel

IntArray = npt.NDArray[np.int64]

NEVER = 1 << 60
"""The cost of what can't be. Sums are cut off at it."""
COST_LIMIT = 1 << 58
"""All costs of a problem together stay below."""

CORE = ""
"""The id of the device of core's own steps."""


class Unplaceable(DelegraphError):
    """No device may run an op, or the limits of the only one that may can't be kept.

    Example: ``op 12: expected a device that may run it, found none; remove a pin or add the cpu``

    Attributes: op (index in the problem), expected, found, advice.
    """

    def __init__(self, op: int, expected: str, found: str, advice: str) -> None:
        self.op, self.expected, self.found, self.advice = op, expected, found, advice
        super().__init__(f"op {op}: expected {expected}, found {found}; {advice}")


@dataclass(frozen=True, slots=True)
class ProblemDevice:
    """A device. launch: cost of starting a segment. domain: devices of one memory domain copy for free. resource:
    devices of one resource don't run at the same time ("" stands for the id). is_beside: it runs while the caller goes
    on. stream_bytes_per_s: of constants beyond the weight budget, 0 for streaming at no cost. weight_cache_bytes: how
    many constants stay on a device that says itself what a segment with more of them costs: where the search looks for
    splits, and nothing that TRUE knows of."""

    id: str
    launch: int = 0
    domain: str = "host"
    resource: str = ""
    limits: Limits = Limits()
    is_beside: bool = False
    stream_bytes_per_s: int = 0
    weight_cache_bytes: int | None = None

    @property
    def room_bytes(self) -> int | None:
        """Constants beyond which it has to stream each run; None where nothing is known of that."""
        rooms = (self.limits.weight_budget_bytes, self.weight_cache_bytes)
        return min((room for room in rooms if room is not None and self.stream_bytes_per_s), default=None)


@dataclass(frozen=True, slots=True)
class ProblemOp:
    """An op. costs: one per device, None where it can't run: not supported, excluded, or pinned elsewhere.
    weight_bytes: of its constants, for the devices' weight budgets. is_start: it only converts an input of the graph,
    so that what lies behind it still starts there for a device that takes only a prefix."""

    costs: tuple[int | None, ...]
    weight_bytes: int = 0
    is_start: bool = False


@dataclass(frozen=True, slots=True)
class SharedConstant:
    """A constant that several ops read: each has it in its weight_bytes, but a device holds it once."""

    readers: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ProblemTensor:
    """A tensor that is no constant. producer: the op that makes it, None for the graph's inputs. consumers: the ops
    that read it, each once, rising. is_output: it has to end on the host. copy: ``copy[d][e]``, cost of moving it.

    State that lives on the host is two of these: an input that its readers consume, and an output of its writer.
    """

    producer: int | None
    consumers: tuple[int, ...]
    is_output: bool
    copy: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Costs:
    """Another set of costs for the same problem, as of energy: ops[v][d], copies[t][d][e], launches[d]. None: unknown
    (or, for an op that the device does not run anyway, nothing)."""

    ops: tuple[tuple[int | None, ...], ...]
    copies: tuple[tuple[tuple[int, ...], ...], ...]
    launches: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Tensors of one producer (None: the host's) with the same consumers. copy: [D, D], their sum; out: [D], cost of
    delivering those that are outputs to the host; n_tensors."""

    producer: int | None
    consumers: tuple[int, ...]
    copy: IntArray
    out: IntArray
    n_tensors: int
    host: int


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """A problem's groups, G of them: each, and all in arrays. producer: [G], the number of ops for the host's; copy:
    [G, D, D]; out: [G, D]; n_tensors: [G]; reader_group, reader_op: [R], each reader of each group."""

    each: tuple[Group, ...]
    producer: IntArray
    copy: IntArray
    out: IntArray
    n_tensors: IntArray
    reader_group: IntArray
    reader_op: IntArray
    host: int

    def entry_costs(self, entries: Sequence[int]) -> IntArray:
        """[G, home, device], what residency of the group's tensors adds; delivery to the host, ``out``, is apart.
        entries: λ·launch per device."""
        found: IntArray = self.copy + self.n_tensors[:, None, None] * np.array(entries, np.int64)
        found[:, :, self.host] -= self.out
        n = found.shape[1]
        found[:, np.arange(n), np.arange(n)] = 0
        return found


@dataclass(frozen=True)
class Problem:
    """Devices in the user's order, ops in an order in which they can run, tensors, and ``order``: pairs of ops
    (earlier, later) that no tensor says, as state does. host: index of the device on whose memory the graph's inputs,
    outputs and state live; the CPU. under: devices that stand in for the host where it can't run an op, in order; the
    reference device. shared: constants of several ops.

    Must hold on entry: producers come before consumers, and earlier ops before later ones; costs are at least 0 and
    together below COST_LIMIT; the host and those under it have no limits.

    Raises:
        Unplaceable: an op that no device may run.
        InternalError: one of the rules above is broken.
    """

    devices: tuple[ProblemDevice, ...]
    host: int
    ops: tuple[ProblemOp, ...]
    tensors: tuple[ProblemTensor, ...]
    order: tuple[tuple[int, int], ...] = ()
    under: tuple[int, ...] = ()
    shared: tuple[SharedConstant, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.devices)
        for index, op in enumerate(self.ops):
            self._expect(len(op.costs) == n, f"op {index} has {len(op.costs)} costs for {n} devices")
            if all(cost is None for cost in op.costs):
                raise Unplaceable(index, "a device that may run it", "none", "remove a pin or add the cpu")
            self._expect(all(cost is None or cost >= 0 for cost in op.costs), f"op {index} has a negative cost")
        for index, tensor in enumerate(self.tensors):
            first = -1 if tensor.producer is None else tensor.producer
            uses = (first, *tensor.consumers, len(self.ops))
            self._expect(all(a < b for a, b in zip(uses, uses[1:], strict=False)), f"tensor {index} is out of order")
            rows = tensor.copy
            self._expect(len(rows) == n and all(len(row) == n for row in rows), f"tensor {index} lacks copy costs")
            self._expect(all(cost >= 0 for row in rows for cost in row), f"tensor {index} has a negative copy cost")
        self._expect(all(0 <= a < b < len(self.ops) for a, b in self.order), "an order edge leads back")
        self._expect(self.devices[self.host].limits == Limits(), "the host has limits")
        for d in self.under:
            self._expect(0 <= d < n, f"no device {d} is there to stand under the host")
            self._expect(self.devices[d].limits == Limits(), f"device {d}, which stands under the host, has limits")
        self._expect(self.cost_bound < COST_LIMIT, "the costs are too large")

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise InternalError("partitioner problem", what)

    @cached_property
    def cost_bound(self) -> int:
        """More than any assignment costs that breaks no prefix, by TRUE or a surrogate of λ up to 16."""
        ops = sum(max(cost or 0 for cost in op.costs) for op in self.ops)
        copies = sum(max(map(max, t.copy)) * len(self.devices) for t in self.tensors)
        launches = sum(device.launch for device in self.devices) * (len(self.ops) + len(self.tensors))
        return 1 + ops + copies + 16 * launches

    @cached_property
    def before(self) -> tuple[tuple[int, ...], ...]:
        """For each op those that must run earlier, rising."""
        found: list[set[int]] = [set() for _ in self.ops]
        for tensor in self.tensors:
            if tensor.producer is not None:
                for op in tensor.consumers:
                    found[op].add(tensor.producer)
        for earlier, later in self.order:
            found[later].add(earlier)
        return tuple(tuple(sorted(wait)) for wait in found)

    @cached_property
    def after(self) -> tuple[tuple[int, ...], ...]:
        """For each op those that wait for it, rising."""
        found: list[list[int]] = [[] for _ in self.ops]
        for op, wait in enumerate(self.before):
            for earlier in wait:
                found[earlier].append(op)
        return tuple(map(tuple, found))

    @cached_property
    def edge_ops(self) -> frozenset[int]:
        """The ops that read the graph's inputs or make its outputs."""
        readers = {op for t in self.tensors if t.producer is None for op in t.consumers}
        return frozenset(readers | {t.producer for t in self.tensors if t.producer is not None and t.is_output})

    @cached_property
    def binding(self) -> tuple[tuple[int, ...], ...]:
        """For each op those that have to be on a device that takes only a prefix if the op is."""
        return tuple(tuple(op for op in wait if not self.ops[op].is_start) for wait in self.before)

    @cached_property
    def domains(self) -> tuple[tuple[int, ...], ...]:
        """For each op the devices that may run it: a device that takes only a prefix loses what lies behind others'
        ops."""
        found: list[tuple[int, ...]] = []
        prefix = [device.limits.prefix_only for device in self.devices]
        for op, wait in zip(self.ops, self.binding, strict=True):
            devices = tuple(
                d
                for d, cost in enumerate(op.costs)
                if cost is not None and not (prefix[d] and any(d not in found[earlier] for earlier in wait))
            )
            if not devices:
                raise Unplaceable(
                    len(found), "a device that may run it", "only devices that take a prefix", "add the cpu"
                )
            found.append(devices)
        return tuple(found)

    @cached_property
    def op_costs(self) -> IntArray:
        """[n_ops, n_devices] costs, NEVER outside the domains."""
        found = np.full((len(self.ops), len(self.devices)), NEVER, np.int64)
        for index, (op, domain) in enumerate(zip(self.ops, self.domains, strict=True)):
            for d in domain:
                found[index, d] = NEVER if (cost := op.costs[d]) is None else cost
        return found

    @cached_property
    def copies(self) -> IntArray:
        """[n_tensors, n_devices, n_devices] costs of reading on the second a tensor whose home is the first:
        COST_LIMIT where that device takes only a prefix and an op elsewhere made it."""
        n = len(self.devices)
        found = np.array([tensor.copy for tensor in self.tensors], np.int64).reshape(-1, n, n)
        made = np.array([t.producer is not None and not self.ops[t.producer].is_start for t in self.tensors], bool)
        for d in self.prefix_devices:
            found[made, :, d] = COST_LIMIT
        found[:, np.arange(n), np.arange(n)] = 0
        return found

    @cached_property
    def groups(self) -> Groups:
        """The tensors, joined where producer and consumers are the same; those that can't cost left out."""
        n = len(self.devices)
        found: dict[tuple[int | None, tuple[int, ...]], int] = {}
        kept = [
            (index, found.setdefault((t.producer, t.consumers), len(found)))
            for index, t in enumerate(self.tensors)
            if t.consumers or (t.is_output and t.producer is not None)
        ]
        member, group = np.array(kept, np.int64).reshape(-1, 2).T
        copy, out = np.zeros((len(found), n, n), np.int64), np.zeros((len(found), n), np.int64)
        for index, g in kept:  # cut off at each, for sums of COST_LIMIT would overflow
            copy[g] = np.minimum(copy[g] + self.copies[index], COST_LIMIT)
        outputs = np.array([self.tensors[index].is_output for index in member.tolist()], bool)
        np.add.at(out, group[outputs], self.copies[member[outputs], :, self.host])
        n_tensors = np.bincount(group, minlength=len(found))
        readers = [(g, op) for (_, consumers), g in found.items() for op in consumers]
        reader_group, reader_op = np.array(readers, np.int64).reshape(-1, 2).T
        return Groups(
            each=tuple(
                Group(producer, consumers, copy[g], out[g], int(n_tensors[g]), self.host)
                for (producer, consumers), g in found.items()
            ),
            producer=np.array([len(self.ops) if p is None else p for p, _ in found], np.int64),
            copy=copy,
            out=out,
            n_tensors=n_tensors,
            reader_group=reader_group,
            reader_op=reader_op,
            host=self.host,
        )

    @property
    def prefix_devices(self) -> tuple[int, ...]:
        return tuple(d for d, device in enumerate(self.devices) if device.limits.prefix_only)

    @cached_property
    def launches(self) -> tuple[int, ...]:
        return tuple(device.launch for device in self.devices)

    @cached_property
    def rooms(self) -> dict[int, int]:
        """Device → bytes of constants beyond which it streams, for those that may be given more."""
        most = sum(op.weight_bytes for op in self.ops) - sum(c.size_bytes * (len(c.readers) - 1) for c in self.shared)
        rooms = {d: device.room_bytes for d, device in enumerate(self.devices)}
        return {d: room for d, room in rooms.items() if room is not None and room < most}

    def held_bytes(self, assignment: Sequence[int], device: int) -> int:
        """Constants on a device, each once."""
        held = sum([op.weight_bytes for op, d in zip(self.ops, assignment, strict=True) if d == device])
        for constant in self.shared:
            held -= constant.size_bytes * max(0, sum([assignment[op] == device for op in constant.readers]) - 1)
        return held

    @cached_property
    def weight_shares(self) -> IntArray:
        """[n_ops] bytes of constants, shared ones divided among their readers."""
        found = np.array([op.weight_bytes for op in self.ops], np.int64)
        for constant in self.shared:
            n = len(constant.readers)
            found[list(constant.readers)] -= constant.size_bytes - constant.size_bytes // n
        return found

    @cached_property
    def core(self) -> int | None:
        """The device of core's own steps, if there is one."""
        return next((d for d, device in enumerate(self.devices) if device.id == CORE), None)

    @cached_property
    def cpu_alone(self) -> tuple[int, ...] | None:
        """Every op on the host, else on the first under it that can, but for core's steps; None where none can."""
        found = []
        for domain in self.domains:
            able = next((d for d in (self.host, *self.under) if d in domain), None)
            if able is not None:
                found.append(able)
            elif self.core is not None and domain == (self.core,):
                found.append(self.core)
            else:
                return None
        return tuple(found)

    def with_costs(self, costs: Costs) -> Problem:
        """The same problem with other costs.

        Raises:
            NoEnergyModel: some candidate has none.
        """
        unknown = {
            d
            for op, row in zip(self.ops, costs.ops, strict=True)
            for d, cost in enumerate(op.costs)
            if cost is not None and row[d] is None
        }
        unknown |= {d for d, launch in enumerate(costs.launches) if launch is None and self._is_candidate(d)}
        if unknown:
            raise NoEnergyModel(tuple(self.devices[d].id for d in sorted(unknown)))
        return replace(
            self,
            devices=tuple(
                replace(device, launch=launch or 0, stream_bytes_per_s=0, weight_cache_bytes=None)
                for device, launch in zip(self.devices, costs.launches, strict=True)
            ),
            ops=tuple(
                replace(op, costs=tuple(None if old is None else new for old, new in zip(op.costs, row, strict=True)))
                for op, row in zip(self.ops, costs.ops, strict=True)
            ),
            tensors=tuple(replace(t, copy=copy) for t, copy in zip(self.tensors, costs.copies, strict=True)),
        )

    def _is_candidate(self, device: int) -> bool:
        return any(op.costs[device] is not None for op in self.ops)


def transfer_ns(link: Link, size_bytes: int) -> int:
    """Time of one transfer, rounded up."""
    return link.latency_ns + (-(-size_bytes * 1_000_000_000 // link.bytes_per_s) if link.bytes_per_s else 0)


def copy_table(
    size_bytes: int, domains: Sequence[str], to_device: Sequence[Link], from_device: Sequence[Link], host: int
) -> tuple[tuple[int, ...], ...]:
    """``copy[d][e]`` of a tensor: through the host's memory, but nothing within one memory domain. Links and domains
    are in the devices' order."""
    home = domains[host]
    up = [
        0 if domain == home else transfer_ns(link, size_bytes)
        for domain, link in zip(domains, from_device, strict=True)
    ]
    down = [
        0 if domain == home else transfer_ns(link, size_bytes) for domain, link in zip(domains, to_device, strict=True)
    ]
    return tuple(tuple(0 if a == b else up[d] + down[e] for e, b in enumerate(domains)) for d, a in enumerate(domains))
