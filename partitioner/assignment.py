"""Device per op of one graph by least cost: the problem that follows from its ops, and its solution. Imports core up to
abi, partitioner.work, problem, solve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from delegraph.core.abi.values import Cut, Limits, Link
from delegraph.core.ops import effects
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.ops.registry import find
from delegraph.partitioner.costs import Cost, CostTable, DeviceCosts
from delegraph.partitioner.solver.problem import (
    CORE,
    Costs,
    NoEnergyModel,
    Problem,
    ProblemDevice,
    ProblemOp,
    ProblemTensor,
    SharedConstant,
    Unplaceable,
    copy_table,
    transfer_ns,
)
from delegraph.partitioner.solver.solve import Solution, solve
from delegraph.partitioner.solver.true_cost import Judge, concurrent_time
from delegraph.partitioner.work import CPU, CPU_DEVICES, Assignment, GraphWork, SegmentEstimates

LAST_RESORT_NS = 10**12
"""What an op on a device that nobody named costs beside its time, while the split is searched: more than any model
takes, so that it goes there only when it has to."""


def by_cost(
    work: GraphWork,
    table: CostTable,
    objective: str = "latency",
    estimates: SegmentEstimates | None = None,
    *,
    estimates_exceed_sums: bool = False,
    is_quick: bool = False,
    start: Assignment | None = None,
) -> Assignment:
    """The assignment of least TRUE that the solver finds; is_quick: by one surrogate alone, a little worse perhaps.
    start: an assignment of the same ops under other wishes: what is found is no worse, if it may be chosen.

    Must hold on entry: every node has a device that runs it, with a cost in the table.

    Raises:
        InvalidArgument: another objective.
        NoEnergyModel: energy is to be least, and some device's is not known.
        Unplaceable: pins or limits that can't be kept together.
    """  # fmt: skip
    domains = _widened(work, table)
    real = _problem(work, table, domains)
    ids = [device.id for device in real.devices]
    forced = [d for d, device in enumerate(ids) if device not in (*work.named, CORE)]
    is_forced = CPU not in work.named and any(
        len(domain) > 1 and any(d in domain for d in table.fallbacks) for domain in domains
    )
    estimate = None if estimates is None else _by_position(work, ids, estimates)
    energy = _energy(work, table, real) if objective == "energy" else None
    problem = _dearer(real, forced) if is_forced else real
    solution = solve(
        problem,
        objective,
        _dearer_energy(energy, forced) if energy is not None and is_forced else energy,
        estimate,
        is_quick=is_quick,
        starts=_starts(problem, ids, start),
        estimates_exceed_sums=estimates_exceed_sums,
    )
    judged = real if energy is None else real.with_costs(energy)
    judge = Judge(judged, estimate if energy is None else None)
    runs = judge.run_costs(solution.assignment)
    beside = concurrent_time(judged, judge.runs(solution.assignment), estimate if energy is None else None)
    return Assignment(
        tuple(ids[d] for d in solution.assignment),
        tuple(map(tuple, domains)),
        judged,
        replace(
            solution,
            true_ns=sum(run.total_ns for run in runs),
            concurrent_ns=beside + sum(run.streaming_ns for run in runs),
            bound_ns=None if is_forced else solution.bound_ns,
        ),
        runs,
        cpu_alone(work, table, energy is not None) if start is None else start.cpu_alone_ns,
        is_forced,
        estimates if energy is None else None,
        estimates_exceed_sums,
    )


def _starts(problem: Problem, ids: Sequence[str], start: Assignment | None) -> list[tuple[int, ...]]:
    """The assignment in the problem's numbers, if it is one of it."""
    if start is None or not set(start.devices).issubset(ids):
        return []
    found = tuple(ids.index(device) for device in start.devices)
    return [found] if all(d in domain for d, domain in zip(found, problem.domains, strict=True)) else []


