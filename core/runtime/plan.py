"""The plan of one graph for one set of input shapes: steps in order, and the memory between them.

Imports core up to abi. ``make_plan`` is pure but for asking devices and compiling through the functions that it is
handed. Ops whose shapes depend on data end a plan: the op itself is the last host step that can run, and what lies
behind it is planned when its shapes are known (``Plan.late``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from delegraph.core.abi.values import Cut, DelegateError, Segment
from delegraph.core.errors import InternalError
from delegraph.core.graph.graph import Graph, Op
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op, node_of, spec_of
from delegraph.core.ops.opdef import Kernel, Node, OpDef, TensorSpec, blamed_on
from delegraph.core.ops.support import node_support
from delegraph.core.runtime.health import Rest
from delegraph.core.runtime.loaded import LoadedSegment
from delegraph.core.runtime.memory import MemoryPlan, Usage, plan_memory

Specs = Mapping[int, TensorSpec]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentStep:
    """Run a segment's program on its device. The tensors that cross to and from the device's memory are the segment's
    inputs and outputs; ``loaded.copies`` says whether they are moved there or used where they are."""

    segment: Segment
    loaded: LoadedSegment

    @property
    def device(self) -> str:
        return self.loaded.slot.id


@dataclass(frozen=True, slots=True, eq=False)
class HostStep:
    """Run one op in core: its shapes depend on data, so the kernel makes its own outputs."""

    node: Node
    kernel: Kernel

    @property
    def op(self) -> Op:
        return self.node.op


@dataclass(frozen=True, slots=True, eq=False)
class ControlStep:
    """Run one op of control flow or of resources: IF, WHILE, CALL_ONCE, VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE."""

    node: Node

    @property
    def op(self) -> Op:
        return self.node.op


Step = SegmentStep | HostStep | ControlStep


@dataclass(frozen=True, slots=True)
class Boundary:
    """A tensor that is copied between the host's memory and a device's. source, target: device ids, "host" for the
    host's memory."""

    tensor: int
    source: str
    target: str
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Steps in order. specs: what was known of every tensor. arena: offsets of tensors that cross from a segment to
    another step. drop: for each step the values that nothing behind it reads. late: ops that have to wait for the
    results of this plan before they can be planned; needed: tensors that they or the caller read from it. left_alone:
    what devices would have had a part of it with, but were in quarantine with when it was made, or failed at while it
    was. decision: as in ``Cuts``.
    """

    graph: Graph
    steps: tuple[Step, ...]
    specs: Specs
    arena: MemoryPlan
    drop: tuple[tuple[int, ...], ...]
    late: tuple[Op, ...]
    needed: tuple[int, ...]
    left_alone: frozenset[Rest] = frozenset()
    decision: object = None

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Every copy that a run of the plan makes at the border of a segment, in the order of its steps."""
        found = []
        for step in self.steps:
            if isinstance(step, SegmentStep) and step.loaded.copies:
                specs = step.segment.specs
                found += [Boundary(i, "host", step.device, specs[i].size_bytes) for i in step.segment.inputs]
                made = (*step.segment.outputs, *step.segment.variables)
                found += [Boundary(i, step.device, "host", specs[i].size_bytes) for i in made]
        return tuple(found)

    @property
    def digest(self) -> str:
        """Which ops run where in what order, as 16 hex digits: equal plans have equal digests."""
        steps = [
            (step.device, [node.op.index for node in step.segment.nodes])
            if isinstance(step, SegmentStep)
            else ("core", [step.op.index])
            for step in self.steps
        ]
        return hashlib.sha256(repr((self.graph.index, steps)).encode()).hexdigest()[:16]


