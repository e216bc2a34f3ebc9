"""Runs the graphs of a model: plans per shape key, private memory per call, control flow in core, fallback.

Imports core up to abi and core.runtime. One GraphRunner a graph; they call one another for control flow.

Fallback: a segment whose device fails in the run, or is in quarantine, is planned again over the other devices (from
the same ops and inputs, in fresh memory) and run there; that plan is kept for the next time.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from delegraph.core.runtime.health import Doing, Health, Part, Rest, resting
from delegraph.core.runtime.loaded import IDLE_KEPT, LoadedSegment, NotRunError, WatchedRun
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

SHAPES_KEPT = 64
"""Shapes of inputs per graph for which those of its outputs are remembered."""

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
    instead: _PlanCache = field(default_factory=lambda: _PlanCache(math.inf))  # one for each step at most

    def arena(self) -> Array:
        """Memory for the tensors that cross between steps, for one run, which gives it back if it ends well."""
        try:
            return self.idle.pop()
        except IndexError:
            return self.fresh_arena()

    def fresh_arena(self) -> Array:
        return host.allocate(self.plan.arena.size_bytes).memory

    def give_back(self, arena: Array) -> None:
        if len(self.idle) < IDLE_KEPT:
            self.idle.append(arena)


@dataclass(slots=True, eq=False)
class _Run:
    """One run of a plan. arena: where segments on unwatched devices put what later steps read."""

    planned: _Planned
    values: Values
    state: Overlay
    trusts_variables: bool
    arena: Array

    @property
    def plan(self) -> Plan:
        return self.planned.plan


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
    watched: WatchedRun


class _PlanCache:
    """Plans by key, at most ``kept`` of them, the most recently used. Thread-safe; a plan that two threads miss at once
    is made once, and nobody waits for a plan of another key."""

    def __init__(self, kept: float = PLANS_KEPT) -> None:
        self._kept = kept
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
            if found is not None:
                return found
            try:
                found = _Planned(make())
                with self._lock:
                    self._plans[key] = found
                    if len(self._plans) > self._kept:
                        self._plans.popitem(last=False)
                return found
            finally:
                with self._lock:
                    self._makers.pop(key, None)

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
        self._output_shapes: OrderedDict[object, list[Shape | None]] = OrderedDict()
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
        found = self._output_shapes.get(key)
        if found is None:
            planner = self._runners.planner(trust_variables)
            found = self._output_shapes[key] = infer_outputs(self.graph, self._input_specs(shapes), planner)
            if len(self._output_shapes) > SHAPES_KEPT:
                self._output_shapes.popitem(last=False)
        return found

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
        if any(not self._runners.health.why(rest) for rest in found.plan.left_alone):
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

        found = self._current(self._plans, (shapes, trust_variables), make)
        resting = self._runners.resting(found.plan)
        if resting:  # while devices of it are left alone, a plan without them
            found = self._current(self._plans, (shapes, trust_variables, resting), make)
        return found

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

    def _run(self, planned: _Planned, values: Values, state: Overlay, trusts_variables: bool) -> None:
        while True:
            planned.began = next(self._runners.clock)
            run = _Run(planned, values, state, trusts_variables, planned.arena())
            self._run_steps(run)
            planned.give_back(run.arena)
            if not planned.plan.late:
                return
            planned = self._planned_late(planned, values, trusts_variables)

    def _run_steps(self, run: _Run) -> None:
        """Steps in order; those of watched devices go on beside the others until something reads their results."""
        under_way: list[_Pending] = []

        def settle(tensors: Container[int] | None) -> None:
            """Finishes the runs that make one of these tensors; None: all."""
            for pending in list(under_way):
                if tensors is None or any(i in tensors for i in pending.step.segment.outputs):
                    under_way.remove(pending)
                    self._finish(run, pending)

        for position, step in enumerate(run.plan.steps):
            if under_way:
                settle(reads(step))
            if isinstance(step, SegmentStep):
                started = self._run_segment(run, position, step)
                if started is not None:
                    under_way.append(started)
                    if step.segment.variables:  # a later step may read the state
                        settle(None)
            elif isinstance(step, HostStep):
                self._run_host(run.plan, step, run.values, run.state)
            else:
                settle(None)  # what a called graph or a resource op does must come after it
                self._run_control(run.plan, step.node, run.values, run.state, run.trusts_variables)
            for i in run.plan.drop[position]:
                run.values.pop(i, None)
        settle(None)

    def _run_segment(self, run: _Run, position: int, step: SegmentStep) -> _Pending | None:
        """Runs a segment now, or starts it on a watched device and returns what to wait for."""
        plan, values, loaded = run.plan, run.values, step.loaded
        inputs = [values[i] if i in values else self._value(plan, values, i, run.state) for i in step.segment.inputs]
        may_fall_back, health = self._runners.may_fall_back, self._runners.health
        if may_fall_back and not health.is_calm and health.quarantine(step.device, part=part_of(step.segment)):
            self._run_instead(run, position, step, inputs)
            return None
        start = time.monotonic()
        try:
            if loaded.is_watched:
                watched = loaded.start(inputs, self._runners.timeout_s, insists=not may_fall_back)
                return _Pending(position, step, watched)
            offsets = plan.arena.offsets
            results = [
                _room(shape, dtype, run.arena, offsets.get(i))
                for i, (shape, dtype) in zip(loaded.delivered, loaded.made, strict=True)
            ]
            loaded.run(inputs, results)
        except DelegateError as exc:
            if not loaded.is_watched:
                run.arena = run.planned.fresh_arena()  # what failed may still write to the old one
            self._failed(run, position, step, inputs, exc, time.monotonic() - start)
            return None
        self._deliver(run, step, results)
        return None

    def _finish(self, run: _Run, pending: _Pending) -> None:
        position, step, watched = pending.position, pending.step, pending.watched
        try:
            results = watched.finish()
        except NotRunError:
            self._run_instead(run, position, step, watched.inputs)
        except DelegateError as exc:
            self._failed(run, position, step, watched.inputs, exc, watched.took_s)
        else:
            self._deliver(run, step, results)

    def _deliver(self, run: _Run, step: SegmentStep, results: Sequence[Array]) -> None:
        segment, health = step.segment, self._runners.health
        if not health.is_calm:
            health.worked(step.device, part=part_of(segment))
        run.values.update(zip(segment.outputs, results, strict=False))
        for i, value in zip(segment.variables, results[len(segment.outputs) :], strict=True):
            run.state.write(("tensor", self.graph.index, i), value)

    def _failed(
        self,
        run: _Run,
        position: int,
        step: SegmentStep,
        inputs: Sequence[Array],
        error: DelegateError,
        took_s: float,
    ) -> None:
        """A segment failed in the run: note it, and run it elsewhere on the same inputs."""
        if step.loaded.slot.is_floor:
            raise error
        self._runners.health.failed(step.device, str(error), took_s=took_s, part=part_of(step.segment))
        self._runners.tell("run", step.segment, error)
        self._run_instead(run, position, step, inputs)

    def _run_instead(self, run: _Run, position: int, step: SegmentStep, inputs: Sequence[Array]) -> None:
        """Runs a segment's ops on the other devices, by a plan of their own that is kept: in the runs that find the
        device failing. The next ones have a plan without it."""
        segment, plan = step.segment, run.plan

        def make() -> Plan:
            planner = self._runners.planner(run.trusts_variables)
            excluded = planner.excluded | {(node.op.index, step.device) for node in segment.nodes}
            known = {i: spec for i, spec in plan.specs.items() if i in segment.inputs or spec.value is not None}
            return make_plan(
                self.graph,
                [node.op for node in segment.nodes],
                known,
                frozenset(segment.outputs),
                replace(planner, excluded=excluded),
            )

        found = self._current(run.planned.instead, position, make)
        own: Values = {
            i: value
            for i, value in zip(segment.inputs, inputs, strict=True)
            if i not in segment.variables  # the state has it, and what the first of several pieces makes of it
        }
        self._run(found, own, run.state, run.trusts_variables)
        run.values.update({i: self._value(plan, own, i, run.state) for i in segment.outputs})

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
        self._on_failure = on_failure
        self._told: set[str] = set()
        """Devices whose failures were told: that they are left alone afterwards is no news."""
        self.clock = itertools.count(1)
        """Numbers runs of plans, to tell the last one."""
        self._load = load
        call_shapes = partial(self._call_shapes, trust_variables=True)
        self._planner = Planner(cut, self._built, call_shapes, self._not_built, partial(self._resting, frozenset()))
        self._runners = tuple(
            GraphRunner(graph, self, (keep or {}).get(graph.index, frozenset())) for graph in graphs.graphs
        )

    def __getitem__(self, graph: int) -> GraphRunner:
        return self._runners[graph]

    def __iter__(self) -> Iterator[GraphRunner]:
        return iter(self._runners)

    def planner(self, trust_variables: bool) -> Planner:
        active = self.health.active() if self.may_fall_back else frozenset()  # what fails in the plan is not among them
        return replace(
            self._planner,
            call_shapes=partial(self._call_shapes, trust_variables=trust_variables),
            resting=partial(self._resting, active),
            trust_variables=trust_variables,
        )

    def resting(self, plan: Plan) -> frozenset[Rest]:
        """What the plan's devices are not to run now."""
        active = self.health.active() if self.may_fall_back else frozenset()
        if not active:
            return active
        steps = [step for step in plan.steps if isinstance(step, SegmentStep)]
        found = [resting(active, step.device, ("run",), part_of(step.segment)) for step in steps]
        return frozenset(rest for rest in found if rest is not None)

    def _resting(self, active: frozenset[Rest], segment: Segment, device: str) -> Rest | None:
        """What the device is left alone with, where the segment is not to be built for it: told as a refusal."""
        rest = resting(active, device, _NEEDED, part_of(segment)) if active else None
        if rest is not None and device not in self._told:
            why = self.health.why(rest)
            self._on_failure("compile", segment, DelegateError(device, ErrorCode.UNSUPPORTED, why))
        return rest

    def tell(self, moment: str, segment: Segment, error: DelegateError) -> None:
        """Tells of a failure. Raises it where falling back is not wanted, or it was the floor's."""
        self._told.add(error.device)
        self._on_failure(moment, segment, error)

    def _built(self, segment: Segment, device: str) -> LoadedSegment:
        loaded = self._load(segment, device)
        if not self.health.is_calm:
            self.health.worked(device, doing="build", part=part_of(segment))
        return loaded

    def _not_built(self, segment: Segment, error: DelegateError, took_s: float) -> Rest | None:
        """A device did not take a segment. Noted if it was no refusal, and not the floor's: then telling raises."""
        self.tell("compile", segment, error)
        if error.code in (ErrorCode.UNSUPPORTED, ErrorCode.ARTIFACT_REFUSED):
            return None
        part = part_of(segment)
        self.health.failed(error.device, str(error), doing="build", took_s=took_s, part=part)
        return Rest(error.device, "build", part)

    def _call_shapes(self, node: Node, trust_variables: bool) -> Sequence[Shape | None] | None:
        return control.output_shapes(
            node, lambda graph, shapes: self[graph].output_shapes(shapes, trust_variables=trust_variables)
        )


_NEEDED: tuple[Doing, ...] = ("run", "build")
"""What a device has to be able to do for a segment."""


def part_of(segment: Segment) -> Part:
    """What tells a segment from others of a device, in every process and model object alike."""
    ops = tuple((node.op.index, node.op.name) for node in segment.nodes)
    return segment.graph.index, ops, tuple(spec.shape for spec in segment.specs.values())


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