def as_given(
    work: GraphWork,
    table: CostTable,
    devices: Sequence[str],
    cuts: Sequence[Cut],
    estimates: SegmentEstimates | None = None,
    objective: str = "latency",
) -> Assignment:
    """A given assignment, cut in a given way, with its costs: what it is predicted to take.

    Raises:
        NoEnergyModel: energy is the objective, and some device's is not known.
    """
    domains = [[device] for device in devices]
    problem = _problem(work, table, domains)
    ids = [device.id for device in problem.devices]
    position = {node.op.index: p for p, node in enumerate(work.nodes)}
    runs = [(ids.index(cut.device), tuple(position[node.op.index] for node in cut.nodes)) for cut in cuts]
    of_energy = objective == "energy"
    if of_energy:
        problem = problem.with_costs(_energy(work, table, problem))
    estimate = None if estimates is None or of_energy else _by_position(work, ids, estimates)
    judge = Judge(problem, estimate)
    chosen = tuple(ids.index(device) for device in devices)
    costs = judge.run_costs(chosen, runs)
    total = sum(run.total_ns for run in costs)
    beside = concurrent_time(problem, runs, estimate) + sum(run.streaming_ns for run in costs)
    alone = cpu_alone(work, table, of_energy)
    solution = Solution(chosen, total, tuple(runs), beside, total, 0, None, alone, "", False)
    return Assignment(
        tuple(devices), tuple(map(tuple, domains)), problem, solution, costs, alone,
        estimates=None if of_energy else estimates,
    )  # fmt: skip


def judge_of(work: GraphWork, assignment: Assignment) -> Judge:
    """What judges an assignment, and others of the same work, as they were judged when it was chosen.

    Must hold on entry: it was weighed.
    """
    problem, estimates = assignment.problem, assignment.estimates
    assert problem is not None
    ids = [device.id for device in problem.devices]
    return Judge(problem, None if estimates is None else _by_position(work, ids, estimates))


def cpu_alone(work: GraphWork, table: CostTable, of_energy: bool) -> int | None:
    """TRUE of everything on the CPU (what it can't, on the reference device under it), whoever was named; None where
    something can't run there, or is of unknown cost."""
    found = [work.on_cpu(position) for position in range(len(work.nodes))]
    devices = [device for device in found if device is not None]
    if len(devices) < len(found):
        return None
    try:
        problem = _problem(work, table, [[device] for device in devices])
        if of_energy:
            problem = problem.with_costs(_energy(work, table, problem))
    except (Unplaceable, NoEnergyModel):
        return None
    ids = [device.id for device in problem.devices]
    return Judge(problem).cost([ids.index(device) for device in devices]).total


def lacking(work: GraphWork, table: CostTable) -> list[int]:
    """The positions of ops that have no cost on any device that they may go to."""
    rows = table.of_graph(work.graph.index)
    return [
        position
        for position, node in enumerate(work.nodes)
        if node.op.index not in work.host
        and not any(node.op.index in rows and d in rows[node.op.index].costs for d in work.domain(position))
    ]


def _widened(work: GraphWork, table: CostTable) -> list[list[str]]:
    """The domains; where only devices with limits are in one, with what stands under them too: they may not get all
    that they take."""
    limited = {device.id for device in table.devices if device.limits != Limits()}
    domains = []
    for position in range(len(work.nodes)):
        domain = work.domain(position)
        is_pinned = work.nodes[position].op.index in work.pins
        if limited.issuperset(domain) and not is_pinned:
            domain += work.stand_ins(position)
        domains.append(list(dict.fromkeys(domain)))
    return domains


