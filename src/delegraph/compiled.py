"""CompiledModel: a model ready to run, callable by position, by name and by signature. Composition only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.backend import Backend, FallbackEvent
from delegraph.core.errors import InvalidArgument, InvalidModel
from delegraph.core.forks import RenewedLock
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, GraphSet, Quantization, Shape, Tensor
from delegraph.core.ops import registry as ops
from delegraph.core.ops.support import check_ops
from delegraph.core.runtime.health import Health
from delegraph.core.runtime.plan import Plan, SegmentStep, Step
from delegraph.core.runtime.runner import RUN_TIMEOUT_S, GraphRunner, ReplanError, Runners
from delegraph.core.runtime.state import Overlay, Session
from delegraph.inputs import by_position, checked, named_by_position
from delegraph.partitioner.placement import Placement


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model. shape: -1 for dimensions that may vary."""

    name: str
    index: int
    dtype: DType
    shape: Shape
    quantization: Quantization | None

    @classmethod
    def of(cls, tensor: Tensor, name: str | None = None) -> TensorInfo:
        return cls(
            tensor.name if name is None else name,
            tensor.index,
            tensor.dtype,
            tensor.shape_signature,
            tensor.quantization,
        )


@dataclass(frozen=True, slots=True)
class SegmentReceipt:
    """What one step of a plan did. plan: the plan's digest. device: "core" for a host step. ops: their indices. runs,
    seconds: of this segment on this device; host steps are not timed. copied_bytes: moved to and from the device's own
    memory in each run."""

    graph: int
    plan: str
    device: str
    ops: tuple[int, ...]
    runs: int = 0
    seconds: float = 0.0
    copied_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What truly ran: runs of the model so far and seconds spent in them, the segments of every plan made, how many of
    them had to be compiled (were not found in the store), and every fallback."""

    runs: int
    seconds: float
    segments: tuple[SegmentReceipt, ...]
    compilations: int
    events: tuple[FallbackEvent, ...]

    def __repr__(self) -> str:
        where = ", ".join(f"{device} ({n} segment{'s' * (n > 1)})" for device, n in self.devices.items())
        found = f"{self.runs} run{'s' * (self.runs != 1)} in {self.seconds:.4g} s on {where or 'nothing'}"
        return f"<Receipt: {found}, {self.compilations} compiled, {len(self.events)} fallbacks>"

    @property
    def devices(self) -> dict[str, int]:
        """Device → how many segments it has; "core" for host steps."""
        counts: dict[str, int] = {}
        for segment in self.segments:
            counts[segment.device] = counts.get(segment.device, 0) + 1
        return counts


class CompiledModel:
    """A model ready to run; made by ``dg.compile``. Safe from many threads: each call has its own memory.

    ``m(image)`` returns one array, or a list when the model has several outputs; ``m(x=..., y=...)`` takes inputs by
    name. Inputs must have the tensor's dtype; dimensions that are -1 in ``inputs`` may have any size. A model with
    state uses one default session under a lock; ``session()`` makes further ones.
    """

    def __init__(
        self,
        graphs: GraphSet,
        backend: Backend,
        *,
        health: Health,
        timeout_s: float = RUN_TIMEOUT_S,
        keep: Mapping[int, frozenset[int]] | None = None,
    ) -> None:
        self._graphs = graphs
        self._backend = backend
        self._guard = RenewedLock()
        self._runs, self._seconds = 0, 0.0
        self._is_stateful = _is_stateful(graphs)
        self._session = Session()
        self._runners = Runners(
            graphs,
            backend.cut,
            backend.load,
            backend.on_failure,
            health=health,
            may_fall_back=backend.may_fall_back,
            timeout_s=timeout_s,
            keep=keep,
        )

    # --- what it is

    def __repr__(self) -> str:
        takes, gives = _described(self.inputs), _described(self.outputs)
        return f"CompiledModel({self._graphs.source!r}, {takes} -> {gives})"

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The main graph's inputs, in the file's order."""
        return _infos(self._graphs.main, self._graphs.main.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The main graph's outputs, in the file's order."""
        return _infos(self._graphs.main, self._graphs.main.outputs)

    @property
    def signatures(self) -> tuple[str, ...]:
        """Keys of the model's signatures."""
        return tuple(self._graphs.signatures)

    @property
    def placement(self) -> Placement:
        """Where each op goes and why: for each graph by the plan that ran last, or was made last where none has run.
        A note says for which shapes that is, where several have been planned."""
        from delegraph.record import placement_of, stages_of

        if not any(runner.latest() for runner in self._runners):
            self.plan_main()
        request = self._backend.placer.request
        found = stages_of(self._runners)
        return placement_of(
            self._graphs,
            found.decisions,
            machine=request.machine,
            objective=request.objective,
            devices=self._backend.placer.devices,
            unavailable=request.unavailable,
            measured=found.measured,
            events=[event.to_json() for event in self._backend.events],
            waiting=found.waiting,
            notes=found.notes,
        )

    def receipt(self) -> Receipt:
        """What truly ran so far."""
        segments = tuple(
            _segment_receipt(plan, step) for runner in self._runners for plan in runner.plans() for step in plan.steps
        )
        with self._guard.lock:
            return Receipt(self._runs, self._seconds, segments, self._backend.compilations, self._backend.events)

    # --- running

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs the main graph.

        Raises:
            InvalidArgument: an input is missing, unknown, or of another dtype or shape than the model takes.
            DataError: an op met data that it has no result for.
        """
        return self._call(self._session, *args, **kwargs)

    def signature(self, key: str) -> SignatureCall:
        """The entry point of that key: a callable that takes inputs by name and returns outputs by name.

        Raises:
            InvalidArgument: the model has no signature of that key.
        """
        return SignatureCall(self, key, self._session)

    def session(self) -> ModelSession:
        """A caller's own state: variables start as in a fresh model."""
        return ModelSession(self, Session())

    def _call(self, session: Session, /, *args: Any, **kwargs: Any) -> Any:
        main = self._graphs.main
        values = self.run(0, by_position(args, kwargs, main), session)
        if len(main.outputs) == 1:
            return values[main.outputs[0]]
        return [
            values[i].copy() if i in main.outputs[:position] else values[i] for position, i in enumerate(main.outputs)
        ]

    def run(
        self,
        graph: int,
        inputs: Sequence[Any],
        session: Session,
        *,
        resized: bool = False,
        names: Sequence[str] | None = None,
    ) -> dict[int, Array]:
        """Runs one graph once and commits its state; returns outputs and kept tensors by index, all the caller's own.

        inputs: one value per graph input. resized: take inputs of any shape, as after TFLite's resize_tensor_input.
        names: what the caller knows the inputs by, if not by their tensors' names.
        Raises as ``__call__``.
        """
        runner = self._runners[graph]
        tensors = runner.graph.tensors
        arrays = [
            checked(value, tensors[i], resized=resized, name=None if names is None else names[position])
            for position, (i, value) in enumerate(zip(runner.graph.inputs, inputs, strict=True))
        ]
        start = time.perf_counter()
        if self._is_stateful:
            with session.lock:
                values = _run(runner, arrays, session)
        else:
            values = _run(runner, arrays, session)
        elapsed = time.perf_counter() - start
        with self._guard.lock:
            self._runs += 1
            self._seconds += elapsed
        return {i: _own(value, arrays) for i, value in values.items()}

    @property
    def graphs(self) -> GraphSet:
        """The prepared graphs."""
        return self._graphs

    def plan(self, graph: int, shapes: Sequence[Shape]) -> None:
        """Plans a graph for these input shapes now, instead of at the first call with them."""
        self._runners[graph].plan(shapes)

    def tensor_shapes(self, graph: int, shapes: Sequence[Shape]) -> dict[int, Shape]:
        """The shape of every tensor that is known before a run with these input shapes."""
        plan = self._runners[graph].plan(shapes)
        return {i: spec.shape for i, spec in plan.specs.items()}

    def kept(self, graph: int) -> frozenset[int]:
        """The tensors whose values ``run`` returns: outputs, and all others when they are preserved."""
        return self._runners[graph].keep

    def plan_main(self) -> None:
        """Plans the main graph for the shapes in the file. Where a size is unknown (-1), the file may say one that
        nothing fits: then the first call plans."""
        main = self._graphs.main
        inputs = [main.tensors[i] for i in main.inputs]
        try:
            self.plan(0, [tensor.shape for tensor in inputs])
        except InvalidModel:
            if not any(-1 in tensor.shape_signature for tensor in inputs):
                raise


class ModelSession:
    """One owner of state: callable like the model, with variables of its own."""

    def __init__(self, model: CompiledModel, session: Session) -> None:
        self._model, self._session = model, session

    def __repr__(self) -> str:
        return f"ModelSession({self._model!r})"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._model._call(self._session, *args, **kwargs)

    def signature(self, key: str) -> SignatureCall:
        return SignatureCall(self._model, key, self._session)

    def run(self, graph: int, inputs: Sequence[Any], *, resized: bool = False) -> dict[int, Array]:
        """As ``CompiledModel.run``, on this session's state."""
        return self._model.run(graph, inputs, self._session, resized=resized)

    def variable(self, graph: int, tensor: int) -> Array:
        """A variable tensor's value, which is not to be written."""
        found = self._session.read_tensor(graph, tensor)
        table = self._model.graphs.graphs[graph].tensors[tensor]
        return np.zeros(table.shape, table.dtype.numpy) if found is None else found

    def set_variable(self, graph: int, tensor: int, value: Array) -> None:
        """Set a variable tensor to a copy of ``value``.

        Raises:
            InvalidArgument: a value of another dtype or shape, or a tensor that is no variable.
        """
        found = self._model.graphs.graphs[graph].tensors[tensor]
        if not found.is_variable:
            raise InvalidArgument(f"tensor {found.name!r}", "a variable tensor", "one that each run computes")
        self._session.write_tensor(graph, tensor, checked(value, found, resized=False, what="variable"))

    def reset_variable_tensors(self) -> None:
        """Set variable tensors to zero; resource variables stay."""
        self._session.reset_tensors()

    def reset(self) -> None:
        """Start again with fresh state."""
        self._session.reset()


class SignatureCall:
    """One signature of a model, ready to call with inputs by name."""

    def __init__(self, model: CompiledModel, key: str, session: Session) -> None:
        signatures = model.graphs.signatures
        if not signatures:
            raise InvalidArgument(
                "signature", "a model with signatures", "one without any", "call the model itself: m(...)"
            )
        found = signatures.get(key)
        if found is None:
            raise InvalidArgument("signature", f"one of {', '.join(map(repr, signatures))}", repr(key))
        self._model, self._session, self._signature = model, session, found
        self._graph = model.graphs.graphs[found.graph]
        self._key = key
        self._expect_ends("inputs", self._graph.inputs)
        self._expect_ends("outputs", self._graph.outputs)
        check_ops(model.graphs, found.graph)

    def _expect_ends(self, what: str, ends: Sequence[int]) -> None:
        """Some converters' signatures name tensors from inside the graph: nothing can be handed in or fetched there."""
        named: Mapping[str, int] = getattr(self._signature, what)
        for name, tensor in named.items():
            if tensor not in ends:
                found = f"{name!r}, which is tensor {tensor}, none of them; call the model itself: m(...)"
                raise InvalidModel(f"signature {self._key!r}", f"{what} of its graph", found)

    def __repr__(self) -> str:
        takes, gives = _described(self.inputs.values()), _described(self.outputs.values())
        return f"SignatureCall({self._key!r}, {takes} -> {gives})"

    @property
    def inputs(self) -> dict[str, TensorInfo]:
        return {n: TensorInfo.of(self._graph.tensors[i], n) for n, i in self._signature.inputs.items()}

    @property
    def outputs(self) -> dict[str, TensorInfo]:
        return {n: TensorInfo.of(self._graph.tensors[i], n) for n, i in self._signature.outputs.items()}

    def __call__(self, /, **kwargs: Any) -> dict[str, Array]:
        """Outputs by name. Raises as ``CompiledModel.__call__``."""
        names = {i: n for n, i in self._signature.inputs.items()}
        order = [names.get(i, self._graph.tensors[i].name) for i in self._graph.inputs]
        inputs = named_by_position(order, (), kwargs, self._graph, taker="the signature")
        values = self._model.run(self._graph.index, inputs, self._session, names=order)
        return {name: values[i] for name, i in self._signature.outputs.items()}


def _segment_receipt(plan: Plan, step: Step) -> SegmentReceipt:
    if not isinstance(step, SegmentStep):
        return SegmentReceipt(plan.graph.index, plan.digest, "core", (step.op.index,))
    specs, made = step.segment.specs, (*step.segment.inputs, *step.segment.outputs, *step.segment.variables)
    return SegmentReceipt(
        plan.graph.index,
        plan.digest,
        step.device,
        tuple(node.op.index for node in step.segment.nodes),
        step.loaded.runs,
        step.loaded.seconds,
        sum(specs[i].size_bytes for i in made) if step.loaded.copies else 0,
    )


def _run(runner: GraphRunner, arrays: Sequence[Array], session: Session) -> dict[int, Array]:
    overlay = Overlay(session)
    try:
        values = runner.run(arrays, overlay, trust_variables=runner.trusts_variables)
    except ReplanError:
        runner.trusts_variables = False
        overlay = Overlay(session)
        values = runner.run(arrays, overlay, trust_variables=False)
    overlay.commit()
    return values


def _own(value: Array, inputs: Sequence[Array]) -> Array:
    """An output that is the caller's own: copied when it is a constant, a variable, or an input passed through."""
    if not value.flags.owndata or not value.flags.writeable or any(value is a for a in inputs):
        return value.copy()
    return value


def _described(infos: Iterable[TensorInfo]) -> str:
    """Inputs or outputs in short: ``(image: uint8[1, 128, 128, 3])``."""
    return f"({', '.join(f'{info.name}: {info.dtype}{list(info.shape)}' for info in infos)})"


def _infos(graph: Graph, tensors: Sequence[int]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo.of(graph.tensors[i]) for i in tensors)


def _is_stateful(graphs: GraphSet) -> bool:
    return any(
        (opdef := ops.find(op.name)) is not None and (opdef.host == "resource" or opdef.variables)
        for graph in graphs.graphs
        for op in graph.ops
    )
