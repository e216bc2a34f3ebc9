"""``dg.load`` and ``dg.compile``: from a file to a model that runs. Composition only."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence

from delegraph import registry
from delegraph.backend import Backend
from delegraph.compiled import CompiledModel
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.errors import InvalidArgument, InvalidModel, UnsupportedOp
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import GraphSet
from delegraph.core.model.model import Model
from delegraph.core.model.reader import read
from delegraph.core.ops.prepare import prepare
from delegraph.core.ops.support import op_support
from delegraph.core.runtime.border import DeviceSlot
from delegraph.core.runtime.packs import PackStore
from delegraph.core.runtime.runner import RUN_TIMEOUT_S
from delegraph.partitioner.pins import Pins, parse_pins
from delegraph.storage import shared_packs

FALLBACKS = ("allow", "error")

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
    devices: str | Sequence[str] = "cpu",
    numerics: str = "exact",
    threads: int | None = None,
    fallback: str = "allow",
    timeout_s: float = RUN_TIMEOUT_S,
    pins: Mapping[str | int, str] | None = None,
    preserve_all_tensors: bool = False,
    plan: bool = True,
) -> CompiledModel:
    """A model ready to run.

    Args:
        model: a path, bytes, or what ``load`` returned.
        devices: device ids in order of preference; the reference device stands under them.
        numerics: "exact": integers bit-identical to LiteRT's reference kernels, floats within each op's bound;
            "fast": devices that round otherwise are taken too.
        threads: how many threads the CPU may use; None for all. The CPU delegate of this version uses one; the
            reference device computes in NumPy, whose threads its BLAS library's own environment variables set.
        fallback: "allow": what a device can't do or fails to do, the next one does, the CPU last and the reference
            device under it, and the record says so; "error": only the named devices, and a typed error instead.
        timeout_s: how long one run of a segment may take on a device that may hang, before another one takes over.
        pins: ops that are to run on a certain device, if it takes them: an op's index, a range ("3-17") or an
            operator's name → device id. The device has to be among ``devices``.
        preserve_all_tensors: keep every tensor readable after a run of its graph.
        plan: plan the main graph now, for the shapes in the file; otherwise at the first call.

    Raises:
        InvalidModel: the model breaks a rule of the format, or its operands don't fit together.
        UnsupportedOp: an op that nothing here can run; names all of them.
        InvalidArgument: an argument out of its range.
    """
    if numerics not in ("exact", "fast"):
        raise InvalidArgument("numerics", "'exact' or 'fast'", repr(numerics))
    if fallback not in FALLBACKS:
        raise InvalidArgument("fallback", "'allow' or 'error'", repr(fallback))
    if not 0 < timeout_s < threading.TIMEOUT_MAX:
        raise InvalidArgument("timeout_s", "a positive number of seconds", repr(timeout_s))
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InvalidArgument("threads", "a whole number of at least 1, or None", repr(threads))
    loaded = load(model)
    try:
        return compile_graphs(
            build(loaded),
            devices=devices,
            numerics=numerics,
            threads=threads,
            fallback=fallback,
            timeout_s=timeout_s,
            pins=pins,
            preserve_all_tensors=preserve_all_tensors,
            plan=plan,
        )
    except InvalidModel as exc:  # an op does not know which file it is from
        raise InvalidModel(exc.place, exc.expected, exc.found, loaded.source) from exc


def compile_graphs(
    graphs: GraphSet,
    *,
    devices: str | Sequence[str] = "cpu",
    numerics: str = "exact",
    threads: int | None = None,
    fallback: str = "allow",
    timeout_s: float = RUN_TIMEOUT_S,
    pins: Mapping[str | int, str] | None = None,
    preserve_all_tensors: bool = False,
    plan: bool = True,
) -> CompiledModel:
    """As ``compile``, of graphs that are built already and arguments that are checked."""
    graphs = prepare(graphs)
    check_ops(graphs)
    slots, unavailable = _slots(devices, fallback)
    backend = Backend(
        slots,
        unavailable,
        fallback=fallback,
        numerics=numerics,
        packs=_packs(slots),
        pins=_pins(pins or {}, graphs, slots),
    )
    keep = {
        graph.index: frozenset(i for op in graph.all_ops for i in op.outputs if i >= 0)
        for graph in graphs.graphs
        if preserve_all_tensors
    }
    compiled = CompiledModel(graphs, backend, health=registry.health, timeout_s=timeout_s, keep=keep)
    if plan:
        compiled.plan_main()
    return compiled


def _slots(names: str | Sequence[str], fallback: str) -> tuple[dict[str, DeviceSlot], dict[str, str]]:
    """The devices of these names in order, and why the others can't be used.

    Raises:
        DelegateError: a device that was named can't be used, and fallback is "error".
    """
    slots: dict[str, DeviceSlot] = {}
    unavailable: dict[str, str] = {}
    for info in registry.resolve(names, floor=fallback == "allow"):
        if info.available:
            slots[info.id] = registry.slot(info)
        elif fallback == "error":
            raise DelegateError(info.id, ErrorCode.UNSUPPORTED, f"{info.reason}; {info.remedy}")
        else:
            unavailable[info.id] = info.reason
    return slots, unavailable


def _packs(slots: Mapping[str, DeviceSlot]) -> PackStore:
    """Packs in the process's store; without one when only the reference device is wanted, which keeps nothing."""
    if all(slot.is_floor for slot in slots.values()):
        return PackStore(None)
    return shared_packs()


def _pins(pins: Mapping[str | int, str], graphs: GraphSet, slots: Mapping[str, DeviceSlot]) -> Pins:
    found = parse_pins(pins, graphs)
    for device in found.devices.values():
        if device not in slots:
            raise InvalidArgument("pin", f"one of the model's devices {', '.join(slots)}", repr(device))
    return found


def check_ops(graphs: GraphSet) -> None:
    """Raises UnsupportedOp for the first op that can't run whatever its operands are; names the others too."""
    found = [(op, problem) for graph in graphs.graphs for op in graph.ops if (problem := op_support(op)) is not None]
    if not found:
        return
    op, problem = found[0]
    others = tuple(sorted({other.name for other, _ in found[1:]} - {op.name}))
    raise UnsupportedOp(op.place, op.name, problem.reason, problem.advice, others)