def _problem(work: GraphWork, table: CostTable, domains: Sequence[Sequence[str]]) -> Problem:
    devices = [device for device in table.devices if any(device.id in domain for domain in domains)]
    at_home = [device for device in table.devices if device.id in CPU_DEVICES]
    devices += [device for device in at_home[:1] if device not in devices]
    ids = [*(device.id for device in devices), CORE]
    host = next((ids.index(name) for name in CPU_DEVICES if name in ids), len(ids) - 1)
    rows = table.of_graph(work.graph.index)
    ops = []
    for position, (node, domain) in enumerate(zip(work.nodes, domains, strict=True)):
        costs = rows[node.op.index].costs if node.op.index in rows else {}
        row = [_time(device, costs) if device in domain else None for device in ids]
        if all(cost is None for cost in row):
            raise Unplaceable(position, f"a cost of {node.op.name} on one of {', '.join(domain)}", "none", "add it")
        ops.append(ProblemOp(tuple(row), _weight_bytes(work, node), position in work.starts))
    table_devices = [
        ProblemDevice(
            device.id, device.launch_ns, device.memory_domain, device.resource, device.limits, device.may_hang,
            device.stream_bytes_per_s, device.weight_cache_bytes,
        )
        for device in devices
    ]  # fmt: skip
    under = tuple(ids.index(d) for d in CPU_DEVICES if d in ids and ids.index(d) != host)
    edges = _edges(work)
    copies = {size: _copies(size, devices, host) for size in {edge.size_bytes for edge in edges}}
    return Problem(
        (*table_devices, ProblemDevice(CORE)),
        host,
        tuple(ops),
        tuple(ProblemTensor(e.producer, e.consumers, e.is_output, copies[e.size_bytes]) for e in edges),
        _order(work),
        under,
        _shared(work),
    )


def _time(device: str, costs: Mapping[str, Cost]) -> int | None:
    if device == CORE:
        return 0
    return costs[device].time_ns if device in costs else None


def _order(work: GraphWork) -> tuple[tuple[int, int], ...]:
    """What state puts in order: pairs that no tensor says."""
    makers = {i: position for position, node in enumerate(work.nodes) for i in node.op.outputs}
    before = effects.order(work.graph, work.nodes)
    return tuple(
        (earlier, later)
        for later, (wait, node) in enumerate(zip(before, work.nodes, strict=True))
        for earlier in sorted(wait - {makers.get(i) for i in node.op.inputs})
    )


@dataclass(frozen=True, slots=True)
class _Edge:
    """A tensor that is no constant: who makes it (None: it comes from outside) and reads it, by position."""

    producer: int | None
    consumers: tuple[int, ...]
    is_output: bool
    size_bytes: int


def _edges(work: GraphWork) -> list[_Edge]:
    """Every tensor that an op makes or that comes from outside; state that an op writes is one that it makes for the
    host. What never leaves core (strings, handles) weighs nothing."""
    made: dict[int, tuple[int, int]] = {}
    read: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    written: list[_Edge] = []
    for position, node in enumerate(work.nodes):
        opdef = find(node.op.name)
        for slot, (i, spec) in enumerate(zip(node.op.inputs, node.inputs, strict=True)):
            if spec is None or spec.value is not None:
                continue
            sizes[i] = _size(spec)
            readers = read.setdefault(i, [])
            if position not in readers[-1:]:
                readers.append(position)
            if opdef is not None and slot in opdef.variables:
                written.append(_Edge(position, (), True, sizes[i]))
        for i, spec in zip((i for i in node.op.outputs if i >= 0), node.outputs, strict=False):
            made[i] = position, _size(spec)
    found = []
    for i in dict.fromkeys([*made, *read]):
        producer, size = made.get(i, (None, sizes.get(i, 0)))
        consumers = tuple(op for op in read.get(i, ()) if producer is None or op > producer)
        if producer is not None or consumers:
            found.append(_Edge(producer, consumers, i in work.needed, size))
    return found + written


def _size(spec: TensorSpec) -> int:
    return spec.size_bytes if spec.dtype.is_plain else 0


def _copies(size: int, devices: Sequence[DeviceCosts], host: int) -> tuple[tuple[int, ...], ...]:
    links = [(device.memory_domain, device.to_device, device.from_device) for device in devices]
    core = DeviceCosts(CORE)
    links.append((core.memory_domain, core.to_device, core.from_device))
    return copy_table(size, [link[0] for link in links], [link[1] for link in links], [link[2] for link in links], host)


def _weight_bytes(work: GraphWork, node: Node) -> int:
    return sum(_constants(work, node).values())


