"""Delegate "cpu" and its one device. Imports delegraph.core; llvmlite only when something is compiled."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Delegate, Device, Packs
from delegraph.core.abi.values import (
    SUPPORTED,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.errors import DelegraphError, InvalidArgument
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Node
from delegraph.core.ops.support import node_support
from delegraph.core.version import __version__
from delegraph.delegates.cpu import artifact as artifacts
from delegraph.delegates.cpu import isa, llvm, packing
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.lower import ALIGNMENT, Lowered, Lowering
from delegraph.delegates.cpu.program import DEVICE, CpuProgram

DTYPES = ("float32", "int8", "uint8")


class CpuDelegate(Delegate):
    """Delegate "cpu"."""

    name = "cpu"
    version = __version__

    def devices(self) -> Sequence[DeviceInfo]:
        return (_info(None),)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> CpuDevice:
        """options: ``isa``, the name of a target (isa.TARGETS) to use instead of the machine's best."""
        if device_id != DEVICE:
            raise InvalidArgument("cpu: device", repr(DEVICE), repr(device_id))
        return CpuDevice(_target(options.get("isa")))


def _target(name: str | None) -> Target:
    problem = isa.unusable()
    if problem is not None:
        raise DelegateError(DEVICE, ErrorCode.UNSUPPORTED, problem[0])
    targets = isa.host_targets()
    if name is None:
        return targets[0]
    found = next((t for t in targets if t.name == name), None)
    if found is None:
        raise InvalidArgument("cpu: isa", f"one of {', '.join(t.name for t in targets)}", repr(name))
    return found


@functools.cache
def _generation() -> str:
    """A stamp of this delegate's own source files: code that another state of them made is not taken for theirs."""
    folder = Path(__file__).parent
    stamps = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(repr([(n, s.st_size, s.st_mtime_ns) for n, s in stamps]).encode()).hexdigest()[:16]


def _info(target: Target | None) -> DeviceInfo:
    problem = isa.unusable()
    if problem is None and not llvm.is_present():
        problem = ("llvmlite is not installed", "pip install 'delegraph[cpu]'")
    if target is None and problem is None:
        target = isa.host_targets()[0]
    name = target.name if target is not None else ""
    return DeviceInfo(
        id=DEVICE,
        kind="cpu",
        vendor="delegraph",
        driver=f"delegraph {__version__}",
        dtypes=DTYPES,
        fingerprint={"isa": name, "format": artifacts.FORMAT, "generation": _generation()},
        available=problem is None,
        reason="" if problem is None else problem[0],
        remedy="" if problem is None else problem[1],
        features=(name,) if name else (),
    )


class CpuDevice(Device):
    """Device "cpu". Thread-safe: it keeps nothing."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.info = _info(target)

    def supports(self, view: GraphView) -> Sequence[Support]:
        return [support(node) for node in view.nodes]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        from delegraph.delegates.cpu.program_text import ENTRY, module_text

        lowered = lower_segment(segment, packs, self.target)
        if deadline is not None and time.monotonic() > deadline:
            raise DelegateError(DEVICE, ErrorCode.TIMEOUT, "compile: not ended in time")
        if not llvm.is_present():
            raise DelegateError(
                DEVICE, ErrorCode.UNSUPPORTED, "llvmlite is not installed: pip install 'delegraph[cpu]'"
            )
        image = llvm.compile_image(module_text(lowered, self.target, len(segment.inputs)), self.target)
        code = image.data + bytes(-len(image.data) % ALIGNMENT)
        compiled = artifacts.CompiledSegment(
            self.target.name,
            image.symbols[ENTRY],
            lowered.scratch_bytes,
            tuple((use.name, use.tensor, use.layout) for use in lowered.packs),
            tuple(segment.specs[i].size_bytes for i in segment.inputs),
            tuple(segment.specs[i].size_bytes for i in segment.outputs),
            code + lowered.constants,
            len(code),
        )
        names = tuple(use.name for use in lowered.packs)
        return Artifact(artifacts.FORMAT, artifacts.write(compiled), names)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> CpuProgram:
        compiled = _checked(artifact, segment)
        return CpuProgram(compiled, [_pack(segment, packs, *use) for use in compiled.packs])

    def allocate(self, size_bytes: int, alignment: int = 64) -> host.HostBuffer:
        return host.allocate(size_bytes, alignment)

    def import_host(self, memory: Array) -> host.HostBuffer:
        return host.HostBuffer(memory)

    def close(self) -> None:
        return None


def support(node: Node) -> Support:
    """The answer for one node: what the op itself asks for, then this delegate's rules."""
    from delegraph.delegates.cpu.ops import registry

    try:
        problem = node_support(node.op, node)
        if problem is not None:
            return Support(Verdict.NO, problem.constraint, problem.reason, problem.advice)
        lowering = registry.find(node)
        if lowering is None:
            return Support(Verdict.NO, "cpu.op", registry.why_not(node))
        for constraint in lowering.constraints:
            refusal = constraint.refuse(node)
            if refusal is not None:
                return refusal
    except DelegraphError as exc:  # what the reference device will say of this model as well
        return Support(Verdict.NO, "cpu.model", str(exc))
    return SUPPORTED


def lower_segment(segment: Segment, packs: Packs, target: Target) -> Lowered:
    """The segment's commands."""
    from delegraph.delegates.cpu.ops import registry

    def lower_node(lowering: Lowering, node: Node) -> None:
        found = registry.find(node)
        if found is None:
            raise DelegateError(DEVICE, ErrorCode.UNSUPPORTED, f"{node.place}: {registry.why_not(node)}")
        found.lower(lowering, node)

    return Lowering(target, segment, packs).lower(lower_node)


def _checked(artifact: Artifact, segment: Segment) -> artifacts.CompiledSegment:
    """The payload, if it is whole, for this machine and for this segment."""

    def refused(why: str) -> DelegateError:
        return DelegateError(DEVICE, ErrorCode.ARTIFACT_REFUSED, why)

    if artifact.format != artifacts.FORMAT:
        raise refused(f"expected format {artifacts.FORMAT!r}, found {artifact.format!r}")
    try:
        compiled = artifacts.read(artifact.payload)
    except artifacts.DamagedArtifact as exc:
        raise refused(str(exc)) from exc
    if compiled.target not in {t.name for t in isa.host_targets()}:
        raise refused(f"it was made for {compiled.target}, which this CPU does not have")
    sizes = tuple(tuple(segment.specs[i].size_bytes for i in side) for side in (segment.inputs, segment.outputs))
    if (compiled.inputs, compiled.outputs) != sizes:
        raise refused("it was made for tensors of other sizes")
    return compiled


def _pack(segment: Segment, packs: Packs, name: str, tensor: int, layout: str) -> Array:
    """A pack, found or made again from the segment's constant."""

    def make() -> Array:
        for node in segment.nodes:
            for i, spec in zip(node.op.inputs, node.inputs, strict=False):
                if i == tensor and spec is not None and spec.value is not None:
                    return packing.make_pack(packing.parse_layout(layout), spec.value)
        raise DelegateError(DEVICE, ErrorCode.ARTIFACT_REFUSED, f"the segment has no constant {tensor}")

    return packs.get(name, make)
