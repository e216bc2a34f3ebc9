"""Runs the graphs of a model: plans per shape key, private execution memory per call, control flow in core.

Imports core up to abi and core.runtime. One GraphRunner a graph; they call one another for control flow.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Context
from delegraph.core.errors import InternalError
from delegraph.core.graph.graph import Array, Graph, GraphSet, Shape
from delegraph.core.ops.nodes import spec_of
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.runtime import control
from delegraph.core.runtime.plan import (
    Cutter,
    HostStep,
    Loader,
    Plan,
    Planner,
    SegmentStep,
    infer_outputs,
    make_plan,
)
from delegraph.core.runtime.state import Overlay

PLANS_KEPT = 8
"""Plans per graph and stage, least recently used dropped."""

ShapeKey = tuple[tuple[int, Shape], ...]
Values = dict[int, Array]


class ReplanError(Exception):
    """A variable had another shape than the file says: the run starts over with plans that don't trust it."""


@dataclass(eq=False)
class _Execution:
    """One caller's memory and contexts for a plan."""

    arena: Array
    contexts: tuple[Context | None, ...]


@dataclass(eq=False)
class _Planned:
    """A plan, its idle executions, and the plans of what comes behind it."""

    plan: Plan
    idle: list[_Execution] = field(default_factory=list)
    late: _PlanCache = field(default_factory=lambda: _PlanCache())

    @contextmanager
    def execution(self) -> Iterator[_Execution]:
        try:
            execution = self.idle.pop()
        except IndexError:
            execution = self._new()
        yield execution
        self.idle.append(execution)  # not after an error: a late writer may still hold it

    def _new(self) -> _Execution:
        return _Execution(
            host.allocate(self.plan.arena.size_bytes).memory,
            tuple(
                step.program.context(host.allocate(step.program.scratch_bytes, step.program.alignment))
                if isinstance(step, SegmentStep)
                else None
                for step in self.plan.steps
            ),
        )


class _PlanCache:
    """Least recently used plans by key. Thread-safe; a plan that two threads miss at once is made once."""

    def __init__(self) -> None:
        self._plans: OrderedDict[object, _Planned] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: object, make: Callable[[], Plan]) -> _Planned:
        with self._lock:
            found = self._plans.get(key)
            if found is None:
                found = self._plans[key] = _Planned(make())
                if len(self._plans) > PLANS_KEPT:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            return found

    def plans(self) -> list[Plan]:
        with self._lock:
            found = list(self._plans.values())
        return [plan for planned in found for plan in (planned.plan, *planned.late.plans())]


