"""Runs the graphs of a model: plans per shape key, private memory per call, control flow in core, fallback.

Imports core up to abi and core.runtime. One GraphRunner a graph; they call one another for control flow.

Fallback: a segment whose device fails in the run, or is in quarantine, is planned again over the other devices (from
the same ops and inputs, in fresh memory) and run there; that plan is kept for the next time.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from delegraph.core import forks
from delegraph.core.abi import host
from delegraph.core.abi.values import DelegateError, ErrorCode, Segment
from delegraph.core.errors import InternalError, OutOfMemory
from delegraph.core.graph.graph import Array, Graph, GraphSet, Shape
from delegraph.core.ops.nodes import spec_of
from delegraph.core.ops.opdef import Node, TensorSpec, blamed_on
from delegraph.core.runtime import control
from delegraph.core.runtime.health import Health
from delegraph.core.runtime.loaded import LoadedSegment, WatchedRun
from delegraph.core.runtime.plan import (
    Cutter,
    FailureHook,
    HostStep,
    Loader,
    Plan,
    Planner,
    SegmentStep,
    infer_outputs,
    make_plan,
    reads,
)
from delegraph.core.runtime.state import Overlay

PLANS_KEPT = 8
"""Plans per graph and stage, least recently used dropped."""

RUN_TIMEOUT_S = 60.0
"""How long a run on a watched device may take."""

ShapeKey = tuple[tuple[int, Shape], ...]
Values = dict[int, Array]


class ReplanError(Exception):
    """A variable had another shape than the file says: the run starts over with plans that don't trust it."""