Excluded = frozenset[tuple[int, str]]
"""(op index, device): what a device has failed to do and is not asked for again in this plan."""


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Pieces of a plan's ops, in an order in which they can run. decision: what they come from, for whoever made them:
    the plan keeps it and does not look at it. left_alone: what devices failed to answer, or were not asked."""

    pieces: Sequence[Cut]
    decision: object = None
    left_alone: frozenset[Rest] = frozenset()


Cutter = Callable[[Graph, Sequence[Node], frozenset[int], Excluded], Cuts]
"""Splits nodes (in execution order) into pieces. The third argument: tensors that are read when they have run."""

Loader = Callable[[Segment, str], LoadedSegment]
"""(segment, device) → the segment on that device. Raises DelegateError."""

FailureHook = Callable[[str, Segment, DelegateError], None]
"""Told of each failure: (moment: "compile" or "run", segment, error). Raises where falling back is not wanted."""

NotBuilt = Callable[[Segment, DelegateError, float], Rest | None]
"""(segment, error, seconds that it took) → what the device is left alone with for it, None where it only refused.
Raises where falling back is not wanted."""

Resting = Callable[[Segment, str], Rest | None]
"""(segment, device) → what the device is left alone with now, so that the segment is not to be built for it."""

CallShapes = Callable[[Node], Sequence[tuple[int, ...] | None] | None]
"""Output shapes of a control-flow op, from planning the graphs it calls; None for an op that is not control flow."""


@dataclass(frozen=True, slots=True)
class Planner:
    """What ``make_plan`` is handed by the composition: how to cut, to load, and to ask about called graphs."""

    cut: Cutter
    load: Loader
    call_shapes: CallShapes
    not_built: NotBuilt
    resting: Resting
    trust_variables: bool = True
    excluded: Excluded = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """What is known of ops before a plan. nodes: those that are to run now; late: those that have to wait for shapes.
    needed: tensors that the late ones or the caller read."""

    specs: Specs
    nodes: tuple[Node, ...]
    late: tuple[Op, ...]
    needed: frozenset[int]


def infer(
    graph: Graph, ops: Sequence[Op], known: Mapping[int, TensorSpec], keep: frozenset[int], planner: Planner
) -> Inferred:
    """Shapes and types of ``ops``, given the specs of what they read from outside. keep, raises: as ``make_plan``."""
    specs: dict[int, TensorSpec] = dict(known)
    nodes, late = _infer(graph, ops, specs, planner)
    late_reads = {i for op in late for i in op.inputs if i >= 0}
    running = tuple(node for node in nodes if not _is_known(node, specs, keep))
    return Inferred(specs, running, tuple(late), frozenset(keep | late_reads))


def make_plan(
    graph: Graph,
    ops: Sequence[Op],
    known: Mapping[int, TensorSpec],
    keep: frozenset[int],
    planner: Planner,
) -> Plan:
    """A plan for ``ops``, given the specs of what they read from outside.

    keep: tensors that the caller reads when the plan has run (those of them that ``ops`` make or pass on).

    Raises:
        UnsupportedOp: an op that nothing can run.
        InvalidModel: operands that don't fit together.
    """
    found = infer(graph, ops, known, keep, planner)
    steps, left_alone, decision = _steps(graph, found.nodes, found.specs, found.needed, planner)
    drop = _drops(steps, found.needed)
    arena = _arena(steps, found.specs, found.needed)
    needed = tuple(sorted(found.needed))
    return Plan(graph, steps, found.specs, arena, drop, found.late, needed, left_alone, decision)


def infer_outputs(graph: Graph, known: Mapping[int, TensorSpec], planner: Planner) -> list[tuple[int, ...] | None]:
    """The shapes of a graph's outputs, given the specs of its inputs; None where data decides."""
    specs: dict[int, TensorSpec] = dict(known)
    nodes, late = _infer(graph, graph.ops, specs, planner)
    made = {i for op in graph.ops for i in op.outputs}
    return [specs[i].shape if i in specs else None if i in made else graph.tensors[i].shape for i in graph.outputs]


def _infer(
    graph: Graph, ops: Sequence[Op], specs: dict[int, TensorSpec], planner: Planner
) -> tuple[list[Node], list[Op]]:
    """Nodes that can be planned now, and the ops that can't: their inputs wait for shapes that depend on data."""
    nodes: list[Node] = []
    late: list[Op] = []
    waiting: set[int] = set()
    blocked_state = False
    for op in ops:
        opdef = _opdef(op)
        reads_state = any(i >= 0 and graph.tensors[i].is_variable for i in op.inputs)
        touches_state = bool(opdef.host or opdef.variables) or reads_state
        if (blocked_state and touches_state) or any(i in waiting for i in op.inputs):
            late.append(op)
            waiting.update(op.outputs)
            blocked_state |= touches_state
            continue
        node = _infer_one(graph, op, opdef, specs, planner)
        if node is None:  # runs now, but what it makes is only known afterwards
            waiting.update(op.outputs)
            node = node_of(graph, op, opdef, specs)
        problem = node_support(op, node)
        if problem is not None:
            raise problem.error(op)
        nodes.append(node)
    return nodes, late


def _infer_one(graph: Graph, op: Op, opdef: OpDef, specs: dict[int, TensorSpec], planner: Planner) -> Node | None:
    if opdef.host == "control":
        node = node_of(graph, op, opdef, specs)
        shapes = planner.call_shapes(node)
        if shapes is None or any(shape is None for shape in shapes):
            return None
        for i, shape in zip(op.outputs, shapes, strict=False):
            if i >= 0:
                specs[i] = spec_of(graph.tensors[i], shape)
        return node_of(graph, op, opdef, specs)
    if op.name == "READ_VARIABLE":
        opdef.check_arity(op)
        tensor = graph.tensors[op.outputs[0]]
        if not planner.trust_variables or -1 in tensor.shape_signature or not tensor.shape:
            return None
    return infer_op(graph, op, opdef, specs)


