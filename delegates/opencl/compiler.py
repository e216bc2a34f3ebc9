"""The compiler: a segment to launches, and these to a plan of memory and a program text. Imports core up to runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delegraph.core.abi.protocols import Packs
from delegraph.core.abi.values import Segment
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.memory import Usage, plan_memory
from delegraph.delegates.opencl.artifact import Argument, Plan
from delegraph.delegates.opencl.fusion import emit_group, fuse
from delegraph.delegates.opencl.kernels import lowerings_of
from delegraph.delegates.opencl.launches import (
    GROUP,
    Arg,
    BlobRef,
    Emitter,
    Float,
    Int,
    PackRef,
    TensorRef,
    Write,
)
from delegraph.delegates.opencl.lowering import Formula, Lowering, lowering_of
from delegraph.delegates.opencl.traits import Traits

Check = Callable[[], None]
"""Called between the steps; raises when the time is up."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A segment before its kernels are built. packs: names, in the order of ``plan.packs``."""

    plan: Plan
    source: str
    blobs: bytes


def lower(segment: Segment, traits: Traits, packs: Packs, check: Check = lambda: None) -> Lowered:
    """Launches, memory plan and program text of a segment whose ops are all supported."""
    delivered = frozenset((*segment.outputs, *segment.variables))
    emit = Emitter(traits, delivered)
    chosen = [_chosen(node) for node in segment.nodes]
    formulas = {i: low.formula(segment.nodes[i]) for i, low in enumerate(chosen) if low.formula is not None}
    groups = fuse(segment.nodes, formulas, delivered)
    by_tensor: dict[int, Formula] = {segment.nodes[i].op.outputs[0]: formula for i, formula in formulas.items()}
    for position, (node, low) in enumerate(zip(segment.nodes, chosen, strict=True)):
        check()
        if low.formula is None:
            low.emit(node, emit)
        elif position in groups:
            emit_group(groups[position], by_tensor, emit)
    return _planned(segment, emit, packs)


def _chosen(node: Node) -> Lowering:
    found = lowering_of(node, lowerings_of(node.op.name))
    assert found is not None, node.place
    return found


def _planned(segment: Segment, emit: Emitter, packs: Packs) -> Lowered:
    places = _places(segment, emit)
    pack_numbers: dict[PackRef, int] = {}
    blob_places, blobs = _joined(emit)

    def argument(arg: Arg) -> Argument:
        match arg:
            case Int():
                return ("int", arg.value)
            case Float():
                return ("float", arg.bits)
        match arg.ref:
            case TensorRef():
                return places.of(arg.ref.tensor)
            case PackRef():
                return ("pack", pack_numbers.setdefault(arg.ref, len(pack_numbers)))
            case BlobRef():
                return ("blob", arg.ref.index)

    launches = [
        (launch.kernel, _whole_groups(launch.size), [argument(arg) for arg in launch.args]) for launch in emit.launches
    ]
    plan = Plan(
        fingerprint=emit.traits.fingerprint_digest,
        kernels=tuple(emit.kernels),
        scratch=places.scratch,
        packs=[
            (ref.tensor, ref.layout, f"opencl/{ref.layout}/{packs.digest(emit.value_of(ref))}") for ref in pack_numbers
        ],
        blobs=blob_places,
        launches=launches,
        inputs=[segment.specs[i].size_bytes for i in segment.inputs],
        outputs=[segment.specs[i].size_bytes for i in (*segment.outputs, *segment.variables)],
    )
    return Lowered(plan, emit.source, blobs)


def _whole_groups(size: int) -> int:
    return -(-size // GROUP) * GROUP


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each tensor lies."""

    places: dict[int, Argument]
    aliases: dict[int, int]
    scratch: int

    def of(self, tensor: int) -> Argument:
        return self.places[_root(self.aliases, tensor)]


def _places(segment: Segment, emit: Emitter) -> _Places:
    """The caller's memory for inputs and outputs, scratch memory for what lies between."""
    places: dict[int, Argument] = {tensor: ("in", k) for k, tensor in enumerate(segment.inputs)}
    places |= {tensor: ("out", k) for k, tensor in enumerate((*segment.outputs, *segment.variables))}
    sizes = {
        tensor: spec.size_bytes
        for node in segment.nodes
        for tensor, spec in zip((t for t in node.op.outputs if t >= 0), node.outputs, strict=True)
    }
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, launch in enumerate(emit.launches):
        for arg in launch.args:
            if isinstance(arg, Int | Float) or not isinstance(arg.ref, TensorRef):
                continue
            tensor = _root(emit.aliases, arg.ref.tensor)
            if isinstance(arg, Write):
                first.setdefault(tensor, step)
            last[tensor] = step
    usages = [Usage(t, sizes[t], first[t], last[t]) for t in first if t not in places]
    plan = plan_memory(usages, max(64, emit.traits.alignment))
    places |= {t: ("scratch", offset, sizes[t]) for t, offset in plan.offsets.items()}
    return _Places(places, emit.aliases, plan.size_bytes)


def _root(aliases: dict[int, int], tensor: int) -> int:
    while tensor in aliases:
        tensor = aliases[tensor]
    return tensor


def _joined(emit: Emitter) -> tuple[list[tuple[int, int]], bytes]:
    """The blobs one after the other, each where a sub-buffer can start."""
    step = max(64, emit.traits.alignment)
    places, size = [], 0
    for blob in emit.blobs:
        places.append((size, blob.nbytes))
        size += -(-blob.nbytes // step) * step
    joined = np.zeros(size, np.uint8)
    for (start, length), blob in zip(places, emit.blobs, strict=True):
        joined[start : start + length] = np.frombuffer(blob.tobytes(), np.uint8)
    return places, joined.tobytes()