@dataclass(eq=False)
class _Planned:
    """A plan with its idle arenas, the plans of what comes behind it, and of what its devices failed to do. began: when
    it last began to run, on the model's own clock; 0 before."""

    plan: Plan
    began: int = 0
    idle: list[Array] = field(default_factory=list)
    late: _PlanCache = field(default_factory=lambda: _PlanCache())
    instead: _PlanCache = field(default_factory=lambda: _PlanCache())

    def arena(self) -> Array:
        """Memory for the tensors that cross between steps, for one run, which puts it among ``idle`` if it ends well:
        what failed may still write to it."""
        try:
            return self.idle.pop()
        except IndexError:
            return host.allocate(self.plan.arena.size_bytes).memory


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A plan by which a graph ran last, or a part of it. kept: it and all others that are kept for these ops, for other
    shapes of what they read."""

    plan: Plan
    kept: tuple[Plan, ...]


@dataclass(slots=True, eq=False)
class _Pending:
    """A segment under way on a watched device."""

    position: int
    step: SegmentStep
    run: WatchedRun


class _PlanCache:
    """Least recently used plans by key. Thread-safe; a plan that two threads miss at once is made once, and nobody
    waits for a plan of another key."""

    def __init__(self) -> None:
        self._plans: OrderedDict[object, _Planned] = OrderedDict()
        self._makers: dict[object, threading.RLock] = {}
        self.renew()
        forks.register(self)

    def renew(self) -> None:
        """In a child process: another thread may have held the locks."""
        self._lock = threading.Lock()
        self._makers = {}

    def get(self, key: object, make: Callable[[], Plan]) -> _Planned:
        found = self._found(key)
        if found is not None:
            return found
        with self._lock:
            maker = self._makers.setdefault(key, threading.RLock())
        with maker:
            found = self._found(key)
            if found is None:
                found = _Planned(make())
                with self._lock:
                    self._plans[key] = found
                    self._makers.pop(key, None)
                    if len(self._plans) > PLANS_KEPT:
                        self._plans.popitem(last=False)
        return found

    def _found(self, key: object) -> _Planned | None:
        with self._lock:
            found = self._plans.get(key)
            if found is not None:
                self._plans.move_to_end(key)
            return found

    def drop(self, key: object, planned: _Planned) -> None:
        """Forgets that plan, if it is still the one of that key."""
        with self._lock:
            if self._plans.get(key) is planned:
                del self._plans[key]

    def plans(self) -> list[Plan]:
        with self._lock:
            found = list(self._plans.values())
        return [plan for planned in found for plan in (planned.plan, *planned.late.plans(), *planned.instead.plans())]

    def latest(self) -> list[Stage]:
        """What ran last of these, or was made last where none ran; with what stood in for its devices when it did, and
        what came behind it."""
        with self._lock:
            kept = list(self._plans.values())
        if not kept:
            return []
        last = max(reversed(kept), key=lambda planned: planned.began)
        plans = tuple(planned.plan for planned in kept)
        return [Stage(last.plan, plans), *last.instead.since(last.began), *last.late.latest()]

    def since(self, began: int) -> list[Stage]:
        """Those of these that have begun to run since then, each with what belongs to it."""
        with self._lock:
            found = [planned for planned in self._plans.values() if planned.began > began]
        return [
            stage
            for planned in found
            for stage in (Stage(planned.plan, ()), *planned.instead.since(planned.began), *planned.late.latest())
        ]


class GraphRunner:
    """Runs one graph. Thread-safe.

    keep: tensors beside the graph's outputs whose values ``run`` returns.
    """

    def __init__(self, graph: Graph, runners: Runners, keep: frozenset[int] = frozenset()) -> None:
        self.graph = graph
        self.keep = keep | frozenset(graph.outputs)
        self._runners = runners
        self._plans = _PlanCache()
        self._output_shapes: dict[object, list[Shape | None]] = {}
        self.trusts_variables = True
        """Whether the file's shapes of variables have held so far."""

    def plan(self, shapes: Sequence[Shape], *, trust_variables: bool = True) -> Plan:
        """The plan for these input shapes, made now if need be."""
        return self._planned(tuple(tuple(s) for s in shapes), trust_variables).plan

    def plans(self) -> list[Plan]:
        """Every plan made so far that is still kept."""
        return self._plans.plans()

    def latest(self) -> list[Stage]:
        """How the graph ran last: one plan for each stage of it, each with the plans that stood in for its devices
        behind it. Of a graph that has not run, the plan that was made last; empty where there is none."""
        return self._plans.latest()

    def output_shapes(self, shapes: Sequence[Shape], *, trust_variables: bool = True) -> list[Shape | None]:
        """Shapes of the outputs for these input shapes; None where data decides."""
        key = (tuple(tuple(s) for s in shapes), trust_variables)
        if key not in self._output_shapes:
            planner = self._runners.planner(trust_variables)
            self._output_shapes[key] = infer_outputs(self.graph, self._input_specs(shapes), planner)
        return self._output_shapes[key]

    def run(self, inputs: Sequence[Array], state: Overlay, *, trust_variables: bool = True) -> Values:
        """Runs the graph once. inputs: one array per graph input, of the tensor's dtype.

        Returns the values of outputs and kept tensors, in memory that nothing else holds but the caller (inputs and
        constants that are passed through are returned as they are).
        """
        planned = self._planned(tuple([a.shape for a in inputs]), trust_variables)
        values: Values = dict(zip(self.graph.inputs, inputs, strict=True))
        try:
            self._run(planned, values, state, trust_variables)
        except MemoryError as exc:
            raise OutOfMemory(self.graph.place, str(exc)) from exc
        return {i: values[i] if i in values else self._value(planned.plan, values, i, state) for i in self.keep}

    def _input_specs(self, shapes: Sequence[Shape]) -> dict[int, TensorSpec]:
        return {
            i: spec_of(self.graph.tensors[i], tuple(shape)) for i, shape in zip(self.graph.inputs, shapes, strict=True)
        }

    def _current(self, plans: _PlanCache, key: object, make: Callable[[], Plan]) -> _Planned:
        """The plan of that key, made anew when a device that was left alone for it may be used again."""
        found = plans.get(key, make)
        if found.plan.left_alone and not found.plan.left_alone <= self._runners.health.resting().keys():
            plans.drop(key, found)
            found = plans.get(key, make)
        return found

    def _planned(self, shapes: tuple[Shape, ...], trust_variables: bool) -> _Planned:
        def make() -> Plan:
            return make_plan(
                self.graph,
                self.graph.ops,
                self._input_specs(shapes),
                self.keep,
                self._runners.planner(trust_variables),
            )

        return self._current(self._plans, (shapes, trust_variables), make)

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

        return self._current(planned.late, key, make)

    def _run(self, planned: _Planned, values: Values, state: Overlay, trust_variables: bool) -> None:
        while True:
            planned.began = next(self._runners.clock)
            arena = planned.arena()
            self._run_steps(planned, arena, values, state, trust_variables)
            planned.idle.append(arena)
            if not planned.plan.late:
                return
            planned = self._planned_late(planned, values, trust_variables)

    def _run_steps(
        self, planned: _Planned, arena: Array, values: Values, state: Overlay, trust_variables: bool
    ) -> None:
        """Steps in order; those of watched devices go on beside the others until something reads their results."""
        plan = planned.plan
        under_way: list[_Pending] = []

        def settle(tensors: Container[int] | None) -> None:
            """Finishes the runs that make one of these tensors; None: all."""
            for run in list(under_way):
                if tensors is None or any(i in tensors for i in run.step.segment.outputs):
                    under_way.remove(run)
                    self._finish(planned, run, values, state, trust_variables)

        for position, step in enumerate(plan.steps):
            if under_way:
                settle(reads(step))
            if isinstance(step, SegmentStep):
                started = self._run_segment(planned, position, step, arena, values, state, trust_variables)
                if started is not None:
                    under_way.append(started)
                    if step.segment.variables:  # a later step may read the state
                        settle(None)
            elif isinstance(step, HostStep):
                self._run_host(plan, step, values, state)
            else:
                settle(None)  # what a called graph or a resource op does must come after it
                self._run_control(plan, step.node, values, state, trust_variables)
            for i in plan.drop[position]:
                values.pop(i, None)
        settle(None)

    def _run_segment(
        self,
        planned: _Planned,
        position: int,
        step: SegmentStep,
        arena: Array,
        values: Values,
        state: Overlay,
        trust_variables: bool,
    ) -> _Pending | None:
        """Runs a segment now, or starts it on a watched device and returns what to wait for."""
        plan, loaded = planned.plan, step.loaded
        inputs = [values[i] if i in values else self._value(plan, values, i, state) for i in step.segment.inputs]
        if self._runners.health.quarantine(loaded.slot.id) and self._runners.may_fall_back:
            self._run_instead(planned, position, step, inputs, values, state, trust_variables)
            return None
        try:
            if loaded.is_watched:
                run = loaded.start(inputs, self._runners.timeout_s)
                return _Pending(position, step, run)
            offsets = plan.arena.offsets
            results = [
                _room(shape, dtype, arena, offsets.get(i))
                for i, (shape, dtype) in zip(loaded.delivered, loaded.made, strict=True)
            ]
            loaded.run(inputs, results)
        except DelegateError as exc:
            self._failed(planned, position, step, inputs, exc, values, state, trust_variables)
            return None
        self._deliver(step, results, values, state)
        return None

    def _finish(self, planned: _Planned, run: _Pending, values: Values, state: Overlay, trust_variables: bool) -> None:
        try:
            results = run.run.finish()
        except DelegateError as exc:
            self._failed(planned, run.position, run.step, run.run.inputs, exc, values, state, trust_variables)
            return
        self._deliver(run.step, results, values, state)

    def _deliver(self, step: SegmentStep, results: Sequence[Array], values: Values, state: Overlay) -> None:
        segment = step.segment
        self._runners.health.worked(step.device)
        values.update(zip(segment.outputs, results, strict=False))
        for i, value in zip(segment.variables, results[len(segment.outputs) :], strict=True):
            state.write(("tensor", self.graph.index, i), value)

    def _failed(
        self,
        planned: _Planned,
        position: int,
        step: SegmentStep,
        inputs: Sequence[Array],
        error: DelegateError,
        values: Values,
        state: Overlay,
        trust_variables: bool,
    ) -> None:
        """A segment failed in the run: note it, and run it elsewhere on the same inputs."""
        slot = step.loaded.slot
        if slot.is_floor:
            raise error
        if error.code in (ErrorCode.DEVICE_LOST, ErrorCode.TIMEOUT):
            slot.lose(step.loaded.generation)
        self._runners.health.failed(slot.id, str(error))
        self._runners.on_failure("run", step.segment, error)
        self._run_instead(planned, position, step, inputs, values, state, trust_variables)

    def _run_instead(
        self,
        planned: _Planned,
        position: int,
        step: SegmentStep,
        inputs: Sequence[Array],
        values: Values,
        state: Overlay,
        trust_variables: bool,
    ) -> None:
        """Runs a segment's ops on the other devices, by a plan of their own that is kept."""
        segment, plan = step.segment, planned.plan

        def make() -> Plan:
            planner = self._runners.planner(trust_variables)
            excluded = planner.excluded | {(node.op.index, step.device) for node in segment.nodes}
            known = {i: spec for i, spec in plan.specs.items() if i in segment.inputs or spec.value is not None}
            return make_plan(
                self.graph,
                [node.op for node in segment.nodes],
                known,
                frozenset(segment.outputs),
                replace(planner, excluded=excluded),
            )

        found = self._current(planned.instead, position, make)
        own: Values = dict(zip(segment.inputs, inputs, strict=True))
        self._run(found, own, state, trust_variables)
        values.update({i: self._value(plan, own, i, state) for i in segment.outputs})

    def _run_host(self, plan: Plan, step: HostStep, values: Values, state: Overlay) -> None:
        operands = [None if i < 0 else self._value(plan, values, i, state) for i in step.op.inputs]
        with blamed_on(step.node), np.errstate(all="ignore"):
            results = step.kernel(*operands)
        for i, result in zip(step.op.outputs, results, strict=True):
            values[i] = _owned(np.asarray(result), operands)

    def _run_control(self, plan: Plan, node: Node, values: Values, state: Overlay, trust_variables: bool) -> None:
        operands = [np.zeros(0) if i < 0 else self._value(plan, values, i, state) for i in node.op.inputs]

        def call(graph: int, inputs: Sequence[Array]) -> list[Array]:
            runner = self._runners[graph]
            found = runner.run(inputs, state, trust_variables=trust_variables)
            return [found[i] for i in runner.graph.outputs]

        results = control.run(node, operands, call, state)
        for i, result in zip(node.op.outputs, results, strict=True):
            if i in plan.specs and plan.specs[i].shape != result.shape:
                if not trust_variables:
                    raise InternalError("runner", f"{node.place} made {result.shape}, not {plan.specs[i].shape}")
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
    """The runners of all graphs of a model, and what their plans are made with.

    on_failure: told of each failure of a device; may_fall_back: whether another device then takes over (if not,
    on_failure raises). keep: graph → tensors beside its outputs whose values runs return.
    """

    def __init__(
        self,
        graphs: GraphSet,
        cut: Cutter,
        load: Loader,
        on_failure: FailureHook,
        *,
        health: Health,
        may_fall_back: bool = True,
        timeout_s: float = RUN_TIMEOUT_S,
        keep: Mapping[int, frozenset[int]] | None = None,
    ) -> None:
        self.graphs = graphs
        self.health, self.may_fall_back, self.timeout_s = health, may_fall_back, timeout_s
        self.on_failure = on_failure
        self.clock = itertools.count(1)
        """Numbers runs of plans, to tell the last one."""
        self._load = load
        self._planner = Planner(cut, self._built, lambda node: self._call_shapes(node, True), self._not_built)
        self._runners = tuple(
            GraphRunner(graph, self, (keep or {}).get(graph.index, frozenset())) for graph in graphs.graphs
        )

    def __getitem__(self, graph: int) -> GraphRunner:
        return self._runners[graph]

    def __iter__(self) -> Iterator[GraphRunner]:
        return iter(self._runners)

    def planner(self, trust_variables: bool) -> Planner:
        return replace(
            self._planner,
            call_shapes=lambda node: self._call_shapes(node, trust_variables),
            trust_variables=trust_variables,
            resting=self.health.resting() if self.may_fall_back else {},
        )

    def _built(self, segment: Segment, device: str) -> LoadedSegment:
        loaded = self._load(segment, device)
        self.health.worked(device, doing="build")
        return loaded

    def _not_built(self, moment: str, segment: Segment, error: DelegateError) -> None:
        """A device did not take a segment. Noted if it was no refusal, and not the floor's: then telling raises."""
        self.on_failure(moment, segment, error)
        if error.code not in (ErrorCode.UNSUPPORTED, ErrorCode.ARTIFACT_REFUSED):
            self.health.failed(error.device, str(error), doing="build")

    def _call_shapes(self, node: Node, trust_variables: bool) -> Sequence[Shape | None] | None:
        return control.output_shapes(
            node, lambda graph, shapes: self[graph].output_shapes(shapes, trust_variables=trust_variables)
        )


def _room(shape: Shape, dtype: np.dtype[Any], arena: Array, offset: int | None) -> Array:
    """Memory for what a segment makes: its place in the arena, or its own where it outlives the plan."""
    if offset is None:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, arena, offset)


def _owned(value: Array, operands: Sequence[Array | None]) -> Array:
    """``value``, copied if it lies in an operand's memory (which may be an arena that is used again)."""
    if any(a is not None and np.may_share_memory(value, a) for a in operands):
        return value.copy()
    return value
