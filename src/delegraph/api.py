"""``dg.load``, ``dg.compile`` and ``dg.explain``: from a file to a model that runs, or to why. Composition only."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

from delegraph import registry
from delegraph.backend import Backend
from delegraph.compiled import CompiledModel
from delegraph.core.errors import InvalidArgument, InvalidModel
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import GraphSet
from delegraph.core.model.model import Model
from delegraph.core.model.reader import read
from delegraph.core.ops.prepare import prepare
from delegraph.core.ops.support import check_ops
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.runner import RUN_TIMEOUT_S
from delegraph.placer import Placer
from delegraph.request import PinsLike, Wishes, resolved
from delegraph.storage import shared_packs

if TYPE_CHECKING:
    from delegraph.explanation import Explanation
    from delegraph.partitioner.costs import CostTable
    from delegraph.partitioner.placement import Placement

Source = Model | str | os.PathLike[str] | bytes | bytearray | memoryview


def load(source: Source) -> Model:
    """Reads a model: a path (the file is mapped), or its bytes.

    Raises:
        InvalidModel: the bytes are no valid TFLite model.
        OSError: the file can't be read.
    """
    return source if isinstance(source, Model) else read(source)


def compile(
    model: Source,
    *,
    devices: str | Sequence[str] | None = None,
    numerics: str = "exact",
    threads: SupportsIndex | None = None,
    fallback: str = "allow",
    timeout_s: float = RUN_TIMEOUT_S,
    pins: PinsLike | None = None,
    exclude: PinsLike | None = None,
    objective: str = "latency",
    machine: str | None = None,
    placement: Placement | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    costs: CostTable | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    preserve_all_tensors: bool = False,
    plan: bool = True,
) -> CompiledModel:
    """A model ready to run.

    Of several devices the split is searched that takes the least time; what they cost is measured once, in seconds, and
    kept. A device that is named alone gets all that it runs.

    Args:
        model: a path, bytes, or what ``load`` returned.
        devices: device ids in order of preference, "cpu" if nothing else says; the CPU stands under them, and the
            reference device under it: they get what no named device runs. Name "cpu" to let it compete.
        numerics: "exact": integers bit-identical to LiteRT's reference kernels, floats within each op's bound;
            "fast": devices that round otherwise are taken too.
        threads: how many threads the CPU may use, at least 1; accepted, and without effect yet. The CPU delegate uses
            one, and so does the reference device, unless an environment variable of NumPy's BLAS library
            (OPENBLAS_NUM_THREADS, ...) says otherwise.
        fallback: "allow": what a device can't do or fails to do, the next one does, the CPU last and the reference
            device under it, and the record says so; "error": only the named devices, and a typed error instead.
        timeout_s: how long one run of a segment may take on a device that may hang, before another one takes over.
        pins: ops that are to run on a certain device, if it takes them: an op's index, a range ("3-17") or an
            operator's name → device id. The device has to be among ``devices``.
        exclude: ops that are not to run on a certain device, in the same form.
        objective: what the split is to have least of: "latency", or "energy" (of devices whose figures say it).
        machine: whose costs count: "host", or a machine of devices.yaml; by default that of the named devices.
        placement: a placement to take in place of a search: a record, its JSON, or a file of it.
        costs: costs to take in place of measured ones: a table, its JSON, or a file of it.
        preserve_all_tensors: keep every tensor readable after a run of its graph.
        plan: plan the main graph now, for the shapes in the file; otherwise at the first call.

    Raises:
        InvalidModel: the model breaks a rule of the format, or its operands don't fit together.
        UnsupportedOp: an op that nothing here can run, in the main graph or one that it calls; names all of them.
        InvalidArgument: an argument out of its range; a placement that can't be run.
        NoEnergyModel: energy is to be least, and some device's is not known.
    """
    if not isinstance(timeout_s, Real) or not 0 < timeout_s < threading.TIMEOUT_MAX:
        raise InvalidArgument("timeout_s", "a positive number of seconds", repr(timeout_s))
    _check_threads(threads)
    wishes = Wishes(devices, numerics, fallback, pins, exclude, objective, machine, placement, costs)
    loaded = load(model)
    try:
        return compile_graphs(
            build(loaded), wishes, timeout_s=timeout_s, preserve_all_tensors=preserve_all_tensors, plan=plan
        )
    except InvalidModel as exc:  # an op does not know which file it is from
        raise InvalidModel(exc.place, exc.expected, exc.found, loaded.source) from exc


def compile_graphs(
    graphs: GraphSet,
    wishes: Wishes,
    *,
    timeout_s: float = RUN_TIMEOUT_S,
    preserve_all_tensors: bool = False,
    plan: bool = True,
) -> CompiledModel:
    """As ``compile``, of graphs that are built already."""
    graphs = prepare(graphs)
    check_ops(graphs)
    request = resolved(wishes, graphs)
    backend = Backend(request.slots, Placer(request), fallback=wishes.fallback, packs=_packs(request.slots))
    keep = {
        graph.index: frozenset(i for op in graph.all_ops for i in op.outputs if i >= 0)
        for graph in graphs.graphs
        if preserve_all_tensors
    }
    compiled = CompiledModel(graphs, backend, health=registry.health, timeout_s=timeout_s, keep=keep)
    if plan:
        compiled.plan_main()
    return compiled


def explain(
    model: Source,
    *,
    devices: str | Sequence[str] | None = None,
    numerics: str = "exact",
    fallback: str = "allow",
    pins: PinsLike | None = None,
    exclude: PinsLike | None = None,
    objective: str = "latency",
    machine: str | None = None,
    placement: Placement | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    costs: CostTable | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    measure: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Where each op of a model would go, why, at what cost, and what would change that. Compiles and runs nothing.

    Emulated devices, machines that are absent and edited profiles are explained as well as real devices.

    Args:
        model: a path, bytes, or what ``load`` returned.
        devices: as in ``compile``; with a ``machine`` of devices.yaml and no devices, all of that machine.
        numerics, fallback, pins, exclude, objective, machine, placement: as in ``compile``.
        costs: costs to take in place of measured ones. Without ``devices`` no device is asked: what the devices
            answered is in them, too.
        measure: time the model's own ops on the real devices first; the timings are kept.
        say: told, in words, of what takes its time.

    Raises: as ``compile``.
    """
    from delegraph.explanation import explained

    wishes = Wishes(devices, numerics, fallback, pins, exclude, objective, machine, placement, costs)
    loaded = load(model)
    try:
        graphs = prepare(build(loaded))
        check_ops(graphs)
        return explained(graphs, wishes, measure=measure, say=say)
    except InvalidModel as exc:  # an op does not know which file it is from
        raise InvalidModel(exc.place, exc.expected, exc.found, loaded.source) from exc


def _check_threads(threads: object) -> None:
    try:
        is_count = threads is None or (
            not isinstance(threads, bool) and operator.index(cast(SupportsIndex, threads)) > 0
        )
    except TypeError:
        is_count = False
    if not is_count:
        raise InvalidArgument("threads", "a whole number of at least 1, or None", repr(threads))


def _packs(slots: Mapping[str, DeviceSlot]) -> PackStore:
    """Packs in the process's store; without one when only the reference device is wanted, which keeps nothing."""
    if all(slot.is_floor for slot in slots.values()):
        return PackStore(None)
    return shared_packs()