def _is_known(node: Node, specs: Specs, keep: frozenset[int]) -> bool:
    """Whether all that an op makes is known before the run, so that it need not run."""
    outputs = [i for i in node.op.outputs if i >= 0]
    return bool(outputs) and all(i in specs and specs[i].value is not None and i not in keep for i in outputs)


def _opdef(op: Op) -> OpDef:
    from delegraph.core.ops.support import op_support

    problem = op_support(op)
    if problem is not None:
        raise problem.error(op)
    opdef = registry.find(op.name)
    assert opdef is not None
    return opdef


def _steps(
    graph: Graph, nodes: Sequence[Node], specs: Specs, needed: frozenset[int], planner: Planner
) -> tuple[tuple[Step, ...], frozenset[Rest], object]:
    """The steps, each segment loaded; what devices were left alone with; the decision behind the steps. Where a device
    fails to take a segment, its ops are cut again without it."""
    excluded = planner.excluded
    left_alone: set[Rest] = set()
    while True:
        cuts = planner.cut(graph, nodes, needed, excluded)
        steps: list[Step] = []
        for cut, read_after in zip(cuts.pieces, _read_after(cuts.pieces, needed), strict=True):
            if not cut.device:
                steps.append(_host_step(cut.nodes[0]))
                continue
            segment = make_segment(graph, cut.nodes, specs, read_after)
            rest = planner.resting(segment, cut.device)
            if rest is None:
                start = time.monotonic()
                try:
                    steps.append(SegmentStep(segment, planner.load(segment, cut.device)))
                    continue
                except DelegateError as exc:
                    rest = planner.not_built(segment, exc, time.monotonic() - start)
                    refused: Sequence[Node] = cut.nodes
            else:
                refused = nodes if rest.part is None else cut.nodes
            left_alone |= {rest} if rest is not None else set()
            excluded |= {(node.op.index, cut.device) for node in refused}
            break
        else:
            return tuple(steps), frozenset(left_alone) | cuts.left_alone, cuts.decision


def _read_after(cuts: Sequence[Cut], needed: frozenset[int]) -> list[set[int]]:
    """For each piece, the tensors that later pieces or the caller read."""
    found: list[set[int]] = []
    later = set(needed)
    for cut in reversed(cuts):
        found.append(later)
        later = later | {i for node in cut.nodes for i in node.op.inputs}
    return found[::-1]


def _host_step(node: Node) -> Step:
    opdef = _opdef(node.op)
    if opdef.host:
        return ControlStep(node)
    form = opdef.form(node)
    if form is None:
        raise InternalError("plan", f"{node.place} has no form")
    with blamed_on(node):
        return HostStep(node, form.prepare(node))


def make_segment(graph: Graph, nodes: Sequence[Node], specs: Specs, read_after: set[int] | frozenset[int]) -> Segment:
    """The segment of these nodes, which delivers what is in ``read_after``."""
    made: set[int] = set()
    inputs: dict[int, None] = {}
    variables: dict[int, None] = {}
    for node in nodes:
        opdef = _opdef(node.op)
        for slot, (i, spec) in enumerate(zip(node.op.inputs, node.inputs, strict=True)):
            if spec is None:
                continue
            if i not in made and spec.value is None:
                inputs[i] = None
            if slot in opdef.variables:
                variables[i] = None
        made.update(i for i in node.op.outputs if i >= 0)
    outputs = tuple(sorted(i for i in made if i in read_after))
    named = {*inputs, *outputs, *variables}
    return Segment(
        graph,
        tuple(nodes),
        tuple(inputs),
        outputs,
        tuple(variables),
        {i: specs[i] if i in specs else spec_of(graph.tensors[i]) for i in named},
    )


def reads(step: Step) -> set[int]:
    """The tensors that a step reads."""
    if isinstance(step, SegmentStep):
        return set(step.segment.inputs)
    return {i for i in step.op.inputs if i >= 0}


def _drops(steps: Sequence[Step], needed: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    """For each step, the values that no later step and no caller reads."""
    drops: list[tuple[int, ...]] = []
    later: set[int] = set(needed)
    for step in reversed(steps):
        read = reads(step)
        drops.append(tuple(read - later))
        later |= read
    return tuple(reversed(drops))


def _arena(steps: Sequence[Step], specs: Specs, needed: frozenset[int]) -> MemoryPlan:
    """Places for the tensors that a segment makes and only steps of this plan read."""
    usages: list[Usage] = []
    for position, step in enumerate(steps):
        if not isinstance(step, SegmentStep) or step.loaded.is_watched:
            continue  # what a watched device makes has memory of its own
        for i in step.segment.outputs:
            if i in needed:
                continue  # outlives the plan: memory of its own
            last = max((p for p, other in enumerate(steps) if i in reads(other)), default=position)
            usages.append(Usage(i, specs[i].size_bytes, position, last))
    return plan_memory(usages)