class GraphRunner:
    """Runs one graph. Thread-safe.

    keep: tensors beside the graph's outputs whose values ``run`` returns.
    """

    def __init__(self, graph: Graph, runners: Runners, keep: frozenset[int] = frozenset()) -> None:
        self.graph = graph
        self.keep = keep | frozenset(graph.outputs)
        self._runners = runners
        self._plans = _PlanCache()

    def plan(self, shapes: Sequence[Shape], *, trust_variables: bool = True) -> Plan:
        """The plan for these input shapes, made now if need be."""
        return self._planned(shapes, trust_variables).plan

    def plans(self) -> list[Plan]:
        """Every plan made so far that is still kept."""
        return self._plans.plans()

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape | None]:
        """Shapes of the outputs for these input shapes; None where data decides."""
        return infer_outputs(self.graph, self._input_specs(shapes), self._runners.planner(True))

    def run(self, inputs: Sequence[Array], state: Overlay, *, trust_variables: bool = True) -> Values:
        """Runs the graph once. inputs: one array per graph input, of the tensor's dtype.

        Returns the values of outputs and kept tensors, in memory that nothing else holds but the caller (inputs and
        constants that are passed through are returned as they are).
        """
        planned = self._planned([a.shape for a in inputs], trust_variables)
        values: Values = dict(zip(self.graph.inputs, inputs, strict=True))
        self._run(planned, values, state, trust_variables)
        return {i: self._value(planned.plan, values, i, state) for i in self.keep}

    def _input_specs(self, shapes: Sequence[Shape]) -> dict[int, TensorSpec]:
        return {
            i: spec_of(self.graph.tensors[i], tuple(shape))
            for i, shape in zip(self.graph.inputs, shapes, strict=True)
        }

    def _planned(self, shapes: Sequence[Shape], trust_variables: bool) -> _Planned:
        key = (tuple(tuple(s) for s in shapes), trust_variables)

        def make() -> Plan:
            return make_plan(
                self.graph,
                self.graph.ops,
                self._input_specs(shapes),
                self.keep,
                self._runners.planner(trust_variables),
            )

        return self._plans.get(key, make)

    def _planned_late(self, planned: _Planned, values: Values, trust_variables: bool) -> _Planned:
        """The plan of the ops that had to wait, now that every shape in ``values`` is known."""
        plan = planned.plan
        reads = {i for op in plan.late for i in op.inputs if i in values}
        key: ShapeKey = tuple(sorted((i, values[i].shape) for i in reads))

        def make() -> Plan:
            known = {i: spec for i, spec in plan.specs.items() if i not in reads or spec.value is not None}
            for i in reads:
                if i not in known:
                    known[i] = spec_of(self.graph.tensors[i], values[i].shape)
            return make_plan(self.graph, plan.late, known, self.keep, self._runners.planner(trust_variables))

        return planned.late.get(key, make)

    def _run(self, planned: _Planned, values: Values, state: Overlay, trust_variables: bool) -> None:
        while True:
            plan = planned.plan
            with planned.execution() as execution:
                for position, step in enumerate(plan.steps):
                    if isinstance(step, SegmentStep):
                        self._run_segment(plan, step, position, execution, values, state)
                    elif isinstance(step, HostStep):
                        self._run_host(plan, step, values, state)
                    else:
                        self._run_control(plan, step.node, values, state, trust_variables)
                    for i in plan.drop[position]:
                        values.pop(i, None)
            if not plan.late:
                return
            planned = self._planned_late(planned, values, trust_variables)

    def _run_segment(
        self,
        plan: Plan,
        step: SegmentStep,
        position: int,
        execution: _Execution,
        values: Values,
        state: Overlay,
    ) -> None:
        segment, context = step.segment, execution.contexts[position]
        if context is None:
            raise InternalError("runner", f"step {position} has no context")
        inputs = [np.ascontiguousarray(self._value(plan, values, i, state)) for i in segment.inputs]
        outputs = []
        for i in segment.outputs:
            spec = segment.specs[i]
            offset = plan.arena.offsets.get(i)
            if offset is None:
                outputs.append(np.empty(spec.shape, spec.dtype.numpy))
            else:
                memory = execution.arena[offset : offset + spec.size_bytes]
                outputs.append(memory.view(spec.dtype.numpy).reshape(spec.shape))
        updated = [np.empty(segment.specs[i].shape, segment.specs[i].dtype.numpy) for i in segment.variables]
        context.bind(
            [host.HostBuffer(a) for a in inputs],
            [host.HostBuffer(a) for a in (*outputs, *updated)],
        )
        context.run().wait()
        values.update(zip(segment.outputs, outputs, strict=True))
        for i, value in zip(segment.variables, updated, strict=True):
            state.write(("tensor", self.graph.index, i), value)

    def _run_host(self, plan: Plan, step: HostStep, values: Values, state: Overlay) -> None:
        operands = [None if i < 0 else self._value(plan, values, i, state) for i in step.op.inputs]
        with np.errstate(all="ignore"):
            results = step.kernel(*operands)
        for i, result in zip(step.op.outputs, results, strict=True):
            values[i] = _owned(np.asarray(result), operands)

    def _run_control(
        self, plan: Plan, node: Node, values: Values, state: Overlay, trust_variables: bool
    ) -> None:
        operands = [np.zeros(0) if i < 0 else self._value(plan, values, i, state) for i in node.op.inputs]

        def call(graph: int, inputs: Sequence[Array]) -> list[Array]:
            runner = self._runners[graph]
            found = runner.run(inputs, state, trust_variables=trust_variables)
            return [found[i] for i in runner.graph.outputs]

        results = control.run(node, operands, call, state)
        for i, result in zip(node.op.outputs, results, strict=True):
            if node.op.name == "READ_VARIABLE" and i in plan.specs and plan.specs[i].shape != result.shape:
                raise ReplanError
            values[i] = _owned(result, operands)

    def _value(self, plan: Plan, values: Values, index: int, state: Overlay) -> Array:
        """A tensor's value: made in this run, known before it, constant, or a variable."""
        if index in values:
            return values[index]
        spec = plan.specs.get(index)
        if spec is not None and spec.value is not None:
            return spec.value
        tensor = self.graph.tensors[index]
        if tensor.is_variable:
            found = state.read(("tensor", self.graph.index, index))
            return np.zeros(tensor.shape, tensor.dtype.numpy) if found is None else found
        constant = tensor.constant
        if constant is not None:
            return constant
        return np.zeros(tensor.shape, tensor.dtype.numpy)  # nothing writes it


class Runners:
    """The runners of all graphs of a model, and what their plans are made with."""

    def __init__(
        self, graphs: GraphSet, cut: Cutter, load: Loader, keep: frozenset[int] = frozenset()
    ) -> None:
        self.graphs = graphs
        self._planner = Planner(cut, load, self._call_shapes)
        self._runners = tuple(
            GraphRunner(graph, self, keep if graph.index == 0 else frozenset()) for graph in graphs.graphs
        )

    def __getitem__(self, graph: int) -> GraphRunner:
        return self._runners[graph]

    def __iter__(self) -> Iterator[GraphRunner]:
        return iter(self._runners)

    def planner(self, trust_variables: bool) -> Planner:
        return replace(self._planner, trust_variables=trust_variables)

    def _call_shapes(self, node: Node) -> Sequence[Shape | None] | None:
        return control.output_shapes(node, lambda graph, shapes: self[graph].output_shapes(shapes))


def _owned(value: Array, operands: Sequence[Array | None]) -> Array:
    """``value``, copied if it lies in an operand's memory (which may be an arena that is used again)."""
    if any(a is not None and np.may_share_memory(value, a) for a in operands):
        return value.copy()
    return value