def _constants(work: GraphWork, node: Node) -> dict[int, int]:
    """Where the constants that the node reads lie in memory → bytes: tensors of one buffer are one constant."""
    found = {}
    for i, spec in zip(node.op.inputs, node.inputs, strict=True):
        if spec is not None and spec.value is not None and spec.size_bytes:
            data = work.graph.tensors[i].data
            found[-i if data is None else data.__array_interface__["data"][0]] = spec.size_bytes
    return found


def _shared(work: GraphWork) -> tuple[SharedConstant, ...]:
    readers: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for position, node in enumerate(work.nodes):
        for key, size in _constants(work, node).items():
            readers.setdefault(key, []).append(position)
            sizes[key] = min(size, sizes.get(key, size))
    return tuple(SharedConstant(tuple(ops), sizes[key]) for key, ops in readers.items() if len(ops) > 1)


def _dearer(problem: Problem, devices: Collection[int]) -> Problem:
    """The problem with LAST_RESORT_NS on every op of these devices."""
    ops = tuple(
        replace(
            op,
            costs=tuple(
                cost if cost is None or d not in devices else cost + LAST_RESORT_NS for d, cost in enumerate(op.costs)
            ),
        )
        for op in problem.ops
    )
    return replace(problem, ops=ops)


def _dearer_energy(energy: Costs, devices: Collection[int]) -> Costs:
    rows = (
        tuple(
            cost if cost is None or d not in devices else cost + LAST_RESORT_NS for d, cost in enumerate(row)
        )
        for row in energy.ops
    )  # fmt: skip
    return replace(energy, ops=tuple(rows))


def _energy(work: GraphWork, table: CostTable, problem: Problem) -> Costs:
    """The problem's costs in nanojoules: ops as estimated; launches by what the device draws meanwhile; copies by the
    byte, and by what the devices draw that transfer. What the host draws while it waits is in none of them."""
    rows = table.of_graph(work.graph.index)
    ids = [device.id for device in problem.devices]
    ops = []
    for node in work.nodes:
        costs = rows[node.op.index].costs if node.op.index in rows else {}
        ops.append(tuple(0 if d == CORE else costs[d].energy_nj if d in costs else None for d in ids))
    by_id = {device.id: device for device in table.devices}
    devices = [by_id.get(d, DeviceCosts(CORE)) for d in ids]
    home = problem.devices[problem.host].domain
    edges = _edges(work)
    copies = {size: _copies_nj(size, devices, home) for size in {edge.size_bytes for edge in edges}}
    launches = tuple(_launch_nj(device, home) for device in devices)
    return Costs(tuple(ops), tuple(copies[edge.size_bytes] for edge in edges), launches)


def _launch_nj(device: DeviceCosts, home: str) -> int | None:
    """None where the energy of starting, or of copying, is not known."""
    copies_for_free = device.memory_domain == home or device.byte_pj is not None
    if device.power_w is None:
        return 0 if copies_for_free and not device.launch_ns else None
    return math.ceil(device.launch_ns * device.power_w)


def _copies_nj(size: int, devices: Sequence[DeviceCosts], home: str) -> tuple[tuple[int, ...], ...]:
    """As ``copy_table``: through the host's memory."""

    def leg(device: DeviceCosts, link: Link) -> int:
        moving_ns = 0 if device.memory_domain == home else transfer_ns(link, size)
        return round(size * (device.byte_pj or 0.0) / 1000) + math.ceil(moving_ns * (device.power_w or 0.0))

    up = [leg(device, device.from_device) for device in devices]
    down = [leg(device, device.to_device) for device in devices]
    return tuple(
        tuple(0 if a.memory_domain == b.memory_domain else up[d] + down[e] for e, b in enumerate(devices))
        for d, a in enumerate(devices)
    )


def _by_position(
    work: GraphWork, ids: Sequence[str], estimates: SegmentEstimates
) -> Callable[[int, tuple[int, ...]], int | None]:
    return lambda device, ops: None if ids[device] == CORE else estimates(ids[device], [work.nodes[op] for op in ops])
