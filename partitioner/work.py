"""What is to be placed and what was decided, and the decision where there is nothing to weigh. Imports core up to abi.

Who may run an op: a device that was named and takes it. Devices that nobody named stand under those (the CPU, then the
reference device): they get what no named device takes. Where limits forbid a named device part of what it takes, they
get that too, and as little of it as can be. Of the solver only types are imported: where no op has a choice it is not
loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from delegraph.core.abi.values import CONVERSIONS, Cut, DelegateError, Limits, Support
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node

if TYPE_CHECKING:
    from delegraph.partitioner.costs import CostTable
    from delegraph.partitioner.solver.problem import Problem
    from delegraph.partitioner.solver.solve import Solution
    from delegraph.partitioner.solver.true_cost import RunCost

SegmentEstimates = Callable[[str, Sequence[Node]], int | None]
"""(device, nodes) → its own estimate of that segment, or None for the sum of its ops."""

CORE = ""
"""The device of ops that core runs itself."""
CPU, REFERENCE = "cpu", "reference"
CPU_DEVICES = (CPU, REFERENCE)
"""What stands for the CPU of whatever machine is meant: the second takes what the first can't."""
FAST = "allow other rounding: numerics='fast' (--numerics fast)"
"""What brings an op to a device that rounds otherwise."""
EXCLUDED = "excluded"
"""The rule of what the user excluded."""
EXACT = ", and numerics='exact' was asked for"
"""Why it does not get there, behind how the device rounds."""


@dataclass(frozen=True, eq=False)
class GraphWork:
    """The ops of one graph that are to be placed. needed: tensors that are read when they have run. host: op → why core
    runs it itself. asked: device → its own answer per node, devices in the user's order; answers: the same behind the
    user's wishes (numerics, exclusions) and what failed. named: those that the user named. pins: op → device."""

    graph: Graph
    nodes: Sequence[Node]
    needed: frozenset[int]
    host: Mapping[int, str]
    asked: Mapping[str, Sequence[Support]]
    answers: Mapping[str, Sequence[Support]]
    named: Collection[str]
    pins: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def starts(self) -> frozenset[int]:
        """Positions of ops that only convert what comes from outside: see ``CONVERSIONS``."""
        found: set[int] = set()
        makers = {i: position for position, node in enumerate(self.nodes) for i in node.op.outputs}
        for position, node in enumerate(self.nodes):
            maker = makers.get(node.op.inputs[0]) if node.op.name in CONVERSIONS else position
            if maker is None or maker in found:
                found.add(position)
        return frozenset(found)

    def on_cpu(self, position: int) -> str | None:
        """What runs the node where everything is on the CPU, whatever was wished for: "" for core, None for nothing."""
        if self.nodes[position].op.index in self.host:
            return CORE
        return next((d for d in CPU_DEVICES if d in self.asked and self.asked[d][position].runs), None)

    def takers(self, position: int) -> list[str]:
        """The devices that may run the node, whoever named them, in the user's order."""
        return [device for device, answers in self.answers.items() if answers[position].runs]

    def stand_ins(self, position: int) -> list[str]:
        """The first device under those that were named that takes the node."""
        return [device for device in self.takers(position) if device not in self.named][:1]

    def domain(self, position: int) -> list[str]:
        """The devices that the node may go to: "" for core, the pin's if it takes it, those named, or the first of
        those under them. Where the CPU was named and can't run it, what stands under the CPU competes for it, so that
        the CPU alone is always among what is weighed. Empty where nothing runs it."""
        op = self.nodes[position].op.index
        if op in self.host:
            return [CORE]
        takers = self.takers(position)
        if self.pins.get(op) in takers:
            return [self.pins[op]]
        named = [device for device in takers if device in self.named]
        under = self.stand_ins(position)
        is_left = CPU in self.named and CPU not in takers
        return named + under if is_left else named or under


@dataclass(frozen=True, eq=False)
class Assignment:
    """Device per node ("" is core), and what is known of its cost. domains: what each could have gone to. solution,
    problem, runs: None and empty where there was nothing to weigh. cpu_alone_ns: TRUE of all on the CPU, None where
    that can't be told. is_forced: a device that nobody named got what it could not avoid, so that no bound is known.
    estimates: what devices say of whole segments, where that counted; estimates_exceed_sums: never less than their ops.
    """

    devices: tuple[str, ...]
    domains: tuple[tuple[str, ...], ...]
    problem: Problem | None = None
    solution: Solution | None = None
    runs: tuple[RunCost, ...] = ()
    cpu_alone_ns: int | None = None
    is_forced: bool = False
    estimates: SegmentEstimates | None = None
    estimates_exceed_sums: bool = False

    def positions(self) -> tuple[int, ...]:
        """The assignment in the problem's numbers."""
        assert self.problem is not None
        index = {device.id: d for d, device in enumerate(self.problem.devices)}
        return tuple(index[device] for device in self.devices)


@dataclass(frozen=True, eq=False)
class Decision:
    """What was decided for the ops of one graph, and what from. table: None where costs were not needed. is_given:
    whether it was handed in. notes: what else decided, in sentences. failures: of devices that did not answer."""

    work: GraphWork
    assignment: Assignment
    cuts: tuple[Cut, ...]
    table: CostTable | None = None
    is_given: bool = False
    objective: str = "latency"
    notes: tuple[str, ...] = ()
    failures: tuple[DelegateError, ...] = ()


def has_choice(work: GraphWork, limits: Mapping[str, Limits]) -> bool:
    """Whether costs decide anything: some op has several devices, or some device has limits that its ops may break."""
    domains = [work.domain(position) for position in range(len(work.nodes))]
    used = {device for domain in domains for device in domain}
    return any(len(domain) > 1 for domain in domains) or any(limits.get(d, Limits()) != Limits() for d in used)


def by_order(work: GraphWork) -> Assignment:
    """Each op on the first device of its domain: where there is no choice, or nothing to compare."""
    domains = tuple(tuple(work.domain(position)) for position in range(len(work.nodes)))
    return Assignment(tuple(domain[0] if domain else CORE for domain in domains), domains)
